import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** The demo as its own process, as `npm start` would run it. */
export class Demo {
  #process: ChildProcess | undefined;
  #port = 0;
  readonly #env: Readonly<Record<string, string>>;

  constructor(env: Readonly<Record<string, string>> = {}) {
    this.#env = env;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Starts it, on the port that it had before. */
  async start(): Promise<void> {
    const child = spawn(process.execPath, ['--import', 'tsx', 'demo/server.ts'], {
      cwd: ROOT,
      env: { ...process.env, ...this.#env, PORT: String(this.#port), HOST: '127.0.0.1', FILE: '' },
      stdio: ['ignore', 'pipe', 'inherit'],
      // A group of its own: nothing that it starts stays behind.
      detached: true,
    });
    this.#process = child;
    process.on('exit', this.#kill);
    child.stdout.setEncoding('utf8');
    const ended = once(child, 'close').then(() => ['it ended before it listened']);
    const [line] = (await Promise.race([once(child.stdout, 'data'), ended])) as [string];
    const [, port] = /:(\d+)\n/.exec(line) ?? [];
    expect(port, line).not.to.equal(undefined);
    this.#port = Number(port);
  }

  /** Kills it, without a word to its clients. */
  async kill(): Promise<void> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'close');
    this.#kill();
    await gone;
    process.off('exit', this.#kill);
  }

  async post(path: string, body: unknown = {}): Promise<unknown> {
    const response = await fetch(`${this.url}/${path}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    });
    expect(response.ok, `${path}: ${response.status}`).to.equal(true);
    return response.json();
  }

  readonly #kill = (): void => {
    try {
      if (this.#process?.pid !== undefined) process.kill(-this.#process.pid, 'SIGKILL');
    } catch {
      // It has gone by itself.
    }
  };
}

// Nodes of two versions on one Redis: one runs the build of a fixture, the other runs lib/.

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Deferred } from '../../lib/index.js';
import type { EventClient } from '../support/client.js';
import { listen, newNode, until } from '../support/nodes.js';
import { execute } from '../support/process.js';
import { cleanup } from '../support/server.js';
import { Text } from '../support/text.js';
import { type Actions, actionsOf } from './actions.mjs';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const FIXTURES = join(ROOT, 'spec/fixtures');
const OLDER = fileURLToPath(new URL('older.mjs', import.meta.url));

/** The files of all fixtures, each of which is a package. */
export const fixtures = (): string[] => readdirSync(FIXTURES).filter((file) => file.endsWith('.tgz'));

/** The package of a fixture, in a folder of its own. It finds its dependencies among those of this project. */
export class Unpacked {
  private constructor(readonly folder: string) {}

  static async of(fixture: string): Promise<Unpacked> {
    const unpacked = new Unpacked(await mkdtemp(join(tmpdir(), 'express-comet-')));
    try {
      const { code, stderr } = await execute('tar', ['-xzf', join(FIXTURES, fixture), '-C', unpacked.folder]);
      if (code !== 0) throw new Error(`${fixture} was not unpacked: ${stderr}`);
      await symlink(join(ROOT, 'node_modules'), join(unpacked.folder, 'node_modules'));
    } catch (error) {
      await unpacked.remove();
      throw error;
    }
    return unpacked;
  }

  get package(): string {
    return join(this.folder, 'package');
  }

  async remove(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** What an older node says. */
type Report =
  | { readonly port: number }
  | { readonly id: number; readonly value?: unknown; readonly error?: string };

type Answer<Name extends keyof Actions> = Promise<Awaited<ReturnType<Actions[Name]>>>;

/** A node of either version. */
export abstract class VersionedNode {
  abstract readonly url: string;

  abstract ask<Name extends keyof Actions>(action: Name, ...args: Parameters<Actions[Name]>): Answer<Name>;

  /** Closes the hub. Returns what it told, and what its process was warned of. */
  abstract close(): Promise<readonly string[]>;

  /** Opens a stream on one channel, or on several. */
  async listen(channels: string | readonly string[], cursor?: string): Promise<EventClient> {
    return listen(this.url, channels, cursor);
  }

  /** It has found its Redis. Rejects where it tells why it can't use it. */
  async healthy(): Promise<void> {
    await until(async () => {
      const { healthy } = await this.ask('health');
      const told = await this.ask('told');
      if (told.length > 0) throw new Error(told.join());
      return healthy;
    });
  }

  /** Redis has accepted all that this node did. */
  async accepted(): Promise<void> {
    await until(async () => (await this.ask('health')).queued === 0);
    await this.ask('health');
  }
}

/** The build of a fixture, in a process of its own. */
export class OlderNode extends VersionedNode {
  url = '';
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #printed: readonly Text[];
  readonly #asked = new Map<number, Deferred<unknown>>();
  #questions = 0;

  private constructor(folder: string, redis: number) {
    super();
    this.#child = fork(OLDER, [folder, String(redis)], {
      // Without tsx, which these tests run under.
      execArgv: [],
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    this.#printed = [this.#child.stdout!, this.#child.stderr!].map((output) => new Text(output));
    // Node emits no `close` of a child from which its parent has disconnected.
    this.#exited = Promise.all([once(this.#child, 'exit'), ...this.#printed.map((text) => text.all())]);
    cleanup(async () => {
      this.#child.kill('SIGKILL');
      await this.#exited;
    });
  }

  static async start({ package: folder }: Unpacked, redis: number): Promise<OlderNode> {
    const older = new OlderNode(folder, redis);
    await older.#start();
    await older.healthy();
    return older;
  }

  async ask<Name extends keyof Actions>(action: Name, ...args: Parameters<Actions[Name]>): Answer<Name> {
    const answer = new Deferred<unknown>();
    this.#questions += 1;
    this.#asked.set(this.#questions, answer);
    this.#child.send({ id: this.#questions, action, args });
    return answer.promise as Answer<Name>;
  }

  async close(): Promise<readonly string[]> {
    await this.ask('close');
    const told = await this.ask('told');
    this.#child.disconnect();
    await this.#exited;
    return [...told, ...this.#printed.map(({ text }) => text).filter(Boolean)];
  }

  async #start(): Promise<void> {
    const started = new Deferred<number>();
    this.#child.on('message', (message: Report) => {
      if ('port' in message) started.resolve(message.port);
      else if (message.error === undefined) this.#asked.get(message.id)?.resolve(message.value);
      else this.#asked.get(message.id)?.reject(new Error(message.error));
    });
    void this.#exited.then(() => {
      const error = new Error(`The older node has exited: ${this.#printed.map(({ text }) => text).join('')}`);
      for (const each of [started, ...this.#asked.values()]) each.reject(error);
    });
    this.url = `http://127.0.0.1:${await started.promise}`;
  }
}

/** The code in lib/, in this process. */
export class NewerNode extends VersionedNode {
  readonly #warnings: string[] = [];

  private constructor(
    readonly url: string,
    readonly actions: Actions,
  ) {
    super();
    const warned = ({ name, message }: Error) => {
      if (name === 'CometWarning') this.#warnings.push(message);
    };
    process.on('warning', warned);
    cleanup(() => void process.off('warning', warned));
  }

  static async start(redis: number): Promise<NewerNode> {
    const { push, server } = await newNode(redis, { node: 'newer' });
    const newer = new NewerNode(server.url, actionsOf(push));
    await newer.healthy();
    return newer;
  }

  async ask<Name extends keyof Actions>(action: Name, ...args: Parameters<Actions[Name]>): Answer<Name> {
    const act = this.actions[action] as (...args: Parameters<Actions[Name]>) => Answer<Name>;
    return act(...args);
  }

  async close(): Promise<readonly string[]> {
    await this.ask('close');
    return [...(await this.ask('told')), ...this.#warnings];
  }
}

// A Redis for one test: it can die, hang and lose everything, and no other test hears of it.

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { createClient } from 'redis';
import type { Server } from '../../scripts/debian.mjs';
import { findRedis } from '../../scripts/redis.mjs';
import { cleanup } from './server.js';

export interface RedisOptions {
  /** A cluster of this one server, which has all slots. It takes 2 s to start: so Redis has it. */
  readonly cluster?: boolean;
  /** Another server than that of the other tests. */
  readonly program?: Server;
  /** A Sentinel, which knows this server as the primary `main`. */
  readonly sentinelOf?: RedisServer;
  /** Further arguments of `redis-server`. */
  readonly args?: readonly string[];
}

/**
 * Somewhere below the ports that the kernel gives to clients. One who tries and tries to connect to such a port while
 * nobody listens there is at last connected to itself, and the port is taken. A cluster needs the port 10,000 above, too.
 */
export const somePort = (): number => randomInt(10_000, 22_000);

/** A real redis-server on a port of its own, killed after the test. */
export class RedisServer {
  #child: ChildProcessByStdio<null, Readable, Readable> | undefined;
  /** What it has said since it was last started. */
  #log = '';

  private constructor(
    readonly port: number,
    readonly options: RedisOptions,
  ) {}

  static async start(options: RedisOptions = {}): Promise<RedisServer> {
    const server = new RedisServer(somePort(), options);
    cleanup(() => server.kill());
    try {
      await server.restart();
      return server;
    } catch (error) {
      if (!server.#log.includes('Address already in use')) throw error;
      return RedisServer.start(options);
    }
  }

  /** One that has all that the other has, and follows it. */
  static async startReplica(of: RedisServer): Promise<RedisServer> {
    const server = await RedisServer.start(of.options);
    await server.follow(of);
    return server;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Starts again, with nothing in it, on the same port; kills it first, if it lives. */
  async restart(): Promise<void> {
    await this.kill();
    this.#run();
    if (this.options.sentinelOf !== undefined) {
      await this.#says('+monitor master main');
      return;
    }
    await this.#says('Ready to accept connections');
    if (!this.options.cluster) return;
    await this.command('CLUSTER', 'ADDSLOTSRANGE', '0', '16383');
    await this.#says('Cluster state changed: ok');
  }

  /** As if the power had failed. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** As an operator would. */
  async stop(): Promise<void> {
    this.resume();
    await this.#end('SIGTERM');
  }

  /** Hangs: its connections stay open, and the kernel still takes new ones for it. */
  pause(): void {
    this.#child?.kill('SIGSTOP');
  }

  resume(): void {
    this.#child?.kill('SIGCONT');
  }

  /** Becomes a replica of the other; resolves when it has all that the other has. */
  async follow(other: RedisServer): Promise<void> {
    this.#log = '';
    await this.command('REPLICAOF', '127.0.0.1', String(other.port));
    await this.#says('sync: Finished with success');
  }

  /** A replica becomes a primary. */
  async promote(): Promise<void> {
    await this.command('REPLICAOF', 'NO', 'ONE');
  }

  /** Closes the connections of its clients: those that have subscribed, all others, or both. Says how many. */
  async cutConnections(...kinds: ('pubsub' | 'normal')[]): Promise<number> {
    let cut = 0;
    for (const kind of kinds.length > 0 ? kinds : ['pubsub', 'normal']) {
      cut += Number(await this.command('CLIENT', 'KILL', 'TYPE', kind));
    }
    return cut;
  }

  /** Sends one command, over a connection of its own. */
  async command(...words: string[]): Promise<unknown> {
    const client = createClient({ url: this.url, socket: { reconnectStrategy: false } });
    // Whoever awaits the command hears of it.
    client.on('error', () => {});
    await client.connect();
    try {
      return await client.sendCommand(words);
    } finally {
      client.destroy();
    }
  }

  #run(): void {
    const { path, args, env } = this.options.program ?? findRedis();
    const folder = mkdtempSync(join(tmpdir(), 'express-comet-redis-'));
    const cluster = ['--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1'];
    const { sentinelOf } = this.options;
    const config = join(folder, 'sentinel.conf');
    if (sentinelOf !== undefined) {
      const main = [`monitor main 127.0.0.1 ${sentinelOf.port} 1`, 'down-after-milliseconds main 300'];
      writeFileSync(config, main.map((line) => `sentinel ${line}\n`).join(''));
    }
    const child = spawn(
      path,
      [
        ...args,
        ...(sentinelOf === undefined ? [] : [config, '--sentinel']),
        ...['--bind', '127.0.0.1', '--port', String(this.port), '--dir', folder],
        ...['--save', '', '--appendonly', 'no'],
        // Else a primary waits for 5 s, as more replicas might come.
        ...['--repl-diskless-sync-delay', '0'],
        ...(this.options.cluster ? cluster : []),
        ...(this.options.args ?? []),
      ],
      { env, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    this.#child = child;
    this.#log = '';
    for (const output of [child.stdout, child.stderr]) {
      output.setEncoding('utf8').on('data', (text) => {
        this.#log += text;
      });
    }

    // Where the tests are aborted, there is no cleanup.
    const end = () => {
      child.kill('SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    };
    process.on('exit', end);
    child.once('exit', () => {
      process.off('exit', end);
      rmSync(folder, { recursive: true, force: true });
    });
  }

  /** Resolves when its log has these words; rejects where it exits without. */
  async #says(words: string): Promise<void> {
    const child = this.#child!;
    await new Promise<void>((resolve, reject) => {
      const look = () => {
        if (this.#log.includes(words)) resolve();
      };
      child.stdout.on('data', look);
      child.once('close', () => reject(new Error(`redis-server has exited\n${this.#log}`)));
      look();
    });
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  }
}

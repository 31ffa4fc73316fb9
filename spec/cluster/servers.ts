import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { TcpProxy } from '../support/proxy.js';
import { RedisServer } from '../support/redis.js';

/** Keys that Redis may lose; those of a channel stand before its name. */
export type Key = 'hub' | 'nodes' | 'audience' | 'channel';

/** The Redis of a cluster, which may be another server after a failover, and the networks before it. */
export class Servers {
  readonly #folder: string | undefined;
  readonly #proxies: TcpProxy[] = [];
  #redis: RedisServer;
  // The primary of before, which follows the new one and keeps its connections.
  #former: RedisServer | undefined;

  private constructor(redis: RedisServer, folder: string | undefined) {
    this.#redis = redis;
    this.#folder = folder;
  }

  /** @param keeps whether Redis keeps what it has in a file */
  static async start(keeps: boolean): Promise<Servers> {
    const folder = keeps ? mkdtempSync(join(tmpdir(), 'express-comet-cluster-')) : undefined;
    const args = folder === undefined ? [] : ['--dir', folder, '--appendonly', 'yes'];
    return new Servers(await RedisServer.start({ args }), folder);
  }

  get redis(): RedisServer {
    return this.#redis;
  }

  /** Another network before Redis. */
  async proxy(): Promise<TcpProxy> {
    const proxy = await TcpProxy.before(this.#redis.port);
    this.#proxies.push(proxy);
    return proxy;
  }

  async restart(how: 'empty' | 'killed' | 'in order', down: number): Promise<void> {
    if (how === 'in order') await this.#redis.stop();
    else await this.#redis.kill();
    if (how === 'empty' && this.#folder !== undefined) {
      for (const name of readdirSync(this.#folder)) rmSync(join(this.#folder, name), { recursive: true });
    }
    await pause(down);
    await this.#redis.restart();
  }

  /** Redis refuses what would change it, for a while, and keeps its connections. Returns how many scripts it was sent. */
  async demote(ms: number): Promise<number> {
    // Nobody listens at this port: it keeps what it has.
    await this.#redis.command('REPLICAOF', '127.0.0.1', '1');
    const before = await this.#scripts();
    await pause(ms);
    const scripts = (await this.#scripts()) - before;
    await this.#redis.promote();
    return scripts;
  }

  /** Another server becomes the primary. New connections lead to it; the others stay with the old one, now a replica. */
  async failOver(): Promise<void> {
    const successor = await RedisServer.start();
    await successor.follow(this.#redis);
    await successor.promote();
    await this.#redis.command('REPLICAOF', '127.0.0.1', String(successor.port));
    this.#former = this.#redis;
    this.#redis = successor;
    for (const proxy of this.#proxies) proxy.target = successor.port;
  }

  /** Removes the server that was primary before. Every node has to have left it by itself. */
  async retire(): Promise<void> {
    await this.#former?.kill();
    this.#former = undefined;
  }

  async lose(key: Key, channel: string): Promise<void> {
    const name = key === 'hub' || key === 'nodes' ? key : `${key}:${channel}`;
    const keys = (await this.#redis.command('KEYS', `*:${name}`)) as string[];
    if (keys.length > 0) await this.#redis.command('DEL', ...keys);
  }

  async close(): Promise<void> {
    this.remove();
    await this.retire();
    await this.#redis.kill();
    for (const proxy of this.#proxies) {
      await proxy.refuse(true);
      proxy.cut();
    }
  }

  /** Removes what is left in the file system. */
  remove(): void {
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
  }

  async #scripts(): Promise<number> {
    const stats = String(await this.#redis.command('INFO', 'commandstats'));
    const counts = stats.matchAll(/^cmdstat_eval(?:sha)?:calls=(\d+).*?rejected_calls=(\d+)/gm);
    return [...counts].reduce((sum, [, calls, rejected]) => sum + Number(calls) + Number(rejected), 0);
  }
}

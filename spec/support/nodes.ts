// Hubs that share a Redis, and what can be seen of it from outside.

import { EventEmitter, once } from 'node:events';
import { createClient } from 'redis';
import { redis as redisBackplane } from '../../lib/engines/redis/redis.js';
import type { Comet, CometOptions } from '../../lib/index.js';
import { EventClient } from './client.js';
import type { RedisServer } from './redis.js';
import { cleanup, hub, type TestServer } from './server.js';

export interface NodeOptions extends CometOptions {
  readonly lease?: number;
  readonly keep?: number;
  readonly prefix?: string;
  /** The number of the database. */
  readonly database?: number;
}

/** One hub of several. */
export interface TestNode {
  readonly push: Comet;
  readonly server: TestServer;
  readonly port: number;
  /** Opens a stream on one channel, or on several. */
  listen(channels: string | readonly string[], cursor?: string): Promise<EventClient>;
}

/** A node whose Redis, or the proxy before it, listens on this port, now or later. */
export async function newNode(port: number, options: NodeOptions = {}): Promise<TestNode> {
  // Long enough for a machine that does much else; what is about time has its own.
  const { lease = 6000, keep, prefix, database = 0, ...others } = options;
  const backplane = redisBackplane({
    client: createClient({ url: `redis://127.0.0.1:${port}`, database }),
    lease,
    ...(keep !== undefined && { keep }),
    ...(prefix !== undefined && { prefix }),
  });
  const made = await hub({ deadline: 5000, backplane, ...others });
  return { ...made, listen: (channels, cursor) => listen(made.server.url, channels, cursor) };
}

/** A node that has found its Redis. */
export async function node(port: number, options: NodeOptions = {}): Promise<TestNode> {
  const made = await newNode(port, options);
  await healthy(made.push);
  return made;
}

/** As many nodes as there are names, on one Redis. */
export function nodes(
  port: number,
  names: readonly string[],
  options: NodeOptions = {},
): Promise<TestNode[]> {
  return Promise.all(names.map((name) => node(port, { node: name, ...options })));
}

export function listen(
  url: string,
  channels: string | readonly string[],
  cursor?: string,
): Promise<EventClient> {
  const query = [channels].flat().map((name) => `chan_id=${encodeURIComponent(name)}`);
  return EventClient.open(
    `${url}/?${query.join('&')}`,
    cursor === undefined ? {} : { 'Last-Event-ID': cursor },
  );
}

/** Waits until a node has found its Redis, and whatever it has missed. */
export async function healthy(push: Comet): Promise<void> {
  await until(async () => (await push.health()).healthy);
}

/** Waits until what a backplane does by itself can be seen. Each look is a round trip; the test's time bounds it. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  let isOver = false;
  // A test that ran out of time must not go on looking beside the next one.
  const done = cleanup(() => {
    isOver = true;
  });
  while (!(await holds())) {
    if (isOver) throw new Error('The test was over before that was so.');
    await new Promise(setImmediate);
  }
  done();
}

/** `write 0` and so on: so that what is lost, doubled or out of order shows. */
export const texts = (count: number, first = 0): string[] =>
  Array.from({ length: count }, (_, index) => `write ${first + index}`);

/** The name of a node, without what was added to it. */
export const bare = (id: string): string => id.replace(/-[^-]*$/, '');

/** Every command that a Redis carries out, those of scripts too, as text. */
export class Watch {
  readonly lines: string[] = [];
  readonly #told = new EventEmitter();

  static async on(server: RedisServer): Promise<Watch> {
    const watch = new Watch();
    const client = await rawClient(server);
    await client.monitor((line) => {
      watch.lines.push(String(line));
      watch.#told.emit('line');
    });
    return watch;
  }

  matching(pattern: RegExp): string[] {
    return this.lines.filter((line) => pattern.test(line));
  }

  async seen(pattern: RegExp, times = 1): Promise<void> {
    while (this.matching(pattern).length < times) await once(this.#told, 'line');
  }
}

/** What is published on the topics of a pattern. */
export async function overhear(
  server: RedisServer,
  pattern: string,
): Promise<() => Promise<{ topic: string; text: string }[]>> {
  const heard: { topic: string; text: string }[] = [];
  const client = await rawClient(server);
  await client.pSubscribe(pattern, (text, topic) => heard.push({ topic, text }));
  return async () => {
    // Its answer comes by the way of the messages, behind all of them.
    await client.ping();
    return heard;
  };
}

export type RawRedis = Awaited<ReturnType<typeof rawClient>>;

/** A connection that no hub knows of. */
export async function rawClient(server: RedisServer) {
  const client = createClient({ url: server.url, socket: { reconnectStrategy: false } });
  client.on('error', () => {});
  await client.connect();
  cleanup(() => client.destroy());
  return client;
}

/** A replica becomes the primary, and is found where the other one was. */
export async function failOver(primary: RedisServer, replica: RedisServer): Promise<void> {
  await primary.kill();
  await replica.promote();
  await replica.command('CONFIG', 'SET', 'port', String(primary.port));
}

import { expect } from 'chai';
import { createClient } from 'redis';
import type { Backplane, RemoteLink } from '../lib/core/backplane.js';
import { redis as redisBackplane } from '../lib/engines/redis/redis.js';
import { healthy, node, rawClient, until } from './support/nodes.js';
import { delivered } from './support/outcomes.js';
import { TcpProxy } from './support/proxy.js';
import { RedisServer } from './support/redis.js';
import { hub } from './support/server.js';

const KEY = '{express-comet}:';

/** Holds up what arrives at a node, or what is answered to it, as a busy process or a slow network does. */
class Held {
  /** Channels whose end has arrived, and was held up or not. */
  readonly ends: string[] = [];
  /** Channels that `hold` said to have ended. */
  readonly missed: string[] = [];
  #arrivals: (() => void)[] | undefined;
  #answers:
    | { readonly of: keyof RemoteLink; readonly over: Promise<void>; readonly release: () => void }
    | undefined;

  constructor(readonly inner: Backplane) {}

  get backplane(): Backplane {
    return {
      name: this.inner.name,
      connect: (to) => this.#slow(this.inner.connect(this.#late(to)) as RemoteLink),
    };
  }

  arrivals(): void {
    this.#arrivals = [];
  }

  answers(of: keyof RemoteLink): void {
    let release = () => {};
    const over = new Promise<void>((resolve) => {
      release = resolve;
    });
    this.#answers = { of, over, release };
  }

  release(): void {
    const arrivals = this.#arrivals ?? [];
    this.#arrivals = undefined;
    for (const arrive of arrivals) arrive();
    this.#answers?.release();
    this.#answers = undefined;
  }

  #late(to: Parameters<Backplane['connect']>[0]): Parameters<Backplane['connect']>[0] {
    const arrive = (deliver: () => void) => {
      if (this.#arrivals === undefined) deliver();
      else this.#arrivals.push(deliver);
    };
    return {
      id: to.id,
      connected: () => to.connected(),
      disconnected: (cause) => to.disconnected(cause),
      receive: (entry) => {
        if (entry.body === null) this.ends.push(entry.chanId);
        arrive(() => to.receive(entry));
      },
      marked: (mark) => arrive(() => to.marked(mark)),
      made: (made) => arrive(() => to.made(made)),
      hear: (word) => arrive(() => to.hear(word)),
      malformed: (error) => to.malformed(error),
      recall: (chanId) => to.recall(chanId),
    };
  }

  #slow(link: RemoteLink): RemoteLink {
    return new Proxy(link, {
      get: (target, name: keyof RemoteLink) => {
        const value: unknown = target[name];
        if (typeof value !== 'function') return value;
        return async (...args: unknown[]) => {
          const held = this.#answers?.of === name ? this.#answers : undefined;
          const answer: unknown = await value.apply(target, args);
          if (name === 'hold') this.missed.push(...(answer as ReadonlyMap<string, number>).keys());
          await held?.over;
          return answer;
        };
      },
    });
  }
}

/** A node of which everything can be held up. */
async function heldNode(port: number) {
  const held = new Held(
    redisBackplane({ client: createClient({ url: `redis://127.0.0.1:${port}` }), lease: 60_000 }),
  );
  const { push } = await hub({ deadline: 5000, backplane: held.backplane });
  await healthy(push);
  return { push, held };
}

/** Two nodes, and a channel `room` of the first. */
async function twoNodes() {
  const redis = await RedisServer.start();
  const raw = await rawClient(redis);
  const a = await node(redis.port);
  const b = await heldNode(redis.port);
  const room = a.push.channels.create({ name: 'room' });
  await a.push.health();
  const isOpen = async (open: boolean) =>
    until(async () => (await raw.hGet(`${KEY}channel:room`, 'open')) === (open ? '1' : '0'));
  return { redis, a, b, room, isOpen };
}

describe('The end of a channel', () => {
  it('does not end the next channel of its name on a node that hears it late', async () => {
    const { a, b, room, isOpen } = await twoNodes();
    b.held.arrivals();
    room.end();
    await isOpen(false);
    const next = b.push.channels.create({ name: 'room' });
    await isOpen(true);
    await until(() => b.held.ends.length === 1);
    b.held.release();
    await b.push.health();
    expect(next.ended).to.equal(false);
    expect(b.push.channels.find('room')).to.equal(next);
    const client = await a.listen('room');
    expect(await next.send('alive')).to.deep.equal(delivered(1));
    expect(await client.heard(1)).to.deep.equal(['alive']);
  });

  it('does not end it where that is heard before Redis has answered that it is made', async () => {
    const { b, room, isOpen } = await twoNodes();
    b.held.answers('append');
    b.held.arrivals();
    room.end();
    await isOpen(false);
    const next = b.push.channels.create({ name: 'room' });
    await isOpen(true);
    await until(() => b.held.ends.length === 1);
    // What has arrived is delivered before the answer.
    b.held.release();
    expect(next.ended).to.equal(false);
    await b.push.health();
    expect(next.ended).to.equal(false);
    expect(await next.send('alive')).to.deep.equal(delivered(0));
  });

  it('ends it on a node that has joined it, also where that is heard before Redis has answered', async () => {
    const { b, room, isOpen } = await twoNodes();
    b.held.answers('append');
    const same = b.push.channels.create({ name: 'room' });
    await b.push.health();
    room.end();
    await isOpen(false);
    await until(() => b.held.ends.length === 1);
    b.held.release();
    await until(() => same.ended);
    expect(b.push.channels.find('room')).to.equal(undefined);
  });

  it('does not end a channel that was made when Redis had said that the one before it has ended', async () => {
    const redis = await RedisServer.start();
    const proxy = await TcpProxy.before(redis.port);
    const a = await node(redis.port);
    const b = await heldNode(proxy.port);
    const old = b.push.channels.create({ name: 'room' });
    await b.push.health();
    await proxy.refuse(true);
    proxy.cut();
    await until(() => b.push.inspect().backplane?.healthy === false);
    a.push.channels.create({ name: 'room' }).end();
    await a.push.health();
    b.held.answers('hold');
    await proxy.refuse(false);
    await until(() => b.held.missed.length === 1);
    old.end();
    const next = b.push.channels.create({ name: 'room' });
    // Made, and the end of the old one looked for.
    for (let look = 0; look < 3; look += 1) await b.push.health();
    b.held.release();
    await b.push.health();
    await b.push.health();
    expect(next.ended).to.equal(false);
    expect(await next.send('alive')).to.deep.equal(delivered(0));
  });

  it('does not come to a listener of the next channel of its name that was made while Redis was away', async () => {
    const redis = await RedisServer.start();
    const proxy = await TcpProxy.before(redis.port);
    const a = await node(redis.port);
    const b = await node(proxy.port);
    const room = a.push.channels.create({ name: 'room' });
    await room.send('of the old one');
    await proxy.refuse(true);
    proxy.cut();
    await until(() => b.push.inspect().backplane?.healthy === false);
    room.end();
    await a.push.health();
    const next = b.push.channels.create({ name: 'room', rewind: 10 });
    const opening = b.listen('room');
    await proxy.refuse(false);
    const client = await opening;
    expect(await next.send('of the new one')).to.deep.equal(delivered(1));
    expect(await client.heard(1)).to.deep.equal(['of the new one']);
    expect(next.ended).to.equal(false);
  });
});

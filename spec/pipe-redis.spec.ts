import { expect } from 'chai';
import { createClient } from 'redis';
import type { Backplane, Link, Node } from '../lib/core/backplane.js';
import { redis as redisBackplane } from '../lib/engines/redis/redis.js';
import { BackplaneError, type Channel, type CometEvents, type Piped } from '../lib/index.js';
import type { EventClient } from './support/client.js';
import { turns } from './support/delayed.js';
import { healthy, listen, type NodeOptions, newNode, node, type TestNode, until } from './support/nodes.js';
import { TcpProxy } from './support/proxy.js';
import { RedisServer } from './support/redis.js';
import { hub } from './support/server.js';

const NAMES = ['one', 'two'] as const;
const items = (count: number): string[] => Array.from({ length: count }, (_, index) => `item ${index}`);

/** Items that come one after the other, each a turn of the event loop later; after each it says how many there were. */
async function* slowly(count: number, after: (taken: number) => unknown = () => {}): AsyncGenerator<string> {
  for (const [index, item] of items(count).entries()) {
    yield item;
    await new Promise(setImmediate);
    await after(index + 1);
  }
}

/** A backplane whose entries come late: when they are no longer held back. */
class HeldBack implements Backplane {
  readonly name = 'held back';
  readonly #held: (() => void)[] = [];
  #isHeld = false;

  constructor(readonly inner: Backplane) {}

  set isHeld(isHeld: boolean) {
    this.#isHeld = isHeld;
    if (!isHeld) for (const arrive of this.#held.splice(0)) arrive();
  }

  connect(node: Node): Link {
    const later = (arrive: () => void) => {
      if (this.#isHeld) this.#held.push(arrive);
      else arrive();
    };
    return this.inner.connect({
      id: node.id,
      connected: () => node.connected(),
      disconnected: (cause) => node.disconnected(cause),
      receive: (entry) => later(() => node.receive(entry)),
      marked: (mark) => later(() => node.marked(mark)),
      made: (made) => later(() => node.made(made)),
      hear: (word) => node.hear(word),
      malformed: (error) => node.malformed(error),
      recall: (chanId) => node.recall(chanId),
    });
  }
}

interface Pair {
  redis: RedisServer;
  /** Between the first node and Redis. */
  proxy: TcpProxy;
  first: TestNode;
  second: TestNode;
  /** As the first node has it. */
  news: Channel<string>;
  clients: EventClient[];
  dropped: CometEvents['drop'][];
}

async function pair(options: NodeOptions = {}, log = {}): Promise<Pair> {
  const redis = await RedisServer.start();
  const proxy = await TcpProxy.before(redis.port);
  const first = await node(proxy.port, { ...options, node: NAMES[0] });
  const second = await node(redis.port, { ...options, node: NAMES[1] });
  const dropped: CometEvents['drop'][] = [];
  first.push.on('drop', (event) => dropped.push(event));
  const news = first.push.channels.create<string>({ name: 'news', log });
  await first.push.health();
  return {
    redis,
    proxy,
    first,
    second,
    news,
    clients: [await first.listen('news'), await second.listen('news')],
    dropped,
  };
}

const noticed = ({ push }: TestNode, wanted: boolean) =>
  new Promise<void>((resolve) => {
    const off = push.on('backplane', ({ healthy }) => {
      if (healthy !== wanted) return;
      off();
      resolve();
    });
  });

const PATIENT = { queue: { wait: 1, writes: 50 }, deadline: 100 };

describe('pipe() over Redis', () => {
  it('has all items arrive on all nodes, in order, of a log and a queue that hold only some', async () => {
    const { news, clients, dropped } = await pair({ queue: { writes: 3 } }, { frames: 16 });
    expect(await news.pipe(items(1200))).to.deep.equal({ items: 1200, complete: true });
    for (const client of clients) {
      await client.ended();
      expect(client.messages).to.deep.equal(items(1200));
    }
    expect(dropped).to.deep.equal([]);
  });

  it('waits while Redis is away, for longer than a write that does not wait would, and loses nothing', async () => {
    const { proxy, first, news, clients, dropped } = await pair(PATIENT);
    let back: Promise<void> | undefined;
    let takenAway = 0;
    const source = slowly(2000, async (taken) => {
      if (taken % 500 !== 250) return;
      const away = noticed(first, false);
      await proxy.refuse(true);
      proxy.cut();
      await away;
      back = noticed(first, true);
      void (async () => {
        // What does not wait is given up meanwhile.
        const dropping = dropped.length;
        first.push.channels.open('other').write('x');
        await until(() => dropped.length > dropping);
        takenAway = taken;
        await proxy.refuse(false);
      })();
    });
    const piped = news.pipe(source, { end: false });
    expect(await piped).to.deep.equal({ items: 2000, complete: true });
    await back;
    for (const client of clients) expect(await client.heard(2000)).to.deep.equal(items(2000));
    expect(takenAway).to.equal(1750);
    expect(dropped.map(({ channel }) => channel)).to.deep.equal(Array(4).fill('other'));
  });

  it('sends what was under way when Redis hangs, and takes nothing more meanwhile', async () => {
    const { redis, first, news, clients, dropped } = await pair({ ...PATIENT, lease: 600 });
    let taken = 0;
    let isAway = false;
    const source = slowly(600, async (count) => {
      taken = count;
      if (count === 300) {
        redis.pause();
        isAway = true;
      }
    });
    const piped = news.pipe(source, { end: false });
    await until(() => isAway);
    await noticed(first, false);
    const before = taken;
    // What does not wait is given up, though it was under way.
    news.write('in vain');
    await until(() => dropped.length > 0);
    expect(taken).to.be.within(before, before + 1);
    const back = noticed(first, true);
    redis.resume();
    await back;
    expect(await piped).to.deep.equal({ items: 600, complete: true });
    for (const client of clients) expect(await client.heard(600)).to.deep.equal(items(600));
    expect(dropped).to.have.length(1);
  });

  it('writes on into the log of a Redis that has lost all: nothing is missing from both together', async () => {
    const { redis, second, news, clients, dropped } = await pair(
      { ...PATIENT, lease: 1500 },
      { frames: 5000 },
    );
    const source = slowly(1000, async (taken) => {
      if (taken === 400) {
        // Killed, it may have told the writer of an item, and no listener yet.
        await redis.stop();
        void redis.restart();
      }
    });
    expect(await news.pipe(source, { end: false })).to.deep.equal({ items: 1000, complete: true });
    await healthy(second.push);
    const gapOf = ({ events }: EventClient) => events.findIndex(({ event }) => event === 'comet:gap');
    for (const client of clients) await client.until(() => gapOf(client) !== -1);
    const [first] = clients as [EventClient, ...EventClient[]];
    const before = first.events.slice(0, gapOf(first)).filter(({ event }) => event === undefined);
    const [was, is] = [before.map(({ data }) => data), await newcomer(second, 1000)];
    expect(was).to.deep.equal(items(was.length));
    const start = Number(is[0]!.slice('item '.length));
    expect(is).to.deep.equal(items(1000).slice(start));
    expect(start, 'the first that is there again').to.be.within(was.length - 256, was.length);
    expect(dropped).to.deep.equal([]);
  });

  it('rejects where Redis hangs for longer than it remembers what it took', async () => {
    const { redis, news } = await pair({ ...PATIENT, lease: 300, keep: 800 });
    const piped = news.pipe(slowly(1e6, (taken) => taken === 50 && redis.pause()));
    const error = await piped.catch((cause: unknown) => cause);
    expect(error).to.be.an.instanceof(BackplaneError).and.to.include({ happened: 'unknown' });
    redis.resume();
  });

  it('waits for a Redis that is not there yet', async () => {
    const redis = await RedisServer.start();
    await redis.kill();
    const first = await newNode(redis.port, PATIENT);
    const news = first.push.channels.create<string>({ name: 'news', rewind: 1000 });
    const piped = news.pipe(items(500), { end: false });
    await turns(2);
    expect(await first.push.health()).to.include({ healthy: false, queued: 0 });
    await redis.restart();
    expect(await piped).to.deep.equal({ items: 500, complete: true });
    expect(await (await first.listen('news')).heard(500)).to.deep.equal(items(500));
  });

  it('stops where the channel ends on another node', async () => {
    const { second, news } = await pair();
    let isStopped = false;
    async function* endless() {
      try {
        for (;;) yield 'x';
      } finally {
        isStopped = true;
      }
    }
    const piped = news.pipe(endless());
    second.push.channels.open('news').end();
    expect(await piped).to.include({ complete: false });
    await until(() => isStopped);
  });

  it('stops where the channel has ended on another node, and the next item is refused for that', async () => {
    const { proxy, redis, second } = await pair();
    const first = await node(proxy.port);
    const brief = first.push.channels.create<string>({ name: 'brief' });
    await first.push.health();
    const away = noticed(first, false);
    proxy.stall(true);
    // It is on its way, and does not arrive.
    const piped = brief.pipe(items(1));
    second.push.channels.open('brief').end();
    await until(async () => (await redis.command('HGET', '{express-comet}:channel:brief', 'open')) === '0');
    proxy.stall(false);
    proxy.cut();
    await away;
    expect(await piped).to.deep.equal({ items: 1, complete: false });
  });

  it('waits until what was accepted has come back, and was given to those who listen', async () => {
    const redis = await RedisServer.start();
    const backplane = new HeldBack(redisBackplane({ client: createClient({ url: redis.url }) }));
    const { push, server } = await hub({ backplane, log: { frames: 16 } });
    await healthy(push);
    const news = push.channels.create<string>({ name: 'news' });
    await push.health();
    const client = await listen(server.url, 'news');
    let accepted = 0;
    push.on('write', () => {
      accepted += 1;
    });
    backplane.isHeld = true;
    const piped = news.pipe(items(200));
    await until(() => accepted > 0);
    for (let times = 0; times < 20; times += 1) await redis.command('PING');
    // A quarter of the log.
    expect(accepted).to.equal(4);
    backplane.isHeld = false;
    expect(await piped).to.deep.equal({ items: 200, complete: true });
    await client.ended();
    expect(client.messages).to.deep.equal(items(200));
  });

  it('stops where the hub closes while Redis is away, and while the last items are not accepted', async () => {
    const { redis, first, news } = await pair();
    const [busy, last] = [first.push.channels.create<string>(), first.push.channels.create<string>()];
    const settled: Piped[] = [];
    const away = noticed(first, false);
    const piped = [news.pipe(slowly(1e6)), busy.pipe(slowly(1e6))];
    await redis.kill();
    await away;
    piped.push(last.pipe(['x']));
    for (const each of piped) void each.then((how) => settled.push(how));
    await new Promise(setImmediate);
    expect(settled).to.deep.equal([]);
    await first.push.close({ drain: 10 });
    expect((await Promise.all(piped)).map(({ complete }) => complete)).to.deep.equal([false, false, false]);
  });

  it('rejects with a BackplaneError for an item that Redis refuses', async () => {
    const { redis, news } = await pair();
    const fill = (taken: number) => taken === 50 && redis.command('CONFIG', 'SET', 'maxmemory', '1');
    const error = await news.pipe(slowly(1e6, fill)).catch((cause: unknown) => cause);
    expect(error).to.be.an.instanceof(BackplaneError).and.to.include({ happened: 'never' });
    await redis.command('CONFIG', 'SET', 'maxmemory', '0');
  });
});

/** What a client gets that returns from before all that is retained of the only channel. */
async function newcomer({ push, listen }: TestNode, last: number): Promise<string[]> {
  const { epoch, seq, channels } = push.inspect();
  const cursor = `${epoch}-${seq - (channels[0]?.frames ?? 0)}`;
  const client = await listen('news', cursor);
  await client.until(() => client.messages.at(-1) === `item ${last - 1}`);
  return client.messages;
}

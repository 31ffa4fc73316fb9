import { expect } from 'chai';
import { ChannelEndedError, Deferred, MalformedMessageError, type Outcome } from '../lib/index.js';
import { RawClient, told } from './support/client.js';
import {
  bare,
  newNode,
  node,
  nodes,
  overhear,
  type RawRedis,
  rawClient,
  texts,
  until,
  Watch,
} from './support/nodes.js';
import { delivered } from './support/outcomes.js';
import { TcpProxy } from './support/proxy.js';
import { RedisServer } from './support/redis.js';
import { answerOf } from './support/wire.js';

const MiB = 2 ** 20;
const KEY = '{express-comet}:';
// More than the kernel takes for a peer that does not read: it blocks a stream.
const FLOOD = 'x'.repeat(8 * MiB);
const ROOM = { maxFrame: 16 * MiB, log: { bytes: 64 * MiB } };

/** An outcome, with the nodes by the names that they were given. */
function named({ perNode, ...outcome }: Outcome): unknown {
  return {
    ...outcome,
    perNode: Object.fromEntries(Object.entries(perNode ?? {}).map(([id, of]) => [bare(id), of])),
  };
}

/** How many connections Redis has, this one included. */
const connectionsOf = async (raw: RawRedis) =>
  String(await raw.sendCommand(['CLIENT', 'LIST']))
    .trim()
    .split('\n').length;

/** What Redis retains of a channel. */
const retainedOf = async (raw: RawRedis, channel: string) =>
  (await raw.xRange(`${KEY}log:${channel}`, '-', '+')) ?? [];

/** Waits until other nodes know how many listeners a channel has somewhere. */
async function known(redis: RedisServer, channel: string, listeners: number): Promise<void> {
  const client = await rawClient(redis);
  await until(async () => {
    const audience = await client.hGetAll(`${KEY}audience:${channel}`);
    return Object.values(audience).reduce((sum, count) => sum + Number(count), 0) === listeners;
  });
}

describe('A write on Redis', () => {
  it('is one script, which appends and publishes', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b'], { lease: 60_000 });
    const news = a!.push.channels.create({ name: 'news' });
    await news.send('the script is known');
    const client = await b!.listen('news');
    const watch = await Watch.on(redis);
    for (const text of texts(50)) news.write(text);
    expect(await client.heard(50)).to.deep.equal(texts(50));
    await watch.seen(/\[\d+ lua\] "PUBLISH"/, 50);

    const asked = watch.matching(/\[\d+ [^l]/).map((line) => /\] "(\w+)"/.exec(line)?.[1]?.toLowerCase());
    expect(asked).to.deep.equal(Array.from({ length: 50 }, () => 'evalsha'));
    expect(watch.matching(/lua\] "XADD"/)).to.have.length(50);
  });

  it('happens once and in its turn although Redis forgets its scripts meanwhile', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b']);
    const news = a!.push.channels.create({ name: 'news' });
    await news.send('the script is known');
    const client = await b!.listen('news');
    const raw = await rawClient(redis);
    for (let round = 0; round < 10; round += 1) {
      for (const text of texts(20, round * 20)) news.write(text);
      await raw.scriptFlush();
    }
    expect((await client.heard(200)).slice(0, 200)).to.deep.equal(texts(200));
    expect(await news.send('last')).to.deep.equal(delivered(1));
    expect(client.messages).to.deep.equal([...texts(200), 'last']);
  });

  it('is retained in Redis up to the frames of the log, an eighth more at the most', async () => {
    const redis = await RedisServer.start();
    const { push } = await node(redis.port);
    const news = push.channels.create({ name: 'news', log: { frames: 40 } });
    const raw = await rawClient(redis);
    for (const text of texts(300)) {
      await news.send(text);
      expect(await raw.xLen(`${KEY}log:news`)).to.be.at.most(45);
    }
    const entries = await retainedOf(raw, 'news');
    expect(entries.length).to.be.at.least(40);
    expect(entries.map(({ message }) => message.b)).to.deep.equal(
      texts(300)
        .slice(-entries.length)
        .map((text) => `data: ${text}\n\n`),
    );
  });

  it('is retained up to the bytes of the log, and the newest whatever its size', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b']);
    const news = a!.push.channels.create({ name: 'news', log: { bytes: 4000 }, rewind: 1 });
    const raw = await rawClient(redis);
    const retained = async () => {
      const entries = await retainedOf(raw, 'news');
      return entries.map(({ message }) => Buffer.byteLength(message.b ?? ''));
    };
    const sum = (sizes: number[]) => sizes.reduce((all, size) => all + size, 0);
    // Of two and three bytes each: units of UTF-16 would be counted short.
    for (let size = 1; size <= 200; size += 1) await news.send('ä€'.repeat(size));
    expect(sum(await retained())).to.be.within(2000, 4500);
    expect(Number(await raw.hGet(`${KEY}channel:news`, 'bytes'))).to.equal(sum(await retained()));

    await news.send('z'.repeat(9000));
    expect(await retained()).to.deep.equal([9008]);
    const client = await b!.listen('news');
    expect(await client.heard(1)).to.deep.equal(['z'.repeat(9000)]);
    await news.send('small');
    expect(await retained()).to.deep.equal([13]);
  });

  it('is retained for the age of the log, also where nothing is written after it', async () => {
    const redis = await RedisServer.start();
    const { push } = await node(redis.port);
    const log = { age: 400 };
    const busy = push.channels.create({ name: 'busy', log });
    const quiet = push.channels.create({ name: 'quiet', log });
    const raw = await rawClient(redis);
    await quiet.send('the only one');
    await busy.send('the first');
    const [first] = await retainedOf(raw, 'busy');
    await until(async () => {
      await busy.send('another');
      const [oldest] = await retainedOf(raw, 'busy');
      return oldest?.id !== first?.id;
    });
    await busy.send('one more');
    const entries = await retainedOf(raw, 'busy');
    const at = (id: string | undefined) => Number(id?.split('-')[1]);
    expect(at(entries.at(-1)?.id) - at(entries[0]?.id)).to.be.within(100, 500);
    await until(async () => (await raw.exists(`${KEY}log:quiet`)) === 0);
    expect(await raw.exists(`${KEY}channel:quiet`), 'its position is kept').to.equal(1);
  });

  it('leaves nothing that grows with the number of writes', async () => {
    const redis = await RedisServer.start();
    const { push } = await node(redis.port, { log: { frames: 10 } });
    const news = push.channels.create({ name: 'news' });
    const raw = await rawClient(redis);
    for (let round = 0; round < 20; round += 1) await Promise.all(texts(100).map((text) => news.send(text)));
    for (const key of await raw.keys('*')) {
      const type = await raw.type(key);
      const sizes: Record<string, () => Promise<number>> = {
        zset: () => raw.zCard(key),
        stream: () => raw.xLen(key),
        hash: () => raw.hLen(key),
      };
      expect(await sizes[type]?.(), key).to.be.below(256);
      const lasting = /:(hub|nodes|ended)$/.test(key);
      if (!lasting) expect(await raw.pTTL(key), `${key} goes by itself`).to.be.above(0);
    }
  });

  it('keeps all that it touches under one hash tag, whatever the channel is called', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b'], { prefix: 'shop:eu' });
    const names = ['news', '}{x}', '{other}', 'a}b', ':', 'ä€😀', 'with space'];
    for (const name of names) {
      const channel = a!.push.channels.create({ name });
      const client = await b!.listen(name);
      expect(await channel.send(`on ${name}`)).to.deep.equal(delivered(1));
      expect(await client.heard(1)).to.deep.equal([`on ${name}`]);
    }
    const raw = await rawClient(redis);
    for (const key of await raw.keys('*')) expect(key).to.match(/^\{shop:eu\}:/);
  });

  it('stays with the hubs of its prefix', async () => {
    const redis = await RedisServer.start();
    const [a] = await nodes(redis.port, ['a'], { prefix: 'one' });
    const [b] = await nodes(redis.port, ['b'], { prefix: 'two' });
    const ours = a!.push.channels.create({ name: 'news' });
    const theirs = b!.push.channels.create({ name: 'news' });
    const client = await b!.listen('news');
    expect(await ours.send('ours')).to.deep.equal(delivered(0));
    expect(await theirs.send('theirs')).to.deep.equal(delivered(1));
    expect(await client.heard(1)).to.deep.equal(['theirs']);
    expect((await ours.countListeners()).listeners).to.equal(0);
  });

  it('that Redis has no room for fails, and the next one that it has room for arrives', async () => {
    const redis = await RedisServer.start();
    const { push, listen } = await node(redis.port);
    const news = push.channels.create({ name: 'news' });
    const client = await listen('news');
    await redis.command('CONFIG', 'SET', 'maxmemory', '1');
    const drop = told((on) => push.on('drop', on));
    expect(await news.send('no room')).to.deep.equal({
      ...{ status: 'failure', listeners: 1, delivered: 0, failed: 1, unknown: 0 },
      reasons: { backplane: 1 },
    });
    expect(await drop).to.deep.include({ channel: 'news', event: 'message', happened: 'never' });
    await redis.command('CONFIG', 'SET', 'maxmemory', '0');
    expect(await news.send('room again')).to.deep.equal(delivered(1));
    expect(await client.heard(1)).to.deep.equal(['room again']);
  });
});

describe('A node on Redis', () => {
  it('has one connection for commands and one for all that it is subscribed to', async () => {
    const redis = await RedisServer.start();
    const raw = await rawClient(redis);
    const three = await nodes(redis.port, ['a', 'b', 'c']);
    const names = texts(40);
    for (const name of names) three[0]!.push.channels.create({ name });
    await three[0]!.push.health();
    for (const { listen } of three) await listen(names);
    const clients = String(await raw.sendCommand(['CLIENT', 'LIST']))
      .trim()
      .split('\n')
      .map((line) => Number(/ sub=(\d+)/.exec(line)?.[1]));
    expect(clients.filter((topics) => topics === 0)).to.have.length(3 + 1);
    const subscribers = clients.filter((topics) => topics > 0);
    expect(subscribers).to.have.length(3);
    // And what all nodes hear, and what is for this node alone.
    for (const topics of subscribers) expect(topics).to.equal(40 + 2);
  });

  it('hears a channel only while it has listeners, and a while longer; a guest then leaves', async () => {
    const redis = await RedisServer.start();
    const raw = await rawClient(redis);
    const [a, b] = await nodes(redis.port, ['a', 'b']);
    const news = a!.push.channels.create({ name: 'news' });
    const topic = `${KEY}0:topic:news`;
    const subscribers = async () => (await raw.pubSubNumSub([topic]))[topic];
    await news.send('to nobody');
    expect(await subscribers()).to.equal(0);
    const atA = await a!.listen('news');
    expect(await subscribers()).to.equal(1);
    let atB = await b!.listen('news');
    expect(await subscribers()).to.equal(2);
    expect(b!.push.inspect().channels.map(({ id }) => id)).to.deep.equal(['news']);

    // One that comes back finds everything as it was.
    const left = told((on) => b!.push.on('leave', on));
    atB.close();
    await left;
    await news.send('missed');
    expect(await subscribers()).to.equal(2);
    const watch = await Watch.on(redis);
    atB = await b!.listen('news', atB.lastEventId);
    expect(atB.opening.recovered).to.equal(true);
    expect(await atB.heard(1)).to.deep.equal(['missed']);
    expect(watch.matching(/"subscribe"/i)).to.deep.equal([]);

    const gone = told((on) => b!.push.on('leave', on));
    atB.close();
    await gone;
    await watch.seen(/"HDEL".*audience/);
    expect(await subscribers()).to.equal(1);
    const { '': since, ...audience } = await raw.hGetAll(`${KEY}audience:news`);
    expect(since, 'it was not lost').to.equal('0');
    expect(Object.keys(audience).map(bare)).to.deep.equal(['a']);
    expect(b!.push.inspect().channels, 'nobody on this node has asked for it').to.deep.equal([]);
    expect(await news.send('to one', { perNode: true }).then(named)).to.deep.include({
      perNode: { a: delivered(1) },
    });
    expect(await atA.heard(2)).to.deep.equal(['missed', 'to one']);

    const back = await b!.listen('news', atB.lastEventId);
    expect(back.opening.recovered).to.equal(true);
    expect(await back.heard(1)).to.deep.equal(['to one']);
  });

  it('is not disturbed by what others publish on its topics', async () => {
    const redis = await RedisServer.start();
    const raw = await rawClient(redis);
    const { push, listen } = await node(redis.port);
    const errors: unknown[] = [];
    push.on('error', (error) => errors.push(error));
    const news = push.channels.create({ name: 'news' });
    const client = await listen('news');
    const topics = await raw.pubSubChannels(`${KEY}*`);
    expect(topics).to.have.length(3);
    const words = [
      ...[
        '',
        'e',
        'x',
        'm',
        'w',
        'nonsense',
        'e 1',
        'e a b c\n',
        'x a 1 0\nother',
        'm 1-1',
        'm 99-99',
        'w null',
      ],
      ...[
        'w {',
        'w {"kind":"outcomes","node":"x"}',
        'w {"kind":"count","node":"x"}',
        'w {"kind":"new","node":"x"}',
      ],
      ...[
        'w {"kind":"outcomes","node":"x","outcomes":[[1,null]]}',
        'w [1]',
        'e \ud800 1 0\n',
        '\n',
        'e  \n\n',
      ],
    ];
    const all = [...words, ...words.map((word) => `1 ${word}`)];
    for (const topic of topics) for (const word of all) await raw.publish(topic, word);
    expect(await news.send('still here')).to.deep.equal(delivered(1));
    expect(await client.heard(1)).to.deep.equal(['still here']);
    for (const error of errors) expect(error).to.be.an.instanceOf(MalformedMessageError);
    const told = errors.map((error) => (error as MalformedMessageError).message);
    expect(told).to.deep.equal([...new Set(told)]);
  });
});

describe('An outcome of several nodes', () => {
  it('is the sum of two nodes, whichever of them writes', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b']);
    const atA = a!.push.channels.create({ name: 'news' });
    await a!.push.health();
    const clients = await Promise.all([a!.listen('news'), b!.listen('news'), b!.listen('news')]);
    const atB = b!.push.channels.open('news');
    expect(await atA.send('of a')).to.deep.equal(delivered(3));
    expect(await atB.send('of b')).to.deep.equal(delivered(3));
    expect(named(await atB.send('by node', { perNode: true }))).to.deep.equal({
      ...delivered(3),
      perNode: { a: delivered(1), b: delivered(2) },
    });
    for (const client of clients) expect(await client.heard(3)).to.deep.equal(['of a', 'of b', 'by node']);
  });

  it('is the sum of three, of which one has no listener, in bursts from all of them', async () => {
    const redis = await RedisServer.start();
    const three = await nodes(redis.port, ['a', 'b', 'c']);
    const channels = three.map(({ push }) => push.channels.open('news'));
    const clients = [await three[0]!.listen('news'), await three[1]!.listen('news')];
    const outcomes = await Promise.all(
      texts(60).flatMap((text) => channels.map((channel, index) => channel.send(`${index} ${text}`))),
    );
    for (const outcome of outcomes) expect(outcome).to.deep.equal(delivered(2));
    const [first, second] = await Promise.all(clients.map((client) => client.heard(180)));
    expect(second, 'one order').to.deep.equal(first);
    for (const index of [0, 1, 2]) {
      const own = first!.filter((data) => data.startsWith(`${index} `));
      expect(own, 'each in its turn').to.deep.equal(texts(60).map((text) => `${index} ${text}`));
    }
    expect(named(await channels[2]!.send('of c', { perNode: true }))).to.deep.equal({
      ...delivered(2),
      perNode: { a: delivered(1), b: delivered(1) },
    });
  });

  it('of a write to nobody is a success, with 0 of 0', async () => {
    const redis = await RedisServer.start();
    const [a] = await nodes(redis.port, ['a', 'b']);
    expect(await a!.push.channels.create().send('anyone?')).to.deep.equal(delivered(0));
  });

  it('has failed where a stream of another node broke before all was taken', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b'], ROOM);
    const news = a!.push.channels.create({ name: 'news' });
    await a!.push.health();
    const joined = told((on) => b!.push.on('join', on));
    const client = await RawClient.get(b!.port, '/news');
    await joined;
    const reader = await a!.listen('news');
    const flood = news.send(FLOOD, { perNode: true });
    const small = news.send('not even sent');
    await reader.heard(2);
    await until(() => b!.push.inspect({ streams: true }).streams?.[0]?.state === 'behind');
    await client.reset();
    const failed = { ...delivered(1), status: 'failure', delivered: 0, failed: 1, reasons: { error: 1 } };
    const sum = { ...failed, listeners: 2, delivered: 1 };
    expect(named(await flood)).to.deep.equal({ ...sum, perNode: { a: delivered(1), b: failed } });
    expect(await small).to.deep.equal(sum);
  });

  it('knows of a node with a slow client what became of its other clients', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b'], { ...ROOM, lease: 9000 });
    const news = a!.push.channels.create({ name: 'news' });
    await a!.push.health();
    const joined = told((on) => b!.push.on('join', on));
    await RawClient.get(b!.port, '/news');
    await joined;
    const readers = await Promise.all([b!.listen('news'), b!.listen('news'), a!.listen('news')]);
    const flood = await news.send(FLOOD, { perNode: true });
    const partial = { ...delivered(3), status: 'failure', delivered: 2, unknown: 1 };
    expect(named(flood)).to.deep.equal({
      ...{ ...partial, listeners: 4, delivered: 3 },
      perNode: { a: delivered(1), b: partial },
    });
    for (const reader of readers) expect(await reader.heard(1)).to.deep.equal([FLOOD]);
  });

  it('counts the listeners of a silent node as unknown, as many as were last known', async () => {
    const redis = await RedisServer.start();
    const proxy = await TcpProxy.before(redis.port);
    const options = { lease: 3000, deadline: 400 };
    const a = await node(redis.port, { ...options, node: 'a' });
    const b = await node(proxy.port, { ...options, node: 'b' });
    const news = a.push.channels.create({ name: 'news' });
    await a.push.health();
    const clients = await Promise.all([1, 2, 3].map(() => b.listen('news')));
    clients.push(await a.listen('news'));
    await known(redis, 'news', 4);
    proxy.stall(true);
    const unknown = { ...delivered(3), status: 'failure', delivered: 0, unknown: 3 };
    expect(named(await news.send('to a silent node', { perNode: true }))).to.deep.equal({
      ...{ ...unknown, listeners: 4, delivered: 1 },
      perNode: { a: delivered(1), b: unknown },
    });
    proxy.stall(false);
    for (const client of clients) expect(await client.heard(1)).to.deep.equal(['to a silent node']);
    await until(async () => (await news.send('again')).delivered === 4);
  });

  it('counts one listener at the least for a silent node of which nothing was known yet', async () => {
    const redis = await RedisServer.start();
    const proxy = await TcpProxy.before(redis.port);
    const options = { lease: 30_000, deadline: 400 };
    const a = await node(redis.port, { ...options, node: 'a' });
    const b = await node(proxy.port, { ...options, node: 'b' });
    const news = a.push.channels.create({ name: 'news' });
    await a.push.health();
    await b.listen('news');
    proxy.stall(true);
    const outcome = await news.send('to a silent node');
    expect(outcome).to.deep.equal({ ...delivered(1), status: 'failure', delivered: 0, unknown: 1 });
    proxy.stall(false);
  });

  it('is told by nobody where nobody asked', async () => {
    const redis = await RedisServer.start();
    const [a, b, c] = await nodes(redis.port, ['a', 'b', 'c']);
    const news = a!.push.channels.create({ name: 'news' });
    await a!.push.health();
    const clients = await Promise.all([b!.listen('news'), b!.listen('news'), c!.listen('news')]);
    const heard = await overhear(redis, `${KEY}0:node:*`);
    for (const text of texts(100)) news.write(text);
    await Promise.all(clients.map((client) => client.heard(100)));
    expect(await news.send('asked')).to.deep.equal(delivered(3));
    const words = (await heard()).filter(({ text }) => text.startsWith('1 w '));
    expect(words).to.have.length(2);
  });

  it('is told once for all writes of a turn', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b']);
    const news = a!.push.channels.create({ name: 'news' });
    await a!.push.health();
    await b!.listen('news');
    const heard = await overhear(redis, `${KEY}0:node:*`);
    const outcomes = await Promise.all(texts(500).map((text) => news.send(text)));
    for (const outcome of outcomes) expect(outcome).to.deep.equal(delivered(1));
    expect((await heard()).filter(({ text }) => text.startsWith('1 w ')).length).to.be.within(1, 250);
  });

  it('settles once for each write, and is told by the event too', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b']);
    const news = a!.push.channels.create({ name: 'news' });
    await a!.push.health();
    const client = await b!.listen('news');
    const settled: Outcome[] = [];
    const events: unknown[] = [];
    a!.push.on('outcome', ({ position, outcome }) => events.push([position, outcome]));
    for (const text of texts(50))
      news.write(text, { outcome: { resolve: (outcome) => settled.push(outcome) } });
    expect(settled).to.deep.equal([]);
    const last = new Deferred<Outcome>();
    news.write('last', { outcome: last });
    await last.promise;
    await a!.push.health();
    await until(() => events.length >= 51);
    expect(settled).to.deep.equal(texts(50).map(() => delivered(1)));
    const ids = client.events.slice(1).map(({ id }) => id?.replace('@news', ''));
    expect(events).to.deep.equal(ids.map((id) => [id, delivered(1)]));
  });
});

describe('countListeners', () => {
  it('is the sum of all nodes, and says how many each has', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b', 'c']);
    const news = a!.push.channels.create({ name: 'news' });
    await a!.push.health();
    await Promise.all([a!.listen('news'), b!.listen('news'), b!.listen(['news', 'none'])]);
    const { listeners, nodes: counts, silent } = await news.countListeners();
    const byName = Object.fromEntries(Object.entries(counts).map(([id, count]) => [bare(id), count]));
    expect({ listeners, byName, silent }).to.deep.equal({
      ...{ listeners: 3, byName: { a: 1, b: 2, c: 0 } },
      silent: [],
    });
    expect(news.listeners, 'of this process').to.equal(1);
  });

  it('names a node that does not answer, until its lease is over', async () => {
    const redis = await RedisServer.start();
    const proxy = await TcpProxy.before(redis.port);
    const options = { lease: 900, deadline: 200 };
    const a = await node(redis.port, { ...options, node: 'a' });
    const b = await node(proxy.port, { ...options, node: 'b' });
    const news = a.push.channels.create({ name: 'news' });
    await a.push.health();
    await Promise.all([a.listen('news'), b.listen('news')]);
    expect((await news.countListeners()).listeners).to.equal(2);
    proxy.stall(true);
    const count = await news.countListeners();
    expect(count.listeners).to.equal(1);
    expect(count.silent.map(bare)).to.deep.equal(['b']);
    await until(async () => (await news.countListeners()).silent.length === 0);
    // Its connection is still there, and it may take what is written.
    expect(await news.send('to both')).to.include({ listeners: 2, delivered: 1, unknown: 1 });
    proxy.stall(false);
    await until(async () => (await news.countListeners()).listeners === 2);
  });

  it('does not name a node that was closed', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b']);
    const news = a!.push.channels.create({ name: 'news' });
    await a!.push.health();
    await b!.listen('news');
    await b!.push.close({ drain: 50 });
    const { nodes: counts, silent } = await news.countListeners();
    expect([Object.keys(counts).map(bare), silent]).to.deep.equal([['a'], []]);
    expect(await news.send('to nobody')).to.deep.equal(delivered(0));
  });
});

describe('A channel on several nodes', () => {
  it('of a fresh id can be had on another node at once, on its own terms', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b']);
    for (let round = 0; round < 20; round += 1) {
      const fresh = a!.push.channels.create({ rewind: 2, log: { frames: 3 } });
      for (const text of texts(5)) fresh.write(text);
      // What Redis has not heard of yet is nowhere else.
      await a!.push.health();
      const client = await b!.listen(fresh.id);
      await fresh.send('live');
      await client.until(() => client.messages.at(-1) === 'live');
      // Where the writes came before it, it got two of them; where it came between them, more.
      const { messages } = client;
      expect(messages).to.deep.equal([...texts(5), 'live'].slice(-messages.length));
      expect(messages.length).to.be.at.least(3);
      expect(b!.push.inspect().channels.at(-1)).to.include({ id: fresh.id, frames: 3 });
    }
  });

  it('that nobody has made is none', async () => {
    const redis = await RedisServer.start();
    const { port, push } = await node(redis.port);
    const client = await RawClient.get(port, '/nothing');
    await client.until('UNKNOWN_CHANNEL');
    expect(answerOf(client.text).status).to.equal(404);
    expect(push.inspect().channels).to.deep.equal([]);
  });

  it('that is held stays known for longer than Redis keeps what nobody holds', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b'], { lease: 600, keep: 600 });
    const news = a!.push.channels.create({ name: 'news' });
    const watch = await Watch.on(redis);
    await watch.seen(/"evalsha".*"hold"/i, 6);
    const client = await b!.listen('news');
    expect(await news.send('still known')).to.deep.equal(delivered(1));
    expect(await client.heard(1)).to.deep.equal(['still known']);
  });

  it('is encoded as the node says that opens it, though a client had asked for it there before', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b']);
    a!.push.channels.create({ name: 'news' });
    await a!.push.health();
    const client = await b!.listen('news');
    const errors: unknown[] = [];
    b!.push.on('error', (error) => errors.push(error));
    const atB = b!.push.channels.open<number>('news', { rewind: 0, encode: (data) => `<${data}>` });
    await atB.send(5);
    expect(await client.heard(1)).to.deep.equal(['<5>']);
    expect(errors).to.deep.equal([]);
    b!.push.channels.open('news', { rewind: 1 });
    await atB.send(6);
    expect(errors).to.have.length(1);
  });

  it('ends on all nodes when it ends on one, for guests and for those who have opened it', async () => {
    const redis = await RedisServer.start();
    const [a, b, c] = await nodes(redis.port, ['a', 'b', 'c']);
    const atA = a!.push.channels.create({ name: 'news' });
    const atC = c!.push.channels.open('news');
    await a!.push.health();
    const clients = await Promise.all([a!, b!, c!].map(({ listen }) => listen('news')));
    const ended = told((on) => c!.push.on('end', on));
    const late = { ...delivered(1), status: 'failure', delivered: 0, failed: 1, reasons: { ended: 1 } };
    atA.write('last words');
    atA.end();
    expect(await atA.send('late'), 'whoever listens at A has yet to read the end').to.deep.equal(late);
    for (const client of clients) {
      await client.ended();
      expect(client.events.slice(1).map(({ event, data }) => [event, data])).to.deep.equal([
        [undefined, 'last words'],
        ['comet:end', '{"channel":"news"}'],
      ]);
    }
    await ended;
    expect(atC.signal.reason).to.be.an.instanceof(ChannelEndedError);
    expect(await atC.send('late')).to.deep.equal(late);
    for (const { push } of [a!, b!, c!]) expect(push.channels.find('news')).to.equal(undefined);
    const newcomer = await b!.listen('news');
    await newcomer.ended();
    const heard = newcomer.events.map(({ event }) => event);
    expect(heard, 'it lingers where it was held').to.deep.equal(['comet:open', 'comet:end', 'comet:ready']);
  });

  it('that ends goes from a stream that carries others, which goes on', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b']);
    const [news, chat] = ['news', 'chat'].map((name) => a!.push.channels.create({ name }));
    await a!.push.health();
    const client = await b!.listen(['news', 'chat']);
    news!.write('last of news');
    news!.end();
    expect(await chat!.send('chat goes on')).to.deep.equal(delivered(1));
    await client.heard(2);
    expect(client.events.slice(1).map(({ event, data }) => [event, data])).to.deep.equal([
      [undefined, 'last of news'],
      ['comet:end', '{"channel":"news"}'],
      [undefined, 'chat goes on'],
    ]);
  });

  it('that joins a stream which waited for it is told as a gap, if its first events were let go', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b']);
    a!.push.channels.create({ name: 'chat' });
    const stream = await a!.listen(['chat', 'news']);
    const news = b!.push.channels.create({ name: 'news', log: { frames: 1 } });
    const written = texts(50);
    for (const text of written) news.write(text);
    await stream.until(() => stream.messages.includes('write 49'));
    const gap = stream.events.find(({ event }) => event === 'comet:gap');
    if (stream.messages.length < 50) expect(gap?.data).to.equal('{"channels":["news"]}');
    expect(stream.messages).to.deep.equal(written.slice(-stream.messages.length));
  });

  it('that ends and is made anew at once is another one, everywhere', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b']);
    let news = a!.push.channels.create({ name: 'news' });
    await a!.push.health();
    for (let round = 0; round < 10; round += 1) {
      const clients = await Promise.all([a!.listen('news'), b!.listen('news')]);
      news.write('old');
      news.end();
      news = a!.push.channels.create({ name: 'news' });
      const first = news.send('new');
      for (const client of clients) {
        await client.ended();
        expect(client.events.slice(1).map(({ event, data }) => event ?? data)).to.deep.equal([
          'old',
          'comet:end',
        ]);
      }
      expect(await first, 'those of the old one are not its listeners').to.deep.equal(delivered(0));
      for (const [index, { listen }] of [a!, b!].entries()) {
        const back = await listen('news', clients[index]!.lastEventId);
        expect(back.opening.recovered, 'nothing was lost since the end').to.equal(true);
        expect(await news.send('newer')).to.include({ status: 'success' });
        await back.until(() => back.messages.includes('newer'));
        expect(back.messages[0]).to.equal('new');
        back.close();
      }
    }
  });

  it('may be ended by both nodes at once, and made anew by both', async () => {
    const redis = await RedisServer.start();
    const both = await nodes(redis.port, ['a', 'b']);
    for (let round = 0; round < 10; round += 1) {
      const channels = both.map(({ push }) => push.channels.open('news'));
      await Promise.all(both.map(({ push }) => push.health()));
      const clients = await Promise.all(both.map(({ listen }) => listen('news')));
      for (const channel of channels) channel.end();
      for (const client of clients) {
        await client.ended();
        expect(client.events.slice(1).map(({ event }) => event)).to.deep.equal(['comet:end']);
      }
    }
    // A name is free at once; what becomes of two of one name that are made while the end is under way, both share.
    const news = both[0]!.push.channels.open('news');
    await both[0]!.push.health();
    const client = await both[1]!.listen('news');
    expect(await news.send('after all')).to.deep.equal(delivered(1));
    expect(await client.heard(1)).to.deep.equal(['after all']);
  });
});

describe('A hub on Redis that closes', () => {
  it('delivers what was written before', async () => {
    const redis = await RedisServer.start();
    const [a, b] = await nodes(redis.port, ['a', 'b']);
    const news = a!.push.channels.create({ name: 'news' });
    await a!.push.health();
    const clients = await Promise.all([a!.listen('news'), b!.listen('news')]);
    for (const text of texts(20)) news.write(text);
    const last = news.send('last');
    await a!.push.close({ drain: 2000 });
    expect(await last).to.deep.equal(delivered(2));
    for (const client of clients) expect(await client.heard(21)).to.deep.equal([...texts(20), 'last']);
  });

  it('may close before it has found it, and leaves no connection', async () => {
    const redis = await RedisServer.start();
    const raw = await rawClient(redis);
    for (let turns = 0; turns < 12; turns += 1) {
      const { push } = await newNode(redis.port);
      // Each time a little further on its way.
      for (let turn = 0; turn < turns; turn += 1) await new Promise(setImmediate);
      await push.close({ drain: 50 });
    }
    await until(async () => (await connectionsOf(raw)) === 1);
  });

  it('leaves no connection, and another node of the same name takes its place', async () => {
    const redis = await RedisServer.start();
    const raw = await rawClient(redis);
    const [a] = await nodes(redis.port, ['a']);
    const news = a!.push.channels.create({ name: 'news', rewind: 1 });
    const client = await a!.listen('news');
    await news.send('before');
    await a!.push.close({ drain: 50 });
    await until(async () => (await connectionsOf(raw)) === 1);
    const next = await node(redis.port, { node: 'a' });
    const back = await next.listen('news', client.lastEventId);
    expect(back.opening.recovered, 'the order outlives the nodes').to.equal(true);
    const again = next.push.channels.open('news');
    expect(await again.send('after')).to.deep.equal(delivered(1));
    expect(await back.heard(1)).to.deep.equal(['after']);
  });

  it('settles what is written afterwards, and not inside the write', async () => {
    const redis = await RedisServer.start();
    const { push } = await node(redis.port);
    const news = push.channels.create();
    await push.close({ drain: 50 });
    const outcome = new Deferred<Outcome>();
    let isInside = true;
    news.write('too late', {
      outcome: {
        resolve: (told) => outcome.resolve({ ...told, status: isInside ? 'success' : told.status }),
      },
    });
    isInside = false;
    const { status, reasons } = await outcome.promise;
    expect({ status, reasons }).to.deep.equal({ status: 'failure', reasons: { backplane: 1 } });
  });
});

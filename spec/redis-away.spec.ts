import { expect } from 'chai';
import { type Channel, ChannelEndedError, type CometOptions, type Outcome } from '../lib/index.js';
import { type EventClient, RawClient, told } from './support/client.js';
import {
  failOver,
  healthy,
  newNode,
  node,
  nodes,
  rawClient,
  type TestNode,
  texts,
  until,
} from './support/nodes.js';
import { delivered } from './support/outcomes.js';
import { run } from './support/process.js';
import { TcpProxy } from './support/proxy.js';
import { RedisServer } from './support/redis.js';
import { cleanup, TestServer } from './support/server.js';
import { answerOf } from './support/wire.js';

const KEY = '{express-comet}:';

const refused = (listeners: number): Outcome => ({
  ...{ ...delivered(listeners), status: 'failure', delivered: 0, failed: listeners },
  reasons: { backplane: listeners },
});

const unknown = (listeners: number): Outcome => ({
  ...{ ...delivered(listeners), status: 'failure', delivered: 0, unknown: listeners },
});

interface Pair {
  redis: RedisServer;
  /** Between B and Redis. */
  proxy: TcpProxy;
  a: TestNode;
  b: TestNode;
  /** As A has it. */
  news: Channel;
  clients: [atA: EventClient, atB: EventClient];
}

/** A node on Redis, another behind a proxy, and a listener on each. */
async function pair(options: CometOptions & { lease?: number } = {}, log = {}): Promise<Pair> {
  const redis = await RedisServer.start();
  const proxy = await TcpProxy.before(redis.port);
  const a = await node(redis.port, { ...options, node: 'a' });
  const b = await node(proxy.port, { ...options, node: 'b' });
  const news = a.push.channels.create({ name: 'news', ...log });
  await a.push.health();
  return { redis, proxy, a, b, news, clients: [await a.listen('news'), await b.listen('news')] };
}

/** Resolves when the node has noticed that Redis is away. */
const noticed = ({ push }: TestNode) =>
  new Promise<void>((resolve) => {
    push.on('backplane', ({ healthy }) => {
      if (!healthy) resolve();
    });
  });

/** Resolves when Redis has all that was written on this node. */
const accepted = ({ push }: TestNode) => until(async () => (await push.health()).queued === 0);

/** A stream that was told that something is lost to it. Resolves with what it hears behind that. */
async function gapped(client: EventClient, count = 0): Promise<string[]> {
  const data = JSON.stringify({ channels: ['news'] });
  const behind = () => {
    const at = client.events.findLastIndex((one) => one.event === 'comet:gap' && one.data === data);
    const later = at === -1 ? [] : client.events.slice(at + 1);
    return later.filter(({ event }) => event === undefined).map((one) => one.data);
  };
  const isTold = () => client.events.some((one) => one.event === 'comet:gap' && one.data === data);
  await client.until(() => isTold() && behind().length >= count);
  return behind();
}

/** What the process complains about, while it should not. */
const complaints: unknown[] = [];
const complain = (warning: unknown) => complaints.push(warning);

describe('Redis away', () => {
  before(() => {
    process.on('warning', complain);
    process.on('unhandledRejection', complain);
  });
  after(() => {
    process.off('warning', complain);
    process.off('unhandledRejection', complain);
  });
  afterEach(() => {
    expect(complaints.splice(0)).to.deep.equal([]);
  });

  describe('between a write and its listeners', () => {
    for (const [name, kind] of [
      ['subscriptions', 'pubsub'],
      ['commands', 'normal'],
    ] as const) {
      it(`for the ${name} alone, over and over, loses, doubles and reorders nothing`, async () => {
        const { redis, news, clients } = await pair();
        const raw = await rawClient(redis);
        for (let round = 0; round < 6; round += 1) {
          for (const text of texts(15, round * 30)) news.write(text);
          await raw.sendCommand(['CLIENT', 'KILL', 'TYPE', kind]);
          for (const text of texts(15, round * 30 + 15)) news.write(text);
          // One that is there again is killed again, in the middle of what it catches up with.
          if (round % 3 === 2) await clients[1].heard(round * 10);
        }
        for (const client of clients) expect(await client.heard(180)).to.deep.equal(texts(180));
        expect(await news.send('last')).to.include({ failed: 0 });
        for (const client of clients) expect(await client.heard(181)).to.deep.equal([...texts(180), 'last']);
      });
    }

    it('for all connections, over and over, loses, doubles and reorders nothing', async () => {
      const { redis, a, b, news, clients } = await pair({ deadline: 700 });
      const atB = b.push.channels.open('news');
      const outcomes: Promise<Outcome>[] = [];
      for (let round = 0; round < 8; round += 1) {
        for (const text of texts(20, round * 20)) {
          outcomes.push(news.send(`a ${text}`));
          atB.write(`b ${text}`);
        }
        await redis.cutConnections();
        await healthy(round % 2 === 0 ? a.push : b.push);
      }
      const heard = await Promise.all(clients.map((client) => client.heard(320)));
      expect(heard[0], 'one order').to.deep.equal(heard[1]);
      for (const name of ['a', 'b']) {
        const own = heard[0]!.filter((data) => data.startsWith(name));
        expect(own, name).to.deep.equal(texts(160).map((text) => `${name} ${text}`));
      }
      // Its own listener took each; of the other's it may not have heard.
      for (const outcome of await Promise.all(outcomes))
        expect(outcome).to.include({ listeners: 2, failed: 0 });
      expect(await news.send('a last')).to.deep.equal(delivered(2));
    });

    it('for one node fills in what that has missed, in order, also for who comes there by then', async () => {
      const { proxy, b, news, clients } = await pair({ deadline: 3000 });
      const away = noticed(b);
      await proxy.refuse(true);
      proxy.cut();
      await away;
      for (const text of texts(60)) news.write(text);
      await clients[0].heard(60);
      const coming = b.listen('news', clients[0].lastEventId);
      await proxy.refuse(false);
      expect(await clients[1].heard(60)).to.deep.equal(texts(60));
      expect((await coming).opening.recovered).to.equal(true);
      expect(await news.send('live')).to.include({ delivered: 3 });
      expect(await clients[1].heard(61)).to.deep.equal([...texts(60), 'live']);
      expect(await (await coming).heard(1)).to.deep.equal(['live']);
    });

    it('for longer than the log reaches is said: the stream hears of the gap, and goes on', async () => {
      const { proxy, a, b, news, clients } = await pair({}, { log: { frames: 4 } });
      const away = noticed(b);
      const lost = told((on) => b.push.on('gap', on));
      await news.send('heard');
      await proxy.refuse(true);
      proxy.cut();
      await away;
      for (const text of texts(50)) news.write(text);
      await accepted(a);
      await proxy.refuse(false);
      const retained = texts(50).slice(-4);
      expect(await gapped(clients[1], 4), 'from where it is whole again').to.deep.equal(retained);
      expect(await lost).to.deep.include({ channels: ['news'] });
      const back = await b.listen('news', clients[1].lastEventId);
      expect(back.opening.recovered).to.equal(true);
      expect(await news.send('live')).to.deep.equal(delivered(3));
      expect(await gapped(clients[1], 5)).to.deep.equal([...retained, 'live']);
      expect(await back.heard(1)).to.deep.equal(['live']);
      expect(await clients[0].heard(52)).to.deep.equal(['heard', ...texts(50), 'live']);
    });

    it("for longer than the log reaches is a jump to the newest where lag is 'latest'", async () => {
      const { proxy, a, b, news, clients } = await pair({}, { log: { frames: 4 }, lag: 'latest' });
      const away = noticed(b);
      await proxy.refuse(true);
      proxy.cut();
      await away;
      for (const text of texts(50)) news.write(text);
      await accepted(a);
      await proxy.refuse(false);
      await clients[1].until(() => clients[1].messages.includes('write 49'));
      const { messages } = clients[1];
      expect(messages).to.deep.equal(texts(50).slice(-messages.length));
      expect(await news.send('live')).to.deep.equal(delivered(2));
    });

    it('loses not even the last message, where its publication alone was lost', async () => {
      const { redis, a, news, clients } = await pair({ lease: 600 });
      await news.send('heard');
      // What a script that was carried out, and whose PUBLISH reached nobody, leaves behind.
      const raw = await rawClient(redis);
      const seq = Number(await raw.hGet(`${KEY}hub`, 'seq')) + 1;
      const previous = (await raw.hGet(`${KEY}channel:news`, 'last')) ?? '';
      await raw
        .multi()
        .hSet(`${KEY}hub`, 'seq', String(seq))
        .xAdd(`${KEY}log:news`, `${seq}-${Date.now()}`, { p: previous, a: '', b: 'data: silent\n\n' })
        .hSet(`${KEY}channel:news`, 'last', String(seq))
        .exec();
      for (const client of clients) expect(await client.heard(2)).to.deep.equal(['heard', 'silent']);
      expect(clients[0].lastEventId).to.equal(`${a.push.inspect().epoch}-${seq}@news`);
      expect(await news.send('live')).to.deep.equal(delivered(2));
    });

    it('takes a client that changes the node to where it stood, although that node is behind', async () => {
      const { proxy, b, news, clients } = await pair({ deadline: 4000 });
      await news.send('heard');
      proxy.stall(true);
      for (const text of texts(20)) news.write(text);
      await clients[0].heard(21);
      const moving = b.listen('news', clients[0].lastEventId);
      news.write('missed');
      await clients[0].heard(22);
      expect(clients[1].messages).to.deep.equal(['heard']);
      proxy.stall(false);
      const moved = await moving;
      expect(moved.opening.recovered).to.equal(true);
      expect(await moved.heard(1)).to.deep.equal(['missed']);
      expect(await clients[1].heard(22)).to.deep.equal(['heard', ...texts(20), 'missed']);
    });

    it('gives a client of one node on another node what it missed, which never had the channel', async () => {
      const redis = await RedisServer.start();
      const [a, b] = await nodes(redis.port, ['a', 'b']);
      const news = a!.push.channels.create({ name: 'news' });
      await news.send('before');
      const client = await a!.listen('news');
      await news.send('heard');
      await client.heard(1);
      client.close();
      for (const text of texts(30)) await news.send(text);
      const back = await b!.listen('news', client.lastEventId);
      expect(back.opening.recovered).to.equal(true);
      expect(await back.heard(30)).to.deep.equal(texts(30));
      expect(back.events[1]?.id?.split('-')[0]).to.equal(a!.push.inspect().epoch);
    });

    it('lets a channel end that ended on another node meanwhile, with listeners here or without', async () => {
      const { proxy, a, b, news, clients } = await pair();
      const [quiet] = [a, b].map(({ push }) => push.channels.open('quiet'));
      await Promise.all([a.push.health(), b.push.health()]);
      const away = noticed(b);
      await proxy.refuse(true);
      proxy.cut();
      await away;
      news.write('last words');
      news.end();
      quiet!.end();
      await clients[0].ended();
      const ended = told((on) => b.push.on('backplane', on));
      await proxy.refuse(false);
      await clients[1].ended();
      expect(clients[1].events.slice(1).map(({ event, data }) => event ?? data)).to.deep.equal([
        'last words',
        'comet:end',
      ]);
      await ended;
      await until(() => b.push.channels.size === 0);
    });

    it('drops what was written on a channel that ended on another node meanwhile, and says ended', async () => {
      const { proxy, a, b, news } = await pair();
      const atB = b.push.channels.open('news');
      const press = await TestServer.listen(b.push.publisher({ authorize: () => true }));
      const drops: unknown[] = [];
      b.push.on('drop', ({ cause }) => drops.push(cause));
      const away = noticed(b);
      await proxy.refuse(true);
      proxy.cut();
      await away;
      const late = atB.send('late');
      const published = fetch(`${press.url}/news`, { method: 'POST', body: 'late' });
      await until(() => b.push.inspect().backplane?.queued === 2);
      news.end();
      await accepted(a);
      await proxy.refuse(false);
      expect(await late).to.deep.equal({ ...refused(1), reasons: { ended: 1 } });
      const answer = await published;
      expect(answer.status).to.equal(404);
      expect(await answer.json()).to.have.nested.property('error.code', 'CHANNEL_ENDED');
      expect(drops).to.have.length(1);
      for (const cause of drops) expect(cause).to.be.an.instanceof(ChannelEndedError);
    });

    it('lets a channel that ended and was made anew meanwhile be another one', async () => {
      const { proxy, a, b, news, clients } = await pair();
      const away = noticed(b);
      await proxy.refuse(true);
      proxy.cut();
      await away;
      news.write('last words');
      news.end();
      await clients[0].ended();
      const again = a.push.channels.create({ name: 'news' });
      again.write('of another');
      await accepted(a);
      await proxy.refuse(false);
      await clients[1].ended();
      // How it ended may be gone from the log; then it is a gap.
      expect(clients[1].messages).not.to.include('of another');
      expect(clients[1].events.at(-1)?.event).to.match(/^comet:(end|gap)$/);
      const back = await b.listen('news', clients[1].lastEventId);
      expect(back.opening.recovered).to.equal(false);
      await again.send('live');
      expect(await back.heard(1)).to.deep.equal(['live']);
    });
  });

  describe('that has lost everything', () => {
    const losses: [name: string, lose: (redis: RedisServer) => Promise<unknown>][] = [
      ['emptied', (redis) => redis.command('FLUSHALL')],
      ['restarted', (redis) => redis.restart()],
    ];
    for (const [name, lose] of losses) {
      it(`and is ${name} begins a new epoch, of which every stream is told`, async () => {
        const { redis, a, b, news, clients } = await pair({ lease: 1200 });
        const { epoch } = a.push.inspect();
        await news.send('heard');
        await Promise.all(clients.map((client) => client.heard(1)));
        await lose(redis);
        await Promise.all(clients.map((client) => gapped(client)));
        await Promise.all([healthy(a.push), healthy(b.push)]);
        expect(a.push.inspect().epoch)
          .to.match(/^[0-9a-f]{12}$/)
          .and.not.equal(epoch);
        expect(b.push.inspect().epoch).to.equal(a.push.inspect().epoch);
        const back = await Promise.all(
          [a, b].map(async ({ listen }, index) => [
            await listen('news', clients[index]!.lastEventId),
            await listen('news', `${epoch}-1`),
          ]),
        );
        const recovered = back.map((both) => both.map(({ opening }) => opening.recovered));
        expect(recovered, 'since it was told, and since before').to.deep.equal([
          [true, false],
          [true, false],
        ]);
        expect(await news.send('new')).to.deep.equal(delivered(6));
        for (const client of back.flat()) expect(await client.heard(1)).to.deep.equal(['new']);
        for (const client of clients) expect(await gapped(client, 1)).to.deep.equal(['new']);
        const moved = await b.listen('news', back[0]![0]!.lastEventId);
        expect(moved.opening.recovered, 'and what is new is retained').to.equal(true);
      });
    }

    it('and is written to before anybody has noticed delivers that in the new epoch, once, or says unknown', async () => {
      const { redis, b, news } = await pair({ deadline: 700 });
      await redis.command('FLUSHALL');
      const outcomes = texts(20).map((text) => news.send(text));
      for (const outcome of await Promise.all(outcomes)) expect(outcome.delivered).to.be.at.most(2);
      await healthy(b.push);
      const client = await b.listen('news');
      expect(await news.send('live')).to.include({ failed: 0, unknown: 0 });
      expect(await client.heard(1)).to.deep.equal(['live']);
    });

    it('as its replica became the primary: a new epoch, and what waited arrives once and in order', async () => {
      const redis = await RedisServer.start();
      const [a, b] = await nodes(redis.port, ['a', 'b'], { deadline: 600, queue: { wait: 10_000 } });
      const news = a!.push.channels.create({ name: 'news', rewind: 100 });
      const { epoch } = a!.push.inspect();
      await a!.push.health();
      const clients = await Promise.all([a!.listen('news'), b!.listen('news')]);
      const replica = await RedisServer.startReplica(redis);
      await news.send('before');
      await redis.command('WAIT', '1', '0');
      const away = Promise.all([noticed(a!), noticed(b!)]);
      await redis.kill();
      await away;
      const outcomes = texts(30).map((text) => news.send(text));
      await failOver(redis, replica);
      await Promise.all(clients.map((client) => gapped(client)));
      for (const outcome of await Promise.all(outcomes)) expect(outcome).to.include({ failed: 0 });
      expect(a!.push.inspect().epoch).not.to.equal(epoch);
      await news.send('after');
      for (const client of clients) {
        await client.until(() => client.messages.at(-1) === 'after');
        const heard = await gapped(client);
        expect(heard.filter((data) => data !== 'before')).to.deep.equal([...texts(30), 'after']);
      }
    });

    it('as it became a replica is away, and is not asked without a pause', async () => {
      const redis = await RedisServer.start();
      const other = await RedisServer.start();
      const { push, listen } = await node(redis.port, { deadline: 600, queue: { wait: 10_000 } });
      const news = push.channels.create({ name: 'news' });
      const client = await listen('news');
      await news.send('before');
      const away = noticed({ push } as TestNode);
      await redis.command('CONFIG', 'RESETSTAT');
      await redis.follow(other);
      const outcome = news.send('meanwhile');
      await away;
      expect(await push.health()).to.include({ healthy: false, queued: 1 });
      const stats = String(await redis.command('INFO', 'commandstats'));
      expect(Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1] ?? 0)).to.be.below(300);
      await redis.promote();
      expect(await outcome).to.include({ failed: 0 });
      await gapped(client);
      expect(await news.send('after')).to.deep.equal(delivered(1));
      await client.until(() => client.messages.at(-1) === 'after');
    });
  });

  describe('at the start', () => {
    it('is waited for: a subscriber is told to come back, and all is well when it is there', async () => {
      const redis = await RedisServer.start();
      await redis.kill();
      const a = await newNode(redis.port, { node: 'a', deadline: 300, queue: { wait: 20_000 } });
      const news = a.push.channels.create({ name: 'news', rewind: 5 });
      const outcomes = texts(5).map((text) => news.send(text));
      const began = performance.now();
      const client = await RawClient.get(a.port, '/news');
      await client.until('UNAVAILABLE');
      expect(performance.now() - began).to.be.within(290, 2000);
      const { status, headers } = answerOf(client.text);
      expect([status, Number(headers['retry-after']) > 0]).to.deep.equal([503, true]);
      const health = await a.push.health();
      expect(health).to.include({ healthy: false, backplane: 'redis', roundTrip: null, queued: 5 });
      expect(health.reason).to.be.a('string').and.not.equal('');

      await redis.restart();
      await healthy(a.push);
      expect(await Promise.all(outcomes)).to.deep.equal(texts(5).map(() => delivered(0)));
      const there = await a.push.health();
      expect(there).to.include({ healthy: true, reason: null, queued: 0 });
      expect(there.roundTrip).to.be.within(0, 300);
      const b = await node(redis.port, { node: 'b' });
      const late = await b.listen('news');
      expect(await late.heard(5), 'a guest of another node has what waited').to.deep.equal(texts(5));
      expect(await news.send('live')).to.deep.equal(delivered(1));
    });
  });

  describe('for a while', () => {
    it('leaves streams open, and what was written meanwhile arrives once and in order, on all nodes', async () => {
      const { redis, proxy, a, b, news, clients } = await pair({ deadline: 600, queue: { wait: 10_000 } });
      const atB = b.push.channels.open('news');
      const states: boolean[] = [];
      b.push.on('backplane', ({ healthy }) => states.push(healthy));
      const left: unknown[] = [];
      for (const { push } of [a, b]) push.on('leave', (event) => left.push(event));
      const away = noticed(b);
      await proxy.refuse(true);
      proxy.cut();
      await away;
      const outcomes = texts(50).map((text) => atB.send(text));
      news.write('of a');
      await accepted(a);
      const health = await b.push.health();
      expect(health).to.include({ healthy: false, queued: 50, roundTrip: null });
      await proxy.refuse(false);
      for (const outcome of await Promise.all(outcomes)) expect(outcome).to.deep.equal(delivered(2));
      for (const client of clients) expect(await client.heard(51)).to.deep.equal(['of a', ...texts(50)]);
      expect(left).to.deep.equal([]);
      expect(states).to.deep.equal([false, true]);
      expect(await b.push.health()).to.include({ healthy: true, queued: 0 });
      await redis.command('PING');
    });

    it('and back again, over and over, in the middle of writes, doubles and reorders nothing', async () => {
      const { proxy, b, clients } = await pair({ deadline: 600, queue: { wait: 10_000 } });
      const atB = b.push.channels.open('news');
      const outcomes: Promise<Outcome>[] = [];
      for (let round = 0; round < 12; round += 1) {
        for (const text of texts(25, round * 25)) outcomes.push(atB.send(text));
        // Some of them are accepted, and the answer to that is lost.
        for (let turn = 0; turn < round % 5; turn += 1) await new Promise(setImmediate);
        proxy.cut();
        if (round % 3 === 0) await until(async () => (await b.push.health()).queued === 0);
      }
      for (const client of clients) expect(await client.heard(300)).to.deep.equal(texts(300));
      for (const outcome of await Promise.all(outcomes))
        expect(outcome).to.include({ listeners: 2, failed: 0 });
      expect(await atB.send('last')).to.deep.equal(delivered(2));
      for (const client of clients) expect(await client.heard(301)).to.deep.equal([...texts(300), 'last']);
    });

    const bounds: [name: string, queue: CometOptions['queue'], accepted: number][] = [
      ['as many writes as the queue takes', { writes: 7, wait: 20_000 }, 7],
      ['as many bytes', { bytes: 2500 * 5, wait: 20_000 }, 5],
      ['none where nothing shall wait', { wait: 0 }, 0],
    ];
    for (const [name, queue, accepted] of bounds) {
      it(`lets wait ${name}: the rest fails at once, and is told`, async () => {
        const { proxy, b, clients } = await pair({ deadline: 600, queue });
        const atB = b.push.channels.open('news');
        const away = noticed(b);
        await proxy.refuse(true);
        proxy.cut();
        await away;
        const drops: object[] = [];
        let dropped = 0;
        b.push.on('drop', ({ cause: _, count, ...drop }) => {
          drops.push(drop);
          dropped += count;
        });
        const fill = 'x'.repeat(100 - 'data: 00 \n\n'.length);
        const outcomes = Array.from({ length: 40 }, (_, index) =>
          atB.send(`${String(index).padStart(2, '0')} ${fill}`, { event: 'tick' }),
        );
        const failures = await Promise.all(outcomes.slice(accepted + 5));
        for (const failure of failures) expect(failure).to.deep.equal(refused(1));
        expect((await b.push.health()).queued).to.equal(accepted);
        await until(() => dropped === 40 - accepted);
        for (const drop of drops) {
          expect(drop).to.deep.equal({ channel: 'news', event: 'tick', happened: 'never' });
        }
        await proxy.refuse(false);
        for (const outcome of await Promise.all(outcomes.slice(0, accepted))) {
          expect(outcome).to.deep.equal(delivered(2));
        }
        await healthy(b.push);
        expect(await atB.send('live')).to.deep.equal(delivered(2));
        const numbers = (messages: string[]) => messages.slice(0, -1).map((data) => Number(data.slice(0, 2)));
        for (const client of clients) {
          expect(numbers(await client.heard(accepted + 1))).to.deep.equal([...texts(accepted).keys()]);
        }
      });
    }

    it('for longer than a write waits fails it, also where nobody listens here, and never delivers it', async () => {
      const { proxy, b, clients } = await pair({ queue: { wait: 200 }, lease: 600 });
      const lonely = b.push.channels.create({ name: 'lonely' });
      const atB = b.push.channels.open('news');
      await b.push.health();
      const away = noticed(b);
      await proxy.refuse(true);
      proxy.cut();
      await away;
      const drop = told((on) => b.push.on('drop', on));
      const began = performance.now();
      expect(await Promise.all([atB.send('too old'), lonely.send('nor this')])).to.deep.equal([
        refused(1),
        refused(1),
      ]);
      expect(performance.now() - began).to.be.within(170, 2000);
      expect(await drop).to.include({ happened: 'never' });
      await proxy.refuse(false);
      await healthy(b.push);
      expect(await atB.send('live')).to.deep.equal(delivered(2));
      for (const client of clients) expect(await client.heard(1)).to.deep.equal(['live']);
    });

    it('can count no listeners of other nodes, and says so', async () => {
      const { proxy, b } = await pair();
      const away = noticed(b);
      await proxy.refuse(true);
      proxy.cut();
      await away;
      const error = await b.push.channels
        .open('news')
        .countListeners()
        .then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
      expect(error).to.be.an('error').and.include({ code: 'BACKPLANE' });
    });

    it('can end a channel, which is told when Redis is there again', async () => {
      const { proxy, b, clients } = await pair({ queue: { wait: 100 }, lease: 600 });
      const atB = b.push.channels.open('news');
      const away = noticed(b);
      await proxy.refuse(true);
      proxy.cut();
      await away;
      const late = atB.send('fails in time');
      atB.end();
      expect(await late).to.deep.equal(refused(1));
      await proxy.refuse(false);
      for (const client of clients) {
        await client.ended();
        expect(client.events.slice(1).map(({ event }) => event)).to.deep.equal(['comet:end']);
      }
    });
  });

  describe('that hangs', () => {
    // What a process that is stopped has in its sockets it does when it goes on, whoever has given up meanwhile.
    it('does nothing twice or out of order when it goes on, however much was under way', async () => {
      const { redis, a, b, news, clients } = await pair({
        lease: 900,
        deadline: 8000,
        queue: { wait: 10_000 },
      });
      const atB = b.push.channels.open('news');
      const fill = 'x'.repeat(3000);
      const outcomes: Promise<Outcome>[] = [];
      const write = (count: number, first: number) => {
        for (const text of texts(count, first)) {
          outcomes.push(news.send(`a ${text} ${fill}`), atB.send(`b ${text} ${fill}`));
        }
      };
      const away = Promise.all([noticed(a), noticed(b)]);
      write(5, 0);
      redis.pause();
      cleanup(() => redis.resume());
      write(60, 5);
      await away;
      write(35, 65);
      redis.resume();
      await Promise.all([healthy(a.push), healthy(b.push)]);
      for (const outcome of await Promise.all(outcomes))
        expect(outcome).to.include({ listeners: 2, failed: 0 });
      await news.send('last');
      const heard = await Promise.all(clients.map((client) => client.heard(201)));
      expect(heard[0], 'one order').to.deep.equal(heard[1]);
      for (const name of ['a', 'b']) {
        const own = heard[0]!
          .filter((data) => data.startsWith(`${name} `))
          .map((data) => data.slice(0, -3001));
        expect(own, name).to.deep.equal(texts(100).map((text) => `${name} ${text}`));
      }
    });

    it('for one node does nothing of that node twice or out of order', async () => {
      const { proxy, b, clients } = await pair({ lease: 900, deadline: 1000, queue: { wait: 10_000 } });
      const atB = b.push.channels.open('news');
      const fill = 'x'.repeat(3000);
      const outcomes: Promise<Outcome>[] = [];
      const away = noticed(b);
      proxy.stall(true);
      for (const text of texts(80)) outcomes.push(atB.send(`${text} ${fill}`));
      await away;
      for (const text of texts(20, 80)) outcomes.push(atB.send(`${text} ${fill}`));
      proxy.stall(false);
      for (const outcome of await Promise.all(outcomes))
        expect(outcome).to.include({ listeners: 2, failed: 0 });
      await atB.send('last');
      for (const client of clients) {
        const heard = await client.heard(101);
        expect(heard.map((data) => data.split(' x')[0])).to.deep.equal([...texts(100), 'last']);
      }
    });

    it('does nothing that was given up after what came later, and nothing of that twice', async () => {
      const { redis, a, news, clients } = await pair({ lease: 2400, deadline: 300, queue: { wait: 500 } });
      const fill = 'x'.repeat(16_000);
      const away = noticed(a);
      redis.pause();
      cleanup(() => redis.resume());
      // It has a third of the lease for its answer; what is written now has less, what comes then has more.
      void a.push.health();
      const drop = told((on) => a.push.on('drop', on));
      for (const text of texts(120)) news.write(`${text} ${fill}`);
      await drop;
      for (const text of texts(120, 120)) news.write(`${text} ${fill}`);
      await away;
      redis.resume();
      await healthy(a.push);
      await until(async () => (await news.send('last')).delivered === 2);
      for (const client of clients) {
        await client.until(() => client.messages.includes('last'));
        const numbers = client.messages
          .filter((data) => data !== 'last')
          .map((data) => Number(/\d+/.exec(data)));
        expect(numbers).to.deep.equal([...new Set(numbers)].sort((one, other) => one - other));
      }
    });

    it('is not healthy although its port is open, and is again when it goes on', async () => {
      const { proxy, b } = await pair({ lease: 900, deadline: 400 });
      expect(await b.push.health()).to.include({ healthy: true, reason: null });
      proxy.stall(true);
      const began = performance.now();
      const health = await b.push.health();
      expect(performance.now() - began, 'within the deadline').to.be.below(1500);
      expect(health).to.include({ healthy: false, roundTrip: null });
      expect(health.reason).to.be.a('string').and.not.equal('');
      proxy.stall(false);
      await healthy(b.push);
      expect((await b.push.health()).roundTrip).to.be.within(0, 400);
    });

    it('is not healthy where it carries commands, and no messages', async () => {
      const { redis, a, b } = await pair({ deadline: 400 });
      // Else it is a warning of the process.
      for (const { push } of [a, b]) push.on('backplane', () => {});
      await redis.command('ACL', 'SETUSER', 'default', 'resetchannels');
      await until(async () => !(await b.push.health()).healthy);
      expect((await b.push.health()).reason)
        .to.be.a('string')
        .and.not.equal('');
      await redis.command('ACL', 'SETUSER', 'default', 'allchannels');
      await healthy(b.push);
    });

    it('refuses who comes meanwhile, and keeps who is there', async () => {
      const { redis, a, news, clients } = await pair({ lease: 900, deadline: 300 });
      redis.pause();
      cleanup(() => redis.resume());
      a.push.channels.open('other');
      const client = await RawClient.get(a.port, '/other');
      await client.until('UNAVAILABLE');
      expect(answerOf(client.text).status).to.equal(503);
      redis.resume();
      await healthy(a.push);
      await until(async () => (await news.send('live')).delivered === 2);
      for (const { messages } of clients) expect(messages).to.include('live');
    });

    it('refuses a client whose authorization expires while it waits', async () => {
      const redis = await RedisServer.start();
      const { push, port } = await node(redis.port, {
        authorize: () => {
          setTimeout(() => redis.resume(), 60);
          return { expires: new Date(Date.now() + 50) };
        },
      });
      push.channels.open('news');
      redis.pause();
      cleanup(() => redis.resume());
      const client = await RawClient.get(port, '/news');
      await client.until('\r\n\r\n');
      expect(answerOf(client.text).status).to.equal(403);
      expect(push.inspect().refusals).to.deep.equal({ FORBIDDEN: 1 });
    });

    it('says unknown of what was under way for longer than a write waits', async () => {
      const { redis, a, news, clients } = await pair({ lease: 1200, deadline: 300, queue: { wait: 200 } });
      redis.pause();
      cleanup(() => redis.resume());
      const drop = told((on) => a.push.on('drop', on));
      expect(await news.send('nobody knows')).to.deep.equal(unknown(1));
      expect(await drop).to.include({ channel: 'news', event: 'message', happened: 'unknown' });
      redis.resume();
      await healthy(a.push);
      await until(async () => (await news.send('live')).delivered === 2);
      for (const client of clients) {
        await client.until(() => client.messages.includes('live'));
        expect(client.messages.filter((data) => data === 'nobody knows').length).to.be.at.most(1);
        expect(client.messages.lastIndexOf('nobody knows'), 'in its turn, or never').to.be.at.most(0);
      }
    });

    it('holds no more than the queue takes, and no process', async () => {
      const { redis, a, news } = await pair({ lease: 600, deadline: 300, queue: { writes: 100, wait: 600 } });
      redis.pause();
      cleanup(() => redis.resume());
      const outcomes: Promise<Outcome>[] = [];
      for (let round = 0; round < 20; round += 1) {
        for (const text of texts(200)) outcomes.push(news.send(text));
        await new Promise(setImmediate);
      }
      // The first turn can't know that Redis hangs.
      expect((await a.push.health()).queued).to.be.at.most(300);
      for (const outcome of await Promise.all(outcomes)) {
        expect([outcome.delivered, outcome.failed + outcome.unknown]).to.deep.equal([0, 1]);
      }
      expect((await a.push.health()).queued).to.equal(0);
    });
  });

  describe('when the hub is closed', () => {
    it('is not waited for: within the drain everything is over, and the process exits', async () => {
      const redis = await RedisServer.start();
      const pid = /process_id:(\d+)/.exec(String(await redis.command('INFO', 'server')))?.[1];
      cleanup(() => redis.resume());
      const { code, stdout, stderr } = await run(`
        import { createServer, get } from 'node:http';
        import { createClient } from 'redis';
        import { comet } from './lib/index.ts';
        import { redis } from './lib/engines/redis/redis.ts';

        const hubOn = (port) => {
          const client = createClient({ url: 'redis://127.0.0.1:' + port });
          return comet({ backplane: redis({ client }) });
        };
        const close = async (name, push) => {
          const news = push.channels.open('news');
          const outcome = news.send('x');
          const began = performance.now();
          await push.close({ drain: 500 });
          console.log(name, performance.now() - began < 1500, (await outcome).status);
        };
        await close('never there', hubOn(9));
        const there = hubOn(${redis.port});
        await there.health();
        const serving = hubOn(${redis.port});
        serving.channels.open('news');
        await serving.health();
        const server = createServer(serving).listen(0);
        await new Promise((resolve) => server.once('listening', resolve));
        const streaming = await new Promise((resolve) => {
          get({ port: server.address().port, path: '/news', agent: false }, resolve);
        });
        streaming.resume();
        process.kill(${pid}, 'SIGSTOP');
        await close('hung at the start', hubOn(${redis.port}));
        await close('hung', there);
        await close('hung, with a stream', serving);
        await new Promise((resolve) => server.close(resolve));
        console.log('end');
      `);
      expect(stderr).to.equal('');
      expect(stdout.trim().split('\n')).to.deep.equal([
        'never there true failure',
        'hung at the start true failure',
        'hung true failure',
        'hung, with a stream true failure',
        'end',
      ]);
      expect(code).to.equal(0);
    });

    it('has its streams ended in order, and every write that waited settled', async () => {
      const { proxy, b, clients } = await pair();
      const atB = b.push.channels.open('news');
      const away = noticed(b);
      await proxy.refuse(true);
      proxy.cut();
      await away;
      const waiting = [atB.send('waits'), atB.send('waits too')];
      const began = performance.now();
      await b.push.close({ drain: 300 });
      expect(performance.now() - began).to.be.below(1500);
      for (const outcome of await Promise.all(waiting)) {
        expect(outcome).to.include({ status: 'failure', delivered: 0 });
      }
      await clients[1].ended();
      expect(proxy.connections).to.equal(0);
    });
  });
});

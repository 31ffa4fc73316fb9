import { expect } from 'chai';
import type { Channel, Comet, Outcome } from '../lib/index.js';
import { EventClient, told } from './support/client.js';
import {
  bare,
  listen,
  type NodeOptions,
  node,
  nodes,
  rawClient,
  type TestNode,
  until,
} from './support/nodes.js';
import { TcpProxy } from './support/proxy.js';
import { RedisServer } from './support/redis.js';

/** Two nodes. */
async function pair(options: NodeOptions = {}) {
  const redis = await RedisServer.start();
  const [a, b] = (await nodes(redis.port, ['a', 'b'], options)) as [TestNode, TestNode];
  return { redis, a, b };
}

const query = (...names: string[]) => `?${names.map((name) => `chan_id=${name}`).join('&')}`;

async function answer({ server }: TestNode, names: string | string[], cursor?: string) {
  const headers = { Connection: 'close', ...(cursor !== undefined && { 'Last-Event-ID': cursor }) };
  const response = await fetch(server.url + query(...[names].flat()), { headers });
  return { status: response.status, body: await response.text() };
}

async function leave({ push }: TestNode, client: EventClient): Promise<string> {
  const left = told((on) => push.on('leave', on));
  client.close();
  await left;
  return client.lastEventId;
}

/** A client of node `on` that has heard one event and left. Returns its cursor. */
async function away(on: TestNode, names: readonly string[], channel: Channel): Promise<string> {
  const client = await on.listen(names);
  await channel.send('heard');
  await client.until(() => client.messages.includes('heard'));
  return leave(on, client);
}

/** Everything that was written and ended at this node has been accepted by Redis. */
async function accepted({ push }: TestNode): Promise<void> {
  await until(async () => (await push.health()).queued === 0);
  await push.health();
}

const of = (client: EventClient, kind: string) =>
  client.events.filter(({ event }) => event === kind).map(({ data }) => JSON.parse(data));
const ends = (client: EventClient) => of(client, 'comet:end').map(({ channel }) => channel);
const gaps = (client: EventClient) => of(client, 'comet:gap').flatMap(({ channels }) => channels);
const open = ({ push }: { push: Comet }, name: string, options = {}) => push.channels.open(name, options);

describe('A channel that ended on one node while its client was away', () => {
  it('is read to its last event and its end on another node, which had never heard of it', async () => {
    const { a, b } = await pair();
    const [job, chat] = ['job', 'chat'].map((name) => open(a, name)) as [Channel, Channel];
    const cursor = await away(a, ['job', 'chat'], job);
    job.write('result');
    job.end();
    await chat.send('still here');
    const client = await b.listen(['job', 'chat'], cursor);
    expect(await client.heard(2)).to.deep.equal(['result', 'still here']);
    expect(client.opening).to.deep.include({ channels: ['job', 'chat'], recovered: true, gaps: [] });
    await client.until(() => ends(client).length > 0);
    expect(ends(client)).to.deep.equal(['job']);
  });

  it('is read to its end on another node where it was the only one, and then its client is told to stop', async () => {
    const { a, b } = await pair();
    const job = open(a, 'job');
    const cursor = await away(a, ['job'], job);
    job.write('result');
    job.end();
    await accepted(a);
    const client = await b.listen('job', cursor);
    await client.ended();
    expect(client.messages).to.deep.equal(['result']);
    expect(ends(client)).to.deep.equal(['job']);
    for (const each of [a, b]) expect((await answer(each, 'job', client.lastEventId)).status).to.equal(204);
  });

  it('is read to its end on a node that came later', async () => {
    const { redis, a } = await pair();
    const job = open(a, 'job');
    const cursor = await away(a, ['job'], job);
    job.write('result');
    job.end();
    await accepted(a);
    await a.push.close({ drain: 1 });
    const late = await node(redis.port, { node: 'late' });
    const client = await late.listen('job', cursor);
    await client.ended();
    expect(client.messages).to.deep.equal(['result']);
  });

  it('is told as a gap on every node once it lingers no more, and as 404 after that', async () => {
    const { a, b } = await pair();
    const job = open(a, 'job');
    const cursor = await away(a, ['job'], job);
    job.write('result');
    job.end({ linger: 0 });
    await accepted(a);
    for (const each of [a, b]) {
      const gone = await answer(each, 'job', cursor);
      expect(gone.status).to.equal(200);
      expect(gone.body).to.include('"recovered":false,"gaps":["job"]');
      const [, id] = /id: (gone\S*)/.exec(gone.body) ?? [];
      expect((await answer(each, 'job', id)).status).to.equal(404);
    }
  });

  it('lingers for the time that its end named, on every node', async () => {
    const { redis, a, b } = await pair();
    const job = open(a, 'job');
    const cursor = await away(a, ['job'], job);
    job.write('result');
    job.end({ linger: 300 });
    await accepted(a);
    const client = await b.listen('job', cursor);
    await client.ended();
    expect(client.messages).to.deep.equal(['result']);
    const third = await node(redis.port, { node: 'third' });
    for (const each of [a, b, third]) {
      await until(async () => (await answer(each, 'job', cursor)).body.includes('"gaps":["job"]'));
    }
  });

  it('is a gap of its own on another node, where other channels go on', async () => {
    const { a, b } = await pair();
    const [job, chat] = ['job', 'chat'].map((name) => open(a, name)) as [Channel, Channel];
    const cursor = await away(a, ['job', 'chat'], chat);
    job.write('result');
    job.end({ linger: 0 });
    await chat.send('missed');
    const client = await b.listen(['job', 'chat'], cursor);
    expect(await client.heard(1)).to.deep.equal(['missed']);
    expect(client.opening).to.deep.include({
      ...{ channels: ['chat'], waiting: ['job'], recovered: false, gaps: ['job'] },
    });
  });

  it('gives a newcomer on another node its start and its end', async () => {
    const { a, b } = await pair();
    const job = open(a, 'job', { rewind: 1 });
    for (const data of ['50 %', 'result']) job.write(data);
    job.end();
    await accepted(a);
    const client = await b.listen('job');
    await client.ended();
    expect(client.events.slice(1).map(({ event, data }) => [event, data])).to.deep.equal([
      [undefined, 'result'],
      ['comet:end', '{"channel":"job"}'],
      ['comet:ready', '{}'],
    ]);
  });

  it('lingers no more on any node where another one of its name is made: what was missed is a gap', async () => {
    const { a, b } = await pair();
    const cursor = await away(a, ['job'], open(a, 'job'));
    // Both have it, so that it lingers on both.
    const other = await b.listen('job');
    open(a, 'job').write('result');
    open(a, 'job').end();
    await other.ended();
    await open(b, 'job').send('of the next one');
    for (const each of [a, b]) {
      const client = await each.listen('job', cursor);
      expect(client.opening).to.deep.include({ channels: ['job'], recovered: false, gaps: ['job'] });
    }
  });

  it('is read to its end where it ended on the other node', async () => {
    const { a, b } = await pair();
    const cursor = await away(a, ['job'], open(a, 'job'));
    const job = open(b, 'job');
    job.write('result');
    job.end();
    await accepted(b);
    const client = await a.listen('job', cursor);
    await client.ended();
    expect(client.messages).to.deep.equal(['result']);
  });

  it('can be made and written to while its end is read on another node', async () => {
    const { a, b } = await pair();
    const cursor = await away(a, ['job'], open(a, 'job'));
    open(a, 'job').end();
    await accepted(a);
    const reading = b.listen('job', cursor);
    // The request is at Redis.
    await new Promise(setImmediate);
    const next = b.push.channels.create({ name: 'job' });
    await next.send('of the next one');
    expect(next.ended).to.equal(false);
    (await reading).close();
    const client = await a.listen('job');
    await next.send('goes on');
    expect(await client.heard(1)).to.deep.equal(['goes on']);
  });
});

describe('A name that never had a channel', () => {
  it('is no gap for a client that returns, on any node', async () => {
    const { a, b } = await pair();
    const chat = open(a, 'chat');
    const cursor = await away(a, ['chat'], chat);
    await chat.send('missed');
    for (const each of [a, b]) {
      const client = await each.listen(['chat', 'news'], cursor);
      expect(await client.heard(1)).to.deep.equal(['missed']);
      expect(client.opening).to.deep.include({ waiting: ['news'], recovered: true, gaps: [] });
      expect((await answer(each, 'news', cursor)).status).to.equal(404);
    }
  });

  it('is a gap for a client whose cursor stands before ends that Redis has forgotten', async () => {
    const { redis, a, b } = await pair();
    const cursor = await away(a, ['chat'], open(a, 'chat'));
    const job = open(a, 'job');
    job.end();
    await accepted(a);
    const raw = await rawClient(redis);
    await raw.del('{express-comet}:ended');
    const client = await b.listen(['chat', 'news'], cursor);
    expect(client.opening).to.deep.include({ waiting: ['news'], recovered: false, gaps: ['news'] });
  });
});

describe('A stream that waits for a name', () => {
  it('carries the channel that another node makes from its first event on, in order', async () => {
    const { a, b } = await pair();
    const chat = open(a, 'chat');
    const client = await b.listen(['news', 'chat']);
    expect(client.opening).to.deep.include({ channels: ['chat'], waiting: ['news'] });
    const news = open(a, 'news');
    chat.write('before');
    news.write('first');
    chat.write('after');
    expect(await client.heard(3)).to.deep.equal(['before', 'first', 'after']);
    expect(of(client, 'comet:channels')).to.deep.equal([{ channels: ['chat', 'news'], waiting: [] }]);
    expect(await news.send('second')).to.deep.include({ listeners: 1, delivered: 1 });
    expect(gaps(client)).to.deep.equal([]);
  });

  it('carries it on the node that makes it', async () => {
    const { a } = await pair();
    const chat = open(a, 'chat');
    const client = await a.listen(['news', 'chat']);
    const news = open(a, 'news');
    chat.write('before');
    news.write('first');
    chat.write('after');
    expect(await client.heard(3)).to.deep.equal(['before', 'first', 'after']);
    expect(gaps(client)).to.deep.equal([]);
  });

  it('carries it when its first event comes after more time than channels without listeners are kept', async () => {
    const { a, b } = await pair({ lease: 600 });
    open(a, 'chat');
    const client = await b.listen(['news', 'chat']);
    const news = open(a, 'news');
    // Channels that nobody listens to are let go after five seconds.
    const began = performance.now();
    await until(async () => {
      await b.push.health();
      return performance.now() - began > 7000;
    });
    await news.send('first');
    expect(await client.heard(1)).to.deep.equal(['first']);
  });

  it('carries the next channel of a name that another node has ended and made anew', async () => {
    const { a, b } = await pair();
    const [news, chat] = ['news', 'chat'].map((name) => open(a, name)) as [Channel, Channel];
    const client = await b.listen(['news', 'chat']);
    news.write('old');
    news.end();
    open(a, 'news').write('new');
    chat.write('goes on');
    expect(await client.heard(3)).to.deep.equal(['old', 'new', 'goes on']);
    expect(ends(client)).to.deep.equal(['news']);
    expect(gaps(client)).to.deep.equal([]);
  });

  it('carries each channel of a name that is made and ended in one turn, on either node', async () => {
    const { a, b } = await pair();
    const chat = open(a, 'chat');
    const clients = [await a.listen(['news', 'chat']), await b.listen(['news', 'chat'])];
    for (const round of [1, 2, 3, 4]) {
      const maker = round % 2 === 0 ? a : b;
      const news = open(maker, 'news');
      news.write(`news ${round}`);
      news.end();
      await accepted(maker);
      await chat.send(`chat ${round}`);
      for (const client of clients) await client.until(() => client.messages.includes(`chat ${round}`));
    }
    for (const client of clients) {
      expect(client.messages).to.deep.equal(
        [1, 2, 3, 4].flatMap((round) => [`news ${round}`, `chat ${round}`]),
      );
      expect(gaps(client)).to.deep.equal([]);
    }
  });

  it('is told of a gap, or gets all, where a channel is made, ended and made anew in one turn', async () => {
    const { a, b } = await pair();
    const chat = open(a, 'chat');
    const client = await b.listen(['news', 'chat']);
    for (const data of ['1', '2', '3']) {
      const news = open(a, 'news');
      news.write(data);
      if (data !== '3') news.end({ linger: 0 });
    }
    chat.write('after');
    await client.until(() => client.messages.includes('after') && client.messages.includes('3'));
    const missed = ['1', '2'].filter((data) => !client.messages.includes(data));
    if (missed.length > 0) expect(gaps(client)).to.deep.equal(['news']);
    expect(client.messages.indexOf('after')).to.be.above(client.messages.indexOf('3'));
  });

  it('gets all of a channel that another node makes while its client is away', async () => {
    const { a, b } = await pair();
    const chat = open(a, 'chat');
    const cursor = await away(a, ['chat'], chat);
    await chat.send('missed');
    await open(a, 'news').send('first');
    for (const each of [b, a]) {
      const client = await each.listen(['chat', 'news'], cursor);
      expect(await client.heard(2)).to.deep.equal(['missed', 'first']);
      expect(client.opening).to.deep.include({ recovered: true, gaps: [] });
    }
  });

  it('is told the end of a name where its node can have no more channels', async () => {
    const { redis, a } = await pair();
    const small = await node(redis.port, { node: 'small', maxVirtualChannels: 1 });
    open(a, 'chat');
    const client = await small.listen(['news', 'chat']);
    open(a, 'news').write('first');
    await client.until(() => ends(client).length > 0);
    expect(ends(client)).to.deep.equal(['news']);
  });

  it('misses nothing of a channel that is made while its request is under way', async () => {
    const { a, b } = await pair();
    const chat = open(a, 'chat');
    for (let round = 0; round < 40; round += 1) {
      const name = `news ${round}`;
      const opening = listen(b.server.url, [name, 'chat']);
      for (let turn = 0; turn < round % 8; turn += 1) await new Promise(setImmediate);
      const news = open(a, name, { rewind: 9 });
      news.write('first');
      const client = await opening;
      await chat.send(`chat ${round}`);
      await client.until(
        () => client.messages.includes(`chat ${round}`) && client.messages.includes('first'),
      );
      expect(gaps(client)).to.deep.equal([]);
      client.close();
    }
  });

  describe('is counted by the outcomes of the writes on the new channel', () => {
    const counts = ({ listeners, delivered, unknown }: Outcome) => ({ listeners, delivered, unknown });
    const all = (count: number) => ({ listeners: count, delivered: count, unknown: 0 });

    it('counts a stream of another node that waited for the name, from the first write on', async () => {
      const { a, b } = await pair();
      open(a, 'chat');
      const client = await b.listen(['news', 'chat']);
      const news = open(a, 'news');
      const outcomes = await Promise.all(['1', '2', '3'].map((data) => news.send(data)));
      expect(outcomes.map(counts)).to.deep.equal([all(1), all(1), all(1)]);
      expect(await client.heard(3)).to.deep.equal(['1', '2', '3']);
    });

    it('counts the streams of all nodes, that of the writer included', async () => {
      const { a, b } = await pair();
      open(a, 'chat');
      for (const each of [a, b, b]) await each.listen(['news', 'chat']);
      const outcome = await open(a, 'news').send('first', { perNode: true });
      expect(counts(outcome)).to.deep.equal(all(3));
      const nodes = Object.entries(outcome.perNode ?? {}).map(([id, { delivered }]) => [bare(id), delivered]);
      expect(nodes.toSorted()).to.deep.equal([
        ['a', 1],
        ['b', 2],
      ]);
    });

    it('counts a stream whose request came with one that was made a moment before', async () => {
      const { a, b } = await pair();
      open(a, 'chat');
      for (let round = 0; round < 10; round += 1) {
        const client = await b.listen([`news ${round}`, 'chat']);
        expect(counts(await open(a, `news ${round}`).send('first'))).to.deep.equal(all(1));
        client.close();
      }
    });

    it('counts it in each channel of the name that is made and ended in one turn', async () => {
      const { a, b } = await pair();
      const chat = open(a, 'chat');
      const client = await b.listen(['news', 'chat']);
      for (const round of ['1', '2', '3']) {
        const news = open(a, 'news');
        const outcome = news.send(round);
        news.end();
        expect(counts(await outcome)).to.deep.equal(all(1));
        await chat.send(`chat ${round}`);
        await client.until(() => client.messages.includes(`chat ${round}`));
      }
      expect(gaps(client)).to.deep.equal([]);
    });

    it('counts a stream that carried the channel before it was ended and made anew', async () => {
      const { a, b } = await pair();
      open(a, 'chat');
      const news = open(a, 'news');
      const client = await b.listen(['news', 'chat']);
      news.end();
      await client.until(() => ends(client).length > 0);
      expect(counts(await open(a, 'news').send('new'))).to.deep.equal(all(1));
    });

    it('settles with nobody, and at once, where the stream has left', async () => {
      // Far beyond the time of the test.
      const { a, b } = await pair({ deadline: 100_000 });
      open(a, 'chat');
      for (let round = 0; round < 10; round += 1) {
        const client = await b.listen([`news ${round}`, 'chat']);
        await leave(b, client);
        expect(counts(await open(a, `news ${round}`).send('first'))).to.deep.equal(all(0));
      }
      // It counts as one of theirs on the own node, too.
      await leave(a, await a.listen(['own', 'chat']));
      expect(counts(await open(a, 'own').send('first'))).to.deep.equal(all(0));
    });

    it('settles with nobody, and at once, where its node can have no more channels', async () => {
      const { redis, a } = await pair();
      const small = await node(redis.port, { node: 'small', maxVirtualChannels: 1 });
      open(a, 'chat');
      const client = await small.listen(['news', 'chat']);
      const news = open(a, 'news');
      expect((await Promise.all([news.send('1'), news.send('2')])).map(counts)).to.deep.equal([
        all(0),
        all(0),
      ]);
      await client.until(() => ends(client).length > 0);
      expect(counts(await news.send('3'))).to.deep.equal(all(0));
    });

    it('is no more asked for once no stream waits', async () => {
      const { redis, a, b } = await pair({ lease: 600 });
      open(a, 'chat');
      const client = await b.listen(['news', 'chat']);
      const raw = await rawClient(redis);
      const audience = () => raw.hKeys('{express-comet}:audience:news');
      expect((await audience()).map(bare)).to.deep.equal(['b']);
      client.close();
      await until(async () => (await audience()).length === 0);
    });

    it('is asked for again where Redis has lost that it waits', async () => {
      const { redis, a, b } = await pair({ lease: 600 });
      open(a, 'chat');
      await b.listen(['news', 'chat']);
      const raw = await rawClient(redis);
      await raw.del('{express-comet}:audience:news');
      await until(async () => (await raw.hLen('{express-comet}:audience:news')) === 1);
      expect(counts(await open(a, 'news').send('first'))).to.deep.equal(all(1));
    });

    it('asks for no name of a request that is refused', async () => {
      const { redis, b } = await pair();
      expect((await answer(b, ['x', 'y'])).status).to.equal(404);
      expect(await (await rawClient(redis)).keys('*audience*')).to.deep.equal([]);
    });
  });

  describe('on a node that was cut off meanwhile', () => {
    async function cut(options: NodeOptions = {}) {
      const redis = await RedisServer.start();
      const proxy = await TcpProxy.before(redis.port);
      const a = await node(redis.port, { node: 'a', ...options });
      const b = await node(proxy.port, { node: 'b', ...options });
      const chat = open(a, 'chat');
      await chat.send('known');
      const client = await b.listen(['news', 'chat']);
      const changed = () => told((on) => b.push.on('backplane', on));
      const back = async () => {
        const found = changed();
        await proxy.refuse(false);
        await found;
      };
      const lost = changed();
      await proxy.refuse(true);
      proxy.cut();
      await lost;
      return { redis, a, b, chat, client, back };
    }

    it('carries a channel that was made, from its first event on', async () => {
      const { a, chat, client, back } = await cut();
      chat.write('before');
      open(a, 'news').write('first');
      chat.write('after');
      await accepted(a);
      await back();
      expect(await client.heard(3)).to.deep.equal(['before', 'first', 'after']);
      expect(gaps(client)).to.deep.equal([]);
    });

    it('carries one that was made and has ended, to its end', async () => {
      const { a, chat, client, back } = await cut();
      const news = open(a, 'news');
      news.write('first');
      news.end();
      chat.write('after');
      await accepted(a);
      await back();
      expect(await client.heard(2)).to.deep.equal(['first', 'after']);
      expect(ends(client)).to.deep.equal(['news']);
      expect(gaps(client)).to.deep.equal([]);
      await open(a, 'news').send('of the next one');
      expect(await client.heard(3)).to.include('of the next one');
    });

    it('is told of a gap where one was made, has ended, and can not be read any more', async () => {
      const { redis, a, chat, client, back } = await cut();
      const news = open(a, 'news');
      news.write('first');
      news.end({ linger: 0 });
      chat.write('after');
      await accepted(a);
      await (await rawClient(redis)).del('{express-comet}:log:news');
      await back();
      await client.until(() => client.messages.includes('after') && gaps(client).length > 0);
      expect(client.messages).to.deep.equal(['after']);
      expect(gaps(client)).to.deep.equal(['news']);
    });

    it('is told of a gap where one was made, ended, and made anew', async () => {
      const { a, chat, client, back } = await cut();
      const news = open(a, 'news');
      news.write('first');
      news.end();
      open(a, 'news').write('second');
      chat.write('after');
      await accepted(a);
      await back();
      await client.until(() => client.messages.includes('after') && gaps(client).length > 0);
      expect(client.messages).to.deep.equal(['second', 'after']);
      expect(gaps(client)).to.deep.equal(['news']);
    });

    it('is told of a gap where Redis has begun a new epoch', async () => {
      const { redis, client, back } = await cut();
      await redis.restart();
      await back();
      await client.until(() => gaps(client).includes('news') && gaps(client).includes('chat'));
    });
  });
});

describe('A start on another node', () => {
  it('is given to a channel that is new beside a cursor, though it was written before that', async () => {
    const { a, b } = await pair();
    const price = open(a, 'price', { rewind: 1 });
    const chat = open(a, 'chat');
    await price.send('old price');
    const cursor = await away(a, ['chat'], chat);
    await chat.send('missed');
    const client = await EventClient.open(
      `${b.server.url}?chan_id=chat&new_chan_id=price&last_event_id=${encodeURIComponent(cursor)}`,
    );
    expect(await client.heard(2)).to.deep.equal(['old price', 'missed']);
    expect(client.opening).to.include({ recovered: true });
  });

  it('is given again where the connection to the first node broke in the middle of it', async () => {
    const { a, b } = await pair();
    const price = open(a, 'price', { rewind: 2 });
    const chat = open(a, 'chat');
    for (const data of ['1', '2']) await price.send(data);
    const cursor = (await away(a, ['chat'], chat)).replace(/@.*/, '');
    await chat.send('missed');
    const url = (each: TestNode) =>
      `${each.server.url}?chan_id=chat&new_chan_id=price&last_event_id=${cursor}`;
    const whole = await EventClient.open(url(a));
    expect(await whole.heard(3)).to.deep.equal(['1', '2', 'missed']);
    for (const id of [`${cursor}+!`, `${cursor}+!@price`]) {
      const again = await EventClient.open(url(b), { 'Last-Event-ID': id });
      expect(await again.heard(3), id).to.deep.equal(['1', '2', 'missed']);
      again.close();
    }
    const later = await EventClient.open(url(b), { 'Last-Event-ID': cursor });
    expect(await later.heard(1), 'once it was complete').to.deep.equal(['missed']);
  });

  it('of a newcomer is given again', async () => {
    const { a, b } = await pair();
    const price = open(a, 'price', { rewind: 2 });
    for (const data of ['1', '2', '3']) await price.send(data);
    const again = await b.listen('price', 'new!@price');
    await price.send('4');
    expect(await again.heard(3)).to.deep.equal(['2', '3', '4']);
    expect(again.opening).to.deep.include({ recovered: true, gaps: [] });
  });

  it('is that of a newcomer with the retained events where rewind stands beside a cursor that reaches back', async () => {
    const { a, b } = await pair();
    const price = open(a, 'price', { rewind: 5 });
    for (const data of ['1', '2']) await price.send(data);
    const cursor = await away(a, ['price'], price);
    await price.send('3');
    const client = await b.listen('price', cursor);
    expect(await client.heard(1)).to.deep.equal(['3']);
    expect(client.opening).to.deep.include({ recovered: true, gaps: [] });
  });
});

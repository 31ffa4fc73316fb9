import { once } from 'node:events';
import { expect } from 'chai';
import express from 'express';
import { type Channel, type Comet, type CometOptions, Deferred, type Outcome } from '../lib/index.js';
import { EventClient, RawClient, request, told } from './support/client.js';
import { delivered } from './support/outcomes.js';
import { hub, type TestServer } from './support/server.js';

const MiB = 2 ** 20;

// More than the kernel takes for a peer that does not read, about 3.6 MiB on loopback: it blocks a stream.
const FLOOD = 'x'.repeat(8 * MiB);
const ROOM: CometOptions = { maxFrame: 16 * MiB, log: { bytes: 64 * MiB } };

interface Stalled {
  push: Comet;
  server: TestServer;
  news: Channel;
  client: RawClient;
  /** What becomes of the write that the client does not read. */
  flood: Promise<Outcome>;
}

/** A client that does not read, and a write that was partly taken. */
async function stalled(options: CometOptions = {}): Promise<Stalled> {
  const { push, server, port } = await hub({ ...ROOM, ...options });
  const news = push.channels.create({ name: 'news' });
  const joined = told((on) => push.on('join', on));
  const client = await RawClient.get(port, '/news');
  await joined;
  const flood = news.send(FLOOD);
  await new Promise(setImmediate);
  expect(push.inspect({ streams: true }).streams?.[0]?.state).to.equal('behind');
  return { push, server, news, client, flood };
}

const failed = (reason: string): Outcome => ({
  status: 'failure',
  listeners: 1,
  delivered: 0,
  failed: 1,
  unknown: 0,
  reasons: { [reason]: 1 },
});

describe('An outcome', () => {
  it('is a success when every listener was written to', async () => {
    const { push, server } = await hub();
    const news = push.channels.create({ name: 'news' });
    const clients = await Promise.all([1, 2, 3].map(() => EventClient.open(`${server.url}/news`)));
    expect(await news.send('first light')).to.deep.equal(delivered(3));
    for (const client of clients) expect(await client.heard(1)).to.deep.equal(['first light']);
  });

  it('of a write to nobody is a success, with 0 of 0', async () => {
    const { push } = await hub();
    expect(await push.channels.create().send('anyone?')).to.deep.equal(delivered(0));
  });

  it('never settles inside write, to nobody or in a burst that is larger than the log', async () => {
    const { push, server } = await hub({ log: { frames: 2 } });
    const news = push.channels.create({ name: 'news' });
    const settled: number[] = [];
    const write = (index: number) => news.write('x', { outcome: { resolve: () => settled.push(index) } });
    write(0);
    expect(settled).to.deep.equal([]);
    await EventClient.open(`${server.url}/news`);
    settled.length = 0;
    for (let index = 0; index < 10; index += 1) write(index);
    expect(settled).to.deep.equal([]);
    await news.send('last');
    expect(settled).to.deep.equal([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it('settles exactly once for a listener that is delivered to and then goes', async () => {
    const { push, server } = await hub();
    const news = push.channels.create({ name: 'news' });
    const client = await RawClient.get(server.port, '/news');
    await client.until('comet:open');
    const outcomes: Outcome[] = [];
    const left = told((on) => push.on('leave', on));
    news.write('x', { outcome: { resolve: (outcome) => outcomes.push(outcome) } });
    await client.until('data: x');
    await client.reset();
    await left;
    await news.send('nobody');
    expect(outcomes).to.deep.equal([delivered(1)]);
  });

  it('counts listeners of the moment of the write, not those who join later', async () => {
    const { push, server } = await hub({ rewind: 10 });
    const news = push.channels.create({ name: 'news' });
    await EventClient.open(`${server.url}/news`);
    const joined = told((on) => push.on('join', on));
    const late = RawClient.get(server.port, '/news');
    // Written in the turn in which the newcomer joins, and not flushed before it has: it gets it all the same.
    const early = joined.then(() => undefined);
    const first = news.send('before');
    await early;
    expect(await first).to.deep.equal(delivered(1));
    expect(await (await late).until('data: before')).to.equal(true);
    expect(await news.send('after')).to.deep.equal(delivered(2));
  });

  it('is not counted by one that joins later and gets the event by its rewind', async () => {
    const { server, news, client, flood } = await stalled({ rewind: 1 });
    const late = await EventClient.open(`${server.url}/news`);
    expect(await late.heard(1)).to.have.length(1);
    await client.reset();
    expect(await flood).to.deep.equal(failed('error'));
    expect(await news.send('to the late one')).to.deep.equal(delivered(1));
  });

  it('is told to the one who passed a Deferred', async () => {
    const { push, server } = await hub();
    const news = push.channels.create<{ magnitude: number }>({ name: 'news' });
    await EventClient.open(`${server.url}/news`);
    const outcome = new Deferred<Outcome>();
    news.write({ magnitude: -2 }, { outcome });
    expect(await outcome.promise).to.deep.equal(delivered(1));
  });

  it('whose handler throws harms no other stream, and the error is told', async () => {
    const { push, server } = await hub();
    const news = push.channels.create({ name: 'news' });
    const clients = await Promise.all([1, 2].map(() => EventClient.open(`${server.url}/news`)));
    const error = told((on) => push.on('error', on));
    const next = news.send('first');
    news.write('second', {
      outcome: {
        resolve: () => {
          throw new Error('a handler of the user');
        },
      },
    });
    const last = news.send('third');
    expect(await next).to.deep.equal(delivered(2));
    expect(await last).to.deep.equal(delivered(2));
    expect(await error)
      .to.be.an('error')
      .with.property('message', 'a handler of the user');
    for (const client of clients) expect(await client.heard(3)).to.deep.equal(['first', 'second', 'third']);
    expect(news.listeners).to.equal(2);
  });
});

describe('A stream that fails', () => {
  it('is not delivered to when the server destroys it with a batch in flight', async () => {
    const { server, flood } = await stalled();
    server.socket.destroy();
    expect(await flood).to.deep.equal(failed('closed'));
  });

  it('is not delivered to when the server resets it with a batch in flight', async () => {
    const { server, flood } = await stalled();
    server.socket.resetAndDestroy();
    expect(await flood).to.deep.equal(failed('closed'));
  });

  it('is not delivered to when the client resets it with a batch in flight', async () => {
    const { client, flood } = await stalled();
    await client.reset();
    expect(await flood).to.deep.equal(failed('error'));
  });

  it('is not delivered to when its channel has ended, and it is reset before the rest went out', async () => {
    const { news, client, flood } = await stalled();
    news.end();
    await client.reset();
    expect(await flood).to.deep.equal(failed('error'));
  });

  it('is not delivered to when the hub closes, and it is cut off at the end of the drain', async () => {
    const { push, flood } = await stalled();
    const [outcome] = await Promise.all([flood, push.close({ drain: 10 })]);
    expect(outcome).to.deep.equal(failed('closed'));
  });

  it('is not delivered to when its socket was destroyed in the tick of the write', async () => {
    const { push, server } = await hub();
    const news = push.channels.create({ name: 'news' });
    await EventClient.open(`${server.url}/news`);
    server.socket.destroy();
    expect(news.listeners, 'gone, and not yet known to be').to.equal(1);
    expect(await news.send('x')).to.deep.equal(failed('closed'));
    expect(news.listeners).to.equal(0);
  });

  it('fails every write of a batch that was partly taken', async () => {
    const { push, port } = await hub(ROOM);
    const news = push.channels.create({ name: 'news' });
    const joined = told((on) => push.on('join', on));
    const client = await RawClient.get(port, '/news');
    await joined;
    const outcomes = [news.send('small'), news.send(FLOOD), news.send('small')];
    await new Promise(setImmediate);
    await client.reset();
    expect(await Promise.all(outcomes)).to.deep.equal([failed('error'), failed('error'), failed('error')]);
  });

  it('harms no one who reads beside it', async () => {
    const { server, news, client, flood } = await stalled();
    const reader = await EventClient.open(`${server.url}/news`);
    const both = news.send('to both');
    expect(await reader.heard(1)).to.deep.equal(['to both']);
    await client.reset();
    expect(await both).to.deep.equal({ ...failed('error'), listeners: 2, delivered: 1 });
    expect(await flood).to.deep.equal(failed('error'));
    expect(await news.send('to one')).to.deep.equal(delivered(1));
  });

  it('is delivered to when it drains after all, however little was blocked', async () => {
    const { news, client, flood } = await stalled();
    const small = news.send('a few bytes, far below the high-water mark');
    client.read();
    expect(await Promise.all([flood, small])).to.deep.equal([delivered(1), delivered(1)]);
    expect(await client.until('a few bytes')).to.equal(true);
  });

  it('is closed when it stays blocked for as long as stall', async () => {
    const { push, news, flood } = await stalled({ stall: 50 });
    const left = told((on) => push.on('leave', on));
    const waiting = news.send('not even sent');
    expect(await flood).to.deep.equal(failed('stalled'));
    expect(await waiting).to.deep.equal(failed('stalled'));
    expect(await left).to.include({ reason: 'stalled' });
    expect(news.listeners).to.equal(0);
  });

  it('gets what was in flight when the client has closed its half, and what comes after has failed', async () => {
    const { server, news, client, flood } = await stalled();
    const ended = once(server.socket, 'end');
    client.finish();
    await ended;
    const late = news.send('too late');
    client.read();
    expect(await flood).to.deep.equal(delivered(1));
    expect(await late).to.deep.equal(failed('closed'));
    await client.closed();
    expect(client.text.match(/x+/g)?.reduce((sum, run) => sum + run.length, 0)).to.be.at.least(FLOOD.length);
    expect(client.text).not.to.include('too late');
  });
});

describe('A reader that falls off the log', () => {
  it('is closed, and its outcomes settle when the log lets go, not when it drains', async () => {
    const { push, news, flood } = await stalled({ log: { frames: 4, bytes: 64 * MiB } });
    const left = told((on) => push.on('leave', on));
    const writes = [1, 2, 3, 4, 5].map((index) => news.send(`write ${index}`));
    expect(await Promise.all(writes)).to.deep.equal([1, 2, 3, 4, 5].map(() => failed('overrun')));
    expect(await flood).to.deep.equal(failed('overrun'));
    expect(await left).to.include({ reason: 'overrun' });
  });

  it("jumps to the newest on a channel with lag: 'latest', and the writer knows what it missed", async () => {
    const { push, news, client, flood } = await stalled({
      log: { frames: 2, bytes: 64 * MiB },
      lag: 'latest',
    });
    const overruns: unknown[] = [];
    push.on('overrun', (overrun) => overruns.push(overrun));
    const writes = [1, 2, 3, 4, 5].map((index) => news.send(`write ${index};`));
    await Promise.all(
      writes.slice(0, 4).map(async (write) => expect(await write).to.deep.equal(failed('overrun'))),
    );
    expect(overruns).to.have.length.above(0);
    client.read();
    expect(await flood).to.deep.equal(delivered(1));
    expect(await writes[4]).to.deep.equal(delivered(1));
    await client.until('write 5;');
    expect(client.text.match(/write \d;/g)).to.deep.equal(['write 5;']);
    expect(await news.send('live again')).to.deep.equal(delivered(1));
  });

  it('is not counted for what it jumped over, where that was written before it came', async () => {
    const { push, server, news, client, flood } = await stalled({
      log: { frames: 2, bytes: 64 * MiB },
      lag: 'latest',
    });
    const early = news.send('written to one');
    // Comes back with a cursor, and is blocked by what it missed.
    const joined = told((on) => push.on('join', on));
    const cursor = `${push.inspect().epoch}-0`;
    const back = await RawClient.get(server.port, '/news', { 'Last-Event-ID': cursor });
    await joined;
    const overrun = told((on) => push.on('overrun', on));
    for (const data of ['3', '4', '5']) news.write(data);
    await overrun;
    await back.reset();
    client.read();
    expect(await flood).to.deep.equal(delivered(1));
    expect(await early).to.deep.equal(failed('overrun'));
  });

  it('is counted once for what it jumped over, while others have yet to be counted', async () => {
    const { push, server, news, client, flood } = await stalled({
      log: { frames: 2, bytes: 64 * MiB },
      lag: 'latest',
    });
    const joined = told((on) => push.on('join', on));
    const other = await RawClient.get(server.port, '/news');
    await joined;
    // The first client jumps over this one; the other has it in flight.
    const second = news.send(FLOOD);
    await new Promise(setImmediate);
    const overrun = told((on) => push.on('overrun', on));
    for (const data of ['3', '4', '5']) news.write(data);
    await overrun;
    client.read();
    expect(await flood).to.deep.equal(delivered(1));
    await client.until('data: 5');
    await other.reset();
    expect(await second).to.deep.equal({
      ...failed('error'),
      listeners: 2,
      failed: 2,
      reasons: { overrun: 1, error: 1 },
    });
  });
});

describe('A pipelined request', () => {
  it('becomes a listener when it is its turn on the connection', async () => {
    const { push, server, port } = await hub({}, (comet) => {
      const app = express();
      app.get('/slow', (_request, response) => {
        server.server.once('go', () => response.end('slow'));
      });
      return app.use('/channels', comet);
    });
    const news = push.channels.create({ name: 'news' });
    const client = await RawClient.connect(port);
    const joined = told((on) => push.on('join', on));
    client.send(request('/slow') + request('/channels/news'));
    while (server.server.listenerCount('go') === 0) await new Promise(setImmediate);
    expect(news.listeners).to.equal(0);
    server.server.emit('go');
    await joined;
    expect(await news.send('after its turn')).to.deep.equal(delivered(1));
    expect(await client.until('data: after its turn')).to.equal(true);
  });

  it('leaves nothing behind when the connection is reset before, 500 times over', async () => {
    const { push, server, port } = await hub();
    push.channels.create({ name: 'news' });
    for (let round = 0; round < 500; round += 1) {
      const joined = told((on) => push.on('join', on));
      const left = told((on) => push.on('leave', on));
      const client = await RawClient.connect(port);
      client.send(request('/news') + request('/news'));
      await joined;
      await client.reset();
      await left;
    }
    await server.quiet();
    expect(push.inspect()).to.deep.include({ listeners: 0, refusals: {} });
    expect(push.channels.find('news')?.listeners).to.equal(0);
  });
});

describe('A request whose body was parsed', () => {
  it('goes on as a stream although the request has closed', async () => {
    const { push, port } = await hub({}, (comet) => express().use(express.json()).use('/channels', comet));
    const news = push.channels.create({ name: 'news' });
    const client = await RawClient.connect(port);
    const body = '{"a":1}';
    const headers = { 'Content-Type': 'application/json', 'Content-Length': String(body.length) };
    client.send(request('/channels/news', headers) + body);
    await client.until('comet:open');
    expect(await news.send('still here')).to.deep.equal(delivered(1));
    expect(await client.until('still here')).to.equal(true);
  });
});

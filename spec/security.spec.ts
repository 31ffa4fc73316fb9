import { once } from 'node:events';
import { expect } from 'chai';
import supertest from 'supertest';
import {
  type Comet,
  type CometEvents,
  type CometOptions,
  Deferred,
  HubClosedError,
  InvalidOptionError,
} from '../lib/index.js';
import { EventClient, RawClient, told } from './support/client.js';
import { run } from './support/process.js';
import { cleanup, hub } from './support/server.js';
import { answerOf, ended } from './support/wire.js';

// More than the buffers of a connection take, here 3.6 MiB: it blocks a client that does not read.
const FLOOD = 'x'.repeat(12 * 2 ** 20);
const ROOM: CometOptions = { maxFrame: 16 * 2 ** 20, log: { bytes: 64 * 2 ** 20 } };

async function house(options: CometOptions = {}) {
  const { push, server, port } = await hub(options);
  const news = push.channels.create({ name: 'news' });
  const departures: CometEvents['leave']['reason'][] = [];
  push.on('leave', ({ reason }) => void departures.push(reason));
  return {
    push,
    server,
    port,
    news,
    /** The reasons by which listeners have left, as they leave. */
    departures,
    open: (path = '/news') => EventClient.open(server.url + path),
    ask: () => supertest(server.url).get('/news'),
    /** A client that reads nothing, behind a write of which nobody knows the outcome yet. */
    block: async () => {
      const joined = told(push.on.bind(push, 'join'));
      const client = await RawClient.get(port, '/news');
      await joined;
      return { client, flood: news.send(FLOOD) };
    },
  };
}

const nextLeave = (push: Comet) => told<CometEvents['leave']>((handler) => push.on('leave', handler));

describe('deactivate and activate', () => {
  it('deactivating closes every stream', async () => {
    const { push, server, news, departures, open } = await house();
    push.channels.create({ name: 'chat' });
    const clients = [await open(), await open('/chat'), await open('/news?chan_id=chat')];
    push.deactivate();
    expect(push.activated).to.equal(false);
    expect(news.listeners).to.equal(0);
    for (const client of clients) await client.ended();
    await server.quiet();
    expect(departures).to.deep.equal(['deactivated', 'deactivated', 'deactivated']);
    expect(push.inspect()).to.include({ activated: false, closed: false, listeners: 0 });
  });

  it('deactivating closes a stream that is blocked, and what is pending on it says so', async () => {
    const { push, server, news, open, block } = await house(ROOM);
    const { flood } = await block();
    const reader = await open();
    const behind = news.send('behind the flood');
    await reader.heard(1);
    push.deactivate();
    const outcome = { status: 'failure', failed: 1, unknown: 0, reasons: { deactivated: 1 } };
    expect(await flood).to.deep.equal({ ...outcome, listeners: 1, delivered: 0 });
    expect(await behind).to.deep.equal({ ...outcome, listeners: 2, delivered: 1 });
    await server.quiet();
  });

  it('a write of the same turn has not been delivered', async () => {
    const { push, news, open } = await house();
    const client = await open();
    const outcome = news.send('too late');
    push.deactivate();
    expect(await outcome).to.deep.include({ status: 'failure', listeners: 1, reasons: { deactivated: 1 } });
    await client.ended();
    expect(client.messages).to.deep.equal([]);
  });

  it('attempts get 503 until the hub is activated', async () => {
    const { push, server, news, open, ask } = await house();
    push.deactivate();
    await ask().expect(503);
    await supertest(server.url).head('/news').expect(503);
    push.activate();
    expect(push.activated).to.equal(true);
    const client = await open();
    news.write('in again');
    expect(await client.heard(1)).to.deep.equal(['in again']);
  });

  it('a client that comes back after it has missed nothing', async () => {
    const { push, server, news, open } = await house();
    const client = await open();
    news.write('before');
    await client.heard(1);
    push.deactivate();
    await client.ended();
    news.write('meanwhile');
    push.activate();
    const again = await EventClient.open(`${server.url}/news`, { 'Last-Event-ID': client.lastEventId });
    expect(again.opening.recovered).to.equal(true);
    expect(await again.heard(1)).to.deep.equal(['meanwhile']);
  });

  it('both in one turn close the streams, and let in again', async () => {
    const { push, open } = await house();
    const client = await open();
    push.deactivate();
    push.activate();
    await client.ended();
    await open();
  });

  it('twice is harmless, and told once', async () => {
    const { push, open, ask } = await house();
    const events: string[] = [];
    push.on('deactivate', () => void events.push('deactivate'));
    push.on('activate', () => void events.push('activate'));
    const client = await open();
    push.deactivate();
    push.deactivate();
    await client.ended();
    await ask().expect(503);
    push.activate();
    push.activate();
    await open();
    expect(events).to.deep.equal(['deactivate', 'activate']);
  });

  it('channels can be made and written on meanwhile', async () => {
    const { push, news } = await house();
    push.deactivate();
    push.channels.create({ name: 'chat' });
    expect(await news.send('nobody hears')).to.include({ status: 'success', listeners: 0 });
  });
});

describe('setTimeout', () => {
  it('applies to new streams', async () => {
    const { push, news, open } = await house();
    const old = await open();
    push.setTimeout(40);
    const left = nextLeave(push);
    const young = await open();
    await young.ended();
    expect(await left).to.include({ listener: young.opening.listener, reason: 'timeout' });
    news.write('still here');
    expect(await old.heard(1)).to.deep.equal(['still here']);
  });

  it('applies with reset to the present ones, by closing them', async () => {
    const { push, news, departures, open } = await house();
    const client = await open();
    news.write('before');
    push.setTimeout(60_000, { reset: true });
    await client.ended();
    expect(client.messages).to.deep.equal(['before']);
    expect(departures).to.deep.equal(['timeout']);
    await open();
  });

  it('null is for never', async () => {
    const { push, news, open } = await house({ timeout: 40 });
    push.setTimeout(null);
    const client = await open();
    push.setTimeout(40);
    await (await open()).ended();
    news.write('still here');
    expect(await client.heard(1)).to.deep.equal(['still here']);
  });

  it('refuses what is no time, and goes on as before', async () => {
    const { push, departures, open } = await house({ timeout: 40 });
    for (const wrong of [0, -1, 1.5, Number.NaN, 2 ** 31, '40', undefined]) {
      expect(() => push.setTimeout(wrong as number)).to.throw(InvalidOptionError, 'timeout');
    }
    expect(() => push.setTimeout(60_000, { rest: true } as object)).to.throw(InvalidOptionError, 'rest');
    await (await open()).ended();
    expect(departures).to.deep.equal(['timeout']);
  });
});

describe('the times of a stream', () => {
  it('it is closed when nothing was written for the timeout', async () => {
    const { open, departures } = await house({ timeout: 40 });
    await (await open()).ended();
    expect(departures).to.deep.equal(['timeout']);
  });

  it('heartbeats do not keep it from its timeout', async () => {
    const { port, departures } = await house({ timeout: 100, heartbeat: 20 });
    const { chunks } = await ended(await RawClient.get(port, '/news'));
    expect(chunks).to.include(':\n');
    expect(chunks.at(-1)).to.equal('');
    expect(departures).to.deep.equal(['timeout']);
  });

  it('an event does', async () => {
    const { push, port, open, news } = await house({ timeout: 400, heartbeat: 200 });
    push.channels.create({ name: 'chat' });
    const listener = await RawClient.get(port, '/news');
    await listener.until('comet:open');
    const quiet = await open('/chat');
    await listener.until('\r\n:\n');
    news.write('event');
    const { listener: first } = await nextLeave(push);
    expect(first).to.equal(quiet.opening.listener);
    await ended(listener);
  });

  it('it is no older than its lifetime, whatever is written', async () => {
    const { push, news, open, departures } = await house({ lifetime: 80 });
    push.on('join', () => news.write('event'));
    const client = await open();
    await client.ended();
    expect(client.messages).to.deep.equal(['event']);
    expect(departures).to.deep.equal(['lifetime']);
  });

  it('it is closed when its authorization expires, after what was written', async () => {
    const { push, news, open, departures } = await house({
      heartbeat: 40,
      authorize: () => ({ expires: new Date(Date.now() + 150) }),
    });
    push.on('join', () => news.write('event'));
    const client = await open();
    await client.ended();
    expect(client.messages).to.deep.equal(['event']);
    expect(departures).to.deep.equal(['expired']);
  });

  it('it is closed when its authorization expires, although it is blocked', async () => {
    const { server, block, departures } = await house({
      ...ROOM,
      heartbeat: 40,
      authorize: () => ({ expires: new Date(Date.now() + 300) }),
    });
    const { flood } = await block();
    expect(await flood).to.deep.include({ status: 'failure', reasons: { closed: 1 } });
    expect(departures).to.deep.equal(['expired']);
    await server.quiet();
  });

  it('it gets no event that is written 50 ms after its authorization has expired, or later', async () => {
    const overdue = new Set<string>();
    const { news, open, departures } = await house({
      authorize: ({ url = '' }) => {
        const lifetime = 200 + 37 * Number(url.slice(-1));
        // A timer, not the clock: if the event loop is held up, this still runs after what was due before it.
        setTimeout(() => overdue.add(url), lifetime + 50);
        return { expires: new Date(Date.now() + lifetime) };
      },
    });
    const writing = setInterval(() => news.write([...overdue]), 2);
    cleanup(() => clearInterval(writing));
    const urls = Array.from({ length: 8 }, (_, index) => `/news?${index}`);
    await Promise.all(
      urls.map(async (url) => {
        const client = await open(url);
        await client.ended();
        expect(client.messages.at(-1)).to.be.a('string').that.does.not.to.contain(`"${url}"`);
      }),
    );
    expect(departures).to.deep.equal(urls.map(() => 'expired'));
  });

  it('a heartbeat is a colon and a newline, in a chunk of its own', async () => {
    const { port } = await house({ heartbeat: 20 });
    const client = await RawClient.get(port, '/news');
    await client.until(/(\r\n2\r\n:\n\r\n.*){2}/s);
    const [, ...chunks] = answerOf(client.text).chunks;
    expect(chunks).to.have.length.of.at.least(2);
    for (const chunk of chunks) expect(chunk).to.equal(':\n');
  });

  it('null is for no heartbeat', async () => {
    const { port } = await house({ heartbeat: null, timeout: 100 });
    const { chunks } = await ended(await RawClient.get(port, '/news'));
    expect(chunks).to.have.length(2);
    expect(chunks[0]).to.contain('comet:open');
    expect(chunks[1]).to.equal('');
  });
});

describe('close', () => {
  it('delivers what was written, says when to come back, and ends the streams', async () => {
    const { push, port, news, departures } = await house();
    const client = await RawClient.get(port, '/news');
    await client.until('comet:open');
    const outcome = news.send('the last');
    await push.close({ drain: 500 });
    expect(await outcome).to.include({ status: 'success', listeners: 1 });
    const { chunks, rest } = await ended(client);
    expect(chunks.slice(1).join('')).to.match(/data: the last\n\nretry: \d+\n$/);
    expect(Number(/retry: (\d+)\n$/.exec(chunks.join(''))?.[1])).to.be.within(1, 500);
    expect(rest).to.equal('');
    expect(departures).to.deep.equal(['drained']);
  });

  it('gives the clients times of their own', async () => {
    const { push, port } = await house();
    const clients: RawClient[] = [];
    for (let client = 0; client < 10; client += 1) clients.push(await RawClient.get(port, '/news'));
    for (const client of clients) await client.until('comet:open');
    await push.close();
    const times = new Set<string>();
    for (const client of clients) times.add((await ended(client)).chunks.at(-2) ?? '');
    for (const time of times) expect(time).to.match(/^retry: \d+\n$/);
    expect(times.size).to.be.greaterThan(1);
  });

  it('resolves when every connection has closed, by which server.close() returns', async () => {
    const { push, server, open } = await house();
    const clients = [await open(), await open(), await open()];
    const closed = once(server.server, 'close');
    server.server.close();
    await push.close();
    expect(server.sockets.size).to.equal(0);
    await closed;
    for (const client of clients) await client.ended();
  });

  it('cuts off who has not read by then, and what is pending has failed', async () => {
    const { push, server, news, open, block } = await house(ROOM);
    const { flood } = await block();
    const reader = await open();
    const behind = news.send('behind the flood');
    await reader.heard(1);
    await push.close({ drain: 50 });
    expect(await flood).to.deep.include({ status: 'failure', reasons: { closed: 1 } });
    expect(await behind).to.deep.include({ status: 'failure', delivered: 1, reasons: { closed: 1 } });
    expect(server.sockets.size).to.equal(0);
  });

  it('waits for who reads late', async () => {
    const { push, block } = await house(ROOM);
    const { client, flood } = await block();
    const closed = push.close();
    client.read();
    expect(await flood).to.include({ status: 'success', listeners: 1 });
    await closed;
    const { chunks } = await ended(client);
    expect(chunks.join('')).to.match(/x\n\nretry: \d+\n$/);
  });

  it('requests in flight get 503, and so do later ones', async () => {
    const gate = new Deferred<boolean>();
    const asked = new Deferred<void>();
    const { push, port, ask } = await house({
      authorize: () => {
        asked.resolve();
        return gate.promise;
      },
    });
    const client = await RawClient.get(port, '/news');
    await asked.promise;
    await push.close();
    gate.resolve(true);
    await client.until('}}');
    const { status, headers } = answerOf(client.text);
    expect(status).to.equal(503);
    expect(headers['retry-after']).to.match(/^\d+$/);
    await ask().expect(503);
  });

  it('is final', async () => {
    const { push, news } = await house();
    const closed: unknown[] = [];
    push.on('close', (event) => closed.push(event));
    const first = push.close();
    expect(push.activated).to.equal(false);
    await Promise.all([first, push.close()]);
    expect(closed).to.have.length(1);
    expect(() => push.activate()).to.throw(HubClosedError);
    expect(() => push.channels.create()).to.throw(HubClosedError);
    expect(() => push.channels.open('chat')).to.throw(HubClosedError);
    push.deactivate();
    expect(push.channels.open('news')).to.equal(news);
    expect(push.inspect()).to.include({ closed: true, activated: false });
    expect(await news.send('nobody hears')).to.include({ status: 'success', listeners: 0 });
  });

  it('works after deactivate as well', async () => {
    const { push, open } = await house();
    const client = await open();
    push.deactivate();
    await push.close();
    await client.ended();
  });

  it('refuses what is no time, and says which', async () => {
    const { push, open } = await house();
    for (const drain of [0, -1, 1.5, '50', null] as number[]) {
      const error = await push.close({ drain }).catch((reason: unknown) => reason);
      expect(error).to.be.instanceOf(InvalidOptionError).with.property('message').which.includes('drain');
    }
    expect(push.activated).to.equal(true);
    await open();
  });
});

describe('the process', () => {
  // Each has an open stream, and frames that grow old.
  const start = `
    import { once } from 'node:events';
    import { createServer, get } from 'node:http';
    import { comet } from './lib/index.ts';
    const push = comet({ heartbeat: 20 });
    const news = push.channels.create({ name: 'news' });
    const server = createServer(push).listen(0, '127.0.0.1');
    server.on('connection', (socket) => socket.unref());
    await once(server, 'listening');
    const sent = get({ port: server.address().port, path: '/news', agent: false });
    const [response] = await once(sent, 'response');
    response.resume();
    const { status } = await news.send('event');
  `;

  it('exits by itself after close()', async () => {
    const { code, stdout, stderr } = await run(`${start}
      server.close();
      await push.close();
      console.log(status);
    `);
    expect({ code, stdout, stderr }).to.deep.equal({ code: 0, stdout: 'success\n', stderr: '' });
  }).timeout(20_000);

  it('is not kept alive by a hub that is idle', async () => {
    const { code, stdout, stderr } = await run(`${start}
      server.unref();
      response.socket.unref();
      console.log(status);
    `);
    expect({ code, stdout, stderr }).to.deep.equal({ code: 0, stdout: 'success\n', stderr: '' });
  }).timeout(20_000);
});

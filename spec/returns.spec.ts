import { once } from 'node:events';
import { createServer } from 'node:http';
import { expect } from 'chai';
import { EventSource } from 'eventsource';
import type { Channel, Comet, CometOptions } from '../lib/index.js';
import { EventClient, RawClient, told } from './support/client.js';
import { cleanup, hub, type TestServer } from './support/server.js';
import { ended } from './support/wire.js';

const query = (...names: string[]) => `?${names.map((name) => `chan_id=${name}`).join('&')}`;

/** A client of some channels that has heard what was written on them and left; and a way to have it come back. */
async function away(
  options: CometOptions,
  names: readonly string[],
  write: (push: Comet) => void = () => {},
) {
  const { push, server } = await hub(options);
  for (const name of names) push.channels.open(name);
  const url = server.url + query(...names);
  const first = await EventClient.open(url);
  write(push);
  const { seq } = push.inspect();
  await first.until(() => first.lastEventId.includes(`-${seq}`));
  await leave(push, first);
  const cursor = first.lastEventId;
  const back = (path = query(...names), id = cursor) =>
    EventClient.open(server.url + path, { 'Last-Event-ID': id });
  const status = async (path = query(...names), id = cursor) => {
    const response = await fetch(server.url + path, { headers: { 'Last-Event-ID': id } });
    return { status: response.status, body: await response.text() };
  };
  return { push, server, first, cursor, back, status };
}

async function leave(push: Comet, client: EventClient): Promise<void> {
  const left = told((on) => push.on('leave', on));
  client.close();
  await left;
}

function channel(push: Comet, name: string): Channel {
  const found = push.channels.find(name);
  if (found === undefined) throw new Error(`There is no channel ${name}.`);
  return found;
}

const eventsOf = (client: EventClient) => client.events.map(({ event, data, id }) => ({ event, data, id }));
const ends = (client: EventClient) =>
  client.events.filter(({ event }) => event === 'comet:end').map(({ data }) => JSON.parse(data).channel);

describe('A channel that ended while its client was away', () => {
  it('is read to its last event and its end', async () => {
    const { push, back } = await away({}, ['job', 'chat'], (push) => channel(push, 'job').write('50 %'));
    const job = channel(push, 'job');
    job.write('result');
    job.end();
    channel(push, 'chat').write('still here');
    const client = await back();
    expect(await client.heard(2)).to.deep.equal(['result', 'still here']);
    expect(client.opening).to.deep.include({ channels: ['job', 'chat'], recovered: true, gaps: [] });
    expect(ends(client)).to.deep.equal(['job']);
  });

  it('is read to its end where it was the only one, and then the client is told to stop', async () => {
    const { push, back, status } = await away({}, ['job'], (push) => channel(push, 'job').write('50 %'));
    const job = channel(push, 'job');
    job.write('result');
    job.end();
    const client = await back();
    await client.ended();
    expect(client.messages).to.deep.equal(['result']);
    expect(ends(client)).to.deep.equal(['job']);
    expect(client.lastEventId).to.match(/-3@job$/);
    expect((await status(query('job'), client.lastEventId)).status).to.equal(204);
  });

  it('keeps its last event however few its history holds', async () => {
    const { push, back } = await away({ log: { frames: 1 } }, ['job']);
    const job = channel(push, 'job');
    job.write('result');
    job.end();
    const client = await back();
    await client.ended();
    expect(client.messages).to.deep.equal(['result']);
  });

  it('is told as a gap once it lingers no more, and as 404 after that', async () => {
    const { push, status } = await away({}, ['job']);
    const job = channel(push, 'job');
    job.write('result');
    job.end({ linger: 0 });
    const gone = await status();
    expect(gone.status).to.equal(200);
    expect(gone.body).to.include('"recovered":false,"gaps":["job"]');
    const [, id] = /id: (gone-\w+-2)\nevent: comet:open\n/.exec(gone.body) ?? [];
    expect((await status(query('job'), id)).status).to.equal(404);
  });

  it('is told as a gap again, if another channel of its name has come and ended since', async () => {
    const { push, status } = await away({}, ['job']);
    const gone = async (id?: string) => {
      const { status: code, body } = await status(query('job'), id);
      return code === 200 ? /id: (gone-\w+-\d+)\n/.exec(body)?.[1] : `${code}`;
    };
    channel(push, 'job').write('result');
    channel(push, 'job').end({ linger: 0 });
    const first = await gone();
    const again = push.channels.create({ name: 'job' });
    again.write('another result');
    again.end({ linger: 0 });
    const second = await gone(first);
    expect(second)
      .to.match(/^gone-/)
      .and.not.equal(first);
    expect(await gone(second)).to.equal('404');
  });

  it('is a gap of its own, where other channels go on', async () => {
    const { push, back } = await away({}, ['job', 'chat']);
    channel(push, 'job').write('result');
    channel(push, 'job').end({ linger: 0 });
    channel(push, 'chat').write('missed');
    const client = await back();
    expect(await client.heard(1)).to.deep.equal(['missed']);
    expect(client.opening).to.deep.include({
      ...{ channels: ['chat'], waiting: ['job'], recovered: false, gaps: ['job'] },
    });
  });

  it('gives a newcomer its start and its end', async () => {
    const { push, server } = await hub();
    const job = push.channels.create({ name: 'job', rewind: 1 });
    for (const data of ['50 %', 'result']) job.write(data);
    job.end();
    const client = await EventClient.open(`${server.url}/job`);
    await client.ended();
    const { epoch } = push.inspect();
    expect(eventsOf(client).slice(1)).to.deep.equal([
      { event: undefined, data: 'result', id: 'new!@job' },
      { event: 'comet:end', data: '{"channel":"job"}', id: 'new!@job' },
      { event: 'comet:ready', data: '{}', id: `${epoch}-3` },
    ]);
  });

  it('lingers no more where another channel of its name is made: what was missed is a gap', async () => {
    const { push, back } = await away({}, ['job']);
    channel(push, 'job').write('result');
    channel(push, 'job').end();
    push.channels.create({ name: 'job' }).write('of the next one');
    const client = await back();
    expect(client.opening).to.deep.include({ channels: ['job'], recovered: false, gaps: ['job'] });
  });

  it('is let go when there are more of them than may linger, the first first', async () => {
    const { push, server } = await hub({ maxLingering: { channels: 2 } });
    for (const name of ['a', 'b', 'c']) push.channels.create({ name }).end();
    const open = (name: string) => fetch(`${server.url}/${name}`);
    expect((await open('a')).status).to.equal(404);
    expect((await open('b')).status).to.equal(200);
    expect((await open('c')).status).to.equal(200);
  });
});

describe('A stream that asked for a name of which there is no channel', () => {
  it('carries the channel from its first event on', async () => {
    const { push, server } = await hub();
    const chat = push.channels.create({ name: 'chat' });
    const client = await EventClient.open(server.url + query('news', 'chat'));
    expect(client.opening).to.deep.include({ channels: ['chat'], waiting: ['news'] });
    const news = push.channels.create({ name: 'news' });
    chat.write('before');
    expect(await news.send('first')).to.include({ status: 'success', listeners: 1, delivered: 1 });
    chat.write('after');
    expect(await client.heard(3)).to.deep.equal(['before', 'first', 'after']);
    const carried = client.events.find(({ event }) => event === 'comet:channels');
    expect(JSON.parse(carried?.data ?? '')).to.deep.equal({ channels: ['chat', 'news'], waiting: [] });
  });

  it('carries the next channel of a name that ended', async () => {
    const { push, server } = await hub();
    const [news, chat] = ['news', 'chat'].map((name) => push.channels.create({ name })) as [Channel, Channel];
    const client = await EventClient.open(server.url + query('news', 'chat'));
    news.write('old');
    news.end();
    push.channels.create({ name: 'news' }).write('new');
    chat.write('goes on');
    expect(await client.heard(3)).to.deep.equal(['old', 'new', 'goes on']);
    expect(ends(client)).to.deep.equal(['news']);
  });

  it('gets all of a channel that is made while its client is away', async () => {
    const { push, back } = await away({}, ['chat'], (push) => channel(push, 'chat').write('heard'));
    const news = push.channels.create({ name: 'news' });
    news.write('first');
    const client = await back(query('chat', 'news'));
    expect(await client.heard(1)).to.deep.equal(['first']);
    expect(client.opening).to.deep.include({ recovered: true, gaps: [] });
  });

  it('ends with its last channel, though a name waits', async () => {
    const { push, server } = await hub();
    const chat = push.channels.create({ name: 'chat' });
    const client = await EventClient.open(server.url + query('news', 'chat'));
    chat.end();
    await client.ended();
  });

  it('is told the end of a name that would be over the limit of its channel', async () => {
    const { push, server } = await hub({ maxListenersPerChannel: 1 });
    const names = ['a', 'b'];
    const clients = [];
    for (const name of names) {
      push.channels.create({ name });
      clients.push(await EventClient.open(server.url + query(name, 'news')));
    }
    push.channels.create({ name: 'news' }).write('first');
    const [first, second] = clients as [EventClient, EventClient];
    expect(await first.heard(1)).to.deep.equal(['first']);
    await second.until(() => ends(second).length > 0);
    expect(ends(second)).to.deep.equal(['news']);
    expect(second.messages).to.deep.equal([]);
  });

  it('carries a channel of which more is written in its first turn than its history holds', async () => {
    const { push, server } = await hub({ log: { frames: 2 } });
    push.channels.create({ name: 'chat' });
    const client = await EventClient.open(server.url + query('news', 'chat'));
    const news = push.channels.create({ name: 'news' });
    const written = Array.from({ length: 20 }, (_, index) => `${index}`);
    for (const data of written) news.write(data);
    expect(await client.heard(20)).to.deep.equal(written);
    expect(client.events.filter(({ event }) => event === 'comet:gap')).to.deep.equal([]);
  });

  it('carries a channel that was made and ended between two of its others, or is told of the gap', async () => {
    const { push, server } = await hub();
    const [news] = ['news', 'chat'].map((name) => push.channels.create({ name })) as [Channel];
    const client = await EventClient.open(server.url + query('news', 'chat'));
    news.end();
    const second = push.channels.create({ name: 'news' });
    second.write('second');
    second.end();
    await client.until(() => ends(client).length === 2);
    expect(client.messages).to.deep.equal(['second']);
    const third = push.channels.create({ name: 'news' });
    third.write('third');
    third.end({ linger: 0 });
    const fourth = push.channels.create({ name: 'news' });
    fourth.write('fourth');
    fourth.end();
    const fifth = push.channels.create({ name: 'news' });
    fifth.write('fifth');
    await client.until(() => client.messages.includes('fifth'));
    expect(client.messages).to.deep.equal(['second', 'third', 'fifth']);
    const gaps = client.events.filter(({ event }) => event === 'comet:gap');
    expect(gaps.map(({ data }) => data)).to.deep.equal(['{"channels":["news"]}']);
  });

  it('is told that the name of a channel that has ended waits no more, where no more names may wait', async () => {
    const { push, server } = await hub({ maxWaitingNames: 0 });
    const [news] = ['news', 'chat'].map((name) => push.channels.create({ name })) as [Channel];
    const client = await EventClient.open(server.url + query('news', 'chat'));
    news.end();
    await client.until(() => ends(client).length === 2);
    const told = client.events.filter(({ event }) => event === 'comet:end');
    expect(told.map(({ id }) => id === undefined)).to.deep.equal([false, true]);
  });

  it('is one of a bounded number, and leaves nothing behind', async () => {
    const { push, server } = await hub({ maxWaitingNames: 1 });
    push.channels.create({ name: 'chat' });
    const open = () => EventClient.open(server.url + query('chat', 'x', 'y'));
    const client = await open();
    expect(client.opening.waiting).to.deep.equal(['x']);
    await client.until(() => ends(client).length > 0);
    expect(ends(client)).to.deep.equal(['y']);
    expect((await open()).opening.waiting).to.deep.equal([]);
    await leave(push, client);
    expect((await open()).opening.waiting).to.deep.equal(['x']);
  });
});

describe("A client that returns to a channel with lag: 'latest'", () => {
  it('is told of the gap where even the newest event has grown too old', async () => {
    const options: CometOptions = { lag: 'latest', rewind: 1, log: { age: 20 } };
    const { push, back } = await away(options, ['price'], (push) => channel(push, 'price').write(1));
    channel(push, 'price').write(2);
    // The hub's own timer lets it go.
    while (push.inspect().frames > 0) await new Promise(setImmediate);
    expect((await back()).opening).to.deep.include({ recovered: false, gaps: ['price'] });
  });
});

describe('A start', () => {
  it('is given to a channel that is new beside a cursor, though it was written before that', async () => {
    const { push, server } = await hub();
    const price = push.channels.create({ name: 'price', rewind: 1 });
    const chat = push.channels.create({ name: 'chat' });
    price.write('old price');
    chat.write('heard');
    const { epoch } = push.inspect();
    chat.write('missed');
    const url = `${server.url}?chan_id=chat&new_chan_id=price&last_event_id=${epoch}-2@chat`;
    const client = await EventClient.open(url);
    expect(await client.heard(2)).to.deep.equal(['old price', 'missed']);
    expect(client.events.map(({ id }) => id)).to.deep.equal([
      ...[`${epoch}-2+!`, `${epoch}-2+!@price`, `${epoch}-2`, `${epoch}-3@chat`],
    ]);
    expect(client.opening).to.include({ recovered: true });
  });

  it('is given again where the connection breaks in the middle of it', async () => {
    const { push, server } = await hub();
    const price = push.channels.create({ name: 'price', rewind: 2 });
    const chat = push.channels.create({ name: 'chat' });
    for (const data of ['1', '2']) price.write(data);
    chat.write('heard');
    const { epoch } = push.inspect();
    chat.write('missed');
    const url = `${server.url}?chan_id=chat&new_chan_id=price&last_event_id=${epoch}-3`;
    const whole = await EventClient.open(url);
    expect(await whole.heard(3)).to.deep.equal(['1', '2', 'missed']);
    for (const id of [`${epoch}-3+!`, `${epoch}-3+!@price`]) {
      const again = await EventClient.open(url, { 'Last-Event-ID': id });
      expect(await again.heard(3), id).to.deep.equal(['1', '2', 'missed']);
    }
    const later = await EventClient.open(url, { 'Last-Event-ID': `${epoch}-3` });
    expect(await later.heard(1), 'once it was complete').to.deep.equal(['missed']);
  });

  it('of a channel that has ended hides nothing that is written on others while the stream opens', async () => {
    let written = () => {};
    const { push, server } = await hub({}, (push) => (request, response) => {
      const { writeHead } = response;
      // What hangs on the head may write.
      response.writeHead = ((...head: Parameters<typeof writeHead>) => {
        written();
        return writeHead.apply(response, head);
      }) as typeof writeHead;
      push(request, response);
    });
    const [news, chat] = ['news', 'chat'].map((name) => push.channels.create({ name })) as [Channel, Channel];
    news.write('last');
    news.end();
    written = () => chat.write('meanwhile');
    const client = await EventClient.open(server.url + query('news', 'chat'));
    chat.write('live');
    expect(await client.heard(2)).to.deep.equal(['meanwhile', 'live']);
  });

  it('of a newcomer is given again in the same way', async () => {
    const { push, server } = await hub();
    const price = push.channels.create({ name: 'price', rewind: 2 });
    for (const data of ['1', '2', '3']) price.write(data);
    const again = await EventClient.open(`${server.url}/price`, { 'Last-Event-ID': 'new!@price' });
    price.write('4');
    expect(await again.heard(3)).to.deep.equal(['2', '3', '4']);
    expect(again.opening).to.deep.include({ recovered: true, gaps: [] });
  });

  it('needs a cursor where it is asked for by new_chan_id', async () => {
    const { push, server } = await hub();
    push.channels.create({ name: 'news' });
    const response = await fetch(`${server.url}/news?new_chan_id=chat`);
    expect(response.status).to.equal(400);
    expect(await response.json()).to.have.nested.property('error.code', 'NO_CURSOR');
  });
});

describe('A client that puts its cursor into the query as event-source-polyfill does', () => {
  for (const name of ['lastEventId', 'Last-Event-ID']) {
    it(`gets what it missed, by ${name}`, async () => {
      const { push, server, cursor } = await away({}, ['news'], (push) =>
        channel(push, 'news').write('heard'),
      );
      channel(push, 'news').write('missed');
      const client = await EventClient.open(`${server.url}/news?${name}=${encodeURIComponent(cursor)}`);
      expect(await client.heard(1)).to.deep.equal(['missed']);
      expect(client.opening.recovered).to.equal(true);
    });
  }
});

describe('A gap of one channel', () => {
  it('leaves the cursor of the others alone', async () => {
    const { push, back } = await away({}, ['chat', 'news'], (push) => channel(push, 'chat').write('heard'));
    push.channels.find('news')?.end({ linger: 0 });
    const news = push.channels.create({ name: 'news', log: { frames: 1 }, rewind: 1 });
    for (const data of ['news 1', 'news 2']) news.write(data);
    channel(push, 'chat').write('missed');
    const client = await back();
    expect(await client.heard(2)).to.deep.equal(['news 2', 'missed']);
    expect(client.opening).to.deep.include({ recovered: false, gaps: ['news'] });
  });
});

describe('A client that returns while no stream can be opened for it', () => {
  const answers = async (server: TestServer, headers: Record<string, string>) => {
    const response = await fetch(`${server.url}/news`, { headers });
    return {
      status: response.status,
      type: response.headers.get('content-type'),
      after: response.headers.get('retry-after'),
      body: await response.text(),
    };
  };

  it('is told when to come back, and stays alive, while a limit is reached; a first visit gets the status', async () => {
    const { push, server } = await hub({ maxListeners: 1 });
    push.channels.create({ name: 'news' });
    const refusals: unknown[] = [];
    push.on('refuse', (refusal) => refusals.push(refusal));
    await EventClient.open(`${server.url}/news`);
    const first = await answers(server, {});
    expect(first.status).to.equal(503);
    expect(Number(first.after)).within(2, 10);
    const returned = await answers(server, { 'Last-Event-ID': 'new!' });
    expect(returned).to.include({ status: 200, type: 'text/event-stream' });
    expect(returned.body).to.match(/^retry: \d+\n$/);
    expect(refusals).to.deep.equal([
      { status: 503, code: 'TOO_MANY_LISTENERS', channels: ['news'] },
      { status: 200, code: 'TOO_MANY_LISTENERS', channels: ['news'] },
    ]);
  });

  it('stops while the hub is deactivated, unless that says when to try again', async () => {
    const { push, server } = await hub();
    push.channels.create({ name: 'news' });
    const returning = { 'Last-Event-ID': 'new!' };
    push.deactivate();
    expect((await answers(server, returning)).status).to.equal(503);
    push.activate();
    const client = await RawClient.get(server.port, '/news');
    await client.until('comet:open');
    push.deactivate({ retry: 1500 });
    await ended(client);
    expect(client.text).to.include('retry: 1500\n');
    expect(await answers(server, returning)).to.include({ status: 200, body: 'retry: 1500\n' });
    expect(await answers(server, {})).to.include({ status: 503, after: '2' });
    expect(() => push.deactivate({ retry: -1 })).to.throw(/retry must be a pair of whole milliseconds/);
  });

  it('survives a close() that waits for a client which does not read, in either order with server.close()', async function () {
    this.timeout(20_000);
    for (const isHubFirst of [true, false]) {
      const push = (await hub()).push;
      const server = createServer(push);
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const { port } = server.address() as { port: number };
      const news = push.channels.create({ name: 'news', lag: 'latest', log: { bytes: 2 ** 24 } });
      const sources = Array.from({ length: 20 }, () => new EventSource(`http://127.0.0.1:${port}/news`));
      cleanup(() => {
        for (const source of sources) source.close();
      });
      const stuck = await RawClient.get(port, '/news');
      while (news.listeners < sources.length + 1) await told((on) => push.on('join', on));
      // What the kernel does not take.
      void news.send('x'.repeat(2 ** 23));
      if (!isHubFirst) server.close();
      await push.close({ drain: 1500 });
      if (isHubFirst) server.close();
      server.closeAllConnections();
      stuck.socket.destroy();

      const next = (await hub()).push;
      next.channels.create({ name: 'news' });
      const joined = new Promise<void>((resolve) => {
        let count = 0;
        next.on('join', () => {
          count += 1;
          if (count === sources.length) resolve();
        });
      });
      const successor = createServer(next);
      successor.listen(port, '127.0.0.1');
      cleanup(() => {
        successor.closeAllConnections();
        successor.close();
      });
      await joined;
      expect(sources.filter(({ readyState }) => readyState === EventSource.CLOSED)).to.deep.equal([]);
    }
  });

  it('gets 503 once the hub is closed', async () => {
    const { push, server } = await hub();
    push.channels.create({ name: 'news' });
    await push.close();
    expect((await answers(server, { 'Last-Event-ID': 'new!' })).status).to.equal(503);
  });
});

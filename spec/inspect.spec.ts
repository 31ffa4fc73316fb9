import { setImmediate as turn } from 'node:timers/promises';
import { expect } from 'chai';
import { EventClient, RawClient, told } from './support/client.js';
import { newNode, until } from './support/nodes.js';
import { RedisServer } from './support/redis.js';
import { hub } from './support/server.js';
import { room, stalled } from './support/stalled.js';

describe('inspect()', () => {
  it('is plain data, which JSON can say', async () => {
    const { push, server } = await hub();
    const news = push.channels.create({ name: '__proto__' });
    const client = await EventClient.open(`${server.url}/__proto__`);
    await news.send('x');
    await expectRefused(server.url);
    const snapshot = push.inspect({ streams: true });
    const [stream] = snapshot.streams ?? [];
    const { since } = stream!;
    const { epoch } = snapshot;
    const expected = {
      activated: true,
      closed: false,
      epoch,
      seq: 1,
      writes: 1,
      delivered: 1,
      listeners: 1,
      frames: 1,
      bytes: `id: ${epoch}-1@__proto__\ndata: x\n\n`.length,
      lagging: 0,
      lag: 0,
      streams: [
        {
          id: client.opening.listener,
          since,
          channels: ['__proto__'],
          transport: 'socket',
          position: `${epoch}-1`,
          lag: 0,
          state: 'live',
        },
      ],
      channels: [
        {
          id: '__proto__',
          listeners: 1,
          writes: 1,
          lastWrite: snapshot.channels[0]!.lastWrite,
          frames: 1,
          bytes: `id: ${epoch}-1@__proto__\ndata: x\n\n`.length,
          lagging: 0,
          lag: 0,
        },
      ],
      refusals: { NO_CHANNEL: 1 },
      backplane: null,
    };
    expect(snapshot).to.deep.equal(expected);
    expect(structuredClone(snapshot)).to.deep.equal(snapshot);
    const text = JSON.stringify(snapshot);
    expect(JSON.parse(text)).to.deep.equal({
      ...expected,
      streams: [{ ...expected.streams[0], since: since.toISOString() }],
      channels: [{ ...expected.channels[0], lastWrite: expected.channels[0]!.lastWrite!.toISOString() }],
    });
  });

  it('says when the last event was written', async () => {
    const { push } = await hub();
    const news = push.channels.create({ name: 'news' });
    const written = () => push.inspect().channels[0]?.lastWrite?.getTime();
    expect(written()).to.equal(undefined);
    await turn();
    const first = Date.now();
    news.write('a');
    expect(written()).to.be.within(first, Date.now());
    do await turn();
    while (Date.now() === first);
    const second = Date.now();
    news.write('b');
    expect(written()).to.be.within(second, Date.now());
  });

  it('says so also after timers were replaced, and dropped', async () => {
    const { push } = await hub();
    const news = push.channels.create({ name: 'news' });
    const { setImmediate } = globalThis;
    await turn();
    try {
      globalThis.setImmediate = (() => {}) as unknown as typeof setImmediate;
      news.write('a');
    } finally {
      globalThis.setImmediate = setImmediate;
    }
    const first = Date.now();
    do await turn();
    while (Date.now() === first);
    const second = Date.now();
    news.write('b');
    expect(push.inspect().channels[0]?.lastWrite?.getTime()).to.be.within(second, Date.now());
  });

  it('says nothing of each channel where that was asked for', async () => {
    const { push } = await hub();
    for (const name of ['news', 'chat']) push.channels.create({ name }).write('x');
    const { channels, ...rest } = push.inspect();
    expect(push.inspect({ channels: false })).to.deep.equal({ ...rest, channels: [] });
    expect(rest.frames).to.equal(2);
    expect(rest.bytes).to.equal(channels[0]!.bytes + channels[1]!.bytes);
  });

  it('does not change with what happens later', async () => {
    const { push, server } = await hub();
    const news = push.channels.create({ name: 'news' });
    await EventClient.open(`${server.url}/news`);
    await news.send('before');
    const snapshot = push.inspect({ streams: true });
    const text = JSON.stringify(snapshot);
    await news.send('after');
    await expectRefused(server.url);
    news.end();
    expect(JSON.stringify(snapshot)).to.equal(text);
  });

  it('tells how far blocked listeners are behind, and counts one on two channels once', async () => {
    const { push, server, client, flood } = await stalled(room(), ['news', 'chat']);
    // It reads: it is not behind.
    const reader = await EventClient.open(`${server.url}/chat`);
    const [news, chat] = ['news', 'chat'].map((name) => push.channels.find(name)!);
    expect(push.inspect(), 'what is in flight waits for nobody').to.include({ lagging: 0, lag: 0 });
    const waiting = [news!.send('1'), chat!.send('2'), chat!.send('3'), chat!.send('4')];
    await reader.heard(3);
    expect(push.inspect()).to.include({ lagging: 1, lag: 4 });
    expect(news!.inspect()).to.include({ listeners: 1, lagging: 1, lag: 1 });
    expect(chat!.inspect()).to.include({ listeners: 2, lagging: 1, lag: 3 });

    client.read();
    await Promise.all([flood, ...waiting]);
    expect(push.inspect()).to.include({ lagging: 0, lag: 0 });
  });

  it('forgets a blocked listener that has left', async () => {
    const { push, news, client } = await stalled();
    news.write('waits');
    await new Promise(setImmediate);
    expect(push.inspect()).to.include({ lagging: 1, lag: 1 });
    const left = told((on) => push.on('leave', on));
    await client.reset();
    await left;
    expect(push.inspect()).to.include({ lagging: 0, lag: 0 });
  });

  it('counts what was delivered, once for each stream, whoever asks and however it got there', async () => {
    const { push, server, port } = await hub();
    const news = push.channels.create({ name: 'news' });
    const chat = push.channels.create({ name: 'chat' });
    const one = await EventClient.open(`${server.url}/news`);
    const both = await EventClient.open(`${server.url}/?chan_id=news&chan_id=chat`);
    for (const data of ['1', '2', '3']) news.write(data);
    chat.write('4');
    await Promise.all([one.heard(3), both.heard(4)]);
    expect(push.inspect()).to.include({ writes: 4, delivered: 7 });

    // Replayed, on a stream of response.write.
    const replayed = await RawClient.connect(port);
    replayed.send(`GET /news HTTP/1.0\r\nLast-Event-ID: ${push.inspect().epoch}-1\r\n\r\n`);
    await replayed.until('data: 3');
    await until(() => push.inspect().delivered === 9);
    expect(await news.send('5')).to.include({ delivered: 3 });
    expect(push.inspect()).to.include({ writes: 5, delivered: 12 });
  });

  it('counts no heartbeat as delivered, on a stream that is always pending for a moment', async () => {
    const { push, port } = await hub({ heartbeat: 10 });
    const news = push.channels.create({ name: 'news' });
    const client = await RawClient.connect(port);
    client.send('GET /news HTTP/1.0\r\n\r\n');
    await client.until('comet:open');
    expect(await news.send('x')).to.include({ delivered: 1 });
    expect(await client.until(/data: x\n\n:\n:\n/)).to.equal(true);
    expect(push.inspect()).to.include({ delivered: 1 });
  });

  it('tells how the backplane is', async () => {
    const redis = await RedisServer.start();
    const { push } = await newNode(redis.port);
    expect(push.inspect().backplane, 'as far as is known').to.deep.equal({
      name: 'redis',
      healthy: false,
      queued: 0,
    });
    await until(() => push.inspect().backplane?.healthy === true);
    const away = told((on) => push.on('backplane', on));
    await redis.kill();
    await away;
    push.channels.create().write('waits');
    expect(push.inspect().backplane).to.deep.equal({ name: 'redis', healthy: false, queued: 1 });
  });
});

async function expectRefused(url: string): Promise<void> {
  const response = await fetch(url, { headers: { Connection: 'close' } });
  expect(response.status).to.equal(400);
  await response.text();
}

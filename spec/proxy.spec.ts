import { once } from 'node:events';
import type { ClientHttp2Session } from 'node:http2';
import { createGunzip } from 'node:zlib';
import { expect } from 'chai';
import express from 'express';
import type { Comet, CometEvents } from '../lib/index.js';
import { EventClient, told } from './support/client.js';
import { instead, Nginx, protocols, proxied } from './support/nginx.js';
import { delivered } from './support/outcomes.js';
import { hub } from './support/server.js';
import { Text } from './support/text.js';

const PATH = '/channels/news';
const GZIP = { 'Accept-Encoding': 'gzip' };
// More than the buffers of two connections and of nginx between them take.
const FLOOD = 'x'.repeat(24 * 2 ** 20);
const ROOM = { maxFrame: 32 * 2 ** 20, log: { bytes: 64 * 2 ** 20 } };
// Each a sixtieth of its default: four heartbeats in the time that nginx waits.
const HEARTBEAT = 250;
const impatient = (site: string) => instead(site, 'proxy_read_timeout 60s', 'proxy_read_timeout 1s');
const unstated = (site: string) => instead(site, 'proxy_buffering off;', '');

const nextJoin = (push: Comet) => told<CometEvents['join']>((handler) => push.on('join', handler));
const nextLeave = (push: Comet) => told<CometEvents['leave']>((handler) => push.on('leave', handler));

/** A request of HTTP/2, as it is answered. */
async function ask(session: ClientHttp2Session, headers: Record<string, string>) {
  const stream = session.request(headers);
  const [head] = (await once(stream, 'response')) as [Record<string, string | number>];
  return { stream, head };
}

/** Writes and hears it so many times over: whatever else nginx has to send, it has had time to. */
async function rounds(client: EventClient, write: (data: string) => unknown, count: number): Promise<void> {
  for (let round = 0; round < count; round += 1) {
    write(`round ${round}`);
    await client.until(() => client.messages.includes(`round ${round}`));
  }
}

for (const [name, listen] of protocols) {
  describe(`Behind nginx as docs/proxies.md has it, over ${name}`, () => {
    it('the first event is there within 100 ms, though nothing follows it', async () => {
      const { nginx } = await proxied({ heartbeat: null });
      const times: number[] = [];
      for (let attempt = 0; attempt < 10; attempt += 1) {
        const started = performance.now();
        const client = await listen(nginx);
        times.push(performance.now() - started);
        client.close();
      }
      // What waits for more, or for some time, does so each time; what this machine does beside it does not.
      expect(Math.min(...times)).to.be.below(100);
    });

    it('events arrive, each at once, and outcomes are true', async () => {
      const { push, news, nginx } = await proxied({ heartbeat: null });
      const joined = nextJoin(push);
      const client = await listen(nginx, PATH, GZIP);
      expect((await joined).transport).to.equal('socket');
      expect(client.response.headers).to.include({
        'content-type': 'text/event-stream',
        'cache-control': 'no-cache, no-transform',
      });
      // The second is for nginx itself, which keeps it.
      expect(client.response.headers).not.to.have.any.keys('content-encoding', 'x-accel-buffering');
      for (const [index, data] of ['one', 'two', 'three'].entries()) {
        expect(await news.send(data)).to.deep.equal(delivered(1));
        expect((await client.heard(index + 1)).at(-1)).to.equal(data);
      }
    });

    it('a client that comes back is found where it was', async () => {
      const { push, news, nginx } = await proxied();
      const client = await listen(nginx);
      news.write('one');
      await client.heard(1);
      const left = nextLeave(push);
      client.close();
      // It is noticed that it has gone.
      expect((await left).reason).to.equal('closed');
      news.write('two');
      const cursor = client.lastEventId;
      for (const again of [
        await listen(nginx, PATH, { 'Last-Event-ID': cursor }),
        await listen(nginx, `${PATH}?last_event_id=${encodeURIComponent(cursor)}`),
      ]) {
        expect(again.opening.recovered).to.equal(true);
        expect(await again.heard(1)).to.deep.equal(['two']);
      }
    });

    it('delivered says that nginx took it', async () => {
      const { news, nginx } = await proxied({ heartbeat: null });
      const client = await listen(nginx);
      client.response.pause();
      expect(await news.send('unread')).to.deep.equal(delivered(1));
      expect(client.messages).to.deep.equal([]);
      client.response.resume();
      expect(await client.heard(1)).to.deep.equal(['unread']);
    });

    it('what a client does not read comes to rest here, and is not delivered', async () => {
      const { push, news, nginx } = await proxied(ROOM);
      const chat = push.channels.create({ name: 'chat' });
      const slow = await listen(nginx);
      slow.response.pause();
      const reader = await listen(nginx, '/channels/chat');
      const flood = news.send(FLOOD);
      expect(await chat.send('to a reader')).to.deep.equal(delivered(1));
      expect(await reader.heard(1)).to.deep.equal(['to a reader']);
      const left = nextLeave(push);
      slow.close();
      await left;
      // nginx throws away what it has not passed on, which is a reset.
      expect(await flood).to.deep.include({ status: 'failure', failed: 1, reasons: { error: 1 } });
    });

    it('when nginx dies, its clients are known to be gone', async () => {
      const { push, news, nginx } = await proxied();
      const client = await listen(nginx);
      const left = nextLeave(push);
      await nginx.kill();
      await left;
      await client.ended();
      expect(await news.send('nobody')).to.deep.equal(delivered(0));
    });

    it('when it is told to read its configuration again, streams go on', async () => {
      const { news, nginx } = await proxied();
      const client = await listen(nginx);
      await nginx.reload();
      const another = await listen(nginx);
      expect(await news.send('to both')).to.deep.equal(delivered(2));
      for (const each of [client, another]) expect(await each.heard(1)).to.deep.equal(['to both']);
    });
  });
}

describe('Behind nginx', () => {
  describe('where nothing is written', () => {
    const everybody = (nginx: Nginx, headers?: (index: number) => Record<string, string>) =>
      Promise.all(protocols.map(([, listen], index) => listen(nginx, PATH, headers?.(index))));

    it('streams live on their heartbeats', async function () {
      this.timeout(20_000);
      const { push, news, nginx } = await proxied({ heartbeat: HEARTBEAT }, { change: impatient });
      const clients = await everybody(nginx);
      for (const client of clients) {
        // Three times as long as nginx waits, after `:ok`.
        await client.until(() => client.comments.length > 13);
        expect(client.comments).to.have.length.above(13);
      }
      expect(push.inspect().listeners).to.equal(clients.length);
      expect(await news.send('after it')).to.deep.equal(delivered(clients.length));
      for (const client of clients) expect(await client.heard(1)).to.deep.equal(['after it']);
    });

    it('without them they are cut off, and nothing is lost by it', async () => {
      const { push, news, nginx } = await proxied({ heartbeat: null }, { change: impatient });
      const clients = await everybody(nginx);
      for (const client of clients) await client.ended();
      while (push.inspect().listeners > 0) await nextLeave(push);
      expect(nginx.log).to.include('upstream timed out');
      news.write('meanwhile');
      const cursors = clients.map((client) => client.lastEventId);
      for (const again of await everybody(nginx, (index) => ({ 'Last-Event-ID': cursors[index] ?? '' }))) {
        expect(again.opening.recovered).to.equal(true);
        expect(await again.heard(1)).to.deep.equal(['meanwhile']);
      }
    });
  });

  it('many streams share one connection of HTTP/2', async () => {
    const STREAMS = 100;
    const { news, nginx } = await proxied();
    const session = await nginx.session();
    const clients: EventClient[] = [];
    for (let count = 0; count < STREAMS; count += 1) clients.push(await EventClient.openOn(session, PATH));
    expect(await news.send('to all')).to.deep.equal(delivered(STREAMS));
    for (const client of clients) expect(await client.heard(1)).to.deep.equal(['to all']);
  });

  it('requests share one connection to the app', async () => {
    const { server, nginx } = await proxied();
    let connections = 0;
    server.server.on('connection', () => {
      connections += 1;
    });
    const session = await nginx.session();
    for (let request = 0; request < 10; request += 1) {
      const { stream, head } = await ask(session, { ':path': PATH, ':method': 'HEAD' });
      expect(head[':status']).to.equal(200);
      await new Text(stream).all();
    }
    expect(connections).to.equal(1);
  });

  describe('there are two nodes', () => {
    async function two(settings = '') {
      const other = await hub({}, (push) => express().use('/channels', push));
      other.push.channels.create({ name: 'news' });
      const servers = `server 127.0.0.1:3000;\nserver 127.0.0.1:${other.port};`;
      const change = (site: string) => settings + instead(site, 'server 127.0.0.1:3000;', servers);
      return { ...(await proxied({}, { change })), other: other.push };
    }

    it('a client whose node is gone comes to the other', async () => {
      const { push, news, server, nginx, other } = await two();
      // Each worker of nginx takes turns for itself.
      while (news.listeners === 0) await nginx.listen(PATH);
      await push.close({ drain: 1 });
      await server.close();
      const before = other.inspect().listeners;
      for (let count = 0; count < 4; count += 1) await nginx.listen(PATH);
      expect(other.inspect().listeners).to.equal(before + 4);
    });

    it('a client whose node is closing does so where 503 is passed on', async () => {
      const { push, nginx, other } = await two('proxy_next_upstream error timeout http_503;\n');
      push.deactivate();
      for (let count = 0; count < 4; count += 1) await nginx.listen(PATH);
      expect(other.inspect().listeners).to.equal(4);
      expect(push.inspect().refusals).to.have.property('UNAVAILABLE');
    });
  });

  it('where no node is left, it is answered by 502', async () => {
    const { server, nginx } = await proxied();
    await server.close();
    const { head } = await ask(await nginx.session(), { ':path': PATH });
    expect(head[':status']).to.equal(502);
  });

  describe('who a client is', () => {
    const trusting = () => express().set('trust proxy', 1);
    const limited = { maxListenersPerClient: 1 };

    const refused = async (opening: Promise<unknown>) => {
      const error = await opening.catch((reason: unknown) => reason);
      expect(error).to.be.instanceOf(Error).with.property('message', 'The server answered 429.');
    };

    it('is told by nginx, where one proxy is trusted', async () => {
      const { nginx } = await proxied(limited, { app: trusting });
      await nginx.listen(PATH, {}, '127.0.0.2');
      await refused(nginx.listen(PATH, {}, '127.0.0.2'));
      await nginx.listen(PATH, {}, '127.0.0.3');
    });

    it('can not be forged then', async () => {
      const { nginx } = await proxied(limited, { app: trusting });
      await nginx.listen(PATH, {}, '127.0.0.2');
      await refused(nginx.listen(PATH, { 'X-Forwarded-For': '203.0.113.7' }, '127.0.0.2'));
    });

    it('is nginx, where none is', async () => {
      const { nginx } = await proxied(limited);
      await nginx.listen(PATH, {}, '127.0.0.2');
      await refused(nginx.listen(PATH, {}, '127.0.0.3'));
    });
  });

  // What the document says of the directives that it states.
  describe('and its defaults', () => {
    it('streams need nothing of their own', async () => {
      const { push, news, nginx } = await proxied(
        { heartbeat: null },
        { change: (site) => site.replace(/location \/channels \{.*?\}/s, '') },
      );
      const joined = nextJoin(push);
      const client = await nginx.listen(PATH);
      expect((await joined).transport).to.equal('socket');
      expect(await news.send('one')).to.deep.equal(delivered(1));
      expect(await client.heard(1)).to.deep.equal(['one']);
    });

    it('without proxy_http_version it speaks HTTP/1.0, which streams bear', async () => {
      const { push, news, nginx } = await proxied(
        { heartbeat: null },
        { change: (site) => instead(site, 'proxy_http_version 1.1;', '') },
      );
      const joined = nextJoin(push);
      const client = await nginx.listen(PATH);
      expect((await joined).transport).to.equal('response');
      expect(await news.send('one')).to.deep.equal(delivered(1));
      expect(await client.heard(1)).to.deep.equal(['one']);
    });

    it('X-Accel-Buffering is enough to have nothing held back', async () => {
      const { news, nginx } = await proxied({ heartbeat: null }, { change: unstated });
      const client = await nginx.listen(PATH);
      await rounds(client, (data) => news.write(data), 5);
    });

    describe('and where that is ignored, and proxy_buffering off is missing', () => {
      const ignoring = (site: string) => `proxy_ignore_headers X-Accel-Buffering;\n${unstated(site)}`;
      const older = (site: string) => instead(ignoring(site), 'proxy_http_version 1.1;', '');

      for (const [name, listen, change] of [
        ['over HTTP/1.1', protocols[0]![1], ignoring],
        ['over HTTP/2, with HTTP/1.0 to the app', protocols[1]![1], older],
      ] as const) {
        it(`everything is held back, ${name}`, async () => {
          const { push, news, server, nginx } = await proxied({ heartbeat: null }, { change });
          const joined = nextJoin(push);
          let isOpen = false;
          const opening = listen(nginx).finally(() => {
            isOpen = true;
          });
          await joined;
          const client = await (await Nginx.before(server.port)).listen(PATH);
          await rounds(client, (data) => news.write(data), 20);
          expect(isOpen).to.equal(false);
          news.end();
          expect(await (await opening).heard(20)).to.have.length(20);
        });
      }

      it('nginx takes what no client reads: delivered says nothing then', async () => {
        const { news, nginx } = await proxied(ROOM, { change: ignoring });
        const client = await EventClient.openOn(await nginx.session(), PATH);
        client.response.pause();
        expect(await news.send(FLOOD)).to.deep.equal(delivered(1));
      });
    });

    describe('where somebody has all types compressed', () => {
      const compressing = (site: string) => `gzip on;\ngzip_types *;\n${site}`;

      it('streams are not', async () => {
        const { nginx } = await proxied({}, { change: compressing });
        const client = await nginx.listen(PATH, GZIP);
        expect(client.response.headers).not.to.have.property('content-encoding');
      });

      it('they are without gzip off, whatever no-transform says; and events arrive', async () => {
        const { news, nginx } = await proxied(
          { heartbeat: null },
          { change: (site) => compressing(instead(site, 'gzip off;', '')) },
        );
        const { stream, head } = await ask(await nginx.session(), {
          ':path': PATH,
          'accept-encoding': 'gzip',
        });
        expect(head['content-encoding']).to.equal('gzip');
        const client = new Text(stream.pipe(createGunzip({ finishFlush: 2 })));
        expect(await client.until('comet:open')).to.equal(true);
        for (const data of ['one', 'two', 'three']) {
          expect(await news.send(data)).to.deep.equal(delivered(1));
          expect(await client.until(`data: ${data}\n\n`)).to.equal(true);
        }
      });
    });
  });
});

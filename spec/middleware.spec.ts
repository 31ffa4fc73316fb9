import { randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { get, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { type ClientHttp2Session, connect, constants, createServer as createHttp2Server } from 'node:http2';
import { createServer as createHttpsServer, get as getHttps, type RequestOptions } from 'node:https';
import { connect as connectTcp, type Socket } from 'node:net';
import { createGunzip, createGzip } from 'node:zlib';
import polka from '@polka/compression';
import { expect } from 'chai';
import compression from 'compression';
import cors from 'cors';
import express, { type RequestHandler } from 'express';
import express4 from 'express4';
import helmet from 'helmet';
import httpCompression from 'http-compression';
import supertest from 'supertest';
import type { Comet, CometEvents, CometOptions, Outcome } from '../lib/index.js';
import { EVENT_STREAM, EventClient, RawClient, request, told } from './support/client.js';
import { cleanup, hub } from './support/server.js';
import { Text } from './support/text.js';
import { answerOf, ended } from './support/wire.js';

const success = { status: 'success', listeners: 1, delivered: 1, failed: 0, unknown: 0, reasons: {} };
const unknown: Outcome = {
  status: 'failure',
  listeners: 1,
  delivered: 0,
  failed: 0,
  unknown: 1,
  reasons: {},
};

const nextJoin = (push: Comet) => told<CometEvents['join']>((handler) => push.on('join', handler));
const nextLeave = (push: Comet) => told<CometEvents['leave']>((handler) => push.on('leave', handler));

async function house(app: (push: Comet) => RequestListener | Server, options: CometOptions = {}) {
  const { push, server, port } = await hub(options, app);
  return { push, server, port, news: push.channels.create({ name: 'news' }) };
}

/** A compressor that does not ask what it may compress, made as `compression` is. */
const gzip: RequestHandler = (_request, response, next) => {
  const { write, end, writeHead } = response;
  const zip = createGzip();
  zip.on('data', (piece) => write.call(response, piece, 'utf8'));
  zip.on('end', () => end.call(response, undefined, 'utf8'));
  zip.on('drain', () => response.emit('drain'));
  response.on('close', () => zip.destroy());
  Object.assign(response, {
    writeHead: (...head: Parameters<typeof writeHead>) => {
      response.setHeader('Content-Encoding', 'gzip');
      return writeHead.apply(response, head);
    },
    write: (piece: Buffer) => {
      if (!response.headersSent) response.writeHead(response.statusCode);
      return zip.write(piece);
    },
    end: () => void zip.end(),
    flush: () => zip.flush(),
  });
  next();
};

/** `compression`, where somebody takes off what would keep it from event streams. */
const eager: RequestHandler[] = [
  (_request, response, next) => {
    const { setHeader } = response;
    response.setHeader = (name, value) =>
      setHeader.call(response, name, name === 'Cache-Control' ? 'no-cache' : value);
    next();
  },
  compression({ filter: () => true }),
];

for (const { name, make } of [
  { name: 'Express 5', make: express },
  { name: 'Express 4', make: express4 },
]) {
  describe(`Middleware of ${name}`, () => {
    it('compression leaves an event stream as it is', async () => {
      const { push, news, server } = await house((push) => make().use(compression(), push));
      const joined = nextJoin(push);
      const client = await EventClient.open(`${server.url}/news`, { 'Accept-Encoding': 'gzip, br' });
      expect((await joined).transport).to.equal('response');
      expect(client.response.headers).not.to.have.property('content-encoding');
      for (const data of ['one', 'two', 'three']) {
        expect(await news.send(data)).to.deep.equal(success);
        expect((await client.heard(1)).length).to.be.at.least(1);
      }
      expect(await client.heard(3)).to.deep.equal(['one', 'two', 'three']);
      push.setTimeout(null, { reset: true });
      await client.ended();
      await server.quiet();
    });

    it('compression: a stream that is closed leaves nothing behind', async () => {
      const { push, news, server } = await house((push) => make().use(compression(), push));
      const client = await EventClient.open(`${server.url}/news`);
      const left = nextLeave(push);
      client.close();
      await left;
      expect(await news.send('nobody')).to.include({ listeners: 0, status: 'success' });
    });

    for (const [compressor, handlers] of [
      ['a compressor', [gzip]],
      ['compression that was made to', eager],
    ] as const) {
      describe(`behind ${compressor}`, () => {
        async function compressed() {
          const rooms = await house((push) => make().use(...handlers, push), { heartbeat: 20 });
          const headers = { ...EVENT_STREAM, 'Accept-Encoding': 'gzip' };
          const sent = get(`${rooms.server.url}/news`, { headers, agent: false });
          const [response] = (await once(sent, 'response')) as [IncomingMessage];
          cleanup(() => void response.destroy());
          expect(response.headers).to.include({ 'content-encoding': 'gzip' });
          const client = new Text(response.pipe(createGunzip({ finishFlush: 2 })));
          await client.until('comet:open');
          return { ...rooms, response, client };
        }

        it('events arrive, each at once, and what became of them is unknown', async () => {
          const { news, client } = await compressed();
          for (const data of ['one', 'two', 'three']) {
            expect(await news.send(data)).to.deep.equal(unknown);
            expect(await client.until(`data: ${data}\n\n`)).to.equal(true);
          }
        });

        it('so do large ones', async () => {
          const { news, client } = await compressed();
          const noise = randomBytes(300_000).toString('base64');
          const outcomes = [news.send(noise), news.send('behind it')];
          expect(await client.until('data: behind it\n\n')).to.equal(true);
          expect(client.text).to.contain(`data: ${noise}\n\n`);
          expect(await Promise.all(outcomes)).to.deep.equal([unknown, unknown]);
        });

        it('so do heartbeats, and the end', async () => {
          const { push, news, client } = await compressed();
          expect(await client.until('\n\n:\n')).to.equal(true);
          news.write('the last');
          push.setTimeout(60_000, { reset: true });
          expect(await client.all()).to.match(/data: the last\n\n(:\n)*$/);
        });

        it('a client that goes is noticed', async () => {
          const { push, news, response } = await compressed();
          const left = nextLeave(push);
          response.destroy();
          await left;
          expect(await news.send('nobody')).to.include({ listeners: 0, status: 'success' });
        });
      });
    }

    for (const [compressor, compress] of [
      ['@polka/compression', polka],
      ['http-compression', httpCompression],
    ] as const) {
      describe(`behind ${compressor}, which decides at the first write`, () => {
        async function compressed(options?: { threshold: number }) {
          const rooms = await house((push) => make().use(compress(options) as RequestHandler, push));
          const { push, server } = rooms;
          // With the ids of these, what a stream begins with is longer than what it compresses by default.
          for (let index = 0; index < 30; index += 1) push.channels.create({ name: `${index}`.padStart(36) });
          const query = Array.from(push.channels, ({ id }) => `chan_id=${encodeURIComponent(id)}`).join('&');
          const headers = { ...EVENT_STREAM, 'Accept-Encoding': 'gzip' };
          const sent = get(`${server.url}/?${query}`, { headers, agent: false });
          sent.on('error', () => {});
          cleanup(() => void sent.destroy());
          return { ...rooms, answered: once(sent, 'response') as Promise<[IncomingMessage]> };
        }

        it('a stream is left as it is, and outcomes are true', async () => {
          const { push, news, answered } = await compressed();
          const [response] = await answered;
          expect(response.headers).not.to.have.property('content-encoding');
          const client = new Text(response);
          for (const data of ['one', 'two', 'three']) {
            expect(await news.send(data)).to.deep.equal(success);
            expect(await client.until(`data: ${data}\n\n`)).to.equal(true);
          }
          push.setTimeout(null, { reset: true });
          await client.all();
          expect(response.complete).to.equal(true);
        });

        it('what it holds, where it compresses anything, is unknown, and comes with the end', async () => {
          const { push, news, answered } = await compressed({ threshold: 0 });
          await told((on) => push.on('join', on));
          expect(await news.send('one')).to.deep.equal(unknown);
          expect(await news.send('two')).to.deep.equal(unknown);
          push.setTimeout(null, { reset: true });
          const [response] = await answered;
          expect(response.headers).to.include({ 'content-encoding': 'gzip' });
          const text = await new Text(response.pipe(createGunzip())).all();
          expect(text).to.contain('comet:open').and.contain('data: one\n\n').and.contain('data: two\n\n');
        });

        it('a request that is pipelined behind another gets its stream', async () => {
          const { push, news, server } = await house((push) =>
            make().use(compress() as RequestHandler, push),
          );
          const client = await RawClient.connect(server.port);
          const headers = { 'Accept-Encoding': 'gzip' };
          const joined = nextJoin(push);
          client.send(request('/gone', headers) + request('/news', headers));
          await joined;
          expect(await news.send('one')).to.deep.equal(success);
          expect(await client.until('data: one\n\n')).to.equal(true);
        });

        it('a client that goes is noticed', async () => {
          const { push, news, answered, server } = await compressed({ threshold: 0 });
          answered.catch(() => {});
          await told((on) => push.on('join', on));
          const left = nextLeave(push);
          server.socket.destroy();
          await left;
          expect(await news.send('nobody')).to.include({ listeners: 0 });
        });
      });
    }

    describe('cors', () => {
      const origin = 'https://app.example';
      const app = (push: Comet) =>
        make().use('/channels', cors({ origin: [origin], credentials: true }), push);

      it('lets pages of the origins that it names read streams, with credentials', async () => {
        const { push, news, server } = await house(app);
        const joined = nextJoin(push);
        const client = await EventClient.open(`${server.url}/channels/news`, { Origin: origin });
        expect((await joined).transport).to.equal('socket');
        expect(client.response.headers).to.include({
          'access-control-allow-origin': origin,
          'access-control-allow-credentials': 'true',
          vary: 'Origin',
          'content-type': 'text/event-stream',
        });
        expect(await news.send('one')).to.deep.equal(success);
        expect(await client.heard(1)).to.deep.equal(['one']);
      });

      it('does not name others, nor what a sandboxed frame says', async () => {
        const { server } = await house(app);
        for (const other of ['https://evil.example', 'null']) {
          const { response } = await EventClient.open(`${server.url}/channels/news`, { Origin: other });
          expect(response.headers).not.to.have.property('access-control-allow-origin');
        }
      });

      it('lets them read why they were refused, too', async () => {
        const { server } = await house(app);
        const { headers, body } = await supertest(server.url)
          .get('/channels/gone')
          .set('Origin', origin)
          .expect(404);
        expect(headers).to.include({ 'access-control-allow-origin': origin });
        expect(body.error.code).to.equal('UNKNOWN_CHANNEL');
      });

      it('answers the preflight of a client that sets headers; nobody is asked, and nobody joins', async () => {
        let asked = 0;
        const { push, server } = await house(app, {
          authorize: () => {
            asked += 1;
            return true;
          },
        });
        const { headers } = await supertest(server.url)
          .options('/channels/news')
          .set('Origin', origin)
          .set('Access-Control-Request-Method', 'GET')
          .set('Access-Control-Request-Headers', 'authorization,last-event-id')
          .expect(204);
        expect(headers).to.include({
          'access-control-allow-origin': origin,
          'access-control-allow-credentials': 'true',
          'access-control-allow-headers': 'authorization,last-event-id',
        });
        expect(headers['access-control-allow-methods']).to.include('GET');
        expect({ asked, listeners: push.inspect().listeners }).to.deep.equal({ asked: 0, listeners: 0 });
      });

      it('without it a preflight is another method', async () => {
        const { server } = await house((push) => make().use('/channels', push));
        await supertest(server.url).options('/channels/news').expect(405).expect('Allow', 'GET, HEAD');
      });
    });

    it('helmet leaves an event stream as it is', async () => {
      const { push, news, server } = await house((push) => make().use(helmet(), push));
      const joined = nextJoin(push);
      const client = await EventClient.open(`${server.url}/news`);
      expect((await joined).transport).to.equal('socket');
      expect(client.response.headers).to.include({
        'content-type': 'text/event-stream',
        'cache-control': 'no-cache, no-transform',
        'x-content-type-options': 'nosniff',
      });
      expect(client.response.headers).to.have.property('content-security-policy');
      expect(await news.send('one')).to.deep.equal(success);
      expect(await client.heard(1)).to.deep.equal(['one']);
    });

    it('compression, helmet and cors do so together', async () => {
      const origin = 'https://app.example';
      const { push, news, server } = await house((push) =>
        make().use(compression(), helmet(), cors({ origin: [origin], credentials: true }), push),
      );
      const headers = { Origin: origin, 'Accept-Encoding': 'gzip, br' };
      const joined = nextJoin(push);
      const client = await EventClient.open(`${server.url}/news`, headers);
      // Since compression replaces res.write.
      expect((await joined).transport).to.equal('response');
      expect(client.response.headers).to.include({
        'access-control-allow-origin': origin,
        'x-content-type-options': 'nosniff',
        'cache-control': 'no-cache, no-transform',
      });
      expect(client.response.headers).not.to.have.property('content-encoding');
      expect(await news.send('one')).to.deep.equal(success);
      expect(await client.heard(1)).to.deep.equal(['one']);
    });

    for (const encoding of ['identity', 'none']) {
      it(`a Content-Encoding of ${encoding}, which changes no byte, makes no outcome unknown`, async () => {
        const { push, news, server } = await house((push) =>
          make().use((_request, response, next) => {
            response.setHeader('Content-Encoding', encoding);
            next();
          }, push),
        );
        const joined = nextJoin(push);
        const client = await EventClient.open(`${server.url}/news`);
        expect((await joined).transport).to.equal('socket');
        expect(client.response.headers).to.include({ 'content-encoding': encoding });
        expect(await news.send('one')).to.deep.equal(success);
        expect(await client.heard(1)).to.deep.equal(['one']);
      });
    }

    it('a middleware that wraps res.write sees every byte, once', async () => {
      let seen = '';
      const { push, news, server } = await house((push) =>
        make().use((_request, response, next) => {
          const { write } = response;
          response.write = (...args: unknown[]) => {
            seen += String(args[0]);
            return write.apply(response, args as Parameters<typeof write>);
          };
          next();
        }, push),
      );
      const joined = nextJoin(push);
      const client = await EventClient.open(`${server.url}/news`);
      expect((await joined).transport).to.equal('response');
      expect(await news.send('one')).to.deep.equal(success);
      news.write('two');
      expect(await client.heard(2)).to.deep.equal(['one', 'two']);
      expect(seen).to.match(/^:ok\n(.*\n)+data: one\n\n.*\ndata: two\n\n$/);
    });

    it('a middleware that wraps the write of the socket sees every byte, once', async () => {
      let seen = '';
      const { push, news, server } = await house((push) =>
        make().use(({ socket }, _response, next) => {
          const { write } = socket;
          socket.write = (...args: unknown[]) => {
            seen += String(args[0]);
            return write.apply(socket, args as Parameters<typeof write>);
          };
          next();
        }, push),
      );
      const joined = nextJoin(push);
      const client = await EventClient.open(`${server.url}/news`);
      expect((await joined).transport).to.equal('socket');
      expect(await news.send('one')).to.deep.equal(success);
      news.write('two');
      expect(await client.heard(2)).to.deep.equal(['one', 'two']);
      expect(seen).to.match(/^HTTP\/1.1 200 OK\r\n/);
      for (const event of ['comet:open', 'data: one', 'data: two']) {
        expect(seen.split(event)).to.have.length(2);
      }
    });

    it('a wrapped res.write that throws ends its own stream, and no other', async () => {
      const { push, news, server } = await house((push) =>
        make()
          .use(
            '/broken',
            (_request, response, next) => {
              const { write } = response;
              response.write = (...args: unknown[]) => {
                if (String(args[0]).includes('boom')) throw new Error('The wrapper is broken.');
                return write.apply(response, args as Parameters<typeof write>);
              };
              next();
            },
            push,
          )
          .use(push),
      );
      const broken = await EventClient.open(`${server.url}/broken/news`);
      const client = await EventClient.open(`${server.url}/news`);
      expect(await news.send('boom')).to.deep.include({
        listeners: 2,
        delivered: 1,
        failed: 1,
        reasons: { error: 1 },
      });
      await broken.ended();
      expect(await client.heard(1)).to.deep.equal(['boom']);
      expect(push.inspect().listeners).to.equal(1);
    });

    describe('express.json()', () => {
      const app = (push: Comet) =>
        make()
          .use(make.json())
          .post('/say', ({ body }, response) => {
            push.channels.find('news')?.write(body);
            response.status(204).end();
          })
          .use('/channels', push);

      it('does not disturb the streams of the same app', async () => {
        const { server } = await house(app);
        const client = await EventClient.open(`${server.url}/channels/news`);
        await supertest(server.url).post('/say').send({ text: 'hello' }).expect(204);
        expect(await client.heard(1)).to.deep.equal(['{"text":"hello"}']);
      });

      it('that reads the body of a GET does not end its stream', async () => {
        const { push, port, news } = await house(app);
        const body = '{"why":"not"}';
        const client = await RawClient.connect(port);
        const headers = { 'Content-Type': 'application/json', 'Content-Length': String(body.length) };
        client.send(request('/channels/news', headers) + body);
        await client.until('comet:open');
        // The request has been read to its end, and emitted `close`, long before this is heard.
        expect(await news.send('one')).to.deep.equal(success);
        expect(await client.until('data: one')).to.equal(true);
        expect(await news.send('two')).to.deep.equal(success);
        expect(push.inspect().listeners).to.equal(1);
        const left = nextLeave(push);
        await client.reset();
        await left;
      });
    });
  });
}

describe('HTTP/1.0', () => {
  it('has no chunks: the stream is the bytes as they are, until the connection closes', async () => {
    const { push, news, port } = await house((push) => push);
    const joined = nextJoin(push);
    const client = await RawClient.connect(port);
    client.send('GET /news HTTP/1.0\r\n\r\n');
    await client.until('comet:open');
    expect((await joined).transport).to.equal('response');
    expect(await news.send('one')).to.deep.equal(success);
    news.write('two');
    news.end();
    const { status, headers, rest } = await ended(client);
    expect(status).to.equal(200);
    expect(headers).to.not.have.any.keys('transfer-encoding', 'content-length');
    expect(rest).to.match(/^:ok\nretry: \d+\nid: .+\nevent: comet:open\ndata: .+\n\nid: .+\ndata: one\n\n/);
    expect(rest).to.match(/\ndata: two\n\nid: .+\nevent: comet:end\ndata: {"channel":"news"}\n\n$/);
  });
});

describe('TLS', () => {
  // By a key that both sides know: it needs no certificate.
  const psk = randomBytes(32);
  const versions = ['TLSv1.2', 'TLSv1.3'] as const;

  for (const maxVersion of versions) {
    const common = { ciphers: 'PSK', maxVersion };
    const secured = async (options: CometOptions = {}) => {
      const responses: ServerResponse[] = [];
      const rooms = await house(
        (push) =>
          createHttpsServer({ ...common, pskCallback: () => psk }, (request, response) => {
            responses.push(response);
            push(request, response);
          }),
        options,
      );
      return {
        ...rooms,
        responses,
        open: async (path = '/news') => {
          const options: RequestOptions & { pskCallback: unknown } = {
            ...common,
            pskCallback: () => ({ psk, identity: 'me' }),
            checkServerIdentity: () => undefined,
            agent: false,
          };
          const sent = getHttps(`https://127.0.0.1:${rooms.port}${path}`, options);
          const [response] = (await once(sent, 'response')) as [IncomingMessage];
          cleanup(() => void response.destroy());
          const client = new Text(response);
          await client.until('comet:open');
          return { response, client };
        },
      };
    };

    it(`${maxVersion}: events arrive, and outcomes are true`, async () => {
      const { push, news, open } = await secured({ heartbeat: 20 });
      const joined = nextJoin(push);
      const { response, client } = await open();
      expect((await joined).transport).to.equal('socket');
      expect(await news.send('one')).to.deep.equal(success);
      expect(await client.until('data: one\n\n')).to.equal(true);
      expect(await client.until('\n\n:\n')).to.equal(true);
      expect(await news.send('two')).to.deep.equal(success);
      const left = nextLeave(push);
      response.destroy();
      await left;
      expect(await news.send('nobody')).to.include({ listeners: 0 });
    });

    it(`${maxVersion}: what a client does not read is not delivered`, async () => {
      const { push, news, responses, open } = await secured({
        maxFrame: 16 * 2 ** 20,
        log: { bytes: 64 * 2 ** 20 },
      });
      const { response } = await open();
      response.pause();
      const chat = push.channels.create({ name: 'chat' });
      await open('/chat');
      const flood = news.send('x'.repeat(12 * 2 ** 20));
      const behind = news.send('behind it');
      // It goes out in the same turn as what stands before it.
      expect(await chat.send('to a reader')).to.deep.equal(success);
      // Node aborts the process where TLS gets a write while another one is under way.
      responses[0]?.write(':what somebody else writes\n');
      await new Promise(setImmediate);
      push.deactivate();
      const failure = { status: 'failure', failed: 1, reasons: { deactivated: 1 } };
      expect(await flood).to.deep.include(failure);
      expect(await behind).to.deep.include(failure);
    });
  }
});

describe('HTTP/2', () => {
  async function session(options: CometOptions = {}) {
    const rooms = await house((push) => createHttp2Server(push) as unknown as Server, options);
    const client = connect(rooms.server.url);
    cleanup(() => client.destroy());
    await once(client, 'connect');
    return { ...rooms, session: client };
  }

  async function ask(session: ClientHttp2Session, path: string, method = 'GET') {
    const stream = session.request({ ':path': path, ':method': method });
    stream.on('error', () => {});
    const [headers] = await once(stream, 'response');
    return { stream, headers, client: new Text(stream) };
  }

  it('carries a stream, and true outcomes', async () => {
    const { push, news, session: one } = await session({ heartbeat: 20 });
    const joined = nextJoin(push);
    const { headers, client } = await ask(one, '/news');
    expect(headers).to.include({
      ':status': 200,
      'content-type': 'text/event-stream',
      'cache-control': 'no-cache, no-transform',
    });
    expect((await joined).transport).to.equal('response');
    expect(await client.until('comet:open')).to.equal(true);
    expect(await news.send('one')).to.deep.equal(success);
    expect(await client.until('data: one\n\n')).to.equal(true);
    expect(await client.until('\n\n:\n')).to.equal(true);
    expect(await news.send('two')).to.deep.equal(success);
  });

  it('carries many streams, of which one that the client closes leaves the others alone', async () => {
    const { push, news, session: one, server } = await session();
    const [first, second] = [await ask(one, '/news'), await ask(one, '/news')];
    expect(server.sockets.size).to.equal(1);
    expect(await news.send('both')).to.include({ status: 'success', listeners: 2 });
    const left = nextLeave(push);
    first.stream.close(constants.NGHTTP2_CANCEL);
    await left;
    expect(await news.send('second')).to.deep.equal(success);
    expect(await second.client.until('data: second')).to.equal(true);
  });

  it('takes in the body of a GET, which would hold up whoever else sends on that session', async () => {
    const { news, session: one } = await session();
    const stream = one.request({ ':path': '/news', ':method': 'GET' }, { endStream: false });
    stream.on('error', () => {});
    const finished = once(stream, 'finish');
    stream.end(Buffer.alloc(2 ** 20));
    await finished;
    expect(await new Text(stream).until('comet:open')).to.equal(true);
    expect(await news.send('delivered')).to.deep.equal(success);
  });

  it('leaves the session alive when the server ends a stream', async () => {
    const { push, news, session: one } = await session();
    const { client } = await ask(one, '/news');
    news.write('the last');
    news.end();
    expect(await client.all())
      .to.contain('data: the last')
      .and.contain('comet:end');
    push.channels.create({ name: 'chat' });
    const again = await ask(one, '/chat');
    expect(await again.client.until('comet:open')).to.equal(true);
    push.deactivate();
    await again.client.all();
    expect((await ask(one, '/chat')).headers[':status']).to.equal(503);
    expect(one.destroyed).to.equal(false);
  });

  it('gets the same answers', async () => {
    const { news, session: one } = await session();
    for (const [status, path, method] of [
      [200, '/news', 'HEAD'],
      [400, '/', 'GET'],
      [404, '/gone', 'GET'],
      [404, '/gone', 'HEAD'],
      [405, '/news', 'POST'],
      [404, '/news/more', 'GET'],
    ] as const) {
      const { headers, client } = await ask(one, path, method);
      expect(headers[':status'], `${method} ${path}`).to.equal(status);
      const body = await client.all();
      if (method === 'HEAD') expect(body).to.equal('');
      else expect(JSON.parse(body).error).to.have.all.keys('code', 'message');
    }
    expect(news.listeners).to.equal(0);
  });

  it('a stream whose window is full is not delivered', async () => {
    const { push, news, session: one } = await session();
    const slow = await ask(one, '/news');
    await slow.client.until('comet:open');
    slow.stream.pause();
    const other = await ask(one, '/news');
    const flood = news.send('x'.repeat(500_000));
    const behind = news.send('behind it');
    expect(await other.client.until('data: behind it')).to.equal(true);
    const left = nextLeave(push);
    slow.stream.close(constants.NGHTTP2_CANCEL);
    await left;
    const failure = { status: 'failure', listeners: 2, delivered: 1, failed: 1, reasons: { closed: 1 } };
    expect(await flood).to.deep.include(failure);
    expect(await behind).to.deep.include(failure);
  });

  for (const [cause, strike] of [
    ['its client resets', (tcp, _socket) => tcp.resetAndDestroy()],
    ['its client closes', (tcp, _socket) => tcp.destroy()],
    ['the server resets', (_tcp, socket) => socket.resetAndDestroy()],
    ['the server destroys', (_tcp, socket) => socket.destroy()],
  ] as [string, (tcp: Socket, socket: Socket) => void][]) {
    it(`what is in flight on a connection that ${cause} is not delivered`, async () => {
      const options = { maxFrame: 32 * 2 ** 20, log: { bytes: 64 * 2 ** 20 } };
      const { news, server } = await house((push) => createHttp2Server(push) as unknown as Server, options);
      const tcp = connectTcp(server.port, '127.0.0.1');
      tcp.on('error', () => {});
      // Windows that leave it to the kernel to say how much it takes.
      const settings = { initialWindowSize: 2 ** 31 - 1 };
      const one = connect(server.url, { createConnection: () => tcp, settings });
      one.on('error', () => {});
      cleanup(() => one.destroy());
      await once(one, 'connect');
      one.setLocalWindowSize(2 ** 31 - 1);
      const { client } = await ask(one, '/news');
      expect(await news.send('one')).to.deep.equal(success);
      await client.until('data: one');
      tcp.pause();
      const { socket } = server;
      const flood = news.send('x'.repeat(2 ** 24));
      while (socket.bytesWritten < 2 ** 24) await new Promise(setImmediate);
      strike(tcp, socket);
      expect(await flood).to.include({ listeners: 1, delivered: 0, failed: 1 });
    });
  }

  it('a session that breaks off takes its streams along', async () => {
    const { push, news, session: one, server } = await session();
    await ask(one, '/news');
    const left = nextLeave(push);
    server.socket.destroy();
    await left;
    expect(news.listeners).to.equal(0);
    await push.close();
  });

  it('ends its streams in order by close()', async () => {
    const { push, news, session: one } = await session();
    const { client } = await ask(one, '/news');
    const outcome = news.send('the last');
    await push.close({ drain: 500 });
    expect(await outcome).to.deep.equal(success);
    expect(await client.all()).to.match(/data: the last\n\nretry: \d+\n$/);
  });
});

describe('What somebody else writes to the response of a stream', () => {
  const theirs = `:${' '.repeat(5 * 2 ** 20)}their comment\n\n`;

  /** A client that does not read. */
  async function shared() {
    const responses: ServerResponse[] = [];
    const options = { maxFrame: 32 * 2 ** 20, log: { bytes: 64 * 2 ** 20 } };
    const rooms = await house(
      (push) => (request, response) => {
        responses.push(response);
        push(request, response);
      },
      options,
    );
    const client = await RawClient.get(rooms.port, '/news');
    await client.until('comet:open');
    client.stall();
    return { ...rooms, client, response: responses[0] as ServerResponse };
  }

  it('goes before what is written later, though the socket still holds it', async () => {
    const { push, news, client, response } = await shared();
    response.write(theirs);
    await new Promise(setImmediate);
    response.write(':and another\n\n');
    const outcome = news.send('ours');
    await new Promise(setImmediate);
    expect(push.inspect({ streams: true }).streams?.[0]?.state).to.equal('behind');
    client.read();
    expect(await outcome).to.deep.equal(success);
    expect(await client.until('data: ours\n\n')).to.equal(true);
    expect(client.text.indexOf('data: ours')).above(client.text.indexOf(':and another'));
  });

  it('goes behind what was written before, though the kernel has yet to take that', async () => {
    const { push, news, client, response } = await shared();
    const outcome = news.send(`${' '.repeat(5 * 2 ** 20)}our event`);
    await new Promise(setImmediate);
    expect(push.inspect({ streams: true }).streams?.[0]?.state).to.equal('behind');
    response.write(theirs);
    client.read();
    expect(await outcome).to.deep.equal(success);
    expect(await client.until('their comment\n\n')).to.equal(true);
    expect(client.text.indexOf('their comment')).above(client.text.lastIndexOf('our event'));
    expect(await news.send('once more')).to.deep.equal(success);
    expect(await client.until('data: once more\n\n')).to.equal(true);
  });
});

for (const [way, wrap] of [
  ['on its socket', false],
  ['through res.write', true],
] as const) {
  describe(`A response that somebody else ends while we stream ${way}`, () => {
    /** A connection on which the response of a stream was ended; its next answers are in the hands of the test. */
    async function shared() {
      const responses: ServerResponse[] = [];
      const waiting = new EventEmitter();
      const rooms = await house((push) => (request, response) => {
        responses.push(response);
        if (wrap) response.write = response.write.bind(response);
        if (request.url === '/news') push(request, response);
        else waiting.emit('request', response);
      });
      const client = await RawClient.get(rooms.port, '/news');
      await client.until('comet:open');
      responses[0]?.end();
      await client.until('\r\n0\r\n\r\n');
      return {
        ...rooms,
        client,
        /** Sends a request for something else on that connection; returns its response. */
        other: async () => {
          const sent = once(waiting, 'request');
          client.send(request('/other'));
          return (await sent)[0] as ServerResponse;
        },
      };
    }

    it('no byte of ours follows, and what follows is unharmed', async () => {
      const { push, news, client, other } = await shared();
      const response = await other();
      expect(await news.send('not to be seen')).to.include({ delivered: 0 });
      response.end('the other answer');
      expect(await client.until('the other answer')).to.equal(true);
      expect(answerOf(client.text).rest).to.match(/^HTTP\/1\.1 200 OK\r\n(.+\r\n)+\r\nthe other answer$/);
      expect(push.inspect().listeners).to.equal(0);
    });

    it('deactivating leaves what follows unharmed', async () => {
      const { push, client, other } = await shared();
      const response = await other();
      push.deactivate();
      response.end('the other answer');
      expect(await client.until('the other answer')).to.equal(true);
      expect(push.inspect().listeners).to.equal(0);
    });

    it('another stream on the same connection goes on, and close() waits for nobody', async () => {
      const { push, news, client } = await shared();
      const joined = nextJoin(push);
      client.send(request('/news'));
      await joined;
      const outcome = await news.send('for the second');
      expect(outcome).to.include({ delivered: 1 });
      expect(await client.until('data: for the second\n\n')).to.equal(true);
      expect(client.text.split('for the second')).to.have.length(2);
      expect(push.inspect().listeners).to.equal(1);
      await push.close();
    });
  });
}

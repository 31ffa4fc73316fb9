import type { RequestListener } from 'node:http';
import { expect } from 'chai';
import type { Express, NextFunction, Request, Response } from 'express';
import supertest from 'supertest';
import { type Authorization, type Comet, type CometOptions, Deferred } from '../lib/index.js';
import { EventClient, RawClient, request, told } from './support/client.js';
import { frameworks, hub } from './support/server.js';
import { answerOf } from './support/wire.js';

for (const { name, mount, app } of frameworks) {
  describe(`HTTP under ${name}`, () => {
    /** A hub with the channels news and chat, and the way to ask for them. */
    async function house(options: CometOptions = {}, under: (push: Comet) => RequestListener = app) {
      const { push, server, port } = await hub(options, under);
      const news = push.channels.create({ name: 'news' });
      const chat = push.channels.create({ name: 'chat' });
      return {
        push,
        server,
        port,
        news,
        chat,
        /** Opens a stream. */
        open: (path: string, headers?: Record<string, string>) =>
          EventClient.open(`${server.url}${mount}${path}`, headers),
        /** Asks for what gets a short answer. */
        ask: (path: string) => supertest(server.url).get(mount + path),
        /** Sends a request with this head, and returns its answer once it has this part. */
        raw: async (method: string, path: string, part: string, headers?: Record<string, string>) => {
          const client = await RawClient.connect(port);
          client.send(request(mount + path, headers, method));
          await client.until(part);
          return answerOf(client.text);
        },
      };
    }

    describe('GET', () => {
      it('opens a stream on the channel of the path', async () => {
        const { news, open } = await house();
        const client = await open('/news');
        expect(client.opening.channels).to.deep.equal(['news']);
        expect(news.listeners).to.equal(1);
        news.write('first light');
        expect(await client.heard(1)).to.deep.equal(['first light']);
      });

      it('takes a slash at the end of the path for nothing', async () => {
        const { open } = await house();
        expect((await open('/news/')).opening.channels).to.deep.equal(['news']);
      });

      it('decodes the channel of the path, "/" included', async () => {
        const { push, open } = await house();
        const id = 'a/b?c&d=e%2F+f #\u00fc\u{1f30d}';
        const odd = push.channels.create({ name: id });
        const client = await open(`/${encodeURIComponent(id)}`);
        expect(client.opening.channels).to.deep.equal([id]);
        odd.write('there');
        await client.heard(1);
        expect(client.events.at(-1)?.id).to.match(/^[0-9a-z]+-1@/);
        expect(decodeURIComponent(client.events.at(-1)?.id?.split('@')[1] ?? '')).to.equal(id);
      });

      it('opens one stream on several channels of the query', async () => {
        const { news, chat, open } = await house();
        const client = await open('?chan_id=news&chan_id=chat');
        expect(client.opening.channels).to.have.members(['news', 'chat']);
        chat.write('one');
        news.write('two');
        expect(await client.heard(2)).to.deep.equal(['one', 'two']);
      });

      it('is a listener by the time its handler returns, where nothing has to be waited for', async () => {
        const listeners: number[] = [];
        const { open } = await house({}, (push) => {
          const handler = app(push);
          return (request, response) => {
            handler(request, response);
            listeners.push(push.inspect().listeners);
          };
        });
        await open('/news');
        await open('?chan_id=chat');
        expect(listeners).to.deep.equal([1, 2]);
      });

      it('adds up the channels of path and query, each once', async () => {
        const { news, open } = await house();
        const client = await open('/news?chan_id=chat&chan_id=news&other=thing');
        expect(client.opening.channels).to.have.members(['news', 'chat']).and.have.length(2);
        news.write('once');
        news.write('and no more');
        expect(await client.heard(2)).to.deep.equal(['once', 'and no more']);
      });

      it('waits for channels that do not exist, where some do', async () => {
        const { news, open } = await house();
        const client = await open('?chan_id=gone&chan_id=news&chan_id=lost');
        expect(client.opening).to.deep.include({ channels: ['news'], waiting: ['gone', 'lost'], gaps: [] });
        news.write('still here');
        expect(await client.heard(1)).to.deep.equal(['still here']);
      });

      it('says comet:end for each channel that does not exist, where no more may wait', async () => {
        const { news, open } = await house({ maxWaitingNames: 0 });
        const client = await open('?chan_id=gone&chan_id=news&chan_id=lost');
        await client.until(() => client.events.length === 3);
        expect(client.opening).to.deep.include({ channels: ['news'], waiting: [] });
        expect(client.events.slice(1).map(({ event, data }) => [event, JSON.parse(data)])).to.deep.equal([
          ['comet:end', { channel: 'gone' }],
          ['comet:end', { channel: 'lost' }],
        ]);
        news.write('still here');
        expect(await client.heard(1)).to.deep.equal(['still here']);
      });

      it('gets 404 where none of the channels exists', async () => {
        const { ask } = await house();
        await ask('/gone').expect(404);
        await ask('?chan_id=gone&chan_id=lost').expect(404);
      });

      it('gets 400 without a chan_id', async () => {
        const { ask } = await house();
        await ask('').expect(400);
        await ask('/').expect(400);
        await ask('/?channel=news').expect(400);
      });

      it('gets 400 for a malformed chan_id', async () => {
        const { ask } = await house();
        for (const id of ['%00', '%0d%0a', '%c2%85', '%7f', 'n'.repeat(257)]) {
          await ask(`/${id}`).expect(400);
          await ask(`?chan_id=${id}`).expect(400);
          await ask(`/news?chan_id=${id}`).expect(400);
        }
        await ask('/news?chan_id=').expect(400);
      });

      it('gets 400 for a malformed percent-encoding', async () => {
        const { ask } = await house();
        for (const id of ['%', '%2', '%zz', '%ff', '%c3%28', '%ed%a0%80', '%e2%82']) {
          await ask(`/${id}`).expect(400);
          await ask(`?chan_id=news&chan_id=${id}`).expect(400);
        }
      });

      it('gets 400 for more channels than channelsPerStream, and a stream for as many', async () => {
        const { open, ask } = await house({ channelsPerStream: 2 });
        await ask('/news?chan_id=chat&chan_id=more').expect(400);
        expect((await open('/news?chan_id=chat')).opening.channels).to.have.length(2);
      });

      it('counts for channelsPerStream each channel once', async () => {
        const { open } = await house({ channelsPerStream: 1 });
        await open('/news?chan_id=news&chan_id=news');
      });
    });

    describe('HEAD', () => {
      it('gets the head of the stream without a body, and makes no listener', async () => {
        const { push, port, news, raw } = await house();
        const joined: unknown[] = [];
        push.on('join', (event) => joined.push(event));
        const client = await RawClient.connect(port);
        client.send(request(`${mount}/news`, {}, 'HEAD'));
        // What comes behind the head on the same connection is the next answer, so there was no body.
        client.send(request(`${mount}/gone`));
        await client.until('UNKNOWN_CHANNEL');
        const { status, headers, rest } = answerOf(client.text);
        expect(status).to.equal(200);
        expect(rest).to.match(/^HTTP\/1\.1 404 /);
        expect(joined).to.deep.equal([]);
        expect(news.listeners).to.equal(0);

        const answer = await raw('GET', '/news', 'comet:open');
        const { date, 'transfer-encoding': _, ...common } = answer.headers;
        expect(headers).to.include(common);
      });

      it('gets the refusal that a GET would get, without its body', async () => {
        const { server } = await house({ authorize: () => false });
        const answer = await supertest(server.url).head(`${mount}/news`).expect(403);
        expect(answer.text).to.equal(undefined);
      });
    });

    it('another method gets 405, and is told which there are', async () => {
      const { server } = await house();
      for (const method of ['post', 'options', 'put', 'delete', 'patch'] as const) {
        const answer = await supertest(server.url)[method](`${mount}/news`).expect(405);
        expect(answer.headers.allow?.split(', ')).to.have.members(['GET', 'HEAD']);
      }
    });

    describe('Accept', () => {
      for (const accept of [
        'text/html',
        'application/json, image/*',
        'text/event-stream;q=0',
        'text/event-stream; q=0.0, */*',
        'text/*;q=0, */*;q=1',
      ]) {
        it(`${accept} gets 406`, async () => {
          const { ask } = await house();
          await ask('/news').set('Accept', accept).expect(406);
        });
      }

      for (const accept of [
        '*/*',
        'text/*',
        'text/event-stream',
        'TEXT/Event-Stream',
        'text/html, text/event-stream;q=0.1',
        '',
      ]) {
        it(`${accept || 'an empty one'} gets a stream`, async () => {
          const { open } = await house();
          await open('/news', { Accept: accept });
        });
      }

      it('absent gets a stream', async () => {
        const { port } = await house();
        const client = await RawClient.connect(port);
        client.send(`GET ${mount}/news HTTP/1.1\r\nHost: localhost\r\n\r\n`);
        await client.until('comet:open');
        expect(answerOf(client.text).status).to.equal(200);
      });
    });

    describe('authorize', () => {
      it('is asked with the request and every chan_id', async () => {
        const asked: unknown[] = [];
        const { open } = await house({
          authorize: ({ headers }, channelIds) => {
            asked.push(headers.cookie, channelIds);
            return true;
          },
        });
        await open('/news?chan_id=gone', { Cookie: 'who=me' });
        expect(asked).to.deep.equal(['who=me', ['news', 'gone']]);
      });

      const lets: [string, CometOptions['authorize']][] = [
        ['true', () => true],
        ['a promise of true', async () => true],
        ['a time that is yet to come', () => ({ expires: new Date(Date.now() + 60_000) })],
        ['a promise of one', async () => ({ expires: new Date(Date.now() + 60_000) })],
      ];
      for (const [answer, authorize] of lets) {
        it(`lets in by ${answer}`, async () => {
          const { open } = await house({ authorize });
          await open('/news');
        });
      }

      const refuses: [string, number, CometOptions['authorize']][] = [
        ['false', 403, () => false],
        ['a promise of false', 403, async () => false],
        ['a time that has gone by', 403, () => ({ expires: new Date(Date.now() - 1) })],
        ['a promise of one', 403, async () => ({ expires: new Date(0) })],
        [
          'the status of what it throws',
          401,
          () => {
            throw Object.assign(new Error('Who are you?'), { status: 401 });
          },
        ],
        [
          'the status of what it rejects with',
          401,
          async () => {
            throw Object.assign(new Error('Who are you?'), { status: 401 });
          },
        ],
      ];
      for (const [answer, status, authorize] of refuses) {
        it(`refuses by ${answer}, whether or not the channel exists`, async () => {
          const { ask, news } = await house({ authorize });
          const answers = [await ask('/news').expect(status), await ask('/gone').expect(status)];
          const [known, unknown] = answers.map(({ headers: { date, ...headers }, body }) => ({
            headers,
            body,
          }));
          expect(known).to.deep.equal(unknown);
          expect(known?.body.error.message).not.to.contain('Who are you?');
          expect(news.listeners).to.equal(0);
        });
      }

      for (const wrong of [undefined, null, 1, 'yes', {}, { expires: 'soon' }, { expires: new Date('?') }]) {
        it(`lets nobody in by ${JSON.stringify(wrong)}`, async () => {
          const authorize = () => wrong as Authorization;
          const { push, ask, news } = await house({ authorize }, (hub) => told500(app(hub)));
          const failed = name === 'node:http' ? told(push.on.bind(push, 'error')) : undefined;
          await ask('/news').expect(500);
          if (failed !== undefined) expect(await failed).to.have.property('code', 'INVALID_AUTHORIZATION');
          expect(news.listeners).to.equal(0);
        });
      }

      it('has its errors without a status told to the application, not to the client', async () => {
        const failure = new Error('the database of users is down');
        for (const authorize of [
          () => {
            throw failure;
          },
          () => Promise.reject(failure),
        ]) {
          const errors: unknown[] = [];
          const { push, ask } = await house({ authorize }, (hub) => told500(app(hub), errors));
          push.on('error', (error) => errors.push(error));
          const answer = await ask('/news').expect(500);
          expect(errors).to.deep.equal([failure]);
          expect(answer.text).not.to.contain('database');
        }
      });
    });

    describe('a place', () => {
      it('over the limit of the hub gets 503, until one is free', async () => {
        const { push, open, ask } = await house({ maxListeners: 1 });
        const client = await open('/news');
        const { headers } = await ask('/chat').expect(503);
        expect(headers['retry-after']).to.match(/^[1-9]\d*$/);
        const left = told(push.on.bind(push, 'leave'));
        client.close();
        await left;
        await open('/chat');
      });

      it('over the limit of a channel gets 503, while others have room', async () => {
        const { open, ask } = await house({ maxListenersPerChannel: 1 });
        await open('/news');
        const { headers } = await ask('/news').expect(503);
        expect(headers['retry-after']).to.match(/^[1-9]\d*$/);
        await ask('/chat?chan_id=news').expect(503);
        await open('/chat');
      });

      it('over the limit of a client gets 429, while others have room', async () => {
        const { push, open, ask } = await house({
          maxListenersPerClient: 1,
          client: ({ headers }) => headers.cookie ?? '',
        });
        const mine = await open('/news', { Cookie: 'me' });
        const { headers } = await ask('/chat').set('Cookie', 'me').expect(429);
        expect(headers['retry-after']).to.match(/^[1-9]\d*$/);
        await open('/chat', { Cookie: 'you' });
        const left = told(push.on.bind(push, 'leave'));
        mine.close();
        await left;
        await open('/news', { Cookie: 'me' });
      });

      it('is counted by address where nothing else is said', async () => {
        const { open, ask } = await house({ maxListenersPerClient: 1 });
        await open('/news');
        await ask('/news').expect(429);
      });

      it('is to be asked for again after a time that is not the same for all', async () => {
        const { open, ask } = await house({ maxListeners: 1 });
        await open('/news');
        const answers = await Promise.all(Array.from({ length: 20 }, () => ask('/news').expect(503)));
        const times = new Set(answers.map(({ headers }) => headers['retry-after']));
        expect(times.size).to.be.greaterThan(1);
      });
    });

    it('a hub that is deactivated gets 503, with a time to come back', async () => {
      const { push, ask } = await house();
      push.deactivate();
      const { headers } = await ask('/news').expect(503);
      expect(headers['retry-after']).to.match(/^[1-9]\d*$/);
    });

    it('a hub that is deactivated while authorize is awaited gets 503', async () => {
      const gate = new Deferred<boolean>();
      const { push, ask } = await house({
        authorize: () => {
          push.deactivate();
          return gate.promise;
        },
      });
      const answer = ask('/news').expect(503);
      gate.resolve(true);
      await answer;
    });

    it('a refusal says its code and a message, in JSON', async () => {
      const { push, ask, server, open } = await house({ maxListenersPerClient: 1 });
      await open('/news');
      const answers = [
        await supertest(server.url).post(`${mount}/news`).expect(405),
        await ask('/').expect(400),
        await ask('/%ff').expect(400),
        await ask('/%00').expect(400),
        await ask('/news').set('Accept', 'text/html').expect(406),
        await ask('/gone').expect(404),
        await ask('/news').expect(429),
      ];
      push.deactivate();
      answers.push(await ask('/news').expect(503));
      const codes = new Set<string>();
      for (const { body, headers } of answers) {
        expect(headers['content-type']).to.match(/^application\/json\b/);
        expect(body).to.have.all.keys('error');
        expect(body.error).to.have.all.keys('code', 'message');
        expect(body.error.code).to.match(/^[A-Z_]+$/);
        expect(body.error.message).to.be.a('string').and.not.empty;
        codes.add(body.error.code);
      }
      expect(codes).to.have.property('size', answers.length);
    });

    it('refusals are counted by code, and told', async () => {
      const { push, ask } = await house();
      const refused: unknown[] = [];
      push.on('refuse', (event) => refused.push(event));
      const { body: unknown } = await ask('/gone?chan_id=lost').expect(404);
      await ask('/').expect(400);
      const { body: none } = await ask('/').expect(400);
      expect(push.inspect().refusals).to.deep.equal({ [unknown.error.code]: 1, [none.error.code]: 2 });
      expect(refused).to.deep.equal([
        { status: 404, code: unknown.error.code, channels: ['gone', 'lost'] },
        { status: 400, code: none.error.code, channels: [] },
        { status: 400, code: none.error.code, channels: [] },
      ]);
    });

    it('asks in this order: 503, 405, 400, 406, authorize, 404, limits', async () => {
      let asked = 0;
      let lets = false;
      const { push, server, open, ask } = await house({
        maxListeners: 1,
        authorize: () => {
          asked += 1;
          return lets;
        },
      });
      push.deactivate();
      await supertest(server.url).post(`${mount}/`).set('Accept', 'text/html').expect(503);
      push.activate();
      await supertest(server.url).post(`${mount}/`).set('Accept', 'text/html').expect(405);
      await ask('/').set('Accept', 'text/html').expect(400);
      await ask('/%ff').set('Accept', 'text/html').expect(400);
      await ask('/gone').set('Accept', 'text/html').expect(406);
      expect(asked).to.equal(0);
      await ask('/gone').expect(403);
      lets = true;
      await open('/news');
      await ask('/gone').expect(404);
      await ask('/news').expect(503);
    });

    it('more than one segment below the mount is somebody else’s', async () => {
      const { push, server } = await house({}, (hub) => {
        const under = app(hub);
        if (isExpress(under)) under.use((_request, response) => void response.status(418).end());
        return under;
      });
      push.deactivate();
      const status = name === 'node:http' ? 404 : 418;
      for (const path of ['/news/more', '/news//', '/a/b?chan_id=news']) {
        await supertest(server.url)
          .get(mount + path)
          .expect(status);
        await supertest(server.url)
          .post(mount + path)
          .expect(status);
      }
    });

    describe('on the wire', () => {
      it('the head is that of an event stream that nobody may hold back', async () => {
        const { raw } = await house();
        const { status, headers } = await raw('GET', '/news', 'comet:open');
        expect(status).to.equal(200);
        expect(headers).to.include({
          'content-type': 'text/event-stream',
          'cache-control': 'no-cache, no-transform',
          'x-accel-buffering': 'no',
          'transfer-encoding': 'chunked',
        });
        expect(headers).to.not.have.any.keys('content-length', 'content-encoding');
      });

      it('the first chunk is the greeting, the time to wait, and the open event', async () => {
        const { push, raw, news } = await house({ retry: [2310, 2310] });
        news.write('before');
        const { chunks } = await raw('GET', '/news?chan_id=chat&chan_id=gone', 'comet:open');
        const { epoch } = push.inspect();
        const first = (chunks[0] ?? '').replace(
          /"[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}"/,
          '"(its listener)"',
        );
        expect(first).to.equal(
          [
            ':ok',
            'retry: 2310',
            `id: ${epoch}-1`,
            'event: comet:open',
            'data: {"protocol":1,"listener":"(its listener)","channels":["news","chat"],' +
              '"waiting":["gone"],"recovered":true,"gaps":[]}',
            '',
            '',
          ].join('\n'),
        );
      });

      it('the events of a turn are one chunk, each with its id', async () => {
        const { push, port, news, chat } = await house();
        const client = await RawClient.get(port, `${mount}/news?chan_id=chat`);
        await client.until('comet:open');
        news.write('first light');
        chat.write('line one\r\nline two', { event: 'said' });
        news.write('');
        await client.until('data: \n');
        news.end();
        await client.until('comet:end');
        const { epoch } = push.inspect();
        expect(answerOf(client.text).chunks.slice(1)).to.deep.equal([
          `id: ${epoch}-1@news\ndata: first light\n\n` +
            `id: ${epoch}-2@chat\nevent: said\ndata: line one\ndata: line two\n\n` +
            `id: ${epoch}-3@news\ndata: \n\n`,
          `id: ${epoch}-4@news\nevent: comet:end\ndata: {"channel":"news"}\n\n`,
        ]);
      });

      it('the time to wait is a whole number out of the range, not the same for all', async () => {
        const { raw } = await house({ retry: [100, 200] });
        const times = new Set<number>();
        for (let stream = 0; stream < 10; stream += 1) {
          const { chunks } = await raw('GET', '/news', 'comet:open');
          const [, time] = /^retry: (\d+)$/m.exec(chunks[0] ?? '') ?? [];
          expect(Number(time)).to.be.within(100, 200);
          times.add(Number(time));
        }
        expect(times.size).to.be.greaterThan(1);
      });
    });

    describe('a client that leaves while authorize is awaited', () => {
      const ways: [string, (client: RawClient) => Promise<void> | void][] = [
        ['in order (FIN)', (client) => client.finish()],
        ['by a reset (RST)', (client) => client.reset()],
      ];
      for (const [way, leave] of ways) {
        for (const answer of [true, false]) {
          it(`${way} leaves nothing behind when it says ${answer}`, async () => {
            const first = new Deferred<boolean>();
            const asked = new Deferred<void>();
            const answers: (Promise<boolean> | boolean)[] = [first.promise];
            const { push, port, server, news, open } = await house({
              authorize: () => {
                asked.resolve();
                return answers.shift() ?? true;
              },
            });
            const joined: unknown[] = [];
            push.on('join', (event) => joined.push(event));
            const client = await RawClient.get(port, `${mount}/news`);
            await asked.promise;
            const gone = new Promise((resolve) => server.socket.on('close', resolve));
            await leave(client);
            await gone;

            first.resolve(answer);
            // One that comes later finds the hub as if the first had never been.
            await open('/news');
            expect(joined).to.have.length(1);
            expect(news.listeners).to.equal(1);
            expect(push.inspect().listeners).to.equal(1);
            expect((await news.send('hello?')).listeners).to.equal(1);
          });
        }
      }
    });
  });
}

function isExpress(app: RequestListener): app is RequestListener & Express {
  return 'use' in app;
}

/** Where an Express app's errors end: answered by 500, and not printed. */
function told500(app: RequestListener, errors: unknown[] = []): RequestListener {
  if (isExpress(app)) {
    app.use((error: unknown, _request: Request, response: Response, _next: NextFunction) => {
      errors.push(error);
      response.status(500).end();
    });
  }
  return app;
}

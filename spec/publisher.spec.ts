import { once } from 'node:events';
import { Agent, createServer, type IncomingMessage, request as open, type RequestListener } from 'node:http';
import {
  type ClientHttp2Stream,
  connect,
  createServer as createHttp2Server,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import { type AddressInfo, connect as connectSocket } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'chai';
import express, { type RequestHandler } from 'express';
import express4 from 'express4';
import { createClient } from 'redis';
import supertest from 'supertest';
import { merge } from '../lib/delivery/log.js';
import { redis } from '../lib/engines/redis/redis.js';
import { digest, Idempotency, keyOf } from '../lib/http/idempotency.js';
import { Refusal, Reply } from '../lib/http/reply.js';
import {
  type CometOptions,
  comet,
  Deferred,
  InvalidAuthorizationError,
  InvalidClientError,
  InvalidOptionError,
  inProcess,
  type PublisherOptions,
} from '../lib/index.js';
import { EventClient, RawClient, told } from './support/client.js';
import { delayed } from './support/delayed.js';
import { healthy, until } from './support/nodes.js';
import { delivered } from './support/outcomes.js';
import { Random } from './support/random.js';
import { RedisServer } from './support/redis.js';
import { cleanup, frameworks, hub, TestServer } from './support/server.js';
import { Text } from './support/text.js';
import { ended } from './support/wire.js';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
// What the rest of the process allocates meanwhile, the client's text among it, in bytes.
const NOISE = 8 * 2 ** 20;

const everyone = { authorize: () => true };

for (const { name, mount, app } of frameworks) {
  describe(`Publishing under ${name}`, () => {
    /** A hub with a channel, and a publisher on a server of its own. */
    async function house(
      options: CometOptions = {},
      publishing: PublisherOptions = everyone,
      around: (handler: ReturnType<typeof app>) => RequestListener = (handler) => handler,
    ) {
      const { push, server } = await hub(options, app);
      const press = await TestServer.listen(around(app(push.publisher(publishing))));
      const news = push.channels.create({ name: 'news' });
      return {
        ...{ push, server, press, news },
        url: press.url + mount,
        post: (path = '/news') =>
          supertest(press.url)
            .post(mount + path)
            .type('text/plain'),
        listen: (path = '/news') => EventClient.open(server.url + mount + path),
      };
    }

    /** Has an error that goes to the next handler be kept, as one is that a hub tells. */
    const keeping =
      (errors: unknown[]) =>
      (handler: RequestListener): RequestListener =>
        name === 'node:http'
          ? handler
          : (request, response) =>
              (handler as unknown as RequestHandler)(request as never, response as never, (error) => {
                errors.push(error);
                response.writeHead(500).end();
              });

    const seq = (push: { inspect(): { seq: number } }) => push.inspect().seq;

    describe('what is posted', () => {
      it('is written as it is, and answered by what became of it', async () => {
        const { post, listen } = await house();
        const texts = [
          'first light',
          '',
          ' a b ',
          '{"a": 1.0}',
          'two\nlines',
          '\ufeffBOM',
          'é 😀 \u2028',
          '\0',
        ];
        const client = await listen();
        for (const text of texts) {
          const { body, headers } = await post().send(text).expect(200);
          expect(body).to.deep.equal(delivered(1));
          expect(headers).to.include({ 'cache-control': 'no-store' });
        }
        expect(await client.heard(texts.length)).to.deep.equal(texts);
      });

      it('says who did not get it', async () => {
        const { push, news, post } = await house();
        expect((await post().send('to nobody').expect(200)).body).to.deep.equal(delivered(0));
        push.deactivate();
        // The channel goes on, here for nobody, and on other nodes.
        expect((await post().send('to nobody').expect(200)).body).to.deep.equal(delivered(0));
        expect(news.inspect().writes).to.equal(2);
      });

      it('goes past the encode of its channel, for it is encoded', async () => {
        const { push, post, listen } = await house();
        const own = push.channels.create({ name: 'own', encode: (data: number) => `<${data}>` });
        const client = await listen('/own');
        await post('/own').send('<1>').expect(200);
        await own.send(2);
        expect(await client.heard(2)).to.deep.equal(['<1>', '<2>']);
      });

      it('is read whatever type it says it has', async () => {
        const { post, listen } = await house();
        const client = await listen();
        for (const type of [
          'application/json',
          'application/x-www-form-urlencoded',
          'x',
          'text/plain;charset="UTF-8"',
        ]) {
          await post().set('Content-Type', type).send(`"${type.length}"`).expect(200);
        }
        expect(await client.heard(4)).to.deep.equal(['"16"', '"33"', '"1"', '"26"']);
      });

      it('is not waited for where the client would rather not', async () => {
        const { push, news, post, listen } = await house();
        const outcomes: unknown[] = [];
        push.on('outcome', (event) => outcomes.push(event));
        const client = await listen();
        for (const prefer of ['respond-async', 'wait=10, Respond-Async', 'respond-async; x=1']) {
          const { body, headers } = await post().set('Prefer', prefer).send('x').expect(202);
          expect(body).to.deep.equal({ status: 'accepted' });
          expect(headers).to.include({ 'preference-applied': 'respond-async' });
        }
        expect(await client.heard(3)).to.deep.equal(['x', 'x', 'x']);
        expect(outcomes).to.deep.equal([]);
        const { headers } = await post()
          .set('Prefer', 'handling=lenient, x="respond-async"')
          .send('x')
          .expect(200);
        expect(headers).not.to.have.property('preference-applied');
        expect(news.inspect().writes).to.equal(4);
      });

      it('has the name that the query or a header gives it', async () => {
        const { post, listen } = await house();
        const client = await listen();
        await post('/news?event=quote').send('1').expect(200);
        await post().set('Comet-Event', 'quote').send('2').expect(200);
        await post('/news?event=quote&event=quote').set('Comet-Event', 'quote').send('3').expect(200);
        await post('/news?event=%C3%A9+%F0%9F%98%80').send('4').expect(200);
        await post('/news?Event=x').send('5').expect(200);
        await client.heard(5);
        const names = client.events.slice(1).map(({ event }) => event);
        expect(names).to.deep.equal(['quote', 'quote', 'quote', 'é 😀', undefined]);
      });

      it('may be named after anything: __proto__', async () => {
        const { push, post, listen } = await house();
        expect((await post('/__proto__').send('x').expect(404)).body.error.code).to.equal('UNKNOWN_CHANNEL');
        for (const id of ['__proto__', 'constructor', 'a/b', 'é 😀']) {
          push.channels.create({ name: id });
          const client = await listen(`?chan_id=${encodeURIComponent(id)}`);
          await post(`/${encodeURIComponent(id)}`)
            .set('Idempotency-Key', '__proto__')
            .send(id)
            .expect(200);
          expect(await client.heard(1)).to.deep.equal([id]);
        }
      });

      it('is written in order where it is pipelined', async () => {
        const gate = new Deferred<boolean>();
        let asks = 0;
        const authorize = () => {
          asks += 1;
          return asks === 1 ? gate.promise : true;
        };
        const { press, listen } = await house({}, { authorize });
        const client = await listen();
        const arrived = new Promise<void>((resolve) => {
          let requests = 0;
          press.server.on('request', () => ++requests === 2 && resolve());
        });
        const raw = await RawClient.connect(press.port);
        for (const text of ['one', 'two']) {
          raw.send(`POST ${mount}/news HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n${text}`);
        }
        await arrived;
        await new Promise(setImmediate);
        expect(asks).to.equal(1);
        gate.resolve(true);
        expect(await client.heard(2)).to.deep.equal(['one', 'two']);
        await raw.until(/"success".*"success"/s);
      });
    });

    describe('what is refused', () => {
      it('is what nobody may publish, whether or not the channel exists', async () => {
        const asked: unknown[] = [];
        const { push, post } = await house(
          {},
          {
            authorize: ({ headers }, chanId) => {
              asked.push(chanId);
              return headers.authorization === 'Bearer good';
            },
          },
        );
        const [known, unknown] = [
          await post().send('x').expect(403),
          await post('/gone').send('x').expect(403),
        ];
        expect(known.body).to.deep.equal(unknown.body);
        expect(known.body.error.code).to.equal('FORBIDDEN');
        expect(asked).to.deep.equal(['news', 'gone']);
        await post().set('Authorization', 'Bearer good').send('x').expect(200);
        await post('/gone').set('Authorization', 'Bearer good').send('x').expect(404);
        expect(seq(push)).to.equal(1);
      });

      it('is what authorize throws a status for', async () => {
        const { post } = await house(
          {},
          {
            authorize: async () => {
              const headers = { 'WWW-Authenticate': 'Bearer' };
              throw Object.assign(new Error('Who are you?'), { status: 401, headers });
            },
          },
        );
        const { headers, text } = await post().send('x').expect(401);
        expect(headers).to.include({ 'www-authenticate': 'Bearer' });
        expect(text).not.to.contain('Who are you?');
      });

      it('is everything where authorize fails, or forgets to answer', async () => {
        const boom = new Error('boom');
        const ways: [PublisherOptions['authorize'], unknown][] = [
          [() => Promise.reject(boom), boom],
          [() => undefined as never, InvalidAuthorizationError],
          [() => 'yes' as never, InvalidAuthorizationError],
          [() => ({}) as never, InvalidAuthorizationError],
          // An answer that can not be given.
          [
            () => Promise.reject(Object.assign(boom, { status: 401, headers: { 'X-Why': 'a\nb' } })),
            TypeError,
          ],
        ];
        for (const [authorize, fault] of ways) {
          const errors: unknown[] = [];
          const { push, post } = await house({}, { authorize }, keeping(errors));
          push.on('error', (error) => errors.push(error));
          await post().send('x').expect(500);
          expect(errors).to.have.length(1);
          if (typeof fault === 'function') expect(errors[0]).to.be.an.instanceof(fault);
          else expect(errors[0]).to.equal(fault);
          expect(seq(push)).to.equal(0);
        }
        const { push, post } = await house({}, { authorize: () => ({ expires: new Date(0) }) });
        await post().send('x').expect(403);
        expect(seq(push)).to.equal(0);
      });

      it('is what has not come whole by the time that the authorization expires', async () => {
        const expired = new Deferred<void>();
        const { press, push } = await house(
          {},
          {
            authorize: () => {
              setTimeout(expired.resolve, 30);
              return { expires: new Date(Date.now() + 25) };
            },
          },
        );
        const client = await RawClient.connect(press.port);
        client.send(`POST ${mount}/news HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nsix `);
        await expired.promise;
        client.send('by');
        expect(await client.until('FORBIDDEN')).to.equal(true);
        expect(client.text).to.match(/^HTTP\/1.1 403/);
        expect(seq(push)).to.equal(0);
      });

      it('is not read', async () => {
        const { press, push } = await house({}, { authorize: () => false });
        const client = await RawClient.connect(press.port);
        client.send(`POST ${mount}/news HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n`);
        // It is answered though nothing of its body has come.
        expect(await client.until('FORBIDDEN')).to.equal(true);
        expect(client.text).to.match(/^HTTP\/1.1 403/);
        expect(seq(push)).to.equal(0);
      });

      it('is what has a name that no event may have, or two', async () => {
        const { push, post } = await house();
        const refused = async (path: string, code: string, header?: string) => {
          const asked = post(path);
          if (header !== undefined) asked.set('Comet-Event', header);
          expect((await asked.send('x').expect(400)).body.error.code, path).to.equal(code);
        };
        for (const query of [
          'event=',
          'event',
          'event=a%0Ab',
          'event=%00',
          'event=comet:open',
          'event=open',
          'event=error',
          'event=%0d',
        ]) {
          await refused(`/news?${query}`, 'INVALID_EVENT_NAME');
        }
        await refused('/news', 'INVALID_EVENT_NAME', '');
        await refused('/news', 'INVALID_EVENT_NAME', 'comet:open');
        await refused('/news', 'INVALID_EVENT_NAME', 'caf\u00e9');
        await refused('/news?event=a', 'TWO_EVENT_NAMES', 'b');
        await refused('/news?event=a&event=b', 'TWO_EVENT_NAMES');
        await refused('/news?event=%ff', 'MALFORMED');
        expect(seq(push)).to.equal(0);
      });

      it('is what names no channel', async () => {
        const { post } = await house();
        for (const [path, code] of [
          ['/', 'NO_CHANNEL'],
          ['/%ff', 'MALFORMED'],
          ['/%00', 'INVALID_CHANNEL_NAME'],
          [`/${'x'.repeat(257)}`, 'INVALID_CHANNEL_NAME'],
        ] as const) {
          expect((await post(path).send('x').expect(400)).body.error.code).to.equal(code);
        }
        await post('/news/more').send('x').expect(404);
      });

      it('is what is larger than maxFrame, by a byte', async () => {
        const { push, news, post } = await house({ maxFrame: 200 });
        await post().send('x').expect(200);
        const frame = news.inspect().bytes;
        await post()
          .send('x'.repeat(201 - frame))
          .expect(200);
        const { error } = (
          await post()
            .send('x'.repeat(202 - frame))
            .expect(413)
        ).body;
        expect(error.code).to.equal('FRAME_TOO_LARGE');
        expect((await post().send('x'.repeat(200)).expect(413)).body.error.code).to.equal('FRAME_TOO_LARGE');
        expect((await post().send('x'.repeat(201)).expect(413)).body.error.code).to.equal('BODY_TOO_LARGE');
        // Each line of its own costs more than its end.
        expect((await post().send('\n'.repeat(150)).expect(413)).body.error.code).to.equal('FRAME_TOO_LARGE');
        expect(seq(push)).to.equal(2);
      });

      it('is what says no length and is too large: it is not held, and the connection goes on', async () => {
        const { push, url, press } = await house({ maxFrame: 1000 });
        const agent = new Agent({ keepAlive: true, maxSockets: 1 });
        const sent = open(`${url}/news`, { method: 'POST', agent });
        sent.write('x'.repeat(1001));
        const [answer] = (await once(sent, 'response')) as [IncomingMessage];
        expect(answer.statusCode).to.equal(413);
        answer.resume();
        // Much more comes, and none of it is kept: a request ends when its client has had his say.
        for (let piece = 0; piece < 64; piece += 1) sent.write('x'.repeat(64 * 1024));
        sent.end();
        await once(answer, 'end');
        await once(sent, 'close');
        const next = open(`${url}/news`, { method: 'POST', agent }).end('small');
        const [second] = (await once(next, 'response')) as [IncomingMessage];
        expect(second.statusCode).to.equal(200);
        expect(press.sockets.size).to.equal(1);
        second.resume();
        await once(second, 'end');
        agent.destroy();
        expect(seq(push)).to.equal(1);
      });

      it('is what is no UTF-8, or not sent as that', async () => {
        const { push, post } = await house();
        for (const bytes of [[0xff], [0xc3], [0xed, 0xa0, 0x80], [0xc0, 0x80], [0x61, 0xf5]]) {
          const { error } = (
            await post()
              .send(Buffer.from(bytes) as never)
              .expect(400)
          ).body;
          expect(error.code).to.equal('MALFORMED');
        }
        const zipped = await post().set('Content-Encoding', 'gzip').send('x').expect(415);
        expect(zipped.body.error.code).to.equal('UNSUPPORTED_CODING');
        expect(zipped.headers).to.include({ 'accept-encoding': 'identity' });
        const latin = await post()
          .set('Content-Type', 'text/plain; charset=ISO-8859-1')
          .send('x')
          .expect(415);
        expect(latin.body.error.code).to.equal('UNSUPPORTED_CHARSET');
        await post().set('Content-Encoding', 'Identity').send('x').expect(200);
        expect(seq(push)).to.equal(1);
      });

      it('is what breaks off: nothing of it is written, and nothing is left', async () => {
        let asked = new Deferred<void>();
        const authorize = () => {
          asked.resolve();
          return true;
        };
        const { push, news, press, post } = await house({}, { authorize });
        const head = `POST ${mount}/news HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\n`;
        for (const body of [
          'Content-Length: 10\r\n\r\nhalf',
          'Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n',
        ]) {
          for (const go of ['reset', 'finish'] as const) {
            asked = new Deferred();
            const client = await RawClient.connect(press.port);
            client.send(head + body);
            await asked.promise;
            const quiet = press.quiet();
            client.read();
            await client[go]();
            await quiet;
          }
        }
        expect(press.sockets.size).to.equal(0);
        expect(seq(push)).to.equal(0);
        // Nor is its key taken.
        await post().set('Idempotency-Key', 'k').send('whole').expect(200);
        expect(news.inspect().writes).to.equal(1);
      });

      it('is what comes while the client goes, who is not answered', async () => {
        const gate = new Deferred<boolean>();
        const asked = new Deferred<void>();
        const { push, press } = await house(
          {},
          {
            authorize: () => {
              asked.resolve();
              return gate.promise;
            },
          },
        );
        const client = await RawClient.connect(press.port);
        client.send(`POST ${mount}/news HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\ntext`);
        await asked.promise;
        const quiet = press.quiet();
        await client.reset();
        await quiet;
        gate.resolve(true);
        await new Promise(setImmediate);
        expect(seq(push)).to.equal(0);
      });

      it('is everything once the hub is closed', async () => {
        const gate = new Deferred<boolean>();
        const asked = new Deferred<void>();
        const { push, post } = await house(
          {},
          {
            authorize: () => {
              asked.resolve();
              return gate.promise;
            },
          },
        );
        const waiting = post()
          .send('x')
          .then((answer) => answer);
        await asked.promise;
        const closed = push.close();
        gate.resolve(true);
        for (const answer of [await waiting, await post().send('x')]) {
          expect(answer.status).to.equal(503);
          expect(answer.headers).to.have.property('retry-after');
          expect(answer.body.error.code).to.equal('UNAVAILABLE');
        }
        await closed;
        expect(seq(push)).to.equal(0);
      });

      it('is another method, and what a page of another origin has a browser send', async () => {
        const { push, url, post } = await house();
        for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS']) {
          const answer = await fetch(`${url}/news`, { method });
          expect(answer.status, method).to.equal(405);
          expect(answer.headers.get('allow')).to.equal('POST');
        }
        await post().set('Sec-Fetch-Site', 'cross-site').send('x').expect(403);
        const { error } = (await post().set('Origin', 'http://evil.example').send('x').expect(403)).body;
        expect(error.code).to.equal('OTHER_ORIGIN');
        expect(seq(push)).to.equal(0);
        await post().set('Sec-Fetch-Site', 'same-origin').send('x').expect(200);
      });
    });

    describe('an idempotency key', () => {
      it('has the same request answered as before, and written once', async () => {
        const { news, post, listen } = await house();
        const client = await listen();
        const send = () => post('/news?event=said').set('Idempotency-Key', '"8e03978e"').send('once');
        const first = await send().expect(200);
        expect(first.body).to.deep.equal(delivered(1));
        await listen();
        const again = await send().expect(200);
        expect(again.body).to.deep.equal(first.body);
        // It is the same key without its quotes, and the same request without its patience.
        await post()
          .set({ 'Idempotency-Key': '8e03978e', 'Comet-Event': 'said', Prefer: 'respond-async' })
          .send('once')
          .expect(200);
        expect(news.inspect().writes).to.equal(1);
        news.write('end');
        expect(await client.heard(2)).to.deep.equal(['once', 'end']);
      });

      it('is refused for another request', async () => {
        const { news, post } = await house();
        await post().set('Idempotency-Key', 'k').send('one').expect(200);
        const { error } = (await post().set('Idempotency-Key', 'k').send('two').expect(422)).body;
        expect(error.code).to.equal('KEY_REUSED');
        await post('/news?event=x').set('Idempotency-Key', 'k').send('one').expect(422);
        await post().set('Idempotency-Key', 'k').send('one').expect(200);
        await post().set('Idempotency-Key', 'K').send('one').expect(200);
        expect(news.inspect().writes).to.equal(2);
      });

      it('is refused while its request is being carried out, and written once where two come at once', async () => {
        const { push, server, news, post } = await house({ maxFrame: 2 ** 25, log: { bytes: 2 ** 26 } });
        // A client that does not read: the outcome has to wait for it.
        const joined = told((handler) => push.on('join', handler));
        const slow = await RawClient.get(server.port, `${mount}/news`);
        await joined;
        const flood = 'x'.repeat(12 * 2 ** 20);
        const send = (text: string) =>
          post()
            .set('Idempotency-Key', 'k')
            .send(text)
            .then((answer) => answer);
        const answers = [send(flood), send(flood)].map((answer) => answer.then(({ status }) => status));
        expect(await Promise.race(answers)).to.equal(409);
        const third = await send(flood);
        expect(third.status).to.equal(409);
        expect(third.body.error.code).to.equal('IN_PROGRESS');
        expect(third.headers).to.have.property('retry-after');
        expect((await send('another')).status).to.equal(422);
        slow.read();
        expect((await Promise.all(answers)).sort()).to.deep.equal([200, 409]);
        expect((await send(flood)).body).to.deep.equal(delivered(1));
        expect(news.inspect().writes).to.equal(1);
      });

      it('is not that of another channel, or of another publisher', async () => {
        const { push, news, post } = await house();
        const chat = push.channels.create({ name: 'chat' });
        const send = (text: string, headers: Record<string, string>, path?: string) =>
          post(path)
            .set({ 'Idempotency-Key': 'k', ...headers })
            .send(text);
        await send('a', {}).expect(200);
        await send('b', {}, '/chat').expect(200);
        await send('c', { Authorization: 'Bearer 1' }).expect(200);
        await send('d', { Authorization: 'Bearer 2' }).expect(200);
        await send('x', { Authorization: 'Bearer 2' }).expect(422);
        expect([news, chat].map((channel) => channel.inspect().writes)).to.deep.equal([3, 1]);
      });

      it('can be that of whom `client` names', async () => {
        const { news, post } = await house(
          {},
          {
            ...everyone,
            client: ({ headers }) => String(headers['x-service']),
          },
        );
        const send = (service: string, token: string) =>
          post()
            .set({ 'Idempotency-Key': 'k', 'X-Service': service, Authorization: token })
            .send('x')
            .expect(200);
        await send('a', 'old');
        await send('a', 'new');
        await send('b', 'new');
        expect(news.inspect().writes).to.equal(2);

        const errors: unknown[] = [];
        const wrong = await house({}, { ...everyone, client: () => 5 as never }, keeping(errors));
        wrong.push.on('error', (error) => errors.push(error));
        await wrong.post().set('Idempotency-Key', 'k').send('x').expect(500);
        expect(errors[0]).to.be.an.instanceof(InvalidClientError);
        await wrong.post().send('x').expect(200);
        expect(wrong.news.inspect().writes).to.equal(1);
      });

      it('is of no use on a channel that is ended by whoever names the client', async () => {
        const { push, post } = await house(
          {},
          {
            ...everyone,
            client: () => {
              push.channels.find('news')?.end();
              return '';
            },
          },
        );
        const { error } = (await post().set('Idempotency-Key', 'k').send('x').expect(404)).body;
        expect(error.code).to.equal('CHANNEL_ENDED');
        await post().set('Idempotency-Key', 'k').send('x').expect(404);
      });

      it('is free again where nothing was written', async () => {
        const { push, post } = await house({ maxFrame: 200 });
        const send = (path: string, text = 'x') => post(path).set('Idempotency-Key', 'k').send(text);
        await send('/later').expect(404);
        await send('/news?event=%0a').expect(400);
        await send('/news', 'x'.repeat(190)).expect(413);
        push.channels.create({ name: 'later' });
        await send('/later').expect(200);
        await send('/news', 'y').expect(200);
        expect(seq(push)).to.equal(2);
      });

      it('remembers that nobody waited', async () => {
        const { news, post } = await house();
        const send = () => post().set('Idempotency-Key', 'k').send('x');
        await send().set('Prefer', 'respond-async').expect(202);
        await send().set('Prefer', 'respond-async').expect(202);
        expect((await send().expect(202)).body).to.deep.equal({ status: 'accepted' });
        expect(news.inspect().writes).to.equal(1);
      });

      it('that is none is refused', async () => {
        const { push, post } = await house();
        for (const key of ['', '""', '"a', 'a b', 'a, b', '"é"', 'é', `"${'x'.repeat(256)}"`, '"a";x=1']) {
          const { error } = (await post().set('Idempotency-Key', key).send('x').expect(400)).body;
          expect(error.code, key).to.equal('INVALID_KEY');
        }
        expect(seq(push)).to.equal(0);
      });

      it('is not asked for before it is known who asks', async () => {
        const { post } = await house({}, { authorize: ({ headers }) => headers.authorization === 'good' });
        await post().set({ 'Idempotency-Key': 'k', Authorization: 'good' }).send('x').expect(200);
        for (const text of ['x', 'y']) await post().set('Idempotency-Key', 'k').send(text).expect(403);
      });

      it('is one of as many as are remembered', async () => {
        const { news, post } = await house({}, { ...everyone, idempotency: { keys: 2 } });
        const send = (key: string) => post().set('Idempotency-Key', key).send('x').expect(200);
        for (const key of ['a', 'b', 'b', 'a', 'c', 'b', 'c']) await send(key);
        expect(news.inspect().writes).to.equal(3);
        await send('a');
        expect(news.inspect().writes).to.equal(4);
      });
    });
  });
}

for (const { name, make } of [
  { name: 'Express 5', make: express },
  { name: 'Express 4', make: express4 },
]) {
  describe(`Publishing behind what reads bodies, of ${name}`, () => {
    async function behind(parser: RequestHandler, options: CometOptions = {}) {
      const { push, server } = await hub(options, (push) =>
        make().use('/publish', parser, push.publisher(everyone)),
      );
      const news = push.channels.create<string>({ name: 'news', rewind: 10 });
      const texts = () =>
        merge([news.feed.log.after(0)], Infinity).map(
          ({ bytes }) => /^data: (.*)$/m.exec(String(bytes))?.[1],
        );
      return {
        push,
        texts,
        post: (type: string) => supertest(server.url).post('/publish/news').set('Content-Type', type),
      };
    }

    it('what was read as text or as bytes is taken', async () => {
      for (const parser of [express.text({ type: '*/*' }), express.raw({ type: '*/*' })]) {
        const { post, texts } = await behind(parser, { maxFrame: 200 });
        await post('text/plain').send('é 😀').expect(200);
        await post('application/json').send('{"a":  1.0}').expect(200);
        await post('text/plain').send('x'.repeat(201)).expect(413);
        expect(texts()).to.deep.equal(['é 😀', '{"a":  1.0}']);
      }
      const { post, texts } = await behind(express.raw({ type: '*/*' }));
      await post('text/plain')
        .send(Buffer.from([0xff]) as never)
        .expect(400);
      expect(texts()).to.deep.equal([]);
    });

    it('what was parsed is refused, for it is not what was sent; nothing else is', async () => {
      const { post, texts } = await behind(express.json());
      const { error } = (await post('application/json').send('{"n":12345678901234567890}').expect(500)).body;
      expect(error).to.include({ code: 'BODY_PARSED' });
      expect(error.message).to.contain('before the parser');
      await post('text/plain').send('as it is').expect(200);
      await post('application/json').send('').expect(200);
      expect(texts()).to.deep.equal(['as it is', '']);
    });

    it('what was read and thrown away is refused', async () => {
      const { post, texts } = await behind((request, _response, next) => {
        request.resume().on('end', () => next());
      });
      await post('text/plain').send('x').expect(500);
      expect(texts()).to.deep.equal([]);
    });

    it('leaves to others what it has not', async () => {
      const { server } = await hub({}, (push) =>
        make()
          .use('/publish', push.publisher(everyone))
          .use((_request, response) => void response.status(418).end()),
      );
      await supertest(server.url).post('/publish/news/more').send('x').expect(418);
    });
  });
}

describe('A body that comes too slowly', () => {
  it('is cut off by Node, and nothing is written', async () => {
    const { push } = await hub();
    const news = push.channels.create({ name: 'news' });
    const times = { requestTimeout: 50, headersTimeout: 50, connectionsCheckingInterval: 10 };
    const press = await TestServer.listen(createServer(times, push.publisher(everyone)));
    const client = await RawClient.connect(press.port);
    client.send('POST /news HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf');
    expect((await ended(client)).status).to.equal(408);
    client.finish();
    await press.quiet();
    expect(news.inspect().writes).to.equal(0);
  });
});

describe('A body in chunks of one byte', () => {
  const BYTES = 400_000;

  it('takes no more memory than twice its size, and is written as it was sent', async () => {
    const { push } = await hub();
    push.channels.create({ name: 'news', rewind: 1 });
    const press = await TestServer.listen(push.publisher(everyone));
    const client = await RawClient.connect(press.port);
    client.send('POST /news HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
    await until(() => press.sockets.size === 1);
    const before = memoryHeld();
    // Digits, whose order shows what is lost or misplaced.
    const text = Array.from({ length: BYTES / 10 }, (_, index) => String(index).padStart(10, '0')).join('');
    for (let from = 0; from < BYTES; from += 10_000) {
      client.send(Array.from(text.slice(from, from + 10_000), (digit) => `1\r\n${digit}\r\n`).join(''));
    }
    await until(() => press.socket.bytesRead > BYTES * 6);
    expect(memoryHeld() - before, 'bytes').below(2 * BYTES + NOISE);

    client.send('0\r\n\r\n');
    await client.until('}');
    expect(client.text).to.match(/^HTTP\/1.1 200 /);
    const { port } = await TestServer.listen(push);
    const listener = await EventClient.open(`http://127.0.0.1:${port}/news`);
    expect(await listener.heard(1)).to.deep.equal([text]);
  });
});

/** After what nobody holds was collected. */
function memoryHeld(): number {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

describe('Publishing over HTTP/2', () => {
  it('is what it is over HTTP/1.1', async () => {
    const { push } = await hub({ maxFrame: 1000 });
    const news = push.channels.create({ name: 'news', rewind: 10 });
    let heard = new Deferred<void>();
    const server = createHttp2Server();
    server.on('request', (request, response) => {
      request.on('data', () => heard.resolve());
      const handler = request.url.startsWith('/timeout') ? push.admin() : push.publisher(everyone);
      handler(request, response);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const origin = `http://127.0.0.1:${port}`;
    const socket = connectSocket(port, '127.0.0.1');
    const session = connect(origin, { createConnection: () => socket });
    session.on('error', () => {});
    cleanup(() => {
      session.destroy();
      server.close();
    });
    const ask = async (method: string, path: string, body: string, headers: OutgoingHttpHeaders = {}) => {
      const stream = session.request({ ':method': method, ':path': path, ...headers });
      stream.end(body);
      const [head] = (await once(stream, 'response')) as [IncomingHttpHeaders];
      return { status: head[':status'], text: await new Text(stream).all() };
    };
    expect(await ask('POST', '/news?event=said', 'é 😀')).to.deep.equal({
      status: 200,
      text: JSON.stringify(delivered(0)),
    });
    expect(await ask('POST', '/news', 'x'.repeat(1001))).to.include({ status: 413 });
    expect(await ask('POST', '/news', 'x', { origin: 'http://evil.example' })).to.include({ status: 403 });
    expect(await ask('POST', '/news', 'x', { origin })).to.include({ status: 200 });
    expect(await ask('PUT', '/timeout', '{"timeout":5000}')).to.include({ status: 200 });
    expect(news.inspect().writes).to.equal(2);

    // By `close()` Node's own client would end the body first.
    heard = new Deferred();
    for (const go of [(half: ClientHttp2Stream) => half.destroy(), () => socket.resetAndDestroy()]) {
      const half = session.request({ ':method': 'POST', ':path': '/news' });
      half.on('error', () => {});
      half.write('half');
      const [stream] = (await once(server, 'stream')) as [ServerHttp2Stream];
      const gone = once(stream, 'close').catch(() => {});
      await heard.promise;
      heard = new Deferred();
      go(half);
      await gone;
      await new Promise(setImmediate);
      expect(news.inspect().writes).to.equal(2);
    }
  });
});

describe('Publishing on many nodes', () => {
  it('reaches a channel that another node has made', async () => {
    const backplane = inProcess();
    const [here, there] = [await hub({ backplane }), await hub({ backplane })];
    const press = await TestServer.listen(here.push.publisher(everyone));
    const news = there.push.channels.create({ name: 'news', encode: (data: number) => `<${data}>` });
    const client = await EventClient.open(`${there.server.url}/news`);
    const { body } = await supertest(press.url).post('/news').send('far away').expect(200);
    expect(body).to.deep.equal(delivered(1));
    expect(await client.heard(1)).to.deep.equal(['far away']);
    await news.send(5);
    expect(await client.heard(2)).to.deep.equal(['far away', '<5>']);
    await supertest(press.url).post('/gone').send('x').expect(404);
  });

  describe('over Redis', () => {
    it('reaches a channel that another node has made, and lets go of it again', async () => {
      const server = await RedisServer.start();
      const line = () => delayed(redis({ client: createClient({ url: server.url }) }), new Random(1));
      const lines = [line(), line()] as const;
      const [here, there] = [await hub({ backplane: lines[0] }), await hub({ backplane: lines[1] })];
      for (const { push } of [here, there]) await healthy(push);
      const press = await TestServer.listen(here.push.publisher(everyone));
      there.push.channels.create({ name: 'news' });
      const client = await EventClient.open(`${there.server.url}/news`);

      const { body } = await supertest(press.url).post('/news').send('far away').expect(200);
      expect(body).to.deep.equal(delivered(1));
      expect(await client.heard(1)).to.deep.equal(['far away']);
      await supertest(press.url).post('/gone').send('x').expect(404);

      expect(here.push.channels.size).to.equal(1);
      // As if nobody had listened for so long.
      lines[0].pass(6000);
      expect(here.push.channels.size).to.equal(0);
      await supertest(press.url).post('/news').send('once more').expect(200);
      expect(await client.heard(2)).to.deep.equal(['far away', 'once more']);

      const office = await TestServer.listen(here.push.admin());
      lines[0].pass(6000);
      await supertest(office.url).delete('/channels/news').expect(200);
      await client.ended();
      expect(client.events.at(-1)?.event).to.equal('comet:end');
    });

    it('says that nothing was written while it is away, and has the key be used again', async () => {
      const server = await RedisServer.start();
      const { push } = await hub({
        backplane: redis({ client: createClient({ url: server.url }) }),
        ...{ deadline: 50, queue: { wait: 0 } },
      });
      await healthy(push);
      const news = push.channels.open('news');
      await news.send('heard');
      const press = await TestServer.listen(push.publisher(everyone));
      const post = (path: string) => supertest(press.url).post(path).set('Idempotency-Key', 'k').send('x');
      const away = told((handler) => push.on('backplane', handler));
      await server.kill();
      await away;
      const refused = await post('/news').expect(503);
      expect(refused.body.error.code).to.equal('BACKPLANE');
      expect(refused.headers).to.have.property('retry-after');
      // Whether that is a channel of another node nobody can say.
      expect((await post('/elsewhere').expect(503)).body.error.code).to.equal('UNAVAILABLE');

      const back = told((handler) => push.on('backplane', handler));
      await server.restart();
      await back;
      await post('/news').expect(200);
    });
  });
});

describe('The options of a publisher', () => {
  const push = comet();
  const refused = (options: unknown, part: string) =>
    expect(() => push.publisher(options as never)).to.throw(InvalidOptionError, part);

  it('have no authorize by default: who leaves it out is told what to do', () => {
    for (const options of [undefined, {}, { authorize: undefined }, { client: () => '' }]) {
      refused(options, 'pass a function');
    }
  });

  it('are checked', () => {
    for (const authorize of [null, true, 'everyone', {}]) refused({ authorize }, 'authorize');
    for (const client of [null, 'ip', 5]) refused({ ...everyone, client }, 'client');
    for (const keys of [0, -1, 1.5, '5', null])
      refused({ ...everyone, idempotency: { keys } }, 'idempotency.keys');
    for (const age of [0, 2 ** 31, null, '5'])
      refused({ ...everyone, idempotency: { age } }, 'idempotency.age');
    refused({ ...everyone, idempotency: { key: 1 } }, '"key"');
    refused({ ...everyone, idempotency: 5 }, 'idempotency');
    refused({ ...everyone, authorise: () => true }, '"authorise"');
    for (const options of [null, 5, 'x', []]) refused(options, 'options');
    push.publisher({ ...everyone, client: undefined, idempotency: undefined });
    push.publisher({ ...everyone, client: () => '', idempotency: { keys: 1, age: 2 ** 31 - 1 } });
  });
});

describe('What is remembered of keys', () => {
  const ok = (body: string) => new Reply(200, body);

  async function ask(memory: Idempotency, key: string, now: number, reply: Reply | Promise<Reply> = ok(key)) {
    let isCarriedOut = false;
    const answer = await memory.once(key, 'same', now, async () => {
      isCarriedOut = true;
      return reply;
    });
    return { answer, isCarriedOut };
  }

  it('is forgotten when it is too old', async () => {
    const memory = new Idempotency({ keys: 10, age: 100 });
    expect(await ask(memory, 'a', 0)).to.include({ isCarriedOut: true });
    expect(await ask(memory, 'a', 100)).to.include({ isCarriedOut: false });
    expect(await ask(memory, 'b', 100)).to.include({ isCarriedOut: true });
    expect(await ask(memory, 'a', 101)).to.include({ isCarriedOut: true });
    expect(await ask(memory, 'b', 200)).to.include({ isCarriedOut: false });
    expect(memory.size).to.equal(2);
    await ask(memory, 'c', 1000);
    expect(memory.size).to.equal(1);
  });

  it('is forgotten when there is too much, the oldest first; but not what is being carried out', async () => {
    const memory = new Idempotency({ keys: 2, age: 100 });
    const gates = [new Deferred<Reply>(), new Deferred<Reply>()] as const;
    const first = ask(memory, 'a', 0, gates[0].promise);
    await ask(memory, 'b', 1);
    await ask(memory, 'c', 2);
    expect(memory.size).to.equal(2);
    expect(await ask(memory, 'b', 3)).to.include({ isCarriedOut: true });
    // Too old as well, and still being carried out.
    expect((await ask(memory, 'a', 500)).answer).to.include({ status: 409 });
    const second = ask(memory, 'd', 500, gates[1].promise);
    const { answer, isCarriedOut } = await ask(memory, 'e', 501);
    expect(answer).to.include({ status: 503, code: 'TOO_MANY_KEYS' });
    expect(isCarriedOut).to.equal(false);
    gates[0].resolve(ok('at last'));
    gates[1].resolve(new Refusal(404, 'X', 'Nothing was written.'));
    expect((await first).answer.body).to.equal('at last');
    await second;
    expect(await ask(memory, 'e', 502)).to.include({ isCarriedOut: true });
    expect(memory.size).to.equal(1);
  });

  it('is nothing, where carrying it out threw', async () => {
    const memory = new Idempotency({ keys: 2, age: 100 });
    const boom = new Error('boom');
    const thrown = await memory
      .once('a', 'x', 0, () => Promise.reject(boom))
      .catch((error: unknown) => error);
    expect(thrown).to.equal(boom);
    expect(memory.size).to.equal(0);
  });

  it('is of one size, whatever it is made from', () => {
    const made = [
      digest('a', 'bc'),
      digest('ab', 'c'),
      digest('abc'),
      digest(undefined, 'abc'),
      digest('-', 'abc'),
    ];
    expect(new Set(made).size).to.equal(made.length);
    for (const each of [...made, digest('x'.repeat(100_000))]) expect(each).to.have.length(44);
    expect(digest('a', 'bc')).to.equal(digest('a', 'bc'));
    // By what the parts are, not by how they are cut.
    expect(digest('1:a', 'b')).not.to.equal(digest('1', 'a1:b'));
  });

  it('has keys as RFC 8941 has strings', () => {
    expect(keyOf(undefined)).to.equal(undefined);
    for (const [header, key] of [
      ['abc', 'abc'],
      ['"abc"', 'abc'],
      ['"a b"', 'a b'],
      [String.raw`"a\"b\\c"`, String.raw`a"b\c`],
      [String.raw`a\b`, String.raw`a\b`],
      ['x'.repeat(255), 'x'.repeat(255)],
    ] as const) {
      expect(keyOf(header)).to.equal(key);
    }
    for (const header of [
      '',
      '"',
      '""',
      '"a',
      'a b',
      String.raw`"a\b"`,
      '"a"b"',
      '\t',
      'é',
      'x'.repeat(256),
    ]) {
      expect(keyOf(header), header).to.be.an.instanceof(Refusal);
    }
  });
});

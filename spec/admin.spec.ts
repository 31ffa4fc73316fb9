import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { expect } from 'chai';
import express, { type RequestHandler } from 'express';
import express4 from 'express4';
import { createClient } from 'redis';
import supertest from 'supertest';
import { redis } from '../lib/engines/redis/redis.js';
import { type CometEvents, type CometOptions, inProcess } from '../lib/index.js';
import { EventClient, RawClient } from './support/client.js';
import { delivered } from './support/outcomes.js';
import { frameworks, hub, TestServer } from './support/server.js';

for (const { name, mount, app } of frameworks) {
  describe(`Administration under ${name}`, () => {
    /** A hub with a channel, and the administration of it on a server of its own. */
    async function house(options: CometOptions = {}) {
      const { push, server, port } = await hub(options, app);
      const office = await TestServer.listen(app(push.admin()));
      const news = push.channels.create({ name: 'news' });
      const departures: CometEvents['leave'][] = [];
      push.on('leave', (event) => void departures.push(event));
      return {
        ...{ push, server, port, news, departures, office },
        url: office.url + mount,
        ask: () => supertest(office.url + mount),
        open: (path = '/news') => EventClient.open(server.url + mount + path),
      };
    }

    describe('health', () => {
      it('is 200 where what is written would be delivered', async () => {
        const { ask } = await house();
        const { body, headers } = await ask().get('/health').expect(200);
        expect(body).to.deep.equal({ healthy: true });
        expect(headers).to.include({
          'content-type': 'application/json; charset=utf-8',
          'cache-control': 'no-store',
        });
        const head = await ask().head('/health').expect(200);
        expect(head.text).to.equal(undefined);
        expect(head.headers['content-type']).to.equal(headers['content-type']);
      });

      it('is 503 while a client that were sent here would be refused', async () => {
        const { push, ask } = await house();
        push.deactivate();
        const { body } = await ask().get('/health').expect(503);
        expect(body).to.deep.equal({ healthy: false });
        await ask().head('/health').expect(503);
        push.activate();
        await ask().get('/health').expect(200);
        await push.close();
        expect((await ask().get('/health').expect(503)).body).to.deep.equal({ healthy: false });
      });

      it('is 503 while the backplane is away, and tells a stranger neither its address nor the node', async () => {
        const gone = createServer().listen(0, '127.0.0.1');
        await once(gone, 'listening');
        const { port } = gone.address() as AddressInfo;
        await new Promise((resolve) => gone.close(resolve));
        const backplane = redis({ client: createClient({ url: `redis://127.0.0.1:${port}` }) });
        const { ask } = await house({ backplane, deadline: 50 });
        for (const path of ['/health', '/health?health', '/health?streams']) {
          expect((await ask().get(path).expect(503)).body).to.deep.equal({ healthy: false });
        }
        const { health } = (await ask().get('/?health').expect(200)).body;
        expect(health).to.include({ healthy: false, backplane: 'redis', roundTrip: null });
        expect(health.reason).to.contain(`127.0.0.1:${port}`);
      });
    });

    describe('the snapshot', () => {
      it('is what inspect() says', async () => {
        const { push, news, ask, open } = await house();
        const client = await open();
        await news.send('one');
        const { body } = await ask().get('/').expect(200);
        expect(body).to.deep.equal(JSON.parse(JSON.stringify(push.inspect())));
        expect(body).to.deep.include({ activated: true, closed: false, listeners: 1, seq: 1 });
        expect(body.channels[0]).to.include({ id: 'news', listeners: 1, writes: 1 });
        expect(body).not.to.have.property('streams');

        for (const query of ['?streams', '?streams=', '?streams=true']) {
          const { streams } = (await ask().get(`/${query}`).expect(200)).body;
          expect(streams).to.have.length(1);
          expect(streams[0]).to.include({ id: client.opening.listener, state: 'live' });
        }
        expect((await ask().get('/?streams=false').expect(200)).body).not.to.have.property('streams');
        expect((await ask().get('/?streams=false').expect(200)).body).not.to.have.property('health');
        for (const query of ['?health', '?health=true', '?health&streams']) {
          const { health } = (await ask().get(`/${query}`).expect(200)).body;
          expect(health).to.have.all.keys('healthy', 'reason', 'node', 'backplane', 'roundTrip', 'queued');
          expect(health).to.include({ healthy: true, reason: null, node: (await push.health()).node });
        }
        expect((await ask().get('/?health=false').expect(200)).body).not.to.have.property('health');
        for (const query of ['?streams=yes', '?streams=%ff', '?streams&streams=1', '?health=1']) {
          expect((await ask().get(`/${query}`).expect(400)).body.error.code).to.equal('MALFORMED');
        }
        expect((await ask().head('/').expect(200)).text).to.equal(undefined);
      });
    });

    describe('activate and deactivate', () => {
      it('close every stream, and let new ones be opened', async () => {
        const { push, departures, ask, open, server } = await house();
        const client = await open();
        expect((await ask().post('/deactivate').expect(200)).body).to.deep.equal({ activated: false });
        expect(push.activated).to.equal(false);
        await client.ended();
        expect(departures.map(({ reason }) => reason)).to.deep.equal(['deactivated']);
        await supertest(server.url).get(`${mount}/news`).expect(503);
        expect((await ask().post('/deactivate').expect(200)).body).to.deep.equal({ activated: false });

        expect((await ask().post('/activate').expect(200)).body).to.deep.equal({ activated: true });
        expect(push.activated).to.equal(true);
        await open();
      });

      it('do nothing for a hub that was closed, which is said', async () => {
        const { push, ask } = await house();
        await push.close();
        expect((await ask().post('/activate').expect(503)).body.error.code).to.equal('HUB_CLOSED');
        expect((await ask().post('/deactivate').expect(200)).body).to.deep.equal({ activated: false });
      });
    });

    describe('the timeout', () => {
      it('is that of new streams, and of the present ones where they are to be closed', async () => {
        const { news, departures, ask, open } = await house();
        const old = await open();
        const set = await ask().put('/timeout').send({ timeout: 50 }).expect(200);
        expect(set.body).to.deep.equal({ timeout: 50, reset: false });
        const young = await open();
        await young.ended();
        expect(departures).to.deep.equal([
          { listener: young.opening.listener, channels: ['news'], reason: 'timeout' },
        ]);
        news.write('still here');
        expect(await old.heard(1)).to.deep.equal(['still here']);

        const reset = await ask().put('/timeout').send({ timeout: null, reset: true }).expect(200);
        expect(reset.body).to.deep.equal({ timeout: null, reset: true });
        await old.ended();
        expect(departures.at(-1)).to.include({ listener: old.opening.listener, reason: 'timeout' });
      });

      it('is refused where it is none', async () => {
        const { ask } = await house({ timeout: 60_000 });
        const refused = async (body: string, status: number, code: string) => {
          const answer = await ask().put('/timeout').type('text/plain').send(body).expect(status);
          expect(answer.body.error.code, body).to.equal(code);
        };
        for (const body of ['{}', '{"timeout":0}', '{"timeout":"5"}', '[]', '5', 'null', '"x"']) {
          await refused(body, 400, 'INVALID_OPTION');
        }
        await refused('{"timeout":5,"reset":1}', 400, 'INVALID_OPTION');
        await refused('{"timeout":5,"__proto__x":1}', 400, 'INVALID_OPTION');
        for (const body of ['', '{', 'timeout=5']) await refused(body, 400, 'MALFORMED');
        await refused(`{"timeout":5${' '.repeat(2000)}}`, 413, 'BODY_TOO_LARGE');
      });
    });

    describe('a channel', () => {
      it('is ended', async () => {
        const { push, news, ask, open } = await house();
        const client = await open();
        news.write('the last');
        expect((await ask().delete('/channels/news').expect(200)).body).to.deep.equal({ channel: 'news' });
        await client.ended();
        expect(client.messages).to.deep.equal(['the last']);
        expect(client.events.at(-1)?.event).to.equal('comet:end');
        expect(push.channels.size).to.equal(0);
        const { error } = (await ask().delete('/channels/news').expect(404)).body;
        expect(error).to.deep.equal({ code: 'UNKNOWN_CHANNEL', message: 'There is no such channel.' });
      });

      for (const id of ['a/b', '..', '%2F', '__proto__', 'constructor', 'é 😀', '?x#y']) {
        it(`is found by its name, percent-encoded: ${id}`, async () => {
          const { push, url, news } = await house();
          // Not by supertest, which takes dots out of a path, as every parser of URLs does.
          const path = `/channels/${encodeURIComponent(id)}`.replace('..', '%2e%2e');
          const end = async () => {
            const { pathname, port } = new URL(url);
            const client = await RawClient.connect(Number(port));
            client.send(`DELETE ${pathname.replace(/\/$/, '')}${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
            await client.until('}');
            return Number(client.text.slice(9, 12));
          };
          expect(await end()).to.equal(404);
          push.channels.create({ name: id });
          expect(await end()).to.equal(200);
          expect(Array.from(push.channels)).to.deep.equal([news]);
        });
      }

      it('is not found by what is no name', async () => {
        const { ask } = await house();
        expect((await ask().delete('/channels/%ff').expect(400)).body.error.code).to.equal('MALFORMED');
        await ask().delete('/channels/%00').expect(404);
        await ask()
          .delete(`/channels/${'x'.repeat(300)}`)
          .expect(404);
        await ask().delete('/channels/').expect(404);
        await ask().delete('/channels/news/more').expect(404);
      });

      it('is ended on every node, whichever node is asked', async () => {
        const backplane = inProcess();
        const { ask } = await house({ backplane });
        const other = await hub({ backplane });
        other.push.channels.create({ name: 'elsewhere' });
        const client = await EventClient.open(`${other.server.url}/elsewhere`);
        await ask().delete('/channels/elsewhere').expect(200);
        await client.ended();
        expect(client.events.at(-1)?.data).to.equal('{"channel":"elsewhere"}');
        expect(other.push.channels.size).to.equal(0);
      });
    });

    describe('a listener', () => {
      it('is dismissed after all that was written to it, and no other is', async () => {
        const { push, news, departures, ask, open } = await house();
        const [client, other] = [await open(), await open()];
        const { listener } = client.opening;
        const outcomes = ['one', 'two'].map((data) => news.send(data));
        expect((await ask().delete(`/listeners/${listener}`).expect(200)).body).to.deep.equal({ listener });
        await client.ended();
        expect(client.messages).to.deep.equal(['one', 'two']);
        expect(await Promise.all(outcomes)).to.deep.equal([delivered(2), delivered(2)]);
        expect(departures).to.deep.equal([{ listener, channels: ['news'], reason: 'dismissed' }]);
        expect(push.inspect().listeners).to.equal(1);
        news.write('three');
        expect(await other.heard(3)).to.deep.equal(['one', 'two', 'three']);
        const { error } = (await ask().delete(`/listeners/${listener}`).expect(404)).body;
        expect(error.code).to.equal('UNKNOWN_LISTENER');
      });

      it('that is unknown is not found', async () => {
        const { ask } = await house();
        for (const id of ['x', '__proto__', '%00']) await ask().delete(`/listeners/${id}`).expect(404);
        await ask().delete('/listeners/%ff').expect(400);
        await ask().delete('/listeners').expect(404);
      });
    });

    describe('requests', () => {
      const methods = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'] as const;
      const resources = {
        '/': 'GET, HEAD',
        '/health': 'GET, HEAD',
        '/activate': 'POST',
        '/deactivate': 'POST',
        '/timeout': 'PUT',
        '/channels/news': 'DELETE',
        '/listeners/x': 'DELETE',
      };

      it('by another method get 405, and do nothing', async () => {
        const { push, url, ask } = await house();
        for (const [path, allow] of Object.entries(resources)) {
          for (const method of methods.filter((one) => !allow.split(', ').includes(one))) {
            const answer = await fetch(url + path, { method });
            expect(answer.status, `${method} ${path}`).to.equal(405);
            expect(answer.headers.get('allow')).to.equal(allow);
            expect(answer.headers.get('cache-control')).to.equal('no-store');
          }
        }
        expect((await ask().post('/').expect(405)).body.error.code).to.equal('METHOD_NOT_ALLOWED');
        expect(push.activated).to.equal(true);
        expect(push.channels.size).to.equal(1);
      });

      it('for what is not there get 404', async () => {
        const { ask } = await house();
        for (const path of ['/nothing', '/health/more', '/channels', '/%ff', '/*', '/channels/*/*']) {
          await ask().get(path).expect(404);
        }
        await ask().get('/health/').expect(200);
      });

      it('that a browser sends for a page of another origin get 403, and do nothing', async () => {
        const { push, ask, url } = await house();
        const { host } = new URL(url);
        const foreign: Record<string, string>[] = [
          { 'Sec-Fetch-Site': 'cross-site' },
          { 'Sec-Fetch-Site': 'same-site' },
          // Forms and fetch() send both; the first is what decides.
          { 'Sec-Fetch-Site': 'cross-site', Origin: `http://${host}` },
          { 'Sec-Fetch-Site': 'something new' },
          { Origin: 'http://evil.example' },
          { Origin: 'null' },
          { Origin: 'http://127.0.0.1:1' },
          { Origin: '' },
        ];
        for (const headers of foreign) {
          const answer = await ask().post('/deactivate').set(headers).type('form').send('x=1').expect(403);
          expect(answer.body.error.code).to.equal('OTHER_ORIGIN');
          await ask().delete('/channels/news').set(headers).expect(403);
          await ask().put('/timeout').set(headers).send({ timeout: 1 }).expect(403);
          await ask().get('/').set(headers).expect(200);
        }
        expect(push.activated).to.equal(true);
        expect(push.channels.size).to.equal(1);

        const own: Record<string, string>[] = [
          {},
          { 'Sec-Fetch-Site': 'same-origin', Origin: `http://${host}` },
          // The address that the browser knows is not the one that a proxy before us asks.
          { 'Sec-Fetch-Site': 'same-origin', Origin: 'https://public.example' },
          { 'Sec-Fetch-Site': 'none' },
          { Origin: `http://${host}` },
        ];
        for (const headers of own) await ask().post('/activate').set(headers).expect(200);
      });
    });
  });
}

for (const { name, make } of [
  { name: 'Express 5', make: express },
  { name: 'Express 4', make: express4 },
]) {
  describe(`Administration beside other handlers of ${name}`, () => {
    it('takes a body that a parser has read before', async () => {
      for (const parser of [express.json(), express.text({ type: '*/*' }), express.raw({ type: '*/*' })]) {
        const { push, server } = await hub({}, (push) => make().use(parser, push.admin()));
        await supertest(server.url).put('/timeout').send({ timeout: 5000, reset: true }).expect(200);
        const { error } = (await supertest(server.url).put('/timeout').send({ timeout: 0 }).expect(400)).body;
        expect(error.code).to.equal('INVALID_OPTION');
        await push.close();
      }
    });

    it('leaves to others what it has not', async () => {
      const others: RequestHandler = (_request, response) => void response.status(418).end();
      const { server } = await hub({}, (push) => make().use(push.admin()).use(others));
      const ask = supertest(server.url);
      for (const path of ['/nothing', '/channels', '/%ff']) await ask.get(path).expect(418);
      await ask.post('/nothing').set('Origin', 'http://evil.example').expect(418);
      await ask.post('/').expect(405);
    });

    it('can be had for its health alone', async () => {
      const { server } = await hub({}, (push) => make().get('/health', push.admin()));
      for (const path of ['/health', '/health?health', '/health/?health&streams']) {
        expect((await supertest(server.url).get(path).expect(200)).body).to.deep.equal({ healthy: true });
      }
      for (const path of ['/', '/health/x']) await supertest(server.url).get(path).expect(404);
      await supertest(server.url).post('/deactivate').expect(404);
    });
  });
}

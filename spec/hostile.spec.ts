import { EventEmitter, once } from 'node:events';
import { expect } from 'chai';
import { Deferred } from '../lib/core/outcome.js';
import type { CometOptions, Handler } from '../lib/index.js';
import { EventClient, RawClient, request, told } from './support/client.js';
import { cleanup, frameworks, hub } from './support/server.js';
import { answerOf, ended } from './support/wire.js';

// Requests that may wait for their turn on one connection.
const MAX_WAITING = 8;

/** Waits until the server has closed the connection, by FIN or RST. */
async function cut({ socket }: RawClient): Promise<void> {
  socket.once('end', () => socket.destroy()).resume();
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
}

for (const { name, mount, app } of frameworks) {
  describe(`Hostile requests under ${name}`, () => {
    async function house(options: CometOptions = {}) {
      const { push, server, port } = await hub(options, app);
      const news = push.channels.create({ name: 'news' });
      return { push, server, port, news, raw: (text: string, part: string) => raw(port, text, part) };
    }

    /** Sends this text, and returns the first answer once this part has come. */
    async function raw(port: number, text: string, part: string) {
      const client = await RawClient.connect(port);
      client.send(text);
      await client.until(part);
      return answerOf(client.text);
    }

    const listening = async (port: number, path: string, headers?: Record<string, string>) => {
      const client = await RawClient.get(port, path, headers);
      expect(await client.until('comet:open')).to.equal(true);
      return client;
    };

    describe('names', () => {
      for (const id of ['__proto__', 'constructor', 'hasOwnProperty', 'toString']) {
        it(`${id} is a channel like any other: 404 until there is one`, async () => {
          const { push, server, raw } = await house();
          expect((await raw(request(`${mount}/${id}`), '}}')).status).to.equal(404);
          const channel = push.channels.create({ name: id });
          const client = await EventClient.open(`${server.url}${mount}?chan_id=${id}`);
          expect(client.opening.channels).to.deep.equal([id]);
          channel.write('ordinary');
          expect(await client.heard(1)).to.deep.equal(['ordinary']);
        });
      }

      it('a parameter of the query called __proto__ is no chan_id', async () => {
        const { raw } = await house();
        const { status } = await raw(request(`${mount}/?__proto__[chan_id]=news&chan_id[]=news`), '}}');
        expect(status).to.equal(400);
      });

      for (const id of ['%00', 'news%00', '%0d%0a', 'news%0d%0aX-Forged:%20yes', '%0Adata:%20forged']) {
        it(`${id} gets 400, and nothing of it is in the answer`, async () => {
          const { raw } = await house();
          for (const path of [`/${id}`, `/?chan_id=${id}`]) {
            const { status, headers, rest } = await raw(request(mount + path), '}}');
            expect(status).to.equal(400);
            expect(headers).not.to.have.property('x-forged');
            expect(rest.toLowerCase()).not.to.contain('forged');
          }
        });
      }

      it('..%2f is a name, not a way out', async () => {
        const { push, port, raw } = await house();
        expect((await raw(request(`${mount}/..%2f..%2fnews`), '}}')).status).to.equal(404);
        const odd = push.channels.create({ name: '../news' });
        await listening(port, `${mount}/..%2fnews`);
        expect(odd.listeners).to.equal(1);
      });

      it('%ff gets 400: it is no UTF-8', async () => {
        const { push, raw } = await house();
        push.channels.create({ name: '\ufffd' });
        expect((await raw(request(`${mount}/%ff`), '}}')).status).to.equal(400);
        expect((await raw(request(`${mount}/?chan_id=%ff`), '}}')).status).to.equal(400);
      });

      it('7 KB of path get 400', async () => {
        const { raw } = await house();
        expect((await raw(request(`${mount}/${'x'.repeat(7168)}`), '}}')).status).to.equal(400);
        expect((await raw(request(`${mount}/${'%C3%BC'.repeat(1194)}`), '}}')).status).to.equal(400);
      });

      it('NFC and NFD of one name are two channels', async () => {
        const { push, server } = await house();
        const composed = push.channels.create({ name: 'caf\u00e9' });
        const decomposed = push.channels.create({ name: 'cafe\u0301' });
        const client = await EventClient.open(`${server.url}${mount}/${encodeURIComponent('cafe\u0301')}`);
        composed.write('not for it');
        decomposed.write('for it');
        expect(await client.heard(1)).to.deep.equal(['for it']);
      });

      it('a case that differs is another channel', async () => {
        const { raw } = await house();
        expect((await raw(request(`${mount}/NEWS`), '}}')).status).to.equal(404);
      });
    });

    describe('requests', () => {
      it('a target in absolute form is read as any other', async () => {
        const { push, port, raw } = await house();
        const chat = push.channels.create({ name: 'chat' });
        await listening(port, `http://localhost${mount}/chat`);
        expect(chat.listeners).to.equal(1);
        await listening(port, `http://user:secret@else.where:99${mount}/?chan_id=chat`);
        expect(chat.listeners).to.equal(2);
        expect((await raw(request(`http://localhost${mount}/gone`), '}}')).status).to.equal(404);
      });

      it('a malformed Host makes no difference', async () => {
        const { port, news } = await house();
        for (const Host of ['[', 'a b/..?@:', ':99999999', '<script>', '\u00ff']) {
          const client = await RawClient.connect(port);
          client.send(`GET ${mount}/news HTTP/1.1\r\nHost: ${Host}\r\n\r\n`);
          expect(await client.until('comet:open')).to.equal(true);
        }
        expect(news.listeners).to.equal(5);
      });

      it('garbage after the request ends its own stream, and no other', async () => {
        const { push, port, news } = await house();
        const other = await listening(port, `${mount}/news`);
        const left = told(push.on.bind(push, 'leave'));
        const client = await listening(port, `${mount}/news`);
        const { length } = client.text;
        client.send('\u0000\u0001 no request at all\r\n\r\n');
        await ended(client);
        await left;
        expect(client.text.slice(length)).to.equal('');
        expect(news.listeners).to.equal(1);
        expect(await news.send('on')).to.include({ status: 'success', listeners: 1 });
        expect(await other.until('data: on')).to.equal(true);
      });

      it('requests that pile up behind a stream do not become listeners', async () => {
        const { push, port, news } = await house();
        const client = await listening(port, `${mount}/news`);
        client.send(request(`${mount}/news`).repeat(MAX_WAITING));
        // One that comes on a connection of its own does.
        await listening(port, `${mount}/news`);
        expect(news.listeners).to.equal(2);
        expect(await news.send('two')).to.include({ status: 'success', listeners: 2 });
        const left = told(push.on.bind(push, 'leave'));
        await client.reset();
        await left;
        expect(await news.send('one')).to.include({ status: 'success', listeners: 1 });
      });

      it('requests that pile up behind a stream are no reason for a warning of the process', async () => {
        const { port } = await house();
        const warnings: Error[] = [];
        const warn = (warning: Error) => warnings.push(warning);
        process.on('warning', warn);
        cleanup(() => void process.off('warning', warn));
        const client = await listening(port, `${mount}/news`);
        client.send(request(`${mount}/news`).repeat(MAX_WAITING));
        // Node reads them before it serves this one.
        await listening(port, `${mount}/news`);
        expect(warnings).to.deep.equal([]);
      });

      it('more of them than a handful cut the connection', async () => {
        const { push, port, news } = await house();
        const other = await listening(port, `${mount}/news`);
        const left = told(push.on.bind(push, 'leave'));
        const client = await listening(port, `${mount}/news`);
        client.send(request(`${mount}/news`).repeat(MAX_WAITING));
        client.send(request(`${mount}/news`));
        await cut(client);
        expect(await left).to.include({ reason: 'closed' });
        expect(await news.send('on')).to.include({ status: 'success', listeners: 1 });
        expect(await other.until('data: on')).to.equal(true);
      });

      it('more of them than a handful behind an authorize that takes time cut the connection', async () => {
        let asked = 0;
        const { port } = await house({
          authorize: () => {
            asked += 1;
            return new Promise(() => {});
          },
        });
        const client = await RawClient.get(port, `${mount}/news`);
        client.send(request(`${mount}/news`).repeat(1000));
        await cut(client);
        expect(asked).to.equal(1);
        expect(client.text).to.equal('');
      });

      it('each handler of a hub counts the requests of a connection until it is their turn', async () => {
        const gates = [new Deferred<boolean>(), new Deferred<boolean>()] as const;
        const asked = new EventEmitter();
        let count = 0;
        const authorize = () => {
          count += 1;
          asked.emit('asked');
          return gates[count - 1]?.promise ?? true;
        };
        const { port } = await hub({ authorize }, (push) => {
          const publisher = push.publisher({ authorize: () => false });
          const admin = push.admin();
          const handlers: Record<string, Handler> = { GET: push, POST: publisher, DELETE: admin };
          return app((incoming, response, next) =>
            handlers[incoming.method as string]?.(incoming, response, next),
          );
        });
        const stream = request(`${mount}/news`);
        const publication = request(`${mount}/news`, {}, 'POST');
        const command = request(`${mount}/listeners/x`, {}, 'DELETE');
        const waiting = (publication + command).repeat(MAX_WAITING / 2);
        const answers = (text: string) => text.match(/HTTP\/1\.1 \d+/g)?.map((line) => line.slice(-3));
        const served = ['403', ...Array.from({ length: MAX_WAITING / 2 }, () => ['403', '404']).flat()];

        const client = await RawClient.connect(port);
        let begun = once(asked, 'asked');
        client.send(stream);
        await begun;
        client.send(waiting);
        gates[0].resolve(false);
        await client.until(new RegExp(`(HTTP.*){${served.length}}}}$`, 's'));
        expect(answers(client.text)).to.deep.equal(served);

        begun = once(asked, 'asked');
        client.send(stream);
        await begun;
        client.send(waiting + stream);
        await cut(client);
        expect(answers(client.text)).to.deep.equal(served);
        expect(count).to.equal(2);
      });

      it('a body that never ends does not keep a GET from its stream', async () => {
        const { push, port, news } = await house();
        for (const body of [
          'Content-Length: 1000\r\n\r\n{"half":',
          'Transfer-Encoding: chunked\r\n\r\n5\r\nha',
        ]) {
          const client = await RawClient.connect(port);
          client.send(`GET ${mount}/news HTTP/1.1\r\nHost: localhost\r\n${body}`);
          expect(await client.until('comet:open')).to.equal(true);
          expect(await news.send('delivered')).to.include({ status: 'success', listeners: 1 });
          expect(await client.until('data: delivered')).to.equal(true);
          const left = told(push.on.bind(push, 'leave'));
          await client.reset();
          await left;
        }
      });

      it('a body larger than what Node holds unread does not hide that its client has gone', async () => {
        const { push, port } = await house();
        const chunk = 'x'.repeat(2 ** 20);
        for (const body of [
          `Content-Length: ${2 ** 20}\r\n\r\n${chunk}`,
          `Transfer-Encoding: chunked\r\n\r\n${(2 ** 20).toString(16)}\r\n${chunk}\r\n0\r\n\r\n`,
        ]) {
          const client = await RawClient.connect(port);
          client.send(`GET ${mount}/news HTTP/1.1\r\nHost: localhost\r\n${body}`);
          expect(await client.until('comet:open')).to.equal(true);
          const left = told(push.on.bind(push, 'leave'));
          await client.reset();
          await left;
        }
      });

      it('a refusal is given although the body never ends', async () => {
        const { port } = await house();
        const client = await RawClient.connect(port);
        client.send(`POST ${mount}/news HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf`);
        await client.until('}}');
        expect(answerOf(client.text).status).to.equal(405);
      });
    });

    describe('cursors', () => {
      /** A hub with five events written, and what a client with this cursor is told. */
      async function returning(cursorOf: (epoch: string) => string) {
        const { push, port, server, news } = await house();
        for (const data of ['1', '2', '3', '4', '5']) news.write(data);
        const cursor = cursorOf(push.inspect().epoch);
        return { push, port, server, news, cursor };
      }

      /** What the open event of this stream says, and what it goes on with. */
      async function opening(client: RawClient, write: () => void) {
        await client.until('comet:open');
        write();
        await client.until('data: last\n\n');
        const body = answerOf(client.text).chunks.join('');
        return {
          start: /^id: (\S+)$/m.exec(body)?.[1],
          recovered: /"recovered":(true|false)/.exec(body)?.[1] === 'true',
          data: Array.from(body.matchAll(/^data: ([^{\n]+)$/gm), ([, data]) => data),
        };
      }

      it('a cursor of this hub is taken as it is given', async () => {
        const { port, news, cursor } = await returning((epoch) => `${epoch}-3@news`);
        const client = await RawClient.get(port, `${mount}/news`, { 'Last-Event-ID': cursor });
        const { recovered, data } = await opening(client, () => news.write('last'));
        expect(recovered).to.equal(true);
        expect(data).to.deep.equal(['4', '5', 'last']);
      });

      const gaps: [string, (epoch: string) => string][] = [
        ['15 KB of it', () => 'x'.repeat(15_000)],
        ['15 KB of digits', (epoch) => `${epoch}-${'1'.repeat(15_000)}`],
        ['what is not ASCII', () => 'caf\u00e9\u00ff-3'],
        ['another epoch', () => '0123456789ab-3'],
        ['a place that is yet to come', (epoch) => `${epoch}-6`],
        ['leading zeros', (epoch) => `${epoch}-03`],
        ['a negative number', (epoch) => `${epoch}--3`],
        ['a fraction', (epoch) => `${epoch}-3.0`],
        ['an exponent', (epoch) => `${epoch}-3e0`],
        ['hexadecimal', (epoch) => `${epoch}-0x3`],
        ['more than a safe integer', (epoch) => `${epoch}-9007199254740993`],
        ['no number', (epoch) => `${epoch}-`],
        ['no epoch', () => '-3'],
        ['only a name', () => '@news'],
        ['something behind it', (epoch) => `${epoch}-3 `.concat('x')],
      ];
      for (const [what, cursorOf] of gaps) {
        it(`${what} is a gap, not an error`, async () => {
          const { push, port, news, cursor } = await returning(cursorOf);
          const client = await RawClient.connect(port);
          const head = request(`${mount}/news`, { 'Last-Event-ID': cursor });
          client.socket.write(head, 'latin1');
          const { start, recovered, data } = await opening(client, () => news.write('last'));
          expect(recovered).to.equal(false);
          expect(start).to.equal(`${push.inspect().epoch}-5`);
          expect(data).to.deep.equal(['last']);
        });
      }

      it('one of the query that can’t be read is a gap too', async () => {
        const { server } = await returning(String);
        const client = await EventClient.open(`${server.url}${mount}/news?last_event_id=what`);
        expect(client.opening.recovered).to.equal(false);
      });

      it('one of the query whose percent-encoding is malformed is a gap too', async () => {
        const { server } = await returning(String);
        const client = await EventClient.open(`${server.url}${mount}/news?last_event_id=%ff`);
        expect(client.opening.recovered).to.equal(false);
      });

      it('an empty one is none at all', async () => {
        const { port, news } = await returning(String);
        const client = await RawClient.get(port, `${mount}/news`, { 'Last-Event-ID': '' });
        const { recovered, data } = await opening(client, () => news.write('last'));
        expect(recovered).to.equal(true);
        expect(data).to.deep.equal(['last']);
      });
    });
  });
}

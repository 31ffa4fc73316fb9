import { once } from 'node:events';
import type { Server, ServerResponse } from 'node:http';
import { connect, createServer as createHttp2Server } from 'node:http2';
import { expect } from 'chai';
import express, { type ErrorRequestHandler, type RequestHandler } from 'express';
import session from 'express-session';
import type { Channel, Comet, CometOptions, Outcome } from '../lib/index.js';
import { EVENT_STREAM, EventClient, RawClient, request, told } from './support/client.js';
import { delivered } from './support/outcomes.js';
import { run } from './support/process.js';
import { cleanup, hub } from './support/server.js';
import { ended } from './support/wire.js';

/** A hub under Express, behind a middleware that changes the response. */
async function behind(middleware: RequestHandler, options: CometOptions = {}) {
  const { push, server, port } = await hub(options, (comet) => express().use(middleware).use(comet));
  return { push, server, port, news: push.channels.create({ name: 'news' }) };
}

describe('A response that others have changed', () => {
  it('may send an event while its head is sent: that is not counted for the newcomer', async () => {
    let presence: Promise<Outcome> | undefined;
    const { server, news } = await behind((_request, response, next) => {
      const { writeHead } = response;
      Object.assign(response, {
        writeHead: (...head: Parameters<typeof writeHead>) => {
          if (server.sockets.size > 1) {
            for (const socket of [...server.sockets].slice(0, 1)) socket.destroy();
            presence = news.send('somebody comes');
          }
          return writeHead.apply(response, head);
        },
      });
      next();
    });
    await EventClient.open(`${server.url}/news`);
    await EventClient.open(`${server.url}/news`);
    const outcome = await presence;
    expect(outcome).to.deep.include({ listeners: 1, delivered: 0, failed: 1, status: 'failure' });
  });

  it('may deactivate the hub while its head is sent: it is closed as all others are', async () => {
    const { push, server, port } = await behind((_request, response, next) => {
      const { writeHead } = response;
      Object.assign(response, {
        writeHead: (...head: Parameters<typeof writeHead>) => {
          push.deactivate();
          return writeHead.apply(response, head);
        },
      });
      next();
    });
    const left = told((on) => push.on('leave', on));
    await RawClient.get(port, '/news');
    expect(await left).to.include({ reason: 'deactivated' });
    await server.quiet();
    expect(push.inspect().listeners).to.equal(0);
  });

  it('may have a property stream, and is not taken for one of HTTP/2', async () => {
    const { push, server, news } = await behind((_request, response, next) => {
      Object.assign(response, { stream: 'of a middleware' });
      next();
    });
    const joined = told((on) => push.on('join', on));
    await EventClient.open(`${server.url}/news`);
    expect(await joined).to.include({ transport: 'socket' });
    server.socket.destroy();
    expect(await news.send('x')).to.include({ delivered: 0, failed: 1 });
  });

  it('may throw at its end, and harms no other stream', async () => {
    let requests = 0;
    const { push, server, news } = await behind((_request, response, next) => {
      requests += 1;
      if (requests === 1) {
        Object.assign(response, {
          end: () => {
            throw new Error('a middleware');
          },
        });
      }
      next();
    });
    const first = await EventClient.open(`${server.url}/news`);
    const second = await EventClient.open(`${server.url}/news`);
    const outcome = news.send('last');
    news.end();
    expect(await outcome).to.include({ status: 'success', delivered: 2 });
    await Promise.all([first.ended(), second.ended()]);
    expect(second.events.map(({ event }) => event)).to.deep.equal(['comet:open', undefined, 'comet:end']);
    await push.close();
  });

  it('may write to a channel from inside its write: nothing is doubled or reordered', async () => {
    let nested = 0;
    const { server, news } = await behind(
      (_request, response, next) => {
        const { write } = response;
        Object.assign(response, {
          write: (piece: Buffer, callback: () => void) => {
            if (piece.includes('data: 1\n') && nested < 3) {
              nested += 1;
              news.write(`nested ${nested}`);
            }
            return write.call(response, piece, callback as never);
          },
        });
        next();
      },
      { log: { frames: 1 }, rewind: 1 },
    );
    news.write('1');
    const client = await EventClient.open(`${server.url}/news`);
    expect(await client.heard(2)).to.deep.equal(['1', 'nested 1']);
    const ids = client.events.map(({ id }) => Number(/-(\d+)/.exec(id ?? '')?.[1]));
    expect(ids).to.deep.equal([...ids].sort((a, b) => a - b));
  });
});

describe('A stream through a wrapped response', () => {
  it('delivers what is in flight when the client has closed its half and reads on', async () => {
    const flood = 'x'.repeat(2 ** 23);
    const { push, server, port, news } = await behind(
      (_request, response, next) => {
        const { write } = response;
        Object.assign(response, {
          write: (...given: Parameters<typeof write>) => write.apply(response, given),
        });
        next();
      },
      { maxFrame: 2 ** 24 },
    );
    const joined = told((on) => push.on('join', on));
    const client = await RawClient.get(port, '/news');
    expect(await joined).to.include({ transport: 'response' });
    const outcome = news.send(flood);
    await new Promise(setImmediate);
    const ended = once(server.socket, 'end');
    client.finish();
    await ended;
    client.read();
    expect(await outcome).to.include({ status: 'success', delivered: 1 });
  });
});

const unknown: Outcome = { ...delivered(1), status: 'failure', delivered: 0, unknown: 1 };

type Write = (chunk: Buffer | string, callback?: () => void) => boolean;

/** Replaces the write of a response, or of a socket. */
function wrap(target: object, make: (write: Write) => Write): void {
  const { write } = target as { write: Write };
  Object.assign(target, { write: make(write.bind(target)) });
}

describe('A stream whose res.write was replaced', () => {
  const isEvent = (chunk: Buffer | string) => chunk.includes('data: held');

  /** An open stream, of one protocol or the other. */
  async function open(protocol: string, make: (write: Write) => Write, options: CometOptions = {}) {
    const app = (push: Comet) => (request: never, response: ServerResponse) => {
      wrap(response, make);
      push(request, response);
    };
    if (protocol === 'HTTP/1.1') {
      const { push, server, port } = await hub(options, app as never);
      const news = push.channels.create({ name: 'news' });
      const client = () => EventClient.open(`${server.url}/news`);
      return { push, port, news, client };
    }
    const server = (push: Comet) => createHttp2Server(app(push) as never) as unknown as Server;
    const { push, server: opened, port } = await hub(options, server);
    const news = push.channels.create({ name: 'news' });
    const session = connect(opened.url);
    cleanup(() => session.destroy());
    const client = () => EventClient.openOn(session, '/news');
    return { push, port, news, client };
  }

  for (const protocol of ['HTTP/1.1', 'HTTP/2']) {
    describe(`over ${protocol}`, () => {
      for (const [title, make] of [
        ['passes everything on', (write) => write],
        ['loses its callback', (write) => (chunk) => write(chunk)],
        [
          'calls back before it passes anything on',
          (write) => (chunk, callback) => {
            callback?.();
            return write(chunk);
          },
        ],
        ['returns nothing', (write) => (chunk) => void write(chunk) as never],
      ] as [string, (write: Write) => Write][]) {
        it(`by one that ${title} has true outcomes`, async () => {
          const { news, client: open1 } = await open(protocol, make);
          const client = await open1();
          for (const data of ['one', 'two', 'three'])
            expect(await news.send(data)).to.deep.equal(delivered(1));
          expect(await client.heard(3)).to.deep.equal(['one', 'two', 'three']);
        });
      }

      it('by one that passes on later, and calls back at once, is unknown, and gets all', async () => {
        const { news, client: open1 } = await open(protocol, (write) => (chunk, callback) => {
          setImmediate(() => write(chunk));
          callback?.();
          return true;
        });
        const client = await open1();
        for (const data of ['one', 'two']) expect(await news.send(data)).to.deep.equal(unknown);
        expect(await client.heard(2)).to.deep.equal(['one', 'two']);
      });

      it('by one that holds each write until the next is unknown', async () => {
        const { news, client: open1 } = await open(protocol, (write) => {
          const held: (Buffer | string)[] = [];
          return (chunk, callback) => {
            held.push(chunk);
            if (held.length > 2) write(held.shift() as Buffer);
            callback?.();
            return true;
          };
        });
        const joined = open1().catch(() => undefined);
        while (news.listeners === 0) await new Promise(setImmediate);
        for (const data of ['1', '2', '3', '4']) expect(await news.send(data)).to.deep.equal(unknown);
        await joined;
      });

      it('by one that begins to hold later is unknown from then on', async () => {
        let write: Write | undefined;
        const held: (Buffer | string)[] = [];
        const {
          push,
          news,
          client: open1,
        } = await open(protocol, (original) => (chunk, callback) => {
          write = original;
          if (held.length === 0 && !isEvent(chunk)) return original(chunk, callback);
          held.push(chunk);
          callback?.();
          return true;
        });
        const client = await open1();
        expect(await news.send('one')).to.deep.equal(delivered(1));
        expect(await news.send('held')).to.deep.equal(unknown);
        expect(await news.send('two')).to.deep.equal(unknown);
        expect(push.inspect().delivered).to.equal(1);
        for (const chunk of held) write?.(chunk);
        expect(await client.heard(3)).to.deep.equal(['one', 'held', 'two']);
      });

      it('by one that is full waits until it has drained', async () => {
        let response: ServerResponse | undefined;
        const {
          push,
          news,
          client: open1,
        } = await open(protocol, (write) => {
          return function (this: ServerResponse, chunk) {
            response = this;
            setImmediate(() => write(chunk));
            return !isEvent(chunk);
          };
        });
        await open1();
        const first = news.send('held');
        await new Promise(setImmediate);
        expect(push.inspect({ streams: true }).streams?.[0]?.state).to.equal('behind');
        response?.emit('drain');
        expect(await first).to.deep.equal(unknown);
        expect(push.inspect({ streams: true }).streams?.[0]?.state).to.equal('live');
      });
    });
  }

  it('is not delivered to by one that loses its callback, while its client does not read', async () => {
    const { push, port, news } = await open('HTTP/1.1', (write) => (chunk) => write(chunk), {
      maxFrame: 2 ** 24,
      log: { bytes: 2 ** 26 },
    });
    const joined = told((on) => push.on('join', on));
    const client = await RawClient.get(port, '/news');
    await joined;
    const flood = news.send('x'.repeat(2 ** 23));
    await new Promise(setImmediate);
    expect(push.inspect({ streams: true }).streams?.[0]?.state).to.equal('behind');
    await client.reset();
    expect(await flood).to.include({ delivered: 0, failed: 1 });
  });
});

describe('A stream whose write of the socket was replaced', () => {
  it('by one that holds what it is given is unknown', async () => {
    const held: (() => void)[] = [];
    const { server, news } = await behind(({ socket }, _response, next) => {
      wrap(socket, (write) => (...given) => {
        held.push(() => write(...given));
        return true;
      });
      next();
    });
    const opened = EventClient.open(`${server.url}/news`);
    while (news.listeners === 0) await new Promise(setImmediate);
    expect(await news.send('one')).to.deep.equal(unknown);
    for (const pass of held) pass();
    expect(await (await opened).heard(1)).to.deep.equal(['one']);
  });

  it('by one that throws ends its own stream, and no other', async () => {
    let requests = 0;
    const { server, news } = await behind(({ socket }, _response, next) => {
      requests += 1;
      if (requests === 1) {
        wrap(socket, (write) => (...given) => {
          if (given[0].includes('boom')) throw new Error('a middleware');
          return write(...given);
        });
      }
      next();
    });
    const broken = await EventClient.open(`${server.url}/news`);
    const client = await EventClient.open(`${server.url}/news`);
    expect(await news.send('boom')).to.deep.include({ delivered: 1, failed: 1, reasons: { error: 1 } });
    await broken.ended();
    expect(await client.heard(1)).to.deep.equal(['boom']);
    expect(news.listeners).to.equal(1);
  });
});

describe('A tracer that replaces a method of Node', () => {
  const patch = (owner: string, method: string) => `
    {
      const { ${method}: original } = ${owner};
      ${owner}.${method} = function (chunk, ...rest) {
        seen += String(chunk);
        return original.call(this, chunk, ...rest);
      };
    }`;
  const load = `const { comet } = await import('./lib/index.ts');`;
  const use = `
    const push = comet();
    const news = push.channels.create({ name: 'news' });
    const server = http.createServer(push).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = connect(server.address().port, '127.0.0.1');
    const joined = new Promise((resolve) => push.on('join', resolve));
    client.write('GET /news HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n');
    client.resume();
    await joined;
    const outcome = await news.send('one');
    console.log(JSON.stringify({ outcome, seen }));
    process.exit();`;

  const traced = async (...steps: string[]) => {
    const script = `
      import { once } from 'node:events';
      import http from 'node:http';
      import { connect, Socket } from 'node:net';
      import { Duplex, Writable } from 'node:stream';
      let seen = '';
      ${steps.join('\n')}
      ${use}`;
    const { stdout, stderr } = await run(script);
    expect(stderr).to.equal('');
    return JSON.parse(stdout) as { outcome: Outcome; seen: string };
  };

  for (const [name, ...patches] of [
    ['ServerResponse.prototype.write', patch('http.ServerResponse.prototype', 'write')],
    ['OutgoingMessage.prototype.write', patch('http.OutgoingMessage.prototype', 'write')],
    [
      'Writable.prototype.write and Duplex.prototype.write',
      patch('Writable.prototype', 'write'),
      'Duplex.prototype.write = Writable.prototype.write;',
    ],
    ['Socket.prototype._write', patch('Socket.prototype', '_write')],
  ] as const) {
    it(`${name}, before this package is loaded, sees every event, once`, async () => {
      const { outcome, seen } = await traced(...patches, load);
      expect(outcome).to.deep.equal(delivered(1));
      expect(seen.split('data: one\n\n')).to.have.length(2);
    });
  }

  it('ServerResponse.prototype.write, after that, sees every event, once', async () => {
    const { outcome, seen } = await traced(load, patch('http.ServerResponse.prototype', 'write'));
    expect(outcome).to.deep.equal(delivered(1));
    expect(seen.split('data: one\n\n')).to.have.length(2);
  });
});

describe('A stream that can not be opened', () => {
  const boom = () => {
    throw new Error('a middleware');
  };
  const isOpening = (chunk: Buffer | string) => chunk.includes('comet:open');
  const breakWrite = (target: object) =>
    wrap(
      target,
      (write) =>
        (...given) =>
          isOpening(given[0]) ? boom() : write(...given),
    );

  // Where the head went out, the connection is closed: nothing can be said any more.
  const causes: [cause: string, change: (response: ServerResponse) => void, isAnswered: boolean][] = [
    ['the write of its socket', ({ req }) => breakWrite(req.socket), false],
    ['its res.write', breakWrite, false],
    ['its res.writeHead', (response) => Object.assign(response, { writeHead: boom }), true],
    ['its res.flushHeaders', (response) => Object.assign(response, { flushHeaders: boom }), false],
    ['its res.setHeader', (response) => Object.assign(response, { setHeader: boom }), true],
  ];

  for (const [cause, change, isAnswered] of causes) {
    it(`because ${cause} throws goes to the application, and leaves nothing behind`, async () => {
      const told1: unknown[] = [];
      const { push, server, port } = await hub({}, (comet) =>
        express()
          .get('/broken/news', (request, response, next) => {
            change(response);
            request.url = '/news';
            comet(request, response, next);
          })
          .use(comet)
          .use(((error, _request, response, _next) => {
            told1.push(error);
            // As it was before.
            for (const name of ['writeHead', 'setHeader', 'write']) Reflect.deleteProperty(response, name);
            if (!response.headersSent) response.status(500).end();
          }) as ErrorRequestHandler),
      );
      const news = push.channels.create({ name: 'news' });
      const client = await EventClient.open(`${server.url}/news`);
      const joins: unknown[] = [];
      push.on('join', (join) => joins.push(join));
      const broken = await RawClient.connect(port);
      broken.send(request('/broken/news', { Connection: 'close' }));
      const gone = once(broken.socket, 'close');
      broken.read().socket.on('end', () => broken.finish());
      await gone;
      expect(told1).to.have.length(1);
      expect(told1[0]).to.be.an('error').with.property('message', 'a middleware');
      expect(broken.text.startsWith('HTTP/1.1 500 ')).to.equal(isAnswered);
      expect({ joins, listeners: push.inspect().listeners }).to.deep.equal({ joins: [], listeners: 1 });
      expect(await news.send('one')).to.deep.equal(delivered(1));
      expect(await client.heard(1)).to.deep.equal(['one']);
      await push.close();
    });
  }

  it('is told to the hub, where there is no application', async () => {
    const { push, server, port } = await hub({}, (comet) => (request, response) => {
      breakWrite(request.socket);
      comet(request, response);
    });
    push.channels.create({ name: 'news' });
    const error = told((on) => push.on('error', on));
    await RawClient.get(port, '/news');
    expect(await error)
      .to.be.an('error')
      .with.property('message', 'a middleware');
    await server.quiet();
    expect(push.inspect().listeners).to.equal(0);
  });

  it('because its socket is destroyed while it opens has been there, and has left', async () => {
    const { push, server, port } = await hub({}, (comet) => (request, response) => {
      wrap(request.socket, (write) => (...given) => {
        if (isOpening(given[0])) request.socket.destroy();
        return write(...given);
      });
      comet(request, response);
    });
    push.channels.create({ name: 'news' });
    const left = told((on) => push.on('leave', on));
    await RawClient.get(port, '/news');
    expect(await left).to.include({ reason: 'closed' });
    await server.quiet();
    expect(push.inspect().listeners).to.equal(0);
  });
});

// Saves the session first, and calls the end of Node's response later.
const sessions = () => session({ secret: 'secret', resave: false, saveUninitialized: true });

const wrapWrite: RequestHandler = (_request, response, next) => {
  const { write } = response;
  Object.assign(response, { write: (...given: Parameters<typeof write>) => write.apply(response, given) });
  next();
};

describe('Behind express-session, whose end of a response is asynchronous', () => {
  const ends: [
    cause: string,
    end: (push: Comet, channel: Channel) => unknown,
    options?: () => CometOptions,
  ][] = [
    ['the end of its channel', (_push, channel) => channel.end()],
    ['close()', (push) => push.close({ drain: 2000 })],
    ['dismiss()', (push) => push.dismiss(push.inspect({ streams: true }).streams?.[0]?.id ?? '')],
    ['setTimeout() with reset', (push) => push.setTimeout(null, { reset: true })],
    ['deactivate()', (push) => push.deactivate()],
    ['timeout', () => {}, () => ({ timeout: 100 })],
    ['lifetime', () => {}, () => ({ lifetime: 100 })],
    [
      'the end of its authorization',
      () => {},
      () => ({ authorize: () => ({ expires: new Date(Date.now() + 100) }) }),
    ],
  ];

  for (const [way, handlers] of [
    ['on its socket', [sessions()]],
    ['through res.write', [wrapWrite, sessions()]],
  ] as const) {
    for (const [cause, end, options] of ends) {
      it(`a stream ${way} that ${cause} ends is a complete response`, async () => {
        const { push, port, server } = await hub(options?.(), (comet) => express().use(...handlers, comet));
        const news = push.channels.create({ name: 'news' });
        const left = told((on) => push.on('leave', on));
        const client = await RawClient.get(port, '/news');
        await client.until('comet:open');
        void end(push, news);
        await left;
        const { chunks, rest } = await ended(client);
        expect(chunks.at(-1), 'the last chunk').to.equal('');
        expect(rest).to.equal('');
        client.finish();
        await server.quiet();
      });
    }
  }

  it('fetch reads the body to its end', async () => {
    const { push, server } = await hub({}, (comet) => express().use(sessions(), comet));
    const news = push.channels.create({ name: 'news' });
    const response = await fetch(`${server.url}/news`, { headers: EVENT_STREAM });
    news.write('the last');
    news.end();
    expect(await response.text())
      .to.contain('data: the last\n\n')
      .and.contain('comet:end');
  });

  it('a store that never answers holds a connection for no longer than stall', async () => {
    class Silent extends session.MemoryStore {
      override set(): void {}
    }
    const handler = session({
      secret: 'secret',
      resave: false,
      saveUninitialized: true,
      store: new Silent(),
    });
    const { push, port, server } = await hub({ stall: 50 }, (comet) => express().use(handler, comet));
    const news = push.channels.create({ name: 'news' });
    const client = await RawClient.get(port, '/news');
    await client.until('comet:open');
    news.end();
    await server.quiet();
    expect(push.inspect().listeners).to.equal(0);
  });
});

describe('A client', () => {
  it('is found gone although the body of its request was never read', async () => {
    const { push, port } = await hub({ heartbeat: null });
    push.channels.create({ name: 'news' });
    const client = await RawClient.connect(port);
    const left = told((on) => push.on('leave', on));
    client.send(`${request('/news', { 'Content-Length': '10000000' })}${'x'.repeat(500_000)}`);
    await client.until('comet:open');
    await client.reset();
    await left;
    expect(push.inspect().listeners).to.equal(0);
  });

  it('that has no name gets no stream where each may have only so many', async () => {
    const { push, server } = await hub({ maxListenersPerClient: 1, client: () => undefined as never });
    push.channels.create({ name: 'news' });
    const error = told((on) => push.on('error', on));
    const opened = await EventClient.open(`${server.url}/news`).catch((reason: Error) => reason.message);
    expect(opened).to.equal('The server answered 500.');
    expect(await error).to.have.property('code', 'INVALID_CLIENT');
  });
});

describe('A loop that awaits its writes to nobody', () => {
  it('lets the event loop go round', async () => {
    const { push } = await hub();
    const news = push.channels.create({ name: 'news' });
    let rounds = 0;
    setImmediate(() => {
      rounds += 1;
    });
    await news.send('anyone?');
    expect(rounds).to.equal(1);
  });
});

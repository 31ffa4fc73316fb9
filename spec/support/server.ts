import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import express, { type Express } from 'express';
import express4 from 'express4';
import type { Context, Test } from 'mocha';
import { type Comet, type CometOptions, comet, type Handler } from '../../lib/index.js';

type Cleanup = () => Promise<void> | void;

const cleanups = new Set<Cleanup>();

/** Runs after the test, the last first. Returns a function that takes it back. */
export function cleanup(run: Cleanup): () => void {
  cleanups.add(run);
  return () => cleanups.delete(run);
}

async function clean(): Promise<void> {
  const due = [...cleanups].reverse();
  cleanups.clear();
  for (const run of due) await run();
}

type Testimony = () => object;

const witnesses: [name: string, testimony: Testimony][] = [];
// Some tests send megabytes.
const TESTIMONY = 2000;

/** Where the test fails, it is told how this stood: that a test ran out of time does not say who was waited for. */
export function witness(name: string, testimony: Testimony): void {
  witnesses.push([name, testimony]);
}

function hear(test: Test | undefined): void {
  const called = witnesses.splice(0);
  if (test?.state !== 'failed') return;
  console.error(`How things stood at the end of "${test.fullTitle()}":`);
  for (const [name, testimony] of called) {
    console.error(`  ${name}: ${JSON.stringify(testimony()).slice(0, TESTIMONY)}`);
  }
}

async function afterTest(this: Context): Promise<void> {
  try {
    hear(this.currentTest);
  } finally {
    await clean();
  }
}

/** What Mocha does after each test: of every file, also where one process runs several. */
export const mochaHooks = { afterEach: afterTest };

// Without that, where a file is run by itself and nobody has asked Mocha to require this one.
if (typeof afterEach === 'function') afterEach(afterTest);

/** A real server on a free port of this machine, closed after the test. */
export class TestServer {
  /** The connections that it holds. */
  readonly sockets = new Set<Socket>();

  private constructor(readonly server: Server) {
    server.on('connection', (socket: Socket) => {
      this.sockets.add(socket);
      socket.on('close', () => this.sockets.delete(socket));
    });
  }

  static async listen(listener: RequestListener | Server): Promise<TestServer> {
    const test = new TestServer(typeof listener === 'function' ? createServer(listener) : listener);
    test.server.listen(0, '127.0.0.1');
    await once(test.server, 'listening');
    cleanup(() => test.close());
    return test;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The one connection that it holds. */
  get socket(): Socket {
    const [socket, ...others] = this.sockets;
    if (socket === undefined || others.length > 0)
      throw new Error(`${this.sockets.size} connections, not one`);
    return socket;
  }

  /** Resolves when no connection is left. */
  async quiet(): Promise<void> {
    // Not events.once(), which rejects where the socket was reset.
    await Promise.all(Array.from(this.sockets, (socket) => new Promise((gone) => socket.on('close', gone))));
  }

  async close(): Promise<void> {
    if (!this.server.listening) return;
    const closed = once(this.server, 'close');
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }
}

/** Everything that a handler works under: how it is mounted, and where it is then. */
export const frameworks: readonly {
  name: string;
  mount: string;
  app: (handler: Handler) => RequestListener;
}[] = [
  { name: 'Express 5', mount: '/channels', app: (handler) => mounted(express(), handler) },
  { name: 'Express 4', mount: '/channels', app: (handler) => mounted(express4(), handler) },
  { name: 'node:http', mount: '', app: (handler) => handler },
];

function mounted(app: Express, handler: Handler): RequestListener {
  return app.use('/channels', handler);
}

/** A hub, and a server for it: plain node:http, where no `app` is given. Both are closed after the test. */
export async function hub(
  options: CometOptions = {},
  app: (push: Comet) => RequestListener | Server = (push) => push,
): Promise<{ push: Comet; server: TestServer; port: number }> {
  const push = comet(options);
  cleanup(() => push.close({ drain: 1 }));
  witness('hub', () => push.inspect({ streams: true }));
  const server = await TestServer.listen(app(push));
  return { push, server, port: server.port };
}

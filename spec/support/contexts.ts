// Started by context.spec.ts, with --expose-gc: prints the names of the contexts that something keeps alive, as JSON.

import { AsyncLocalStorage } from 'node:async_hooks';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { comet } from '../../lib/index.js';

const MiB = 2 ** 20;

const context = new AsyncLocalStorage<object>();
const stores = new Map<string, WeakRef<object>>();

/** Calls in a context of that name, which nothing here holds. */
function within<T>(name: string, call: () => T): T {
  const store = { name };
  stores.set(name, new WeakRef(store));
  return context.run(store, call);
}

const push = comet({ maxFrame: 16 * MiB, log: { bytes: 64 * MiB } });
const server = createServer((request, response) =>
  within(request.url?.slice(1) ?? '', () => {
    request.url = '/news';
    push(request, response);
  }),
);
server.listen(0, '127.0.0.1');
await once(server, 'listening');

/** A client that reads nothing but the head of its stream. */
async function join(name: string): Promise<Socket> {
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const joined = new Promise<void>((resolve) => {
    const off = push.on('join', () => {
      off();
      resolve();
    });
  });
  client.write(`GET /${name} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await joined;
  client.pause();
  return client;
}

async function left(client: Socket): Promise<void> {
  const gone = new Promise<void>((resolve) => {
    const off = push.on('leave', () => {
      off();
      resolve();
    });
  });
  client.destroy();
  await gone;
}

const news = within('maker', () => push.channels.create({ name: 'news' }));
const first = await join('first');
const stalled = await join('stalled');
within('writer', () => news.write('x'.repeat(8 * MiB)));
await new Promise(setImmediate);
// What is written next waits for a client that may never read it.
within('second writer', () => news.write('y'));
await new Promise(setImmediate);
within('operator', () => {
  for (const { id, state } of push.inspect({ streams: true }).streams ?? []) {
    if (state === 'behind') push.dismiss(id);
  }
  push.setTimeout(60_000, { reset: false });
});
await left(first);

const names = ['maker', 'first', 'writer', 'second writer', 'operator'];
const alive = () => names.filter((name) => stores.get(name)?.deref() !== undefined);
for (let round = 0; round < 50 && alive().length > 0; round += 1) {
  await new Promise((resolve) => setTimeout(resolve, 10));
  globalThis.gc?.();
}
process.stdout.write(JSON.stringify(alive()));
stalled.destroy();
server.close();
await push.close({ drain: 1 });

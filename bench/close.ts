// npx tsx --tsconfig tsconfig.build.json bench/close.ts [streams]
//
// What it takes to close a hub with very many streams: how long, how long the event loop is held at a time, and whether
// every client was delivered to and told when to come back.

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { comet } from '../dist/esm/index.js';

// An event that was written before, the time to come back after, and the end of the response.
const FAREWELL = /data: last words\n\n\r\n[\da-f]+\r\nretry: \d+\n\r\n0\r\n\r\n$/;

const [first = '8000', port] = process.argv.slice(2);
if (port === undefined) await main(Number(first));
else clients(Number(first), Number(port));

async function main(streams: number): Promise<void> {
  const push = comet();
  const news = push.channels.create({ name: 'news' });
  const http = createServer(push).listen(0, '127.0.0.1', 1024);
  await once(http, 'listening');
  const child = fork(fileURLToPath(import.meta.url), [
    String(streams),
    String((http.address() as AddressInfo).port),
  ]);
  await once(child, 'message');

  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const start = performance.now();
  const outcome = news.send('last words');
  const farewells = once(child, 'message');
  const closed = once(http, 'close');
  http.close();
  await Promise.all([push.close({ drain: 3000 }), closed]);
  const elapsed = performance.now() - start;
  delay.disable();
  const [told] = await farewells;
  const { delivered } = await outcome;
  console.log(`${streams} streams: closed in ${elapsed.toFixed(0)} ms, the server too;`);
  console.log(`the event loop was held for ${(delay.max / 1e6).toFixed(0)} ms at the most;`);
  console.log(`${delivered} were delivered to, ${told} told when to come back.`);
}

function clients(streams: number, port: number): void {
  let open = 0;
  let closed = 0;
  let told = 0;
  for (let index = 0; index < streams; index += 1) {
    let tail = '';
    const socket = connect(port, '127.0.0.1', () =>
      socket.write('GET /news HTTP/1.1\r\nHost: localhost\r\n\r\n'),
    );
    socket.on('error', () => {});
    socket.on('data', (piece) => {
      if (tail === '') open += 1;
      tail = (tail + piece.toString('latin1')).slice(-200);
      if (open === streams) {
        open = Infinity;
        process.send?.('open');
      }
    });
    socket.on('close', () => {
      closed += 1;
      if (FAREWELL.test(tail)) told += 1;
      if (closed < streams) return;
      process.send?.(told);
      process.disconnect();
    });
  }
}

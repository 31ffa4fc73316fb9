// tsx --tsconfig tsconfig.build.json bench/slow.ts
//
// What clients that read nothing cost: memory of the server, and the time of those who do read. 500 of them, 200 MB
// offered to each, on a channel that closes whoever falls off its log and on one where they jump to the newest.

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import { comet } from '../dist/esm/index.js';

const STALLED = 500;
const HEALTHY = 20;
const EVENT = 16 * 1024;
const OFFERED = 200 * 1000 * 1000;
// Milliseconds between two events. At first, while the kernel takes 8 MB of each for those who do not read, so many that
// nobody waits for want of processor: what is measured is the company that a client is in.
const PAUSE = 2;
const FIRST_PAUSE = 10;
const FIRST_EVENTS = 200;

interface Result {
  rss: number;
  p50: number;
  p99: number;
  left: Record<string, number>;
}

const [role, lag, stalled] = process.argv.slice(2);
if (role === 'server') await server(lag as 'close' | 'latest', Number(stalled));
else if (role === 'client') client(Number(lag), Number(stalled));
else await main();

async function main(): Promise<void> {
  const rows: [string, Result][] = [];
  for (const policy of ['close', 'latest']) {
    for (const count of [0, STALLED]) {
      const child = fork(fileURLToPath(import.meta.url), ['server', policy, String(count)], {
        execArgv: [...process.execArgv, '--expose-gc'],
      });
      const [result] = (await once(child, 'message')) as [Result];
      rows.push([`${policy}, ${count} stalled`, result]);
    }
  }
  console.log('| | resident, MB | p50, ms | p99, ms | left |\n|---|---|---|---|---|');
  for (const [name, { rss, p50, p99, left }] of rows) {
    const reasons = Object.entries(left).map(([reason, count]) => `${reason} ${count}`);
    console.log(
      `| ${name} | ${(rss / 1e6).toFixed(0)} | ${p50.toFixed(1)} | ${p99.toFixed(1)} | ${reasons.join(', ')} |`,
    );
  }
}

async function server(policy: 'close' | 'latest', count: number): Promise<void> {
  const push = comet({ lag: policy });
  const channel = push.channels.create<string>({ name: 'load' });
  const left: Record<string, number> = {};
  push.on('leave', ({ reason }) => {
    left[reason] = (left[reason] ?? 0) + 1;
  });
  const http = createServer(push).listen(0, '127.0.0.1');
  await once(http, 'listening');
  const { port } = http.address() as AddressInfo;
  const clients = fork(fileURLToPath(import.meta.url), ['client', String(port), String(count)]);
  while (channel.listeners < count + HEALTHY) await new Promise((resolve) => setTimeout(resolve, 20));

  const filler = 'x'.repeat(EVENT - 40);
  for (let event = 0; event * EVENT < OFFERED; event += 1) {
    channel.write(`${Date.now()} ${filler}`);
    await new Promise((resolve) => setTimeout(resolve, event < FIRST_EVENTS ? FIRST_PAUSE : PAUSE));
  }
  global.gc?.();
  await new Promise(setImmediate);
  global.gc?.();
  const { rss } = process.memoryUsage();
  clients.send('done');
  const [{ p50, p99 }] = (await once(clients, 'message')) as [{ p50: number; p99: number }];
  process.send?.({ rss, p50, p99, left } satisfies Result);
  clients.kill();
  process.exit();
}

function client(port: number, count: number): void {
  const times: number[] = [];
  const open = () => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.on('error', () => {});
    socket.write('GET /load HTTP/1.1\r\nHost: localhost\r\n\r\n');
    return socket;
  };
  for (let index = 0; index < count; index += 1) open().pause();
  for (let index = 0; index < HEALTHY; index += 1) {
    open().on('data', (piece) => {
      const now = Date.now();
      for (const [, sent] of piece.toString('latin1').matchAll(/data: (\d+) x/g))
        times.push(now - Number(sent));
    });
  }
  process.on('message', () => {
    times.sort((a, b) => a - b);
    const at = (share: number) => times[Math.floor(times.length * share)] ?? 0;
    process.send?.({ p50: at(0.5), p99: at(0.99) });
  });
}

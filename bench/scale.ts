// npx tsx --tsconfig tsconfig.build.json bench/scale.ts [streams a process]
//
// As many streams as the limit of open files allows in one process, and as many again in a second (node:cluster), with a
// write a second: how long the event loop is held while a fan-out runs, and whether every stream got every event.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout } from 'node:timers/promises';
import { comet } from '../dist/esm/index.js';
import { compiled, here, prepare } from './tools.js';

const WRITES = 10;
const PAUSE_MS = 1000;
const LIMIT_MS = 120_000;
// Of the files that a process may open: those that are not streams.
const OTHERS = 400;
const WINDOW = 32;

/** What one process tells of its fan-outs. */
interface Told {
  streams: number;
  /** Milliseconds for which the event loop was held: medians of the writes, and the most of all. */
  p50: number;
  p99: number;
  max: number;
  /** Microseconds of CPU for each event. */
  cost: number;
}

if (cluster.isPrimary) await main();
else serve();

async function main(): Promise<void> {
  prepare();
  const limit = Number(spawnSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }).stdout) || 2 ** 16;
  const streams = Number(process.argv[2] ?? Math.min(limit, 50_000) - OTHERS);
  console.log('| | streams | held while a fan-out runs: p50, ms | p99, ms | most, ms | µs of CPU an event |');
  console.log('|---|---|---|---|---|---|');
  for (const processes of [1, 2]) {
    const all = await run(processes, streams);
    for (const [index, { streams: held, p50, p99, max, cost }] of all.entries()) {
      const [name, ...times] = [`${index + 1} of ${processes}`, p50, p99, max, cost];
      console.log(`| ${name} | ${held} | ${times.map((time) => Number(time).toFixed(1)).join(' | ')} |`);
    }
  }
  console.log(`\n${WRITES} writes, one a second; every event was counted on every stream.`);
}

/** Each process listens at an address of its own, so that the ports of one suffice for its streams. */
async function run(processes: number, streams: number): Promise<Told[]> {
  const paths = here('.cache/scale');
  writeFileSync(paths, '/news\n');
  const workers: Worker[] = [];
  const clients: ChildProcess[] = [];
  try {
    for (let index = 0; index < processes; index += 1) {
      const address = `127.0.0.${index + 2}`;
      const worker = cluster.fork({ ADDRESS: address });
      workers.push(worker);
      const [port] = (await once(worker, 'message')) as [number];
      const args = [address, port, paths, 'http', streams, 0, 0, WINDOW, streams, 0];
      const [file, list] = compiled('client.c', args);
      clients.push(spawn(file, list, { stdio: ['pipe', 'pipe', 'inherit', 'pipe'] }));
    }
    await Promise.all(clients.map(arrival));

    for (let write = 0; write < WRITES; write += 1) {
      const start = performance.now();
      await Promise.all(
        clients.map(async (client, index) => {
          const arrived = arrival(client);
          workers[index]?.send('write');
          await arrived;
          workers[index]?.send('arrived');
        }),
      );
      await setTimeout(Math.max(0, start + PAUSE_MS - performance.now()));
    }

    const told = workers.map(async (worker) => {
      worker.send('tell');
      return ((await once(worker, 'message')) as [Told])[0];
    });
    const all = await Promise.all(told);
    const results = clients.map((client) => text(client.stdout as Readable));
    for (const client of clients) client.stdin?.end();
    const expected = [streams, streams * WRITES, WRITES, WRITES].join(' ');
    for (const result of results) {
      const counted = (await result).split(' ').slice(0, 4).join(' ');
      if (counted !== expected) throw new Error(`The clients counted ${counted}, not ${expected}.`);
    }
    return all;
  } finally {
    for (const { process } of workers) process.kill('SIGKILL');
    for (const client of clients) client.kill('SIGKILL');
  }
}

/** The streams have been opened, or have the event. */
async function arrival(client: ChildProcess): Promise<void> {
  await once(client.stdio[3] as Readable, 'data', { signal: AbortSignal.timeout(LIMIT_MS) });
}

function serve(): void {
  const push = comet();
  const news = push.channels.create<string>({ name: 'news' });
  const held: IntervalHistogram[] = [];
  let cpu = 0;
  const http = createServer(push);
  http.listen({ port: 0, host: process.env.ADDRESS, backlog: 1024, exclusive: true }, () => {
    process.send?.((http.address() as AddressInfo).port);
  });
  process.on('message', (order) => {
    const { user, system } = process.cpuUsage();
    if (order === 'write') {
      cpu -= user + system;
      // One of each write: the pause between two would count as a delay.
      const delay = monitorEventLoopDelay({ resolution: 1 });
      held.unshift(delay);
      delay.enable();
      news.write('^'.padEnd(64, '.'));
    } else if (order === 'arrived') {
      cpu += user + system;
      held[0]?.disable();
    } else {
      const { listeners } = push.inspect();
      const [p50, p99] = [50, 99].map((share) => median(held.map((delay) => delay.percentile(share) / 1e6)));
      const max = Math.max(...held.map((delay) => delay.max / 1e6));
      process.send?.({ streams: listeners, p50, p99, max, cost: cpu / listeners / WRITES });
    }
  });
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

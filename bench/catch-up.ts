// npx tsx --tsconfig tsconfig.build.json bench/catch-up.ts [dist of another build]
//
// What clients cost that return with an old cursor: the processor time of each event that they get, by the number of
// channels among which the events were spread, and for how long they hold the event loop at a time. With another build, that
// one takes its turn as well, and the ratios are of the same run.

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { resolve } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { fileURLToPath, pathToFileURL } from 'node:url';

const CHANNELS = [1, 10, 100];
const EVENTS = 100_000;
const ROUNDS = 5;
// As many as one that reads nothing gets into the buffers of the kernel, and no more.
const SILENT = 20;

interface Measure {
  /** Microseconds of processor time for each event. */
  readonly cpu: number;
  /** Milliseconds that the event loop was held at the most. */
  readonly held: number;
}

const [role, ...args] = process.argv.slice(2);
if (role === 'server') await server(args[0] as string, Number(args[1]));
else await main(role);

async function main(other: string | undefined): Promise<void> {
  const builds = ['dist', ...(other === undefined ? [] : [other])].map((build) => resolve(build));
  for (const channels of CHANNELS) {
    const all = new Map(builds.map((build) => [build, [] as Measure[]]));
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const build of builds) all.get(build)?.push(await measure(build, channels));
    }
    const [own, before] = builds.map((build) => middle(all.get(build) as Measure[]));
    const ratio =
      before === undefined
        ? ''
        : `; ${show(before)} before: ${((own as Measure).cpu / before.cpu).toFixed(2)} of it`;
    console.log(`${channels} channels: ${show(own as Measure)}${ratio}`);
  }
}

async function measure(build: string, channels: number): Promise<Measure> {
  const child = fork(fileURLToPath(import.meta.url), ['server', build, String(channels)]);
  const [{ port, cursor }] = (await once(child, 'message')) as [{ port: number; cursor: string }];
  const names = Array.from({ length: channels }, (_, index) => `chan_id=${index}`).join('&');
  const request = `GET /?${names}&last_event_id=${cursor} HTTP/1.1\r\nHost: localhost\r\n\r\n`;
  const reader = connect(port, '127.0.0.1', () => reader.write(request));
  let tail = '';
  for await (const piece of reader) {
    tail = (tail + piece.toString('latin1')).slice(-100);
    if (tail.includes(`-${EVENTS}@`)) break;
  }
  const silent: Socket[] = [];
  child.send('read');
  const [cpu] = (await once(child, 'message')) as [number];
  for (let index = 0; index < SILENT; index += 1) {
    const socket = connect(port, '127.0.0.1', () => socket.write(request));
    socket.on('error', () => {}).pause();
    silent.push(socket);
  }
  await once(child, 'message');
  child.send('held');
  const [held] = (await once(child, 'message')) as [number];
  for (const socket of silent) socket.destroy();
  child.kill();
  await once(child, 'exit');
  return { cpu: cpu / EVENTS, held };
}

async function server(build: string, channels: number): Promise<void> {
  const { comet } = (await import(
    pathToFileURL(`${build}/esm/index.js`).href
  )) as typeof import('../lib/index.js');
  const push = comet({ log: { frames: EVENTS, bytes: 2 ** 30, age: null } });
  const all = Array.from({ length: channels }, (_, index) => push.channels.create({ name: String(index) }));
  const cursor = `${push.inspect().epoch}-0`;
  for (let index = 0; index < EVENTS; index += 1) all[index % channels]?.write('x'.repeat(20));
  const http = createServer(push).listen(0, '127.0.0.1');
  await once(http, 'listening');
  const delay = monitorEventLoopDelay({ resolution: 1 });
  let joined = 0;
  push.on('join', () => {
    joined += 1;
    // The kernel has taken what it will, some turns after the last has come.
    if (joined === SILENT + 1) setTimeout(() => process.send?.('joined'), 1000);
  });
  const { user, system } = process.cpuUsage();
  process.on('message', (message) => {
    if (message === 'read') {
      const now = process.cpuUsage();
      process.send?.(now.user + now.system - user - system);
      delay.enable();
    } else process.send?.(delay.max / 1e6);
  });
  process.send?.({ port: (http.address() as AddressInfo).port, cursor });
}

function middle(measures: readonly Measure[]): Measure {
  const of = (key: keyof Measure) =>
    measures.map((one) => one[key]).sort((a, b) => a - b)[measures.length >> 1] as number;
  return { cpu: of('cpu'), held: of('held') };
}

function show({ cpu, held }: Measure): string {
  return `${cpu.toFixed(2)} us an event, the event loop held for ${held.toFixed(0)} ms at the most`;
}

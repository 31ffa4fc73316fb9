// npx tsx --tsconfig tsconfig.build.json bench/paired.ts [streams] [bytes of data] [processes] [writes a turn]
//
// What a delivery takes beside one bare `socket.write` of all that a turn has, all in one process, which they take turns
// in: so nothing tells them apart that makes one process dearer than the next. The report has the median of each process's
// turns, as a ratio to the bare socket's, and of those the median and the range.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createNetServer, type Server, type Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import express from 'express';
import { comet } from '../dist/esm/index.js';
import { median } from './report.js';
import { compiled, here, pinned, prepare, typescript } from './tools.js';

const HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n';
// Of each; V8 compiles until some 280,000 are delivered.
const WARMUP_DELIVERIES = 400_000;
const DELIVERIES = 300_000;
const WINDOW = 64;

/** One of those who take turns. */
interface Subject {
  readonly name: string;
  readonly server: Server;
  /** Where a stream is opened. */
  readonly path: string;
  streams(): number;
  write(): void;
}

/** What each took in one process: medians of its turns, in µs of CPU a delivery. */
type Costs = Record<string, number>;

let id = 0;

const [role, ...rest] = process.argv.slice(2);
if (role === 'turns') await takeTurns(Number(rest[0]), Number(rest[1]), Number(rest[2]));
else await main(...[role ?? 1000, rest[0] ?? 64, rest[1] ?? 5, rest[2] ?? 1].map(Number));

async function main(streams = 0, bytes = 0, processes = 0, burst = 0): Promise<void> {
  prepare();
  const runs: Costs[] = [];
  for (let run = 0; run < processes; run += 1) {
    const file = fileURLToPath(import.meta.url).slice(here('.').length);
    const [command, args] = pinned(0, typescript(file, ['turns', ...[streams, bytes, burst].map(String)]));
    const child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, NODE_ENV: 'production' },
    });
    const said = await text(child.stdout);
    if (said === '') throw new Error('A process ended before its turns did.');
    runs.push(JSON.parse(said));
  }
  console.log(`${bytes} bytes to ${streams} streams, ${burst} a turn, ${processes} processes\n`);
  console.log('| | µs of CPU | × | range |\n|---|---|---|---|');
  const [base = ''] = Object.keys(runs[0] ?? {});
  for (const name of Object.keys(runs[0] ?? {})) {
    const costs = runs.map((costs) => costs[name] as number);
    const ratios = runs.map((costs) => (costs[name] as number) / (costs[base] as number));
    const [least, most] = [Math.min(...ratios), Math.max(...ratios)].map((ratio) => ratio.toFixed(2));
    console.log(
      `| ${name} | ${median(costs).toFixed(2)} | ${median(ratios).toFixed(2)} | ${least} – ${most} |`,
    );
  }
}

async function takeTurns(streams: number, bytes: number, burst: number): Promise<void> {
  const data = '^'.padEnd(bytes, 'the quick brown fox jumps over the lazy dog ');
  const subjects = [bareSocket(data, burst), routeSocket(data, burst), ours(data, burst)];
  const acknowledgements = new Map<Subject, Readable>();
  for (const subject of subjects) acknowledgements.set(subject, await connect(subject, streams, burst));

  const turn = async (subject: Subject) => {
    const arrived = once(acknowledgements.get(subject) as Readable, 'data');
    const before = process.cpuUsage();
    subject.write();
    await arrived;
    const { user, system } = process.cpuUsage(before);
    return (user + system) / streams / burst;
  };
  const rounds = async (deliveries: number) => {
    const turns = new Map(subjects.map((subject) => [subject, [] as number[]]));
    for (let round = 0; round * streams < deliveries; round += 1) {
      for (const subject of shuffled(subjects)) turns.get(subject)?.push(await turn(subject));
    }
    return turns;
  };
  await rounds(WARMUP_DELIVERIES);
  const measured = await rounds(DELIVERIES);
  const costs = Array.from(acknowledgements.keys(), (subject) => [
    subject.name,
    median(measured.get(subject) ?? []),
  ]);
  process.stdout.write(JSON.stringify(Object.fromEntries(costs)), () => process.exit());
}

/** Who follows whom is not to matter. */
function shuffled<T>(items: readonly T[]): T[] {
  const places = items.map((item) => ({ item, at: Math.random() }));
  return places.toSorted((a, b) => a.at - b.at).map(({ item }) => item);
}

/** Opens the streams of one, from a process of their own. Returns what tells that all of a turn has arrived. */
async function connect(subject: Subject, streams: number, burst: number): Promise<Readable> {
  const { server, path } = subject;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const paths = here('.cache/paths');
  writeFileSync(paths, `${path}\n`);
  const [command, args] = pinned(
    1,
    compiled('client.c', ['127.0.0.1', port, paths, 'http', streams, 0, 0, WINDOW, streams * burst, 0]),
  );
  // Its stdin ends with this process, and the client with it.
  const client = spawn(command, args, { stdio: ['pipe', 'ignore', 'inherit', 'pipe'] });
  client.once('exit', () => process.exit(1));
  const acknowledged = client.stdio[3] as Readable;
  await once(acknowledged, 'data');
  while (subject.streams() < streams) await setTimeout(10);
  return acknowledged;
}

function bareSocket(data: string, burst: number): Subject {
  const sockets = new Set<Socket>();
  const server = createNetServer({ noDelay: true }, (socket) => {
    socket.once('data', () => {
      socket.write(HEAD);
      sockets.add(socket);
    });
    socket.on('error', () => socket.destroy());
  });
  return { name: 'bare socket', server, path: '/', ...writing(sockets, () => eventsOf(data, burst)) };
}

/** What there is to reach under Express: the sockets belong to requests of an Express route. */
function routeSocket(data: string, burst: number): Subject {
  const sockets = new Set<Socket>();
  const app = express().get('/', ({ socket }, response) => {
    response.type('text/event-stream').flushHeaders();
    sockets.add(socket);
  });
  const chunk = () => {
    const events = eventsOf(data, burst);
    return `${events.length.toString(16)}\r\n${events}\r\n`;
  };
  return {
    name: 'bare socket of an Express route',
    server: createServer(app),
    path: '/',
    ...writing(sockets, chunk),
  };
}

function ours(data: string, burst: number): Subject {
  const push = comet();
  const channel = push.channels.create<string>({ name: 'one' });
  return {
    name: 'express-comet',
    server: createServer(express().use('/channels', push)),
    path: '/channels?chan_id=one',
    streams: () => channel.listeners,
    write: () => {
      for (let each = 0; each < burst; each += 1) channel.write(data);
    },
  };
}

function writing(sockets: ReadonlySet<Socket>, textOf: () => string): Pick<Subject, 'streams' | 'write'> {
  return {
    streams: () => sockets.size,
    write: () => {
      const bytes = Buffer.from(textOf());
      for (const socket of sockets) socket.write(bytes);
    },
  };
}

function eventsOf(data: string, count: number): string {
  let events = '';
  for (let each = 0; each < count; each += 1) {
    id += 1;
    events += `id: ${id}\ndata: ${data}\n\n`;
  }
  return events;
}

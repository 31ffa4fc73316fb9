// tsx --tsconfig tsconfig.build.json bench/cluster.ts [rounds]
//
// What a backplane costs: a write on Redis beside one in process, writes a second on 1, 2 and 4 nodes, the time from a
// write to its last delivery with 1,000 listeners on two nodes, and the price of an outcome. Every contender has its
// turn in every round; the figures are medians.

import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import { createClient } from 'redis';
import { redis } from '../dist/esm/engines/redis/redis.js';
import { comet } from '../dist/esm/index.js';
import { findRedis } from '../scripts/redis.mjs';

const FILE = fileURLToPath(import.meta.url);
const LISTENERS = 1000;
const DATA = 'x'.repeat(64);

/** What a node is told to do, and what it says of it. */
interface Job {
  /** Turns of the event loop in which it writes. */
  turns: number;
  /** Writes in each. */
  burst: number;
  outcome: boolean;
  /** Milliseconds between two turns; 0 waits for the last write of a turn instead. */
  pause: number;
}

interface Done {
  /** Microseconds of CPU, user and system. */
  cpu: number;
  /** Seconds. */
  elapsed: number;
  /** When each turn was written, in nanoseconds of the machine's clock. */
  written: string[];
}

async function main(rounds: number): Promise<void> {
  const server = await startRedis();
  const samples = new Map<string, number[]>();
  const add = (name: string, value: number) => samples.set(name, [...(samples.get(name) ?? []), value]);
  for (let round = 0; round < rounds; round += 1) {
    console.error(`bench: round ${round + 1} of ${rounds}`);
    for (const url of ['', server.url]) {
      const where = url === '' ? 'in process' : 'redis';
      for (const outcome of [false, true]) {
        const { cpu, redisCpu } = await cost(url, outcome, server);
        add(`cpu of a write, ${where}${outcome ? ', outcome' : ''}`, cpu);
        if (url !== '') add(`cpu of a write in Redis itself${outcome ? ', outcome' : ''}`, redisCpu);
      }
    }
    for (const nodes of [1, 2, 4]) add(`writes a second, ${nodes} nodes`, await rate(server.url, nodes));
    for (const [name, url, nodes] of [
      ['in process, 1 node', '', 1],
      ['redis, 2 nodes', server.url, 2],
    ] as const) {
      for (const outcome of [false, true]) {
        const { p50, p99, cpu } = await latency(url, nodes, outcome);
        const title = `${name}${outcome ? ', outcome' : ''}`;
        add(`p50 of write to last delivery, ms, ${title}`, p50);
        add(`p99 of write to last delivery, ms, ${title}`, p99);
        add(`cpu of a write to ${LISTENERS} listeners, µs, ${title}`, cpu);
      }
    }
  }
  server.stop();
  console.log('| | median | range |\n|---|---|---|');
  for (const [name, values] of samples) {
    values.sort((a, b) => a - b);
    const [least, median, most] = [values[0], values[values.length >> 1], values.at(-1)].map(figure);
    console.log(`| ${name} | ${median} | ${least}–${most} |`);
  }
  const of = (name: string) => samples.get(name)?.[rounds >> 1] ?? Number.NaN;
  console.log('\n| ratio | |\n|---|---|');
  const ratio = (title: string, over: string, under: string) =>
    console.log(`| ${title} | ${(of(over) / of(under)).toFixed(2)} |`);
  ratio('a write on Redis to one in process', 'cpu of a write, redis', 'cpu of a write, in process');
  ratio('an outcome, on Redis, to none', 'cpu of a write, redis, outcome', 'cpu of a write, redis');
  for (const nodes of [2, 4]) {
    ratio(
      `writes a second of ${nodes} nodes to those of 1`,
      `writes a second, ${nodes} nodes`,
      'writes a second, 1 nodes',
    );
  }
  const [two, one] = ['redis, 2 nodes', 'in process, 1 node'];
  for (const part of ['p50', 'p99']) {
    const name = `${part} of write to last delivery, ms`;
    ratio(
      `${part} to the last of ${LISTENERS} on two nodes, to in process`,
      `${name}, ${two}`,
      `${name}, ${one}`,
    );
  }
  const each = `cpu of a write to ${LISTENERS} listeners, µs`;
  ratio(
    `an outcome of ${LISTENERS} listeners on two nodes to none`,
    `${each}, ${two}, outcome`,
    `${each}, ${two}`,
  );
}

/** CPU of a write to one listener, 16 writes a turn: of the node, and of Redis. */
async function cost(url: string, outcome: boolean, server: Redis) {
  const cluster = await Cluster.start(url, 1, 1);
  await cluster.run({ turns: 100, burst: 16, outcome, pause: 0 });
  const before = await server.cpu();
  const { cpu } = await cluster.run({ turns: 300, burst: 16, outcome, pause: 0 });
  const redisCpu = ((await server.cpu()) - before) / (300 * 16);
  await cluster.stop();
  return { cpu: cpu / (300 * 16), redisCpu };
}

/** Writes a second that all nodes together get accepted, each writing 64 a turn as fast as that goes. */
async function rate(url: string, nodes: number): Promise<number> {
  const cluster = await Cluster.start(url, nodes, 1);
  const job = { turns: 50, burst: 64, outcome: false, pause: 0 };
  await cluster.runAll(job);
  const done = await cluster.runAll({ ...job, turns: 200 });
  await cluster.stop();
  return (nodes * 200 * 64) / Math.max(...done.map(({ elapsed }) => elapsed));
}

/** From the write to the last of all its deliveries, at 20 writes a second. */
async function latency(url: string, nodes: number, outcome: boolean) {
  const cluster = await Cluster.start(url, nodes, LISTENERS / nodes);
  await cluster.run({ turns: 20, burst: 1, outcome, pause: 50 });
  const arrivals = cluster.arrivals(100);
  const { cpu, written } = await cluster.run({ turns: 100, burst: 1, outcome, pause: 50 });
  const last = await arrivals;
  await cluster.stop();
  const times = last.map((at, turn) => Number(BigInt(at) - BigInt(written[turn] ?? '0')) / 1e6);
  times.sort((a, b) => a - b);
  return { p50: times[50] ?? 0, p99: times[98] ?? 0, cpu: cpu / 100 };
}

class Cluster {
  private constructor(
    readonly nodes: readonly ChildProcess[],
    readonly client: ChildProcess,
  ) {}

  static async start(url: string, count: number, listeners: number): Promise<Cluster> {
    // One name for each cluster, so that none meets what another has left.
    const prefix = url === '' ? '' : `${url} bench-${process.hrtime.bigint()}`;
    const nodes = Array.from({ length: count }, () => fork(FILE, ['node', prefix]));
    const ports = await Promise.all(nodes.map(async (node) => (await once(node, 'message'))[0] as number));
    const client = fork(FILE, ['client', JSON.stringify(ports.map((port) => [port, listeners]))]);
    await once(client, 'message');
    return new Cluster(nodes, client);
  }

  /** One node writes; the CPU is that of all. */
  async run(job: Job): Promise<Done> {
    const idle = { ...job, turns: 0 };
    const reports = this.nodes.map((node) => once(node, 'message') as Promise<[Done]>);
    this.nodes[0]?.send(job);
    const [first] = (await reports[0]) as [Done];
    for (const node of this.nodes.slice(1)) node.send(idle);
    const others = await Promise.all(reports.slice(1));
    return { ...first, cpu: others.reduce((sum, [{ cpu }]) => sum + cpu, first.cpu) };
  }

  async runAll(job: Job): Promise<Done[]> {
    return Promise.all(
      this.nodes.map(async (node) => {
        node.send(job);
        return ((await once(node, 'message')) as [Done])[0];
      }),
    );
  }

  /** When the last listener had each of the next turns. */
  async arrivals(turns: number): Promise<string[]> {
    this.client.send(turns);
    return ((await once(this.client, 'message')) as [string[]])[0];
  }

  async stop(): Promise<void> {
    const all = [...this.nodes, this.client];
    const gone = all.map((child) => once(child, 'exit'));
    for (const child of all) child.kill('SIGKILL');
    await Promise.all(gone);
  }
}

async function node(where: string): Promise<void> {
  const [url, prefix] = where.split(' ');
  const backplane = url ? redis({ client: createClient({ url }), prefix: prefix ?? '' }) : undefined;
  const push = comet({ backplane });
  await push.health();
  const channel = push.channels.open<string>('load');
  const http = createServer(push).listen(0, '127.0.0.1');
  await once(http, 'listening');
  let before = process.cpuUsage();
  process.on('message', async ({ turns, burst, outcome, pause }: Job) => {
    const began = performance.now();
    const written: string[] = [];
    for (let turn = 0; turn < turns; turn += 1) {
      written.push(String(process.hrtime.bigint()));
      const asked: Promise<unknown>[] = [];
      for (let write = 0; write < burst - 1; write += 1) {
        if (outcome) asked.push(channel.send(DATA));
        else channel.write(DATA);
      }
      // The last of a turn is always asked after where nothing else sets the pace.
      if (outcome || pause === 0) asked.push(channel.send(`${DATA}~`));
      else channel.write(`${DATA}~`);
      if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
      await Promise.all(asked);
    }
    const { user, system } = process.cpuUsage(before);
    const elapsed = (performance.now() - began) / 1000;
    process.send?.({ cpu: user + system, elapsed, written } satisfies Done);
    before = process.cpuUsage();
  });
  process.send?.((http.address() as AddressInfo).port);
}

/** So many streams on each port; tells when the last of them had the mark of each turn. */
function client(targets: [port: number, streams: number][]): void {
  const MARK = '~'.charCodeAt(0);
  const seen: number[] = [];
  let wanted = 0;
  let last: string[] = [];
  let opening = targets.reduce((sum, [, streams]) => sum + streams, 0);
  const all = opening;
  let begun = 0;
  const arrived = (stream: number) => {
    const turn = (seen[stream] ?? 0) - begun;
    seen[stream] = turn + begun + 1;
    if (turn < 0 || wanted === 0) return;
    counts[turn] = (counts[turn] ?? 0) + 1;
    if (counts[turn] !== all) return;
    last[turn] = String(process.hrtime.bigint());
    if (turn === wanted - 1) process.send?.(last);
  };
  let counts: number[] = [];
  let stream = 0;
  for (const [port, streams] of targets) {
    for (let index = 0; index < streams; index += 1) {
      const own = stream++;
      const socket = connect({ port, host: '127.0.0.1' });
      socket.write('GET /load HTTP/1.1\r\nHost: localhost\r\n\r\n');
      socket.once('data', () => {
        opening -= 1;
        if (opening === 0) process.send?.('open');
      });
      socket.on('data', (bytes) => {
        for (let at = bytes.indexOf(MARK); at !== -1; at = bytes.indexOf(MARK, at + 1)) arrived(own);
      });
    }
  }
  process.on('message', (turns: number) => {
    wanted = turns;
    begun = Math.max(...seen, 0);
    counts = [];
    last = [];
  });
}

interface Redis {
  readonly url: string;
  stop(): void;
  /** Microseconds of CPU that it has taken. */
  cpu(): Promise<number>;
}

async function startRedis(): Promise<Redis> {
  const { path, env } = findRedis();
  const port = 20_000 + (process.pid % 10_000);
  const server = spawn(
    path,
    ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'],
    { env },
  );
  for await (const line of server.stdout) if (String(line).includes('Ready to accept connections')) break;
  server.stdout.resume();
  const url = `redis://127.0.0.1:${port}`;
  const client = await createClient({ url }).connect();
  const cpu = async () => {
    const info = await client.info('cpu');
    const used = [...info.matchAll(/used_cpu_(?:sys|user):([\d.]+)/g)].map(([, seconds]) => Number(seconds));
    return used.reduce((sum, seconds) => sum + seconds, 0) * 1e6;
  };
  const stop = () => {
    client.destroy();
    server.kill();
  };
  return { url, cpu, stop };
}

function figure(value: number | undefined): string {
  return (value ?? Number.NaN).toPrecision(3).replace(/e\+\d+$/, (tail) => `·10^${tail.slice(2)}`);
}

const [role, ...args] = process.argv.slice(2);
if (role === 'node') await node(args[0] ?? '');
else if (role === 'client') client(JSON.parse(args[0] ?? '[]'));
else await main(Number(role ?? 5));

import { once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import type { Deliveries, Load, Opened } from '../cases.js';
import type { Contender } from '../contenders.js';
import { layouts } from '../layouts.js';

/** How often a server pings its clients, where it would by itself: not while another has its part. */
export const PING_MS = 3_600_000;

/** What the harness has to know of a server. */
export interface Served {
  /** The port, of one that listens already. */
  server: Server | number;
  /** Where a stream is opened by GET; a query says which channels. */
  path: string;
  /** Streams open now. */
  streams(): number;
  /** Sends an event to all streams of a channel, which most servers have one of. */
  write(data: string, channel: number): void;
  /** The same, where an outcome can be asked for. Rejects unless every stream got it. */
  send?(data: string, channel: number): Promise<void>;
  /** Microseconds of CPU. Default: those of this process. */
  cpu?(): number;
}

// The byte that the client counts: in each event once, and in nothing else that a server sends.
const MARK = '^';
// V8 compiles for two seconds where turns are short; and a server that takes very long for each is hot before it had as many.
const WARMUP_LEAST_MS = 2500;
const WARMUP_MOST_MS = 10_000;
const LEAD_MOST_MS = 2000;
// In which a process lets go of memory that it has no more use for.
const SETTLE_MS = 100;

const { load, contender } = JSON.parse(process.argv[2] as string) as { load: Load; contender: Contender };

export const { variant, build, layout = 'one' } = contender;

/** Channels that there must be, by their numbers. */
export const channels = layouts[layout].channels(load.streams);

/** The channels that a request asks for. */
export function channelsOf(url: string | undefined): number[] {
  return Array.from((url ?? '').matchAll(/chan_id=(\d+)/g), ([, id]) => Number(id));
}

/**
 * Puts a server under load, in a process of its own, and measures what the process takes. Stdin brings a byte from the
 * client when the streams are open that were to be opened, and when all of a turn has arrived; and one from the bench, where
 * the next part is to begin. Stdout takes `{ port, path }`, `{ ready: true }` once the first part may begin, and of each part
 * what was measured; before that `{ ready: true }` once more, where its streams may be opened.
 */
export async function serve(served: Served): Promise<void> {
  // Whoever started this process is gone: however that came about, nothing is left behind.
  process.stdin.resume().on('end', () => process.exit());

  const opened = once(process.stdin, 'data');
  say({ port: await portOf(served.server), path: served.path });
  await opened;
  const expected = load.measure === 'deliveries' ? load.streams : load.warmup;
  // A client may have the head of its response before it is entered among the streams.
  while (served.streams() < expected) await setTimeout(10);

  if (load.measure === 'deliveries') await deliver(served, load);
  else await open(served, load.measure);
}

async function portOf(server: Server | number): Promise<number> {
  if (typeof server === 'number') return server;
  server.listen({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

async function deliver(served: Served, load: Deliveries): Promise<never> {
  const { bytes, streams, burst, warmup, lead, turns, least = 0, interval = 0 } = load;
  const write = contender.outcome ? served.send : served.write;
  if (write === undefined) throw new Error('This server tells no outcome.');
  const data = MARK.padEnd(bytes, 'the quick brown fox jumps over the lazy dog ');
  const { written } = layouts[layout];
  let turn = 0;
  let times: string[] = [];

  // Never the next turn before the last has arrived everywhere: fan-outs that overlap would merge.
  const run = async (count: number, { least = 0, most = Infinity, pause = 0 } = {}) => {
    const first = turn;
    const begun = performance.now();
    const isEnough = (turns: number, time: number) => (turns >= count && time >= least) || time >= most;
    for (; !isEnough(turn - first, performance.now() - begun); turn += 1) {
      const chosen = written(turn, streams);
      const arrived = once(process.stdin, 'data');
      const start = performance.now();
      if (pause > 0) times.push(`${turn} ${process.hrtime.bigint()}`);
      // Only what is a promise: Promise.all of 1,000 times nothing would be put down to the server.
      const outcomes: Promise<void>[] = [];
      for (let each = 0; each < burst; each += 1) {
        for (const channel of chosen) {
          const outcome = write(data, channel);
          if (outcome !== undefined) outcomes.push(outcome);
        }
      }
      await arrived;
      await Promise.all(outcomes);
      const rest = start + pause - performance.now();
      if (rest > 0) await setTimeout(rest);
    }
  };
  // Where latency is measured, the client knows the warm-up by its turns.
  await run(warmup, interval > 0 ? {} : { least: WARMUP_LEAST_MS, most: WARMUP_MOST_MS });
  say({ ready: true });
  for (;;) {
    await once(process.stdin, 'data');
    await run(lead, { most: LEAD_MOST_MS });
    const done = stopwatch(served);
    const first = turn;
    times = [];
    await run(turns, { least, pause: interval });
    say({ ...done(), measured: turn - first, turns: turn, times });
  }
}

async function open(served: Served, measure: Opened['measure']): Promise<never> {
  say({ ready: true });
  for (;;) {
    await once(process.stdin, 'data');
    say(await (measure === 'connects' ? connect(served) : remember()));
  }
}

async function connect(served: Served) {
  const done = stopwatch(served);
  await grow();
  return done();
}

async function remember() {
  const before = await memory();
  await grow();
  const after = await memory();
  return { resident: after.rss - before.rss, heap: after.heapUsed - before.heapUsed };
}

async function grow(): Promise<void> {
  const opened = once(process.stdin, 'data');
  say({ ready: true });
  await opened;
}

async function memory(): Promise<NodeJS.MemoryUsage> {
  for (let time = 0; time < 3; time += 1) {
    await setTimeout(SETTLE_MS);
    global.gc?.();
  }
  return process.memoryUsage();
}

/** Microseconds of CPU and of time, from now on. */
function stopwatch({ cpu = ownCpu }: Served): () => { cpu: number; elapsed: number } {
  const before = { cpu: cpu(), time: performance.now() };
  return () => ({ cpu: cpu() - before.cpu, elapsed: (performance.now() - before.time) * 1000 });
}

function ownCpu(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

function say(message: object): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout } from 'node:timers/promises';
import type { Deliveries, Figure, Load } from './cases.js';
import type { Contender } from './contenders.js';
import { pathsOf } from './layouts.js';
import { type Command, compiled, here, pinned, typescript } from './tools.js';

// Of a round that takes seconds. A server that loses an event waits for it for ever.
const LIMIT_MS = 120_000;
// Streams that are opened at one time where their opening is not measured.
const WINDOW = 64;

/** What a round has measured. */
export type Sample = Partial<Record<Figure, number>>;

/** What a server says: see harness.ts. */
interface Said {
  port?: number;
  path?: string;
  go?: true;
  cpu?: number;
  elapsed?: number;
  times?: string[];
  /** Turns before the measured ones, and those. */
  before?: number;
  measured?: number;
  resident?: number;
  heap?: number;
}

/**
 * One round: a server in a process of its own on core 0, its clients in another on core 1.
 * Both exit when their stdin ends, so that they can't outlive this process however it ends.
 * @throws unless all streams were opened, and the clients counted exactly what was written, on every stream
 */
export async function round(contender: Contender, load: Load, flags: readonly string[]): Promise<Sample> {
  const [serverCommand, serverArguments] = pinned(0, serverOf(contender, load, flags));
  const server = spawn(serverCommand, serverArguments, {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, NODE_ENV: 'production' },
  });
  const running: ChildProcess[] = [server];
  try {
    const messages = createInterface(server.stdout)[Symbol.asyncIterator]();
    const address = await said(messages);

    const [clientCommand, clientArguments] = pinned(1, clientOf(contender, load, address));
    const client = spawn(clientCommand, clientArguments, {
      // What it acknowledges goes to the server without a detour through this process.
      stdio: ['pipe', 'pipe', 'inherit', server.stdin],
    });
    running.push(client);
    const result = text(client.stdout as Readable);

    const stopped = Promise.race([
      once(client, 'exit').then(() => undefined),
      setTimeout(LIMIT_MS, undefined, { ref: false }),
    ]);
    let measured = await Promise.race([said(messages), stopped]);
    if (measured?.go) {
      client.stdin?.write('\n');
      measured = await Promise.race([said(messages), stopped]);
    }
    client.stdin?.end(linesOf(measured?.times ?? [], load));
    const counted = (await result).trim().split(' ').map(Number);
    check(contender, load, counted, measured);

    server.stdin.end();
    await once(server, 'exit');
    return sampleOf(measured as Said, load, counted.slice(4));
  } finally {
    for (const child of running) child.kill('SIGKILL');
  }
}

function serverOf(contender: Contender, load: Load, flags: readonly string[]): Command {
  const file = `servers/${contender.server}`;
  if (!file.endsWith('.c')) {
    const gc = load.measure === 'memory' ? ['--expose-gc'] : [];
    return typescript(file, [JSON.stringify({ load, contender })], [...flags, ...gc]);
  }
  const { bytes, streams, burst, warmup, turns, interval = 0 } = load as Deliveries;
  return compiled(file, [bytes, streams, burst, warmup, turns, interval]);
}

function clientOf(
  { protocol = 'http', layout = 'one' }: Contender,
  load: Load,
  { port = 0, path = '' }: Said,
) {
  const paths = here('.cache/paths');
  writeFileSync(paths, `${pathsOf(layout, load.streams, path).join('\n')}\n`);
  const { measure, streams } = load;
  if (measure !== 'deliveries') {
    return compiled('client.c', [
      '127.0.0.1',
      port,
      paths,
      protocol,
      load.warmup,
      streams,
      load.window,
      0,
      0,
    ]);
  }
  // Of so many turns it is to remember when they arrived: at full speed that would tell nothing.
  const remembered = load.interval === undefined ? 0 : load.warmup + load.turns;
  const turn = streams * load.burst;
  return compiled('client.c', ['127.0.0.1', port, paths, protocol, streams, 0, WINDOW, turn, remembered]);
}

/** When each of the measured turns was written, for the client. */
function linesOf(times: readonly string[], load: Load): string {
  if (load.measure !== 'deliveries' || load.interval === undefined) return '';
  return times.map((time, turn) => (turn < load.warmup ? '' : `${turn} ${time}\n`)).join('');
}

function check({ name }: Contender, load: Load, counted: readonly number[], said: Said | undefined): void {
  let expected = [load.warmup + load.streams, 0, 0, 0];
  if (load.measure === 'deliveries') {
    const { before = load.warmup, measured = load.turns } = said ?? {};
    const each = (before + measured) * load.burst;
    expected = [load.streams, each * load.streams, each, each];
  }
  const seen = counted.slice(0, 4).join(' ');
  if (said !== undefined && seen === expected.join(' ')) return;
  throw new Error(
    `${name}: the clients counted ${seen || 'nothing'}, not ${expected.join(' ')} ` +
      '(streams that are open, events in all, fewest and most on a stream)',
  );
}

function sampleOf(said: Said, load: Load, delays: readonly number[]): Sample {
  const { cpu, elapsed, resident, heap } = said;
  if (resident !== undefined && heap !== undefined) {
    return { resident: resident / load.streams / 1024, heap: heap / load.streams / 1024 };
  }
  if (cpu === undefined || elapsed === undefined)
    throw new Error('The server said nothing that it measured.');
  const count =
    load.streams * (load.measure === 'deliveries' ? (said.measured ?? load.turns) * load.burst : 1);
  const speed = { cost: cpu / count, rate: (count / elapsed) * 1e6 };
  if (load.measure !== 'deliveries' || load.interval === undefined) return speed;
  const [p50 = 0, p99 = 0, last = 0] = delays.map((delay) => delay / 1e6);
  return { cost: speed.cost, p50, p99, last };
}

async function said(messages: AsyncIterator<string>): Promise<Said> {
  const { value, done } = await messages.next();
  if (done) throw new Error('The server ended before its round.');
  return JSON.parse(value);
}

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

// In a pause V8 would use the time to collect: that fills the caches of whoever has its part meanwhile, and no server that is
// at work has such a pause.
const STEADY = '--no-memory-reducer';
// When V8 collects, by what is measured.
const collecting: Readonly<Record<Load['measure'], readonly string[]>> = {
  deliveries: [STEADY],
  // A collection of the whole heap takes a third of all that 4,000 openings take, and would fall among them by chance. What
  // it has to do is what streams hold, and that is measured.
  connects: [STEADY, '--initial-old-space-size=1024'],
  memory: ['--expose-gc'],
};

/** What a round has measured of a contender. */
export type Sample = Partial<Record<Figure, number>>;

/** What a server says: see harness.ts. */
interface Said {
  port?: number;
  path?: string;
  ready?: true;
  cpu?: number;
  elapsed?: number;
  /** Turns that were measured, and all there were until now. */
  measured?: number;
  turns?: number;
  /** When measured turns were written: `NUMBER NS`. */
  times?: string[];
  resident?: number;
  heap?: number;
}

/**
 * A contender's server in a process of its own on core 0, and its clients in another on core 1.
 * Both exit when their stdin ends, so that they can't outlive this process however it ends.
 */
export class Bout {
  readonly #load: Load;
  readonly #server: ChildProcess;
  readonly #messages: AsyncIterator<string>;
  #client: ChildProcess | undefined;
  #counted: Promise<string> | undefined;
  #stopped: Promise<undefined> | undefined;
  readonly #parts: Said[] = [];

  constructor(
    readonly contender: Contender,
    load: Load,
    flags: readonly string[],
  ) {
    this.#load = load;
    const [command, args] = pinned(0, serverOf(contender, load, flags));
    this.#server = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, NODE_ENV: 'production' },
    });
    this.#messages = createInterface(this.#server.stdout as Readable)[Symbol.asyncIterator]();
  }

  /** Opens the streams that are there before anything is measured, and lets the server become hot. */
  async prepare(): Promise<void> {
    const [command, args] = pinned(1, clientOf(this.contender, this.#load, await said(this.#messages)));
    this.#client = spawn(command, args, {
      // What it acknowledges goes to the server without a detour through this process.
      stdio: ['pipe', 'pipe', 'inherit', this.#server.stdin],
    });
    this.#counted = text(this.#client.stdout as Readable);
    this.#stopped = once(this.#client, 'exit').then(() => undefined);
    await this.#said();
  }

  /** Has one part of what is measured. */
  async part(): Promise<void> {
    this.#server.stdin?.write('\n');
    if (this.#load.measure !== 'deliveries') {
      await this.#said();
      this.#client?.stdin?.write('\n');
    }
    this.#parts.push(await this.#said());
  }

  /** Ends both processes. Returns what was measured. */
  async end(): Promise<Sample> {
    const lines = this.#parts.flatMap(({ times = [] }) => times);
    this.#client?.stdin?.end(lines.map((line) => `${line}\n`).join(''));
    const counted = await this.#count();
    this.#check(counted);
    this.#server.stdin?.end();
    await once(this.#server, 'exit');
    return sampleOf(this.#parts, this.#load, counted.slice(4));
  }

  kill(): void {
    this.#server.kill('SIGKILL');
    this.#client?.kill('SIGKILL');
  }

  /** What the server says next; what the clients have counted is told instead where it says nothing. */
  async #said(): Promise<Said> {
    const late = setTimeout(LIMIT_MS, undefined, { ref: false });
    const message = await Promise.race([said(this.#messages), this.#stopped, late]);
    if (message !== undefined) return message;
    this.#client?.stdin?.end();
    throw new Error(`${this.contender.name}: the clients counted ${(await this.#count()).join(' ')}.`);
  }

  async #count(): Promise<number[]> {
    return ((await this.#counted) ?? '').trim().split(' ').map(Number);
  }

  #check(counted: readonly number[]): void {
    const { measure, warmup, streams } = this.#load;
    let expected = [warmup + streams, 0, 0, 0];
    if (measure === 'deliveries') {
      const each = (this.#parts.at(-1)?.turns ?? 0) * this.#load.burst;
      expected = [streams, each * streams, each, each];
    }
    const seen = counted.slice(0, 4).join(' ');
    if (seen === expected.join(' ')) return;
    throw new Error(
      `${this.contender.name}: the clients counted ${seen}, not ${expected.join(' ')} ` +
        '(streams that are open, events in all, fewest and most on a stream)',
    );
  }
}

function serverOf(contender: Contender, load: Load, flags: readonly string[]): Command {
  const file = `servers/${contender.server}`;
  if (!file.endsWith('.c')) {
    return typescript(file, [JSON.stringify({ load, contender })], [...flags, ...collecting[load.measure]]);
  }
  const { bytes, streams, burst, warmup, lead, turns, least = 0, interval = 0 } = load as Deliveries;
  return compiled(file, [bytes, streams, burst, warmup, lead, turns, least, interval]);
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
      streams / load.parts,
      load.parts,
      load.window,
      0,
      0,
    ]);
  }
  // Of so many turns it is to remember when they arrived: at full speed that would tell nothing.
  const remembered = load.interval === undefined ? 0 : load.warmup + load.parts * (load.lead + load.turns);
  const turn = streams * load.burst;
  return compiled('client.c', ['127.0.0.1', port, paths, protocol, streams, 0, 0, WINDOW, turn, remembered]);
}

function sampleOf(parts: readonly Said[], load: Load, delays: readonly number[]): Sample {
  const sum = (of: (part: Said) => number | undefined) =>
    parts.reduce((sum, part) => sum + (of(part) ?? Number.NaN), 0);
  if (load.measure === 'memory') {
    const each = (bytes: number) => bytes / load.streams / 1024;
    return { resident: each(sum(({ resident }) => resident)), heap: each(sum(({ heap }) => heap)) };
  }
  const isWritten = load.measure === 'deliveries';
  const count = load.streams * (isWritten ? sum(({ measured }) => measured) * load.burst : 1);
  const cost = sum(({ cpu }) => cpu) / count;
  if (!isWritten || load.interval === undefined) {
    return { cost, rate: (count / sum(({ elapsed }) => elapsed)) * 1e6 };
  }
  const [p50 = 0, p99 = 0, last = 0] = delays.map((delay) => delay / 1e6);
  return { cost, p50, p99, last };
}

async function said(messages: AsyncIterator<string>): Promise<Said> {
  const { value, done } = await messages.next();
  if (done) throw new Error('The server ended before its round.');
  return JSON.parse(value);
}

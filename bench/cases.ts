/** One server under load. */
export interface Contender {
  name: string;
  /** Its file in servers/. */
  server: string;
  /** Asks for the outcome of each write. Default: nobody asks. */
  outcome?: true;
}

/** What is written in a round, and to how many. */
export interface Load {
  /** Bytes of data in an event. */
  bytes: number;
  streams: number;
  /** Writes in one turn of the event loop. */
  burst: number;
  /** Turns before the measured ones, in which the code becomes hot. */
  warmup: number;
  /** Turns that are measured. */
  turns: number;
}

export interface Case {
  name: string;
  title: string;
  load: Load;
  contenders: readonly Contender[];
  /** The greatest share of a peer's CPU that express-comet may take. */
  goal?: { peer: string; share: number };
}

/** The measure of all others. */
export const subject: Contender = { name: 'express-comet', server: 'express-comet.ts' };

const asking: Contender = { name: 'express-comet, outcome asked', server: 'express-comet.ts', outcome: true };

const all: readonly Contender[] = [
  subject,
  { name: 'better-sse', server: 'better-sse.ts' },
  { name: 'bare res.write', server: 'response.ts' },
  { name: 'bare socket', server: 'socket.ts' },
];

const single: Load = { bytes: 64, streams: 1000, burst: 1, warmup: 200, turns: 200 };

export const cases: readonly Case[] = [
  {
    name: 'single',
    title: '64 bytes to 1,000 streams, one write at a time',
    load: single,
    contenders: all,
    goal: { peer: 'better-sse', share: 0.72 },
  },
  {
    name: 'burst',
    title: '64 bytes to 1,000 streams, 16 writes in one turn of the event loop',
    load: { ...single, burst: 16, warmup: 20, turns: 20 },
    contenders: all,
    goal: { peer: 'better-sse', share: 0.12 },
  },
  {
    name: 'outcome',
    title: '64 bytes to 1,000 streams, one write at a time, with and without its outcome',
    load: single,
    contenders: [subject, asking],
  },
  {
    name: 'kib',
    title: '1 KiB to 1,000 streams, one write at a time',
    load: { ...single, bytes: 1024 },
    contenders: all,
  },
];

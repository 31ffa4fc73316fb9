import {
  bare,
  betterSse,
  type Contender,
  nchan,
  ours,
  peers,
  socketIo,
  sseChannel,
  subject,
  ws,
} from './contenders.js';

/** What is written in a round, and to how many. */
export interface Deliveries {
  measure: 'deliveries';
  /** Bytes of data in an event. */
  bytes: number;
  streams: number;
  /** Writes in one turn of the event loop, on each channel that is written to. */
  burst: number;
  /** Turns before the measured ones, in which the code becomes hot: at the least, but in no more than ten seconds. */
  warmup: number;
  /** Parts of what is measured, between which others have theirs. */
  parts: number;
  /**
   * Turns at the beginning of each part that are not measured, unless they take two seconds.
   *
   * A connection that was quiet for longer than its retransmission timeout (200 ms at the least) acknowledges its next 16
   * segments one by one, and each of them costs its sender some 2.5 µs more (`tcp_incr_quickack` of Linux).
   */
  lead: number;
  /** Turns of a part that are measured, at the least. */
  turns: number;
  /** Milliseconds that those take, at the least. Default: as long as they do. */
  least?: number;
  /** Milliseconds from one measured turn to the next, at the least. Default: as soon as the last has arrived. */
  interval?: number;
}

/** Streams that are opened. */
export interface Opened {
  measure: 'connects' | 'memory';
  streams: number;
  /** Opened before them, and left open. */
  warmup: number;
  /** Parts of them, between which others open theirs. */
  parts: number;
  /** Opened at one time, at the most. */
  window: number;
}

export type Load = Deliveries | Opened;

/** What a round measures of a contender, each of the keys of `units`. */
export type Figure = keyof typeof units;

/** Less is better, but for what is counted a second. */
export const units = {
  cost: 'µs of CPU',
  rate: 'a second',
  p50: 'p50, ms',
  p99: 'p99, ms',
  last: 'p50 of the last, ms',
  resident: 'resident, KiB',
  heap: 'heap, KiB',
} as const;

/** At most so much of what the least of others takes; or, with `more`, so much more. */
export interface Goal {
  figure: Figure;
  /** Default: express-comet. */
  who?: Contender;
  beside: readonly Contender[];
  most: number;
  more?: true;
}

export interface Case {
  name: string;
  title: string;
  load: Load;
  contenders: readonly Contender[];
  /** At most so many, of what hardly moves from one to the next. */
  rounds?: number;
  goals?: readonly Goal[];
}

const cost = (most: number, ...beside: readonly Contender[]): Goal => ({ figure: 'cost', beside, most });

const single: Deliveries = {
  measure: 'deliveries',
  bytes: 64,
  streams: 1000,
  burst: 1,
  warmup: 300,
  parts: 10,
  lead: 16,
  turns: 4,
  least: 250,
};
// Of what takes long, fewer parts: each has its lead.
const long: Deliveries = { ...single, parts: 5, least: 500 };
const burst: Deliveries = { ...long, burst: 16, warmup: 20 };
const connects: Opened = { measure: 'connects', streams: 4000, warmup: 8000, parts: 10, window: 32 };

export const cases: readonly Case[] = [
  {
    name: 'single',
    title: '64 bytes to 1,000 streams, one write at a time',
    load: single,
    contenders: [subject, ...peers, bare.response, bare.socket, bare.send],
    goals: [cost(1.1, bare.socket), cost(0.68, betterSse)],
  },
  {
    name: 'few',
    title: '64 bytes to 100 streams, one write at a time',
    load: { ...single, streams: 100, warmup: 3000 },
    contenders: [subject, betterSse, ws, bare.routed, bare.socket, bare.send],
    goals: [cost(1.1, bare.socket), cost(0.68, betterSse)],
  },
  {
    name: 'many',
    title: '64 bytes to 5,000 streams, one write at a time',
    load: { ...long, streams: 5000, warmup: 60 },
    contenders: [subject, betterSse, sseChannel, ws, socketIo, nchan, bare.response, bare.socket, bare.send],
    goals: [cost(1.1, bare.socket), cost(0.68, betterSse), cost(1, nchan)],
  },
  {
    name: 'kib',
    title: '1 KiB to 1,000 streams, one write at a time',
    load: { ...single, bytes: 1024 },
    contenders: [subject, betterSse, sseChannel, ws, bare.response, bare.socket, bare.send],
    goals: [cost(1.1, bare.socket), cost(0.4, betterSse)],
  },
  {
    name: '16kib',
    title: '16 KiB to 500 streams, one write at a time',
    load: { ...long, bytes: 16_384, streams: 500, warmup: 600 },
    contenders: [subject, betterSse, sseChannel, ws, bare.response, bare.routed, bare.socket, bare.send],
    goals: [cost(1.1, bare.socket), cost(0.15, betterSse)],
  },
  {
    name: 'burst',
    title: '64 bytes to 1,000 streams, 16 writes in one turn of the event loop',
    load: burst,
    contenders: [subject, ...peers, bare.response, bare.socket, bare.shared, bare.send],
    goals: [cost(1.15, bare.shared), cost(0.11, betterSse), cost(0.27, ...peers)],
  },
  {
    name: 'kib-burst',
    title: '1 KiB to 1,000 streams, 16 writes in one turn of the event loop',
    load: { ...burst, bytes: 1024 },
    contenders: [subject, betterSse, bare.shared, bare.send],
    goals: [cost(1.15, bare.shared)],
  },
  {
    name: 'outcome',
    title: '64 bytes to 1,000 streams, one write at a time, with and without its outcome',
    load: single,
    contenders: [subject, ours.outcome],
    goals: [{ ...cost(1.05, subject), who: ours.outcome }],
  },
  {
    name: 'outcome-burst',
    title: '64 bytes to 1,000 streams, 16 writes in one turn, each with and without its outcome',
    load: burst,
    contenders: [subject, ours.outcome],
    goals: [{ ...cost(1.05, subject), who: ours.outcome }],
  },
  {
    name: 'response',
    title: '64 bytes to 1,000 streams whose response.write is somebody’s own, one write at a time',
    load: single,
    contenders: [ours.response, bare.response, bare.wrapped],
    goals: [bare.response, bare.wrapped].map((beside) => ({ ...cost(1.15, beside), who: ours.response })),
  },
  {
    name: 'channels',
    title: '64 bytes to 1,000 streams of 20 channels each, one event a stream and turn',
    load: single,
    contenders: [
      subject,
      ours.same,
      ours.own,
      ours.overlapping,
      { ...betterSse, layout: 'same' },
      bare.socket,
    ],
    goals: [ours.same, ours.own, ours.overlapping].map((who) => ({ ...cost(1.25, subject), who })),
  },
  {
    name: 'each',
    title: '64 bytes on each of 1,000 channels of one stream',
    load: single,
    contenders: [subject, ours.each, { ...betterSse, layout: 'each' }],
    goals: [{ ...cost(1.5, subject), who: ours.each }],
  },
  {
    name: 'each-burst',
    title: '64 bytes on each of 1,000 channels of one stream, 16 times in one turn of the event loop',
    load: burst,
    contenders: [ours.each, { ...betterSse, layout: 'each' }],
    goals: [{ ...cost(0.6, betterSse), who: ours.each }],
  },
  {
    name: 'retained',
    title: '64 bytes to 1,000 streams of a channel that retains few and many frames',
    load: single,
    contenders: [ours.frames('1'), ours.frames('1,000'), ours.frames('100,000'), bare.socket],
  },
  {
    name: 'paced',
    title: '64 bytes to 5,000 streams, 10 writes a second',
    load: { ...single, streams: 5000, warmup: 60, parts: 5, turns: 6, least: 0, interval: 100 },
    contenders: [subject, betterSse, ws, socketIo, bare.socket, bare.send],
    goals: [{ ...cost(1.4, bare.send), figure: 'p50' }],
  },
  {
    name: 'connects',
    title: '4,000 streams opened, 32 at a time',
    load: connects,
    contenders: [subject, ours.http, ...peers, bare.route, bare.response],
    goals: [cost(1.15, bare.route), { ...cost(1.15, bare.response), who: ours.http }],
  },
  {
    name: 'connects-serial',
    title: '4,000 streams opened, one after the other',
    load: { ...connects, window: 1 },
    contenders: [subject, betterSse, bare.route],
    goals: [cost(1.15, bare.route)],
  },
  {
    name: 'memory',
    title: '10,000 idle streams, after a collection: of each',
    // What grows once, whoever is at work, has grown before: V8's young generation alone is 16 MiB and more.
    load: { measure: 'memory', streams: 10_000, warmup: 9000, parts: 1, window: 32 },
    rounds: 3,
    contenders: [subject, ours.http, ...peers, bare.route, bare.response, bare.socket],
    goals: (['heap', 'resident'] as const).flatMap((figure) => [
      { figure, beside: [bare.route], most: 1, more: true },
      { figure, who: ours.http, beside: [bare.response], most: 1, more: true },
    ]),
  },
];

import type { ChannelSettings } from '../core/options.js';
import type { Tally, Verdict } from '../core/outcome.js';
import type { Batch, Frame } from '../sse/frame.js';
import { Log } from './log.js';

/** A listener, as its feeds see it. */
export interface Reader {
  /** Writes the batch, unless it stands elsewhere. Returns whether all of it was delivered, at once. */
  take(batch: Batch): boolean;
  /** The position from which it has yet to read a feed. */
  standing(feed: Feed): number;
  /** Reads on at once, if it is behind only since it was about to be: the feed's log is letting go what it has yet to read. */
  hurry(): void;
  /** The feed's log has let go what it had yet to read. */
  overrun(feed: Feed): void;
  /** Something of these feeds is lost to it: it tells its client, and they start anew. */
  gap(feeds: ReadonlySet<Feed>): void;
  /** A new epoch has begun: its position means nothing, and all its feeds start anew. */
  reset(): void;
}

/** Who writes no faster than a feed is read. */
export interface Writer {
  /** Some of those who read may stand elsewhere: they were given what is new, have drained, came or left. */
  moved(): void;
  /** Nothing more is to be written. */
  stop(): void;
}

/** Frames of one feed that go out together: those of its log that stand behind its last flush. */
export interface News {
  readonly feed: Feed;
  readonly frames: Frame[];
  /** These alone, for the groups of several feeds that have no other news; made for the first of them. */
  batch: Batch | undefined;
}

let serial = 0;

const NOBODY: ReadonlySet<Writer> = new Set();
const NOTHING: readonly Tally[] = [];

/** One channel, seen from below: its log, who reads it, and which of its writes await their outcome. */
export class Feed {
  readonly log: Log;
  readonly lag: ChannelSettings['lag'];
  readonly rewind: number;
  readonly serial = ++serial;
  /** The sets of feeds that it is in and that have readers. */
  readonly groups = new Set<Group>();
  /** Streams open now. */
  listeners = 0;
  /** Every reader that is not blocked has been given what stands up to here. */
  flushed: number;
  /** What the flush has yet to deliver, if anything. */
  news: News | undefined;
  /** The `seq` of the last event, once the channel has ended. */
  endedAt: number | undefined;

  // What most feeds never have is made when they first do: an empty set weighs 0.2 KiB, and where there are very many feeds
  // a look into it misses the processor's caches twice.
  #writers: Set<Writer> | undefined;
  // By `seq`: a set keeps the order of insertion, and a tally can leave from its middle.
  #open: Set<Tally> | undefined;
  // Those who are behind, and since when, in milliseconds of `performance.now()`; those who are so for the longest first.
  #laggards: Map<Reader, number> | undefined;
  // No laggard stands below it, so that a log that lets go less has nobody to tell.
  #slowest = Infinity;

  /**
   * @param head where the order stands as the channel is made
   * @param lastEnd up to here an earlier channel of this name may have ended; of one that another node may have made, an
   *   engine says so later
   */
  constructor(
    readonly chanId: string,
    settings: ChannelSettings,
    head: number,
    public lastEnd: number,
  ) {
    this.log = new Log(settings.log, head);
    this.lag = settings.lag;
    this.rewind = settings.rewind;
    this.flushed = head;
  }

  /** Marks the feed as ended by the event at `seq`: who has read that is done with it. */
  end(seq: number): void {
    this.endedAt = seq;
    for (const group of this.groups) group.ending = true;
  }

  /** Awaits the outcome of the write that comes next. */
  track(tally: Tally): void {
    this.#open ??= new Set();
    this.#open.add(tally);
    this.#settleIfComplete(tally);
  }

  /** Counts `streams` as delivered for every open write after `from`, up to `to`. */
  credit(streams: number, from: number, to: number): void {
    for (const tally of this.#between(from, to)) {
      tally.credit(streams);
      this.#settleIfComplete(tally);
    }
  }

  /** Counts one stream for every open write after `from`, up to `to`. */
  count(verdict: Verdict, stream: Reader, from: number, to: number): void {
    for (const tally of this.#between(from, to)) {
      tally.count(verdict, stream);
      this.#settleIfComplete(tally);
    }
  }

  /** As `count`, for writes that this stream will come past again. */
  countOnce(verdict: Verdict, stream: Reader, from: number, to: number): void {
    for (const tally of this.#between(from, to)) {
      tally.countOnce(verdict, stream);
      this.#settleIfComplete(tally);
    }
  }

  /** A reader that has joined now is not among the listeners of the writes that were made before. */
  exempt(stream: Reader): void {
    for (const tally of this.#open ?? NOTHING) tally.exempt(stream);
  }

  /** A reader is behind: it has to be told when the log lets go what it has yet to read. */
  lagging(reader: Reader): void {
    this.#laggards ??= new Map();
    // Only a writer that waits asks since when, and a look at the clock costs something.
    const since = this.#laggards.get(reader) ?? (this.writers.size > 0 ? performance.now() : 0);
    this.#laggards.set(reader, since);
    this.#slowest = Math.min(this.#slowest, reader.standing(this));
  }

  /** A reader is live again, or gone. */
  caughtUp(reader: Reader): void {
    this.#laggards?.delete(reader);
    this.moved();
  }

  /** Whether there are readers, and all of them are behind. */
  get isBlocked(): boolean {
    return this.listeners > 0 && (this.#laggards?.size ?? 0) >= this.listeners;
  }

  /**
   * Whether some who are behind would be overrun by so many more frames, of so many bytes: since when the first of them
   * is, who was not yet behind at `after`.
   */
  straggling(frames: number, bytes: number, after: number): number | undefined {
    const floor = this.log.floorAfter(frames, bytes);
    if (floor <= this.#slowest) return undefined;
    let slowest = Infinity;
    for (const [reader, since] of this.#laggards ?? []) {
      const standing = reader.standing(this);
      if (standing < floor && since > after) return since;
      slowest = Math.min(slowest, standing);
    }
    this.#slowest = slowest;
    return undefined;
  }

  /** Those who are told how it is read. */
  get writers(): ReadonlySet<Writer> {
    return this.#writers ?? NOBODY;
  }

  enlist(writer: Writer): void {
    const now = performance.now();
    if (this.writers.size === 0)
      for (const [reader] of this.#laggards ?? []) this.#laggards?.set(reader, now);
    this.#writers ??= new Set();
    this.#writers.add(writer);
  }

  dismiss(writer: Writer): void {
    this.#writers?.delete(writer);
  }

  /** Tells the writers. */
  moved(): void {
    if (this.#writers !== undefined) for (const writer of this.#writers) writer.moved();
  }

  /** Whether an event was written on the channel, or its end. */
  get hasBegun(): boolean {
    return !this.log.isWhole || this.log.size > 0;
  }

  /** Has the laggards that have yet to read the frame at `seq` do so, if they can. */
  hurry(seq: number): void {
    if (this.#laggards === undefined || seq <= this.#slowest) return;
    for (const [reader] of this.#laggards) if (reader.standing(this) < seq) reader.hurry();
  }

  /** Tells the laggards that the log has left behind. */
  overrun(): void {
    const laggards = this.#laggards;
    if (laggards === undefined || this.log.floor <= this.#slowest) return;
    this.#slowest = Infinity;
    for (const [reader] of laggards) {
      if (reader.standing(this) < this.log.floor) reader.overrun(this);
      if (laggards.has(reader)) this.#slowest = Math.min(this.#slowest, reader.standing(this));
    }
  }

  /** The readers, each once. */
  *readers(): Generator<Reader> {
    for (const group of this.groups) yield* group.readers;
  }

  /** Counts, for a write that came late, each reader that has read past its place and will never get it. */
  countMissed(seq: number): void {
    if (this.#open === undefined || this.#open.size === 0) return;
    for (const reader of this.readers()) {
      if (reader.standing(this) >= seq) this.countOnce('overrun', reader, seq - 1, seq);
    }
  }

  /** Adds, for each reader that is behind, the retained frames that wait for it. */
  addWaiting(waiting: Map<Reader, number>): void {
    for (const [reader] of this.#laggards ?? []) {
      const frames = this.log.sizeAfter(reader.standing(this));
      if (frames > 0) waiting.set(reader, (waiting.get(reader) ?? 0) + frames);
    }
  }

  #between(from: number, to: number): Iterable<Tally> {
    // As a rule nobody asks.
    return this.#open === undefined || this.#open.size === 0 ? NOTHING : walk(this.#open, from, to);
  }

  #settleIfComplete(tally: Tally): void {
    if (!tally.complete) return;
    this.#open?.delete(tally);
    const settle = () => tally.settled(tally.outcome);
    // Never inside the write that asked for it; and where nobody listens, so that a loop that awaits its writes lets the
    // event loop go round, and somebody in.
    if (tally.listeners === 0) setImmediate(settle);
    else queueMicrotask(settle);
  }
}

function* walk(tallies: Iterable<Tally>, from: number, to: number): IterableIterator<Tally> {
  for (const tally of tallies) {
    if (tally.seq > to) return;
    if (tally.seq > from) yield tally;
  }
}

/** What logs hold, and how far listeners are behind. */
export interface Backlog {
  /** Frames that are retained. */
  readonly frames: number;
  /** Bytes of them. */
  readonly bytes: number;
  /** Listeners whose stream is blocked while retained frames wait for them. */
  readonly lagging: number;
  /** The most frames that wait for one of those. */
  readonly lag: number;
}

/** That of several feeds together: a reader of more than one is one listener. */
export function backlogOf(feeds: Iterable<Feed>): Backlog {
  const waiting = new Map<Reader, number>();
  let frames = 0;
  let bytes = 0;
  let lag = 0;
  for (const feed of feeds) {
    frames += feed.log.size;
    bytes += feed.log.bytes;
    feed.addWaiting(waiting);
  }
  for (const waits of waiting.values()) lag = Math.max(lag, waits);
  return { frames, bytes, lagging: waiting.size, lag };
}

/** The readers that share one set of feeds: a batch that is made for one of them serves them all. */
export class Group {
  readonly readers = new Set<Reader>();
  /** Whether a feed of it has ended, and a reader that comes to that end has to move on. */
  ending: boolean;
  /** Whether there is more than one feed. */
  readonly isJoint: boolean;

  constructor(
    readonly key: string,
    readonly feeds: readonly Feed[],
  ) {
    this.isJoint = feeds.length > 1;
    this.ending = feeds.some((feed) => feed.endedAt !== undefined);
  }
}

/** The groups of a hub that have readers. */
export class Groups {
  readonly #groups = new Map<string, Group>();

  /** Adds a reader to the group of these feeds, which are distinct and one or more. */
  join(reader: Reader, feeds: readonly Feed[]): Group {
    const sorted = feeds.length === 1 ? feeds : feeds.toSorted((a, b) => a.serial - b.serial);
    const key = sorted.map((feed) => feed.serial).join();
    let group = this.#groups.get(key);
    if (group === undefined) {
      group = new Group(key, sorted);
      this.#groups.set(key, group);
      for (const feed of sorted) feed.groups.add(group);
    }
    group.readers.add(reader);
    for (const feed of sorted) {
      feed.listeners += 1;
      feed.moved();
    }
    return group;
  }

  leave(reader: Reader, group: Group): void {
    if (!group.readers.delete(reader)) return;
    for (const feed of group.feeds) {
      feed.listeners -= 1;
      feed.moved();
    }
    if (group.readers.size > 0) return;
    this.#groups.delete(group.key);
    for (const feed of group.feeds) feed.groups.delete(group);
  }
}

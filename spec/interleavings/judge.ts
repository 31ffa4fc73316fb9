import type { LeaveReason, Outcome } from '../../lib/index.js';
import { type Cursor, type Stream, seqOf, standingOf, type Told } from './stream.js';

/** One entry of the order. `data` is undefined for the end of a channel. */
export interface Item {
  readonly name: string;
  readonly seq: number;
  readonly data: string | undefined;
}

/** What the channels of one interleaving retain, each the same on all hubs. */
export interface Retention {
  readonly frames: number;
  readonly age: number | null;
  readonly rewind: number;
  readonly lag: 'close' | 'latest';
}

/** A stream, as its hub tells of it. */
export interface Joined {
  readonly names: readonly string[];
  /** Where the order stood on its hub then. */
  readonly head: number;
  /** Where its hub says that it begins. */
  readonly position: number;
  /** It had left before the write of that number, of all hubs, was made. */
  leftAt: number;
  /** When it left, in milliseconds of `performance.now()`. */
  endedAt?: number;
  reason: LeaveReason | undefined;
}

export interface Asked {
  readonly name: string;
  readonly data: string;
  /** Its number among the writes of all hubs. */
  readonly at: number;
  outcome: Outcome | undefined;
  /** The stream that was dismissed right behind the write, if the outcome must count it; known when the outcome is. */
  mustCount?: (() => Stream | undefined) | undefined;
  dismissed?: Stream | undefined;
}

/** What a channel starts with. */
export interface Beginning {
  readonly items: readonly Item[];
  /** So many of them, from the first, may have been let go. */
  readonly optional: number;
}

/** What is known of an interleaving, and what is promised there. */
export interface Case {
  readonly epoch: string;
  readonly channels: ReadonlyMap<string, Retention>;
  readonly items: readonly Item[];
  /** Whether a name that waits hears of every channel that is made. */
  readonly isWhole: boolean;
  /** No outcome may be unknown. */
  readonly isCalm: boolean;
  joined(stream: Stream): Joined | undefined;
  readonly joins: Iterable<Joined>;
  startOf(stream: Stream, name: string): Beginning;
  /** Why a client that stands at `seq` may be told of a gap as its stream opens. */
  excuse(stream: Stream, name: string, seq: number): string | undefined;
  /** Why an open stream may be told that something of a channel is lost. */
  excuseLoss(stream: Stream, name: string, isNext: boolean): string | undefined;
  /** Whether something of a channel may be missing before that is told. */
  isLoose(stream: Stream, name: string): boolean;
  /** Whether it may fall off the history of a channel. */
  mayBeCut(stream: Stream): boolean;
  /** Whether outcomes may leave out streams that heard it: Redis has lost all that it knew of them. */
  mayLeaveOut(name: string): boolean;
  /** Whether a stream may be ended in order: because its hub has closed, or has dismissed it. */
  mayEnd(): boolean;
  /** Throws where the answer without a stream is wrong. */
  refusal(stream: Stream): void;
}

export class Anomaly extends Error {}

/** What a stream has yet to hear of one name. */
interface Reading {
  readonly items: readonly Item[];
  next: number;
  /** Items before this one may be left out. */
  optional: number;
  /** The channel of the first that is heard is another one than was there before. */
  isJoining: boolean;
  /** Channels of the name that were before may be left out: it was told so. */
  isLoose?: boolean;
}

/** Says what a stream must have heard: every event of its names since it began, once, in order; or it is told of the gap. */
export class Judge {
  /** Why gaps were said, how many times. */
  readonly excuses: Record<string, number> = {};
  readonly #case: Case;
  readonly #byName = new Map<string, Item[]>();
  readonly #empty = new Set<Item>();
  // What was wrong with streams while they were waited for.
  readonly #wrong = new Map<Stream, Error>();

  constructor(of: Case) {
    this.#case = of;
    for (const item of of.items) {
      const own = this.#byName.get(item.name) ?? [];
      if (item.data === undefined && own.at(-1)?.data === undefined) this.#empty.add(item);
      own.push(item);
      this.#byName.set(item.name, own);
    }
  }

  /** Whether it is the end of a channel on which nothing was written. */
  isEmpty(item: Item | undefined): boolean {
    return item !== undefined && this.#empty.has(item);
  }

  of(name: string): readonly Item[] {
    return this.#byName.get(name) ?? [];
  }

  /** Whether it has all that it will ever hear. What is wrong with it is said by `stream`. */
  isComplete(stream: Stream): boolean {
    if (stream.over) return true;
    try {
      return new Walk(stream, this.#case, this).missing === undefined;
    } catch (error) {
      this.#wrong.set(stream, error as Error);
      return true;
    }
  }

  stream(stream: Stream): void {
    const { reason } = this.#case.joined(stream) ?? {};
    const isCut = reason === 'overrun' && this.#case.mayBeCut(stream);
    if (stream.opening === undefined) {
      if (!stream.left && !isCut) this.#case.refusal(stream);
      return;
    }
    const walk = new Walk(stream, this.#case, this);
    for (const excuse of walk.excuses) this.excuses[excuse] = (this.excuses[excuse] ?? 0) + 1;
    if (stream.left) return;
    if (stream.over) {
      const isEnded = (reason === 'drained' || reason === 'dismissed') && this.#case.mayEnd();
      if (walk.carried.size > 0 && !isCut && !isEnded) walk.fail(`was closed for no reason (${reason})`);
    } else if (walk.carried.size === 0) walk.fail('was not closed at its end');
    else if (walk.missing !== undefined) {
      walk.fail(`missed ${walk.missing}, and was wrong before: ${this.#wrong.get(stream)?.message}`);
    }
  }

  /** Whether a stream carried the channel of an item when it opened, or waited for it. */
  #isFirst(stream: Stream, { name, seq }: Item): boolean {
    const { head = 0 } = this.#case.joined(stream) ?? {};
    return !this.of(name).some((one) => one.data === undefined && one.seq > head && one.seq < seq);
  }

  /** What was asked of each write, and what became of it. */
  outcome({ name, data, at, outcome, dismissed }: Asked, streams: readonly Stream[], dropped: boolean): void {
    const of = `the outcome of ${data} on ${name}, ${JSON.stringify(outcome)}`;
    if (outcome === undefined) throw new Anomaly(`${of}, never came`);
    const { status, listeners, delivered, failed, unknown } = outcome;
    if (delivered + failed + unknown !== listeners) throw new Anomaly(`${of}, does not add up`);
    if ((status === 'success') !== (delivered === listeners))
      throw new Anomaly(`${of}, has the wrong status`);
    if (dropped) {
      if (delivered > 0) throw new Anomaly(`${of}, of a write that was refused`);
      return;
    }
    const { isCalm, isWhole, joins } = this.#case;
    // On several hubs one of some 3,000 runs has such an outcome: that is known, and to be explained.
    if (isCalm && isWhole && unknown > 0) throw new Anomaly(`${of}, is unknown for no reason`);
    const item = this.of(name).find((one) => one.data === data);
    if (item === undefined) throw new Anomaly(`${of}, is of what nobody saw`);
    const present = streams.filter((stream) => {
      const { head = Infinity } = this.#case.joined(stream) ?? {};
      const { names, added } = stream.wish;
      const isOfIt = names.includes(name) || added.includes(name);
      return isOfIt && head < item.seq && !stream.left && !stream.over;
    });
    const walks = present.map((stream) => new Walk(stream, this.#case, this));
    // Those that carried the channel, and are here at the end, were here when their nodes took it.
    const certain = walks.filter((walk) => walk.live.has(item));
    const isOwed =
      dismissed !== undefined && !dismissed.left && this.#isFirst(dismissed, item) && listeners === 0;
    if (unknown === 0 && isOwed) {
      new Walk(dismissed, this.#case, this).fail(`was dismissed behind the write, and is left out of ${of}`);
    }
    if (unknown === 0 && listeners < certain.length && !this.#case.mayLeaveOut(name)) {
      certain[0]?.fail(`and ${certain.length - 1} others: one of them is not counted by ${of}`);
    }
    const possible = [...joins].filter((one) => {
      return one.names.includes(name) && one.head < item.seq && one.leftAt >= at;
    });
    // Where its place comes late, those count as well that have joined behind it.
    const late = isCalm ? 0 : (outcome.reasons.overrun ?? 0);
    if (unknown === 0 && listeners - late > possible.length) {
      throw new Anomaly(`${of}, has more than ${possible.length}`);
    }
    const deaf = new Map(
      present.flatMap((stream, index) => {
        const walk = walks[index] as Walk;
        return walk.heard.has(item) ? [] : [[this.#case.joined(stream), walk]];
      }),
    );
    if (delivered > possible.filter((one) => !deaf.has(one)).length) {
      const [walk] = deaf.values();
      walk?.fail(`has not heard it, and was counted by ${of}`);
      throw new Anomaly(`${of}, was delivered to more than have heard it`);
    }
  }
}

/** One stream, event by event. Throws an Anomaly at the first that is wrong. */
class Walk {
  /** The channels that it carries at the end. */
  readonly carried: Set<string>;
  readonly excuses: string[] = [];
  readonly heard = new Set<Item>();
  /** Those of them that were written on a channel while the stream carried it. */
  readonly live = new Set<Item>();
  readonly #waiting: Set<string>;
  // Of names that wait, with several hubs: from where on nothing may be left out without a word.
  readonly #since = new Map<string, number>();
  readonly #readings = new Map<string, Reading>();
  readonly #stream: Stream;
  readonly #case: Case;
  readonly #judge: Judge;
  // Every event up to here was heard.
  #at = 0;
  // What the ids of a start that is under way begin with, and up to where it has come.
  #start: { prefix: string; last: number } | undefined;
  // Names whose channel is a later one than the stream carried, or waited for, when it opened.
  readonly #next = new Set<string>();
  // Names of which it was told an end without a position.
  readonly #dropped = new Set<string>();

  constructor(stream: Stream, of: Case, judge: Judge) {
    this.#stream = stream;
    this.#case = of;
    this.#judge = judge;
    const { channels = [], waiting = [] } = stream.opening ?? {};
    this.carried = new Set(channels);
    this.#waiting = new Set(waiting);
    const [opening, ...told] = stream.told as [Told, ...Told[]];
    this.#open(opening.id ?? '');
    for (const one of told) this.#hear(one);
  }

  /** What it has yet to hear. */
  get missing(): string | undefined {
    for (const [name, reading] of this.#readings) {
      const item = this.#due(name, reading);
      if (item !== undefined) return show(item);
    }
    return this.#start === undefined ? undefined : 'the rest of a start';
  }

  #open(id: string): void {
    const { wish, opening } = this.#stream;
    const { listener, recovered, gaps } = opening as NonNullable<typeof opening>;
    const cursor = standingOf(wish);
    const names = new Set([...wish.names, ...wish.added]);
    for (const name of [...this.carried, ...this.#waiting, ...gaps]) {
      if (!names.has(name)) this.fail(`was told of ${name}, for which it did not ask`);
    }
    if (recovered !== (gaps.length === 0)) this.fail('is recovered, and is not');
    if (cursor.position === undefined && gaps.length > 0) this.fail('is a newcomer, and was told of a gap');
    const joined = this.#case.joined(this.#stream);
    if (listener === null) {
      this.#gone(cursor, gaps);
      return;
    }
    if (joined === undefined) throw new Anomaly('a stream of which its hub told nothing');

    const seq = this.#seqOf(cursor, joined.head);
    for (const name of gaps) {
      if (cursor.fresh.includes(name)) this.fail(`was told of a gap of ${name}, which is new`);
      const excuse = this.#excuse(cursor, seq, name);
      if (excuse === undefined) this.fail(`was told of a gap of ${name}, at ${seq}`);
      this.excuses.push(excuse as string);
    }
    let isRead = false;
    for (const name of [...this.carried, ...this.#waiting]) {
      const isNew = cursor.position === undefined || cursor.fresh.includes(name);
      if (!isNew && !gaps.includes(name)) {
        if (seq === undefined || cursor.restarts === name) this.fail(`was told of no gap of ${name}`);
        isRead ||= this.carried.has(name);
        if (this.carried.has(name) || this.#case.isWhole) this.#read(name, seq as number);
      } else if (this.carried.has(name)) {
        const { items, optional } = this.#case.startOf(this.#stream, name);
        const later = this.#judge.of(name).filter((item) => item.seq > joined.head);
        this.#readings.set(name, { items: [...items, ...later], next: 0, optional, isJoining: false });
      } else if (this.#case.isWhole) this.#read(name, joined.head);
    }
    const position = isRead ? (seq as number) : joined.head;
    for (const name of this.#waiting) {
      // To one that is new to it, or lost, it comes when its hub has asked for it: it may have ended behind the head.
      const isNew = cursor.position === undefined || cursor.fresh.includes(name) || gaps.includes(name);
      if (!isNew) this.#since.set(name, position);
    }
    if (position !== joined.position) this.fail(`begins at ${joined.position} for ${position}`);
    const before = seq === undefined ? 'gap-0' : `${this.#case.epoch}-${seq}`;
    const prefix = cursor.position === undefined ? 'new!' : `${before}${cursor.fresh.length > 0 ? '+' : ''}!`;
    if (id === prefix) this.#start = { prefix, last: 0 };
    else if (id !== `${this.#case.epoch}-${position}`) this.fail(`has opened with the id ${id}`);
    else this.#stand(position);
  }

  /** None of its channels is there any more. */
  #gone(cursor: Cursor & { fresh: readonly string[] }, gaps: readonly string[]): void {
    const { id } = this.#stream.told[0] as Told;
    if (!id?.startsWith(`gone-${this.#case.epoch}-`) || this.carried.size > 0 || gaps.length === 0)
      this.fail('is told wrongly that all is gone');
    this.#case.refusal(this.#stream);
    for (const name of gaps)
      if (cursor.fresh.includes(name)) this.fail(`was told of a gap of ${name}, which is new`);
    this.excuses.push('gone');
  }

  #seqOf({ position }: Cursor, head: number): number | undefined {
    return position?.epoch === this.#case.epoch && position.seq <= head ? position.seq : undefined;
  }

  #excuse(cursor: Cursor, seq: number | undefined, name: string): string | undefined {
    if (seq === undefined) return 'unreadable';
    if (cursor.restarts === name) return 'restarted';
    return this.#case.excuse(this.#stream, name, seq);
  }

  /** It reads a name from `seq` on. */
  #read(name: string, seq: number): void {
    const items = this.#judge.of(name).filter((item) => item.seq > seq);
    this.#readings.set(name, { items, next: 0, optional: 0, isJoining: false });
  }

  #hear(told: Told): void {
    const { id, event, data } = told;
    if (event === 'comet:ready') this.#ready(id ?? '');
    else if (event === 'comet:gap') this.#lose(JSON.parse(data).channels, told);
    else if (event === 'comet:channels') this.#change(JSON.parse(data));
    else if (event === 'comet:end' && id === undefined) this.#drop(JSON.parse(data).channel);
    else if (event === undefined || event === 'comet:end') this.#take(told);
    else this.fail(`heard ${event}`);
  }

  #ready(id: string): void {
    const at = seqOf(id);
    if (this.#start === undefined) this.fail('is ready, and had no start');
    if (at < (this.#start?.last ?? 0)) this.fail(`is ready at ${at}, behind which its start has come`);
    this.#start = undefined;
    if (at < this.#at) this.fail(`is ready at ${at} after ${this.#at}`);
    this.#stand(at);
  }

  #take({ id = '', event, data }: Told): void {
    const [before = '', label = ''] = id.split('@');
    const isStart = before.endsWith('!');
    const name = event === undefined ? label : JSON.parse(data).channel;
    if (name !== label) this.fail(`heard of ${name} by the id ${id}`);
    if (!this.carried.has(name)) this.fail(`heard ${id}, of a channel that it does not carry`);
    const reading = this.#readings.get(name) as Reading;
    const index = reading.items.findIndex((item, at) => {
      if (at < reading.next) return false;
      return event === undefined
        ? item.data === data.split(' ')[0]
        : item.data === undefined && (isStart || item.seq === seqOf(id));
    });
    const item = reading.items[index];
    if (item === undefined) this.fail(`heard ${id} ${data.slice(0, 20)}, which is none of its`);
    this.#skip(reading, index, name);
    reading.next = index + 1;
    reading.optional = 0;
    this.heard.add(item);
    if (isStart) {
      if (before !== this.#start?.prefix) this.fail(`heard ${id} in the start ${this.#start?.prefix}`);
      // Of several channels without events the id of a start does not tell which has ended.
      const isPlaced = item.data !== undefined || this.#case.isWhole;
      if (isPlaced && item.seq <= (this.#start?.last ?? 0))
        this.fail(`heard ${show(item)} after ${this.#start?.last}`);
      if (this.#start !== undefined && isPlaced) this.#start.last = item.seq;
    } else {
      if (this.#start !== undefined) this.fail(`heard ${id} before it was ready`);
      if (before !== `${this.#case.epoch}-${item.seq}`) this.fail(`heard ${show(item)} by the id ${id}`);
      if (item.seq <= this.#at) this.fail(`heard ${show(item)} after ${this.#at}`);
      this.#stand(item.seq);
      if (!this.#next.has(name)) this.live.add(item);
    }
    if (item.data !== undefined) return;
    this.carried.delete(name);
    this.#next.add(name);
    this.#waiting.add(name);
    this.#since.set(name, item.seq);
    if (!this.#case.isWhole) this.#readings.delete(name);
  }

  /** The next that it must hear. */
  #due(name: string, reading: Reading): Item | undefined {
    const { items, next, optional } = reading;
    return items.find((_, at) => at >= Math.max(next, optional) && !this.#isNothing(reading, name, at));
  }

  /** The end of a channel on which nothing was written: only who carried it from the first has to hear of that. */
  #isNothing({ items, isJoining }: Reading, name: string, at: number): boolean {
    const isFirst = at === 0 && !isJoining;
    const isCarried = isFirst && this.carried.has(name) && this.#stream.opening?.channels.includes(name);
    return this.#judge.isEmpty(items[at]) && !isCarried;
  }

  /** What stands before the one that was heard is left out. */
  #skip(reading: Reading, index: number, name: string): void {
    const { items, next, optional, isLoose = false } = reading;
    if (this.#mayOmit(name)) return;
    for (let at = Math.max(next, optional); at < index; at += 1) {
      const isOfBefore = isLoose && items.slice(at, index).some(({ data }) => data === undefined);
      if (!isOfBefore && !this.#isNothing(reading, name, at))
        this.fail(`heard ${show(items[index])} for ${show(items[at])}`);
    }
  }

  #mayOmit(name: string): boolean {
    return this.#case.channels.get(name)?.lag === 'latest' || this.#case.isLoose(this.#stream, name);
  }

  /** Its cursor says that it has heard everything up to here. */
  #stand(at: number, but: readonly string[] = []): void {
    this.#at = at;
    for (const [name, reading] of this.#readings) {
      const { items, isJoining } = reading;
      const item = this.#due(name, reading);
      if (item === undefined || item.seq > at || but.includes(name) || isJoining) continue;
      const isFollowed = items.some(({ seq, data }) => seq > at && data !== undefined);
      if (!(this.#mayOmit(name) && (isFollowed || this.#case.isLoose(this.#stream, name)))) {
        this.fail(`stands at ${at}, and was not given ${show(item)}`);
      }
    }
  }

  /** Something of these channels is lost to it: they start anew. */
  #lose(names: readonly string[], { id = '', head }: Told): void {
    for (const name of names) {
      // A hub that hears too late of a channel that another one made.
      const isJoining = this.#readings.get(name)?.isJoining === true;
      const isAwaited = !this.#case.isWhole && (this.#waiting.has(name) || isJoining);
      const excuse = this.#case.excuseLoss(this.#stream, name, this.#next.has(name) || isAwaited);
      if (excuse === undefined) this.fail(`was told that something of ${name} is lost`);
      this.excuses.push(excuse as string);
      this.#since.delete(name);
      const items = this.#judge.of(name);
      const later = items.findIndex((item) => item.seq > head);
      // Where its hub stood then is not known where there are several. Only the last write came when all was well again.
      const isLastDue = !this.#case.isWhole && this.#case.channels.get(name)?.age === null;
      const optional = later === -1 ? Math.max(items.length - (isLastDue ? 1 : 0), 0) : later;
      if (this.#readings.has(name)) this.#readings.set(name, { items, next: 0, optional, isJoining: false });
    }
    const [before = '', label] = id.split('@');
    if (!before.endsWith('!')) {
      if (this.#start !== undefined) this.fail('was told of a gap in the midst of a start');
      this.#stand(seqOf(id), names);
      return;
    }
    if (label !== undefined && (names.length > 1 || names[0] !== label))
      this.fail(`was told ${id} of ${names}`);
    if (before !== 'gap-0!') {
      if (label === undefined) this.fail(`was told ${id} of a gap`);
      this.#stand(seqOf(before), names);
    }
    this.#start = { prefix: before, last: 0 };
  }

  #change({ channels, waiting }: { channels: readonly string[]; waiting: readonly string[] }): void {
    for (const name of this.carried) if (!channels.includes(name)) this.fail(`lost ${name} without a word`);
    for (const name of channels) {
      if (this.carried.has(name)) continue;
      if (!this.#waiting.delete(name)) this.fail(`was given ${name}, for which it did not wait`);
      this.carried.add(name);
      if (this.#case.isWhole) continue;
      const since = this.#since.get(name);
      const items = this.#judge.of(name).filter(({ seq }) => seq > (since ?? this.#at));
      this.#readings.set(name, {
        items,
        next: 0,
        optional: 0,
        isJoining: true,
        isLoose: since === undefined,
      });
    }
    // One whose end stands in no history may wait for the next channel, or is given up.
    for (const name of this.#dropped) if (!waiting.includes(name)) this.#waiting.delete(name);
    const told = [...waiting].sort().join();
    if (told !== [...this.#waiting].sort().join())
      this.fail(`waits for ${told}, and for ${[...this.#waiting]}`);
  }

  /** It is told that it does not get this. */
  #drop(name: string): void {
    this.carried.delete(name);
    this.#waiting.delete(name);
    if (!this.#case.isWhole) {
      this.#waiting.add(name);
      this.#dropped.add(name);
    }
    this.#readings.delete(name);
  }

  fail(what: string): never {
    const { wish, opening, told, left, over, number } = this.#stream;
    const config = Array.from(this.#case.channels, ([name, of]) => `${name} ${JSON.stringify(of)}`);
    throw new Anomaly(
      [
        `Stream ${number} ${what}.`,
        `  asked for ${JSON.stringify({ ...wish, server: undefined, path: undefined })}`,
        `  joined ${JSON.stringify(this.#case.joined(this.#stream))}, ${JSON.stringify(opening)}`,
        `  left ${left}, over ${over}`,
        `  told ${told.map(({ id = '', event = '', data }) => `${id} ${event.slice(6)} ${data.slice(0, 60)}`.trim()).join(' | ')}`,
        `  all  ${this.#case.items.map((item) => `${show(item)} ${item.data ?? ''}`).join(' | ')}`,
        `  of   ${config.join(', ')}`,
      ].join('\n'),
    );
  }
}

export function show(item: Item | undefined): string {
  if (item === undefined) return 'nothing';
  return item.data === undefined ? `the end of ${item.name} at ${item.seq}` : `${item.seq}@${item.name}`;
}

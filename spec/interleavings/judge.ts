import type { Outcome } from '../../lib/index.js';
import { type Heard, type Stream, seqOf } from './stream.js';
import type { Item } from './witness.js';

/** What the channels of one interleaving retain, each the same on all hubs. */
export interface Retention {
  readonly frames: number;
  readonly rewind: number;
  readonly lag: 'close' | 'latest';
}

/** A stream, as its hub tells of it. */
export interface Joined {
  readonly hub: number;
  readonly channels: readonly string[];
  /** Where the order stood on its hub then. */
  readonly head: number;
  /** It had left before the write of that number, of all hubs, was made. */
  leftAt: number;
}

export interface Asked {
  readonly name: string;
  readonly data: string;
  /** Its number among the writes of all hubs. */
  readonly at: number;
  outcome: Outcome | undefined;
}

/** What is known of a hub of which the backplane was made to fail. */
export interface Trouble {
  readonly resets: number;
  readonly lost: ReadonlySet<string>;
}

export interface Case {
  readonly channels: ReadonlyMap<string, Retention>;
  readonly items: readonly Item[];
  readonly floors: ReadonlyMap<string, number>;
  readonly joins: ReadonlyMap<string, Joined>;
  readonly troubles: readonly Trouble[];
  /** Nothing failed, and no hub let a channel go. */
  readonly isCalm: boolean;
}

/** Why a gap was said, how many times. */
export type Excuses = Record<'young' | 'trimmed' | 'lost' | 'after a gap', number>;

export class Anomaly extends Error {}

/** Says what a stream must have heard, of what the witness saw. */
export class Judge {
  readonly excuses: Excuses = { young: 0, trimmed: 0, lost: 0, 'after a gap': 0 };
  readonly #case: Case;
  readonly #byName = new Map<string, Item[]>();

  constructor(of: Case) {
    this.#case = of;
    for (const item of of.items) {
      const own = this.#byName.get(item.name);
      if (own === undefined) this.#byName.set(item.name, [item]);
      else own.push(item);
    }
  }

  /** Whether it has all that it will ever hear. */
  isComplete(stream: Stream): boolean {
    if (stream.gap !== undefined) return stream.over;
    const heard = new Set(stream.heard.map(({ name, seq }) => `${name} ${seq}`));
    const isOver = (name: string) => heard.has(`${name} ${undefined}`);
    const due = this.#expected(stream);
    // What may leave something out never leaves out its last, unless that is of another channel of its name.
    const isDone = due.every((item, index) => {
      const { name, seq, data } = item;
      const isLast = due.findLastIndex((other) => other.name === name) === index;
      if (this.#of(name).lag === 'latest' && (!isLast || isOver(name) || data === undefined)) return true;
      return heard.has(`${name} ${data === undefined ? undefined : seq}`);
    });
    return isDone && (stream.over || !this.#isEnded(stream));
  }

  stream(stream: Stream): void {
    const { opening, heard, gap, left, over } = stream;
    if (opening === undefined) return;
    const expected = this.#expected(stream);
    const loose = new Set(opening.channels.filter((name) => this.#isLoose(stream, name)));
    const strict = heard.filter(({ name }) => !loose.has(name));
    const due = expected.filter(({ name }) => !loose.has(name));
    strict.forEach((one, index) => {
      if (!isSame(one, due[index])) this.#fail(`heard ${show(one)} for ${show(due[index])}`, stream, due);
    });
    this.#order(stream, expected);

    const isDone = this.#isEnded(stream);
    if (gap === undefined && !left) {
      if (strict.length < due.length) this.#fail(`missed ${show(due[strict.length])}`, stream, due);
      if (over !== isDone)
        this.#fail(over ? 'was closed for no reason' : 'was not closed at its end', stream, due);
    }
    if (!left && !this.isComplete(stream)) this.#fail('still waits', stream, expected);
    if (gap !== undefined) this.#excuseGap(stream, gap);
    this.#start(stream);
  }

  /** What was asked of each write, and what became of it. */
  outcome({ name, data, at, outcome }: Asked, streams: readonly Stream[], dropped: boolean): void {
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
    const { isCalm, joins } = this.#case;
    if (isCalm && unknown > 0) throw new Anomaly(`${of}, is unknown for no reason`);
    const item = this.#byName.get(name)?.find((one) => one.data === data);
    if (item === undefined) throw new Anomaly(`${of}, is of what nobody saw`);
    // Those that are here at the end were here when their nodes took it.
    const certain = streams.filter((stream) => {
      const { head = Infinity } = this.#joinedOf(stream) ?? {};
      const stays = !stream.left && stream.gap === undefined && !stream.over;
      const isDue = item.seq > head && !this.#isLoose(stream, name);
      return stays && isDue && this.#expected(stream).includes(item);
    });
    const missed = certain.find(({ heard }) => !heard.some(({ seq }) => seq === item.seq));
    const [some] = certain;
    if (status === 'success' && missed !== undefined) this.#fail(`was left out by ${of}`, missed, [item]);
    const mayOmit = !isCalm && status !== 'success';
    if (!mayOmit && listeners < certain.length && some !== undefined) {
      this.#fail(`and ${certain.length - 1} others: one of them is not counted by ${of}`, some, [item]);
    }
    const possible = [...joins.values()].filter((one) => {
      return one.channels.includes(name) && one.head < item.seq && one.leftAt >= at;
    });
    if (unknown === 0 && listeners > possible.length) {
      throw new Anomaly(`${of}, has more than ${possible.length}`);
    }
  }

  /** All of its channels from where it starts, each to its end, in the one order. */
  #expected(stream: Stream): Item[] {
    const { opening } = stream;
    if (opening === undefined) return [];
    const all = opening.channels.flatMap((name) => {
      const own = this.#byName.get(name) ?? [];
      const from = this.#from(stream, name);
      const later = own.filter(({ seq }) => seq > from);
      const end = later.findIndex(({ data }) => data === undefined);
      // One that leaves things out may leave out the end, too.
      return end === -1 || this.#of(name).lag === 'latest' ? later : later.slice(0, end + 1);
    });
    return all.sort((a, b) => a.seq - b.seq);
  }

  /** From where on it reads a channel. */
  #from(stream: Stream, name: string): number {
    const { opening, start, wish, heard } = stream;
    if (wish.cursor !== undefined && opening?.recovered) return start;
    const { head } = this.#headOf(stream);
    // Where something was lost the hub may retain less, and what it takes for the newest may be older.
    const first = this.#isTroubled(stream)
      ? heard.find((one) => one.name === name && (one.seq ?? Infinity) <= head)?.seq
      : this.#rewound(name, head)[0]?.seq;
    return first === undefined ? head : first - 1;
  }

  /** What of a channel a newcomer gets, who joins at `head`. */
  #rewound(name: string, head: number): Item[] {
    const { rewind, frames } = this.#of(name);
    return rewind === 0 ? [] : this.#instance(name, head).slice(-Math.min(rewind, frames));
  }

  /** What was written on the channel that had this name when the order stood at `head`. */
  #instance(name: string, head: number): Item[] {
    const before = (this.#byName.get(name) ?? []).filter(({ seq }) => seq <= head);
    return before.slice(before.findLastIndex(({ data }) => data === undefined) + 1);
  }

  /** The lowest position from which a channel could be read. */
  #floor(name: string, head: number): { begun: number; trimmed: number } {
    const own = this.#byName.get(name) ?? [];
    const instance = this.#instance(name, head);
    const [first = own.find(({ seq }) => seq > head)] = instance;
    const begun = first?.previous ?? this.#case.floors.get(name) ?? 0;
    const trimmed = instance.at(-this.#of(name).frames - 1)?.seq ?? 0;
    return { begun, trimmed };
  }

  /** Whether something of a channel may be left out, where the rest goes on. */
  #isLoose({ wish, gap, left }: Stream, name: string): boolean {
    const isLost = this.#case.troubles[wish.hub]?.lost.has(name) ?? false;
    // What follows a loss may be heard before that is told; who leaves before that is never told.
    return (
      this.#of(name).lag === 'latest' ||
      gap?.includes(name) === true ||
      (isLost && (left || gap !== undefined))
    );
  }

  /** Whether all of its channels have ended. */
  #isEnded({ opening, heard }: Stream): boolean {
    return heard.filter(({ seq }) => seq === undefined).length === opening?.channels.length;
  }

  /** Ids increase, and nothing came that nobody wrote; also on channels that may leave something out. */
  #order(stream: Stream, expected: readonly Item[]): void {
    let last = stream.start;
    for (const one of stream.heard) {
      if (one.seq === undefined) continue;
      if (one.seq <= last) this.#fail(`heard ${show(one)} after ${last}`, stream, expected);
      if (!expected.some((item) => isSame(one, item)))
        this.#fail(`heard ${show(one)}, which is none of its`, stream, expected);
      last = one.seq;
    }
  }

  #start(stream: Stream): void {
    const { opening, start, wish } = stream;
    if (opening === undefined) return;
    const { head } = this.#headOf(stream);
    if (wish.cursor !== undefined && opening.recovered) {
      if (start !== seqOf(wish.cursor)) this.#fail('starts elsewhere than at its cursor', stream, []);
      return;
    }
    const starts = opening.channels.map((name) => this.#from(stream, name));
    if (start !== Math.min(...starts)) this.#fail(`starts elsewhere than at one of ${starts}`, stream, []);
    if (wish.cursor === undefined) {
      if (!opening.recovered) this.#fail('is a newcomer, and was told of a gap', stream, []);
      return;
    }
    if (wish.cursor.startsWith('gap')) {
      this.excuses['after a gap'] += 1;
      return;
    }
    const at = seqOf(wish.cursor);
    const excuses = opening.channels
      .filter((name) => this.#of(name).lag === 'close')
      .map((name) => {
        const { begun, trimmed } = this.#floor(name, head);
        if (trimmed > at) return 'trimmed';
        if (begun > at) return 'young';
        return this.#isLost(stream, name) ? 'lost' : undefined;
      })
      .filter((excuse) => excuse !== undefined);
    const [excuse] = excuses;
    if (excuse === undefined) this.#fail(`was told of a gap at ${at}, with the order at ${head}`, stream, []);
    else this.excuses[excuse] += 1;
  }

  #excuseGap(stream: Stream, gap: readonly string[]): void {
    for (const name of gap) {
      if (!this.#isLost(stream, name)) this.#fail(`was told that something of ${name} is lost`, stream, []);
      this.excuses.lost += 1;
    }
  }

  /** Whether something of a channel may have been lost to the hub of a stream. */
  #isLost({ wish }: Stream, name: string): boolean {
    const { resets, lost } = this.#case.troubles[wish.hub] as Trouble;
    if (lost.has(name)) return true;
    // While its hub knows that it knows not all, it takes nothing: what is retained has to last, and ends with the channel.
    const own = this.#byName.get(name) ?? [];
    const isKept = own.length <= this.#of(name).frames && own.every(({ data }) => data !== undefined);
    return (resets > 0 || lost.size > 0) && !isKept;
  }

  #isTroubled({ wish }: Stream): boolean {
    const { resets, lost } = this.#case.troubles[wish.hub] as Trouble;
    return resets > 0 || lost.size > 0;
  }

  #joinedOf({ opening }: Stream): Joined | undefined {
    return this.#case.joins.get(opening?.listener ?? '');
  }

  #headOf(stream: Stream): Joined {
    const joined = this.#joinedOf(stream);
    if (joined === undefined) throw new Anomaly('a stream of which its hub told nothing');
    return joined;
  }

  #of(name: string): Retention {
    return this.#case.channels.get(name) as Retention;
  }

  #fail(what: string, stream: Stream, due: readonly Item[]): never {
    const { wish, opening, start, heard, gap, left } = stream;
    const { resets, lost } = this.#case.troubles[wish.hub] as Trouble;
    const config = Array.from(this.#case.channels, ([name, of]) => `${name} ${JSON.stringify(of)}`);
    throw new Anomaly(
      [
        `A stream ${what}.`,
        `  on hub ${wish.hub} (${resets} resets, lost of ${[...lost]}), asked for ${wish.names} from ${wish.cursor ?? 'now'}`,
        `  starts at ${start}, its hub at ${this.#joinedOf(stream)?.head}, ${JSON.stringify(opening)}`,
        `  gap ${gap ?? 'none'}, left ${left}`,
        `  heard ${heard.map(show).join(' ')}`,
        `  due   ${due.map(show).join(' ')}`,
        `  all   ${this.#case.items.map((item) => `${show(item)}(${item.seq} after ${item.previous})`).join(' ')}`,
        `  of    ${config.join(', ')}`,
      ].join('\n'),
    );
  }
}

function isSame(one: Heard, item: Item | undefined): boolean {
  if (item === undefined || one.name !== item.name) return false;
  return one.seq === undefined ? item.data === undefined : one.seq === item.seq && one.data === item.data;
}

function show(one: Heard | Item | undefined): string {
  if (one === undefined) return 'nothing';
  const isEnd = one.data === undefined || one.seq === undefined;
  return isEnd ? `the end of ${one.name}` : `${one.seq}@${one.name}`;
}

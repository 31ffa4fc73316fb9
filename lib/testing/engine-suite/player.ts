import { deepEqual, equal, ok } from 'node:assert/strict';
import { v4 as uuid } from 'uuid';
import type {
  Append,
  Appended,
  Backplane,
  Bounds,
  Entry,
  Findings,
  Link,
  Made,
  Node,
  Question,
  RemoteLink,
  Retained,
  Snapshot,
  Terms,
} from '../../core/backplane.js';
import { BackplaneError, type Happened } from '../../core/errors.js';
import type { Watch } from './watch.js';

export const BOUNDS: Bounds = { frames: 1000, bytes: 2 ** 20, age: 5 * 60_000 };
// What is made has numbers of its own, far from those that a test names.
const MADE = 1_000_000;

export const TERMS: Terms = { log: BOUNDS, lag: 'close', rewind: 0 };

/** A node that does what a test tells it, and keeps what it is told. */
export class Player implements Node {
  readonly id: string;
  readonly link: Link;
  /** Entries and marks, as they came. */
  readonly arrivals: (Entry | string)[] = [];
  readonly words: string[] = [];
  /** Channels that were made, as that came. */
  readonly creations: Made[] = [];
  /** How often the connection was there, and how often it was lost. */
  readonly lives = { begun: 0, lost: 0 };
  /** Is called inside `receive`. */
  onReceive: ((entry: Entry) => void) | undefined;
  epoch = '';
  readonly #watch: Watch;
  // Channels that it has, with where the order stood then and how much had arrived.
  readonly #held = new Map<string, readonly [last: number, arrived: number]>();
  readonly #listeners = new Map<string, number>();
  #number = 0;
  #made = MADE;
  #marks = 0;

  constructor(name: string, backplane: Backplane, watch: Watch) {
    this.id = `${name}-${uuid().slice(0, 8)}`;
    this.#watch = watch;
    this.link = backplane.connect(this);
    watch.cleanup(() => this.link.close());
    equal(this.lives.begun, 0, 'connect() must return before the node is connected');
  }

  /** Resolves once the node is connected, and knows the epoch. */
  async enter(): Promise<void> {
    if (this.link.direct !== undefined) {
      this.epoch = this.link.direct.position.epoch;
      return;
    }
    await this.#watch.until(`${this.id} to be connected`, () => this.lives.begun > this.lives.lost);
    await this.sync();
  }

  /** For tests of what only a link to another process has. */
  get remote(): RemoteLink {
    if (this.link.direct !== undefined) throw new Error('The link is direct.');
    return this.link;
  }

  /** The names of the channels that were made, as that came. */
  get madeChannels(): readonly string[] {
    return this.creations.map(({ chanId }) => chanId);
  }

  get entries(): readonly Entry[] {
    return this.arrivals.filter((arrival) => typeof arrival !== 'string');
  }

  /** What has come of a channel, or of all; `null` is an end. */
  bodies(chanId?: string): readonly (string | null)[] {
    return this.entries
      .filter((entry) => chanId === undefined || entry.chanId === chanId)
      .map(({ body }) => body);
  }

  /** Makes new channels. */
  async create(...chanIds: string[]): Promise<void> {
    for (const chanId of chanIds) await this.make(chanId);
  }

  /** Makes a new channel, among the appends. Returns the `seq` up to which ends are of earlier ones, or 0. */
  async make(chanId: string, terms = TERMS): Promise<number> {
    if (this.link.direct === undefined) {
      const { seq } = await this.append(chanId, null, { made: terms, number: ++this.#made });
      return seq;
    }
    await this.hold([chanId], terms);
    return 0;
  }

  async hold(chanIds: readonly string[], terms = TERMS): Promise<ReadonlyMap<string, number>> {
    const { seq = 0 } = this.link.direct?.position ?? {};
    for (const chanId of chanIds) this.#held.set(chanId, [seq, this.entries.length]);
    const { direct } = this.link;
    if (direct === undefined) {
      const channels = new Map(chanIds.map((chanId) => [chanId, terms]));
      return this.#watch.during('hold', () => this.remote.hold(channels));
    }
    for (const chanId of chanIds) direct.hold(chanId, terms);
    return new Map();
  }

  /** Has channels arrive, as a hub does that has so many listeners. */
  async listen(chanIds: readonly string[], listeners = 1): Promise<void> {
    if (this.link.direct !== undefined) {
      await this.hold(chanIds);
      return;
    }
    for (const chanId of chanIds) this.#listeners.set(chanId, listeners);
    await this.#watch.during('subscribe', () => this.remote.subscribe(chanIds));
    await this.sync(chanIds.map((chanId) => [chanId, null]));
  }

  /** Says that so many listeners wait for channels. */
  async awaitChannels(listeners: Readonly<Record<string, number>>): Promise<void> {
    const names = new Map(Object.entries(listeners));
    await this.#watch.during('awaitChannels', () => this.remote.awaitChannels(names));
  }

  async unsubscribe(...chanIds: string[]): Promise<void> {
    await this.#watch.during('unsubscribe', () => this.remote.unsubscribe(chanIds));
  }

  async append(chanId: string, body: string | null, how: Partial<Append> = {}): Promise<Appended> {
    if (how.number === undefined) this.#number += 1;
    const flags = { again: false, made: undefined, linger: 0, asks: false };
    const order = { epoch: this.epoch, number: this.#number, after: 0, settled: 0 };
    const append: Append = { chanId, body, bounds: BOUNDS, ...order, ...flags, ...how };
    return this.#watch.during(`an append to ${chanId}`, () => this.link.append(append));
  }

  /** Appends without waiting for an answer, each after the one before. */
  async appendAll(
    writes: readonly (readonly [chanId: string, body: string])[],
    bounds = BOUNDS,
  ): Promise<void> {
    const appends = writes.map(([chanId, body], index) => {
      return this.append(chanId, body, { bounds, after: index === 0 ? 0 : this.#number });
    });
    await Promise.all(appends);
  }

  /** An append that must not happen. */
  async refused(
    happened: Happened,
    chanId: string,
    body: string | null,
    how: Partial<Append>,
  ): Promise<BackplaneError> {
    const error = await this.append(chanId, body, how).then(
      ({ seq }) => new Error(`it was appended as ${seq}`),
      (cause: unknown) => cause,
    );
    ok(error instanceof BackplaneError, `an append must be refused by a BackplaneError, and not: ${error}`);
    equal(error.happened, happened);
    return error;
  }

  /** Looks at the order; resolves once the mark has come as well. */
  async sync(channels: readonly (readonly [chanId: string, from: number | null])[] = []): Promise<Look> {
    this.#marks += 1;
    const mark = `${this.id}:${this.#marks}`;
    const questions = channels.map(([chanId, from]): Question => {
      return { chanId, from, listeners: this.#listeners.get(chanId) ?? 0 };
    });
    const snapshot = await this.#watch.during('sync', () => this.remote.sync(questions, mark));
    await this.#watch.until(`the mark of ${this.id}`, () => this.arrivals.includes(mark));
    this.epoch = snapshot.epoch;
    return { ...snapshot, mark };
  }

  /** Resolves once everything that was appended before has come, if it comes. */
  async caughtUp(): Promise<void> {
    if (this.link.direct === undefined) await this.sync();
  }

  /** What the engine retains of a channel, after a position or in all. */
  async retained(chanId: string, from: number | null = null): Promise<Retained> {
    const { channels, head } = await this.sync([[chanId, from]]);
    const retained = channels.find((each) => each.chanId === chanId);
    if (retained === undefined && from !== null)
      return { chanId, begun: 0, made: 0, lastEnd: 0, last: from, entries: [] };
    ok(retained !== undefined, 'of a channel that is asked for from null on there is something to tell');
    ok(retained.last <= head, `${retained.last} is behind the head of the snapshot, ${head}`);
    return retained;
  }

  /** The terms of the channels that are alive. */
  async find(...chanIds: string[]): Promise<ReadonlyMap<string, Terms>> {
    const { names } = await this.findings(...chanIds);
    const alive = [...names].filter(([, { linger }]) => linger === undefined);
    return new Map(
      alive.flatMap(([name, { terms }]) => (terms === undefined ? [] : [[name, terms] as const])),
    );
  }

  async findings(...chanIds: string[]): Promise<Findings> {
    return this.#watch.during('find', () => this.link.find(chanIds));
  }

  async tell(node: Player | null, word: string): Promise<void> {
    await this.#watch.during('tell', () => this.link.tell(node?.id ?? null, word));
  }

  async nodes(): Promise<readonly string[]> {
    return (await this.#watch.during('nodes', () => this.link.nodes())).toSorted();
  }

  async close(): Promise<void> {
    await this.#watch.during('close', () => this.link.close());
  }

  /** Resolves when so many entries have come. */
  async received(count: number): Promise<void> {
    await this.#watch.until(`entry ${count} to reach ${this.id}`, () => this.entries.length >= count);
  }

  async heard(...words: string[]): Promise<void> {
    await this.#watch.until(`${this.id} to hear of ${words}`, () => this.words.length >= words.length);
    deepEqual(this.words, words);
  }

  connected(): void {
    this.lives.begun += 1;
    this.#watch.told();
  }

  disconnected(): void {
    this.lives.lost += 1;
    this.#watch.told();
  }

  receive(entry: Entry): void {
    this.arrivals.push(entry);
    this.onReceive?.(entry);
    this.#watch.told();
  }

  marked(mark: string): void {
    this.arrivals.push(mark);
    this.#watch.told();
  }

  made(made: Made): void {
    this.creations.push(made);
    this.#watch.told();
  }

  hear(word: string): void {
    this.words.push(word);
    this.#watch.told();
  }

  malformed(error: Error): void {
    throw error;
  }

  recall(chanId: string): Retained | undefined {
    const held = this.#held.get(chanId);
    if (held === undefined) return undefined;
    const [last, arrived] = held;
    const entries = this.entries.slice(arrived).filter((entry) => entry.chanId === chanId);
    return { chanId, begun: last, made: last, lastEnd: last, last: entries.at(-1)?.seq ?? last, entries };
  }
}

/** A snapshot, and the mark that it was made with. */
export interface Look extends Snapshot {
  readonly mark: string;
}

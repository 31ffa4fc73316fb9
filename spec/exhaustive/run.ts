import type { Channel, Comet } from '../../lib/index.js';
import type { Terms } from './channels.js';
import { entriesOf } from './channels.js';
import { turn } from './clock.js';
import type { Connection } from './connection.js';
import type { Hubs } from './hubs.js';
import type { Item } from './items.js';
import { Model } from './model.js';
import { type Cursor, NO_CURSOR, Page } from './page.js';
import { Promises } from './promises.js';
import { isNew, isSame, NOTHING, readAnswer, Wire } from './reading.js';
import { describe } from './state.js';

/** What is there before the first step. */
export interface Setup {
  readonly terms: readonly [a: Terms, b: Terms];
  readonly steps: readonly string[];
}

/** What came of a sequence of steps. */
export interface Result {
  /** What the page got and must not get, or the other way round. */
  readonly fault: string | undefined;
  /** What came in answer to the last step. */
  readonly items: readonly string[];
  /** Whether the page has a stream that it reads. */
  readonly isWatched: boolean;
}

const NAMES = ['a', 'b'];
// What a history holds, and in milliseconds how long; and for how long a channel lingers.
const EVENTS = 2;
const AGE = 4000;
const LINGER = 20_000;

/** Whether a step opens a stream. */
export function isRequest(step: string): boolean {
  return /^(open|return)/.test(step);
}

/** One sequence of steps, on the real code and on the model at once. */
export class Run {
  readonly #hubs: Hubs;
  readonly #hub: Comet;
  readonly #wire: Wire;
  readonly #setup: Setup;
  readonly #channels = new Map<string, Channel<string>>();
  readonly #written = new Map(NAMES.map((name) => [name, [] as number[]]));
  readonly #model = new Model();
  readonly #promises = new Promises(this.#written, (name) => this.#termsOf(name).latest);
  readonly #page = new Page();

  #isBlocked = false;
  // The stream: what it was handed, as it must be and as it is on the wire, and how much of that the page has received.
  #connection: Connection | undefined;
  #reading = NOTHING;
  #read = 0;
  #status = 0;
  #moment = { head: 0, starts: new Map<string, readonly number[]>() };
  #handed: (readonly [expected: Item, wire: string | undefined])[] = [];
  #compared = 0;
  #received = 0;

  constructor(setup: Setup, hubs: Hubs) {
    const { hub, serial } = hubs.next();
    const { epoch, seq } = hub.inspect({ channels: false });
    this.#setup = setup;
    this.#hubs = hubs;
    this.#hub = hub;
    this.#wire = new Wire(epoch, seq, serial);
  }

  async play(steps: readonly string[]): Promise<Result> {
    for (const step of this.#setup.steps) await this.#step(step);
    let fault: string | undefined;
    let before = 0;
    for (const step of steps) {
      before = isRequest(step) ? 0 : this.#handed.length;
      fault = await this.#step(step);
      if (fault !== undefined) break;
    }
    const items = this.#handed.slice(before).map(([{ what }]) => what);
    return { fault, items, isWatched: this.#connection !== undefined && !this.#isBlocked };
  }

  /** Leaves nothing of this on the hub. */
  async end(): Promise<void> {
    for (const name of this.#channels.keys()) this.#end(name, 0);
    this.#connection?.destroy();
    await turn();
  }

  /** What may be done next. */
  get next(): readonly string[] {
    const next = NAMES.flatMap((name) => {
      if (!this.#channels.has(name)) return [`create ${name}`];
      return ['write', 'flood', 'end', 'linger'].map((verb) => `${verb} ${name}`);
    });
    const channels = [...this.#model.channels.byName.values()];
    if (channels.some(({ events }) => events.length > 0)) next.push('age');
    if (channels.some(({ end }) => end !== undefined)) next.push('release');
    next.push(this.#isBlocked ? 'drain' : 'block');
    return [...next, ...(this.#connection === undefined ? this.#requests : this.#breaks)];
  }

  /** The connection may break in the middle of what is on its way. */
  get #breaks(): string[] {
    const flight = this.#handed.length - this.#received;
    const breaks = Array.from({ length: flight + 1 }, (_, count) => `close ${count}`);
    return this.#isBlocked && flight > 0 ? [...breaks, 'trickle'] : breaks;
  }

  get #requests(): string[] {
    const requests = ['open a', 'open b', 'open a,b'];
    if (this.#page.address === undefined) return requests;
    requests.push(...['return', 'return malformed', 'return foreign', 'return future']);
    if (this.#page.header !== NO_CURSOR) requests.push('return polyfill');
    if (this.#page.last === NO_CURSOR) return requests;
    const { names } = this.#page.carried;
    for (const name of NAMES) {
      if (!this.#page.names.includes(name)) requests.push(`return more ${name}`);
      else if (names.includes(name) && names.length > 1) requests.push(`return fewer ${name}`);
    }
    return [...requests, 'return same'];
  }

  /** Everything that decides about what comes. */
  get state(): string {
    const [a, b] = this.#setup.terms;
    const flight = this.#handed.slice(this.#received).map(([item]) => item);
    const situation = {
      model: this.#model,
      page: this.#page,
      promises: this.#promises,
      isBlocked: this.#isBlocked,
      flight,
      moment: this.#moment,
    };
    const one = describe(situation, NAMES);
    if (a.rewind !== b.rewind || a.latest !== b.latest) return one;
    const other = describe(situation, NAMES.toReversed());
    return one < other ? one : other;
  }

  /** Returns a fault. */
  async #step(step: string): Promise<string | undefined> {
    const [verb = '', ...words] = step.split(' ');
    await this.#act(verb, words);
    await this.#quiet();
    const fault = this.#compare(isRequest(step));
    if (fault !== undefined) return fault;
    this.#trim(verb === 'age' || verb === 'release' ? 0 : EVENTS);
    if (verb === 'release') this.#model.channels.release();
    return this.#deliver(/ cut (\d+)$/.exec(step)?.[1]);
  }

  async #act(verb: string, [name = '', ...words]: readonly string[]): Promise<void> {
    switch (verb) {
      case 'create':
        this.#create(name);
        break;
      case 'write':
        this.#write(name);
        break;
      case 'flood':
        for (let count = 0; count <= EVENTS; count += 1) this.#write(name);
        break;
      case 'end':
      case 'linger':
        this.#end(name, verb === 'end' ? 0 : LINGER);
        this.#model.channels.end(name, verb === 'linger');
        break;
      case 'age':
      case 'release':
        await this.#hubs.clock.advance(1000 + (verb === 'age' ? AGE : LINGER));
        break;
      case 'block':
      case 'drain':
        this.#isBlocked = verb === 'block';
        if (this.#connection !== undefined) this.#connection.isBlocked = this.#isBlocked;
        break;
      case 'trickle':
        this.#receive(this.#handed.length);
        this.#connection?.trickle();
        break;
      case 'close':
        this.#receive(this.#received + Number(name));
        this.#lose();
        break;
      case 'open':
        this.#page.last = NO_CURSOR;
        this.#visit(name.split(','), [], NO_CURSOR);
        this.#request(NO_CURSOR, false);
        break;
      case 'return':
        this.#return(name, words[0] ?? '');
    }
  }

  #termsOf(name: string): Terms {
    return this.#setup.terms[NAMES.indexOf(name)] as Terms;
  }

  #create(name: string): void {
    const { rewind, latest } = this.#termsOf(name);
    const lag = latest ? 'latest' : 'close';
    const options = { name: this.#wire.name(name), rewind, lag, log: { frames: EVENTS, age: AGE } } as const;
    this.#channels.set(name, this.#hub.channels.create(options));
    this.#model.channels.create(name, { rewind, latest });
  }

  #write(name: string): void {
    const seq = this.#model.channels.write(name);
    this.#channels.get(name)?.write(`${name}${seq}`);
    this.#written.get(name)?.push(seq);
    // A stream that takes nothing now sees each history as it is. Any other is given a burst before that is let go.
    if (this.#isBlocked && this.#received < this.#handed.length) this.#trim(EVENTS);
  }

  #trim(events: number): void {
    this.#model.channels.trim(events);
    this.#model.overflow();
  }

  #end(name: string, linger: number): void {
    this.#channels.get(name)?.end({ linger });
    this.#channels.delete(name);
  }

  #return(kind: string, name: string): void {
    const { names, others } = this.#page.carried;
    const { last } = this.#page;
    const without = (list: readonly string[]) => list.filter((one) => one !== name);
    if (kind === 'more') this.#visit(names, [...others, name], last);
    else if (kind === 'fewer') this.#visit(without(names), others, last);
    else if (kind === 'same') this.#visit(names, others, last);
    const bad = { malformed: 'nonsense', foreign: 'feed-1', future: `${this.#model.channels.head + 1}` }[
      kind
    ];
    const cursor = bad === undefined ? this.#page.header : { wire: this.#wire.id(bad), model: bad };
    this.#request(cursor, kind === 'polyfill');
  }

  #visit(names: readonly string[], added: readonly string[], own: Cursor): void {
    this.#page.visit({ names, added, own });
    // A start that nobody has seen is none.
    this.#promises.keep(own === NO_CURSOR ? [] : names);
  }

  /** @param isInQuery whether the cursor of a return is in the query, where event-source-polyfill has it */
  #request(returned: Cursor, isInQuery: boolean): void {
    const { names, added, own } = this.#page.address ?? { names: [], added: [], own: NO_CURSOR };
    const query = [
      ...names.map((name) => `chan_id=${this.#wire.name(name)}`),
      ...added.map((name) => `new_chan_id=${this.#wire.name(name)}`),
      ...(own.wire === '' ? [] : [`last_event_id=${encodeURIComponent(own.wire)}`]),
      ...(isInQuery ? [`lastEventId=${encodeURIComponent(returned.wire)}`] : []),
    ].join('&');
    const header = isInQuery || returned.wire === '' ? '' : `Last-Event-ID: ${returned.wire}\r\n`;
    const { head, byName } = this.#model.channels;
    const starts = Array.from(byName.values(), ({ name, events, rewind }) => {
      return [name, entriesOf({ events, end: undefined }, rewind)] as const;
    });
    this.#moment = { head, starts: new Map(starts) };
    this.#connection = this.#hubs.request(
      `GET /?${query} HTTP/1.1\r\nHost: x\r\n${header}\r\n`,
      this.#isBlocked,
    );
    this.#status = this.#model.open({ names, added, returned: returned.model, own: own.model });
  }

  /** Until the server has nothing more to do. */
  async #quiet(): Promise<void> {
    const connection = this.#connection;
    if (connection === undefined) return;
    for (let idle = 0, length = connection.text.length; idle < 2; idle += 1) {
      await turn();
      if (connection.text.length === length) continue;
      length = connection.text.length;
      idle = -1;
    }
  }

  /** Compares what was handed over with what must be. Returns a fault. */
  #compare(isAnswer: boolean): string | undefined {
    if (this.#connection === undefined) return undefined;
    if (this.#connection.text.length > this.#read) {
      this.#read = this.#connection.text.length;
      this.#reading = readAnswer(this.#connection.text, this.#wire, this.#page.names);
    }
    const { status = this.#status, items, isOld } = this.#reading;
    if (isAnswer && status !== this.#status) return mismatch(`status ${this.#status}`, `status ${status}`);
    while (this.#compared < items.length || !this.#isBlocked) {
      const expected = this.#model.next();
      const got = items[this.#compared];
      if (expected === undefined && got === undefined) return undefined;
      const isLeftOut = isOld && expected !== undefined && isNew(expected);
      if (!isLeftOut && (expected === undefined || got === undefined || !isSame(got, expected, isOld))) {
        return mismatch(show(expected), show(got));
      }
      this.#handed.push([expected as Item, isLeftOut ? undefined : got?.id]);
      if (!isLeftOut) this.#compared += 1;
    }
    return undefined;
  }

  /**
   * The page receives what was handed over, unless it is blocked. Returns a fault.
   * @param cut behind how many items the connection breaks
   */
  #deliver(cut: string | undefined): string | undefined {
    const connection = this.#connection;
    if (connection === undefined) return undefined;
    const { status = 200, isComplete } = this.#reading;
    const isRefused = status !== 200;
    const isOver = connection.destroyed || isRefused || (isComplete && !this.#isBlocked);
    const mustBeOver = this.#model.stream === undefined;
    if (isOver !== mustBeOver)
      return mismatch(mustBeOver ? 'the end' : 'no end', isOver ? 'the end' : 'no end');
    let fault: string | undefined;
    if (!this.#isBlocked) {
      fault = this.#receive(cut === undefined ? this.#handed.length : Number(cut));
      // To a stream that ends in order the page returns.
      if (cut === undefined && (!isOver || isRefused)) fault ??= this.#promises.settle(isRefused);
    }
    if (isOver || cut !== undefined) this.#lose();
    return fault;
  }

  /** The page receives so many of the items that were handed over. Returns a fault. */
  #receive(until: number): string | undefined {
    let fault: string | undefined;
    for (; this.#received < until; this.#received += 1) {
      const [expected, id] = this.#handed[this.#received] as readonly [Item, string | undefined];
      this.#page.receive(expected, id === undefined ? undefined : this.#wire.id(id));
      const [verb = '', names = ''] = expected.what.split(' ');
      if (verb === 'open') {
        const gaps = expected.what.split(' gaps ')[1]?.split(',') ?? [];
        this.#promises.open(this.#page.names, gaps, expected.id?.endsWith('!') === true, this.#moment);
      } else if (verb === 'ready') this.#promises.ready();
      else if (verb === 'gap') this.#promises.gap(names.split(','), this.#model.channels.head);
      else if (names === '') fault ??= this.#promises.event(verb.slice(0, 1), Number(verb.slice(1)));
    }
    return fault;
  }

  /** The connection is gone. */
  #lose(): void {
    this.#connection?.destroy();
    this.#connection = undefined;
    this.#model.stream = undefined;
    this.#reading = NOTHING;
    this.#read = 0;
    this.#handed = [];
    this.#compared = this.#received = 0;
  }
}

function mismatch(expected: string, got: string): string {
  return `must get ${expected}; got ${got}`;
}

function show(item: Item | undefined): string {
  if (item === undefined) return 'nothing';
  return item.id === undefined ? item.what : `${item.what} (id ${item.id})`;
}

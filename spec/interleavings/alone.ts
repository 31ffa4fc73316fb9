import type { IncomingMessage, ServerResponse } from 'node:http';
import { thisTurn } from '../../lib/core/clock.js';
import { type Comet, comet } from '../../lib/index.js';
import { turns } from '../support/delayed.js';
import { Random } from '../support/random.js';
import {
  Anomaly,
  type Asked,
  type Beginning,
  type Case,
  type Item,
  type Joined,
  Judge,
  type Retention,
} from './judge.js';
import { drawId, Stream, seqOf, standingOf } from './stream.js';

/** Where hubs are served: the path of a Unix socket, each below its name. */
export interface Place {
  readonly server: string;
  readonly hubs: Map<string, (request: IncomingMessage, response: ServerResponse) => void>;
}

/** One channel, from its making to its end. */
interface Instance {
  readonly name: string;
  /** Where the order stood when it was made. */
  readonly begun: number;
  readonly events: (Item & { readonly written: number })[];
  end:
    | { readonly item: Item; readonly linger: number; readonly between: readonly [number, number] }
    | undefined;
}

/** What is known of a request as its hub decides on it. */
interface Arrival {
  answer: string;
  readonly head: number;
  readonly at: number;
  /** When it was decided, at the latest. */
  until: number;
  /** The newest channel of each name, and all that had ended. */
  readonly newest: ReadonlyMap<string, { readonly instance: Instance; readonly isAlive: boolean }>;
}

const NAMES = ['a', 'b', 'c'] as const;
const WATCHDOG_MS = 30_000;
const FLOOD = 'x'.repeat(64 * 1024);
// No history comes to this bound: the judge knows that of frames alone.
const BYTES = 2 ** 30;

/** Plays one interleaving on one hub without a backplane, and judges it. Rejects with an Anomaly. */
export async function playAlone(seed: number, place: Place): Promise<Record<string, number>> {
  const game = new Game(seed, place);
  let bark: NodeJS.Timeout | undefined;
  const watchdog = new Promise<never>((_, reject) => {
    bark = setTimeout(() => {
      try {
        game.explain();
        throw new Anomaly(`It stands still while ${game.doing}.`);
      } catch (error) {
        reject(error);
      }
    }, WATCHDOG_MS);
  });
  try {
    return await Promise.race([game.play(), watchdog]);
  } finally {
    clearTimeout(bark);
    await game.close();
  }
}

class Game implements Case {
  readonly isWhole = true;
  readonly isCalm = true;
  doing = '';
  readonly channels: ReadonlyMap<string, Retention>;
  readonly items: Item[] = [];
  readonly epoch: string;
  readonly #random: Random;
  readonly #place: Place;
  readonly #name: string;
  readonly #names: readonly string[];
  readonly #push: Comet;
  /** Events fill what the kernel takes. */
  readonly #isFlooded: boolean;
  readonly #waitingLimit: number;
  readonly #instances: Instance[] = [];
  readonly #streams: Stream[] = [];
  readonly #opening: Promise<void>[] = [];
  readonly #arrivals = new Map<Stream, Arrival>();
  readonly #joins = new Map<Stream, Joined>();
  readonly #asked: Asked[] = [];
  #arriving: Stream | undefined;
  #writes = 0;
  #isOver = false;
  #anomaly: Anomaly | undefined;
  #judge: Judge | undefined;

  constructor(seed: number, place: Place) {
    const random = new Random(seed);
    this.#random = random;
    this.#place = place;
    this.#name = `alone${seed}-${Math.random()}`;
    this.#names = NAMES.slice(0, 1 + random.below(3));
    this.channels = new Map(
      this.#names.map((name) => {
        const frames = random.pick([1000, 1 + random.below(2), 2 + random.below(4)]);
        const age = random.pick([null, null, null, 5, 20]);
        const lag = random.below(4) === 0 ? 'latest' : 'close';
        return [name, { frames, age, lag, rewind: random.pick([0, 0, 1, 3]) }];
      }),
    );
    this.#isFlooded = random.below(6) === 0;
    this.#waitingLimit = random.pick([50_000, 50_000, 50_000, random.below(3)]);
    this.#push = comet({
      // It sweeps as often as the shortest time asks for.
      log: { age: 40 },
      heartbeat: null,
      vanish: null,
      maxWaitingNames: this.#waitingLimit,
      authorize: () => {
        if (random.below(4) === 0) this.#play();
        this.#arrive();
        return true;
      },
    });
    this.epoch = this.#push.inspect().epoch;
  }

  async play(): Promise<Record<string, number>> {
    const random = this.#random;
    this.doing = 'it is played';
    this.#watch();
    for (const name of this.#names) if (random.below(3) > 0) this.#open(name);
    const steps = 15 + random.below(35);
    for (let step = 0; step < steps; step += 1) {
      await turns(random.pick([0, 0, 0, 1, 2, 5, random.below(40)]));
      if (random.below(30) === 0) await new Promise((resolve) => setTimeout(resolve, random.below(25)));
      if (random.below(3) === 0) this.#request();
      else this.#step();
    }
    return this.#verdict();
  }

  async close(): Promise<void> {
    for (const stream of this.#streams) stream.leave();
    this.#place.hubs.delete(this.#name);
    await this.#push.close({ drain: 1 });
  }

  #watch(): void {
    const push = this.#push;
    this.#place.hubs.set(this.#name, (request, response) => {
      // What the hub tells of it comes before the next request.
      this.#arriving = this.#streams[Number(request.headers['x-stream'])] as Stream;
      push(request, response);
    });
    const joins = new Map<string, Joined>();
    push.on('join', ({ listener, position }) => {
      const stream = this.#arriving as Stream;
      const { names, added } = stream.wish;
      const arrival = this.#arrivalOf(stream);
      arrival.until = performance.now();
      const { head } = arrival;
      const joined: Joined = {
        ...{ names: [...names, ...added], head, position: seqOf(position) },
        ...{ leftAt: Infinity, reason: undefined },
      };
      joins.set(listener, joined);
      this.#joins.set(stream, joined);
      if (this.#random.below(4) === 0) this.#play();
    });
    push.on('refuse', ({ status, code }) => {
      const arrival = this.#arrivals.get(this.#arriving as Stream);
      if (arrival === undefined) return;
      arrival.until = performance.now();
      arrival.answer = `${status} ${code}`;
    });
    push.on('leave', ({ listener, reason }) => {
      const joined = joins.get(listener) as Joined;
      joined.leftAt = this.#writes;
      joined.reason = reason;
    });
    push.on('error', (error) => {
      this.#anomaly ??= new Anomaly('A hub told of an error.', { cause: error });
    });
  }

  #arrive(): void {
    const newest: Arrival['newest'] = new Map(
      this.#instances.map((instance) => [instance.name, { instance, isAlive: instance.end === undefined }]),
    );
    const arrival = { answer: '', head: this.#head, at: performance.now(), until: Infinity, newest };
    this.#arrivals.set(this.#arriving as Stream, arrival);
  }

  get #head(): number {
    return this.items.at(-1)?.seq ?? 0;
  }

  /** Amid a request. */
  #play(): void {
    if (!this.#isOver) this.#step();
  }

  #step(): void {
    const random = this.#random;
    const name = random.pick(this.#names);
    const draw = random.below(20);
    if (draw < 10) this.#write(name);
    else if (draw < 12) this.#end(name);
    else if (draw < 14) {
      this.#end(name);
      this.#open(name);
      if (random.below(2) === 0) this.#write(name);
    } else if (draw < 15) this.#open(name);
    else if (draw < 18) this.#leave();
    else {
      const stream = random.pick(this.#streams.filter(({ over, left }) => !over && !left));
      if (this.#isFlooded && random.below(3) > 0) stream?.pause();
      else stream?.resume();
    }
  }

  #open(name: string): Instance {
    const present = this.#instances.findLast((instance) => instance.name === name);
    if (present !== undefined && present.end === undefined) return present;
    const { frames, age, rewind, lag } = this.channels.get(name) as Retention;
    this.#push.channels.create({ name, log: { frames, bytes: BYTES, age }, rewind, lag });
    const instance: Instance = { name, begun: this.#head, events: [], end: undefined };
    this.#instances.push(instance);
    return instance;
  }

  #write(name: string): void {
    const random = this.#random;
    for (let count = random.pick([1, 1, 1, 2, 5]); count > 0; count -= 1) {
      const instance = this.#open(name);
      const channel = this.#push.channels.find(name);
      this.#writes += 1;
      const data = `${this.#writes}`;
      const text = this.#isFlooded && random.below(2) === 0 ? `${data} ${FLOOD}` : data;
      const item = { name, seq: this.#head + 1, data, written: thisTurn().time };
      this.items.push(item);
      instance.events.push(item);
      if (random.below(3) > 0) channel?.write(text);
      else {
        const asked: Asked = { name, data, at: this.#writes, outcome: undefined };
        this.#asked.push(asked);
        void channel?.send(text).then((outcome) => {
          asked.outcome = outcome;
        });
      }
    }
  }

  #end(name: string): void {
    const channel = this.#push.channels.find(name);
    if (channel === undefined) return;
    const linger = this.#random.pick([0, 8, 60_000, 60_000]);
    const instance = this.#open(name);
    const item = { name, seq: this.#head + 1, data: undefined };
    this.items.push(item);
    const from = performance.now();
    channel.end({ linger });
    instance.end = { item, linger, between: [from, performance.now()] };
  }

  #leave(): void {
    const random = this.#random;
    const stream = random.pick(this.#streams.filter(({ left, over }) => !left || over));
    if (stream === undefined) return;
    stream.leave();
    if (random.below(4) > 0) this.#return(stream);
  }

  /** The page of a stream comes back, from where it lost its connection. */
  #return(stream: Stream): void {
    const random = this.#random;
    const id = drawId(stream, random);
    if (id === undefined) return;
    const by = random.pick(['header', 'header', 'query'] as const);
    if (random.below(4) > 0) this.#join({ ...stream.wish, returned: { id, by } });
    else {
      const names = [...stream.wish.names, ...stream.wish.added];
      const added = this.#names.filter((name) => !names.includes(name) && random.below(2) === 0);
      this.#join({ names, added, own: id });
    }
  }

  #request(): void {
    const random = this.#random;
    const some = this.#names.filter(() => random.below(2) === 0);
    const names = some.length > 0 ? some : this.#names;
    const stream = random.pick(this.#streams);
    const known = stream === undefined || random.below(8) === 0 ? undefined : drawId(stream, random);
    const id = known ?? random.pick(['x', `${this.epoch}-9999`]);
    const draw = random.below(8);
    if (draw < 3) this.#join({ names, added: [] });
    else if (draw < 6) this.#join({ names, added: [], returned: { id, by: 'header' } });
    else {
      const fresh = random.pick(names);
      this.#join({ names: names.filter((name) => name !== fresh), added: [fresh], own: id });
    }
  }

  #join(wish: Pick<Stream['wish'], 'names' | 'added' | 'returned' | 'own'>): void {
    const { names, added, returned, own } = wish;
    const { server } = this.#place;
    const path = `/${this.#name}`;
    const number = this.#streams.length;
    const stream = new Stream(
      { server, path, hub: 0, names, added, returned, own },
      number,
      () => this.#head,
    );
    this.#streams.push(stream);
    this.#opening.push(stream.open());
    if (this.#isFlooded && this.#random.below(4) === 0) stream.pause();
  }

  async #verdict(): Promise<Record<string, number>> {
    this.#isOver = true;
    this.doing = 'streams are opened';
    for (const stream of this.#streams) stream.resume();
    await Promise.all(this.#opening);
    await turns(2);
    for (const name of this.#names) {
      this.#open(name);
      this.#write(name);
    }
    const judge = new Judge(this);
    this.#judge = judge;
    this.doing = 'streams hear the last';
    const staying = this.#streams.filter(({ left, opening }) => !left && opening !== undefined);
    await Promise.all(staying.map((stream) => stream.until(() => judge.isComplete(stream))));
    this.doing = 'outcomes are told';
    while (this.#asked.some(({ outcome }) => outcome === undefined)) await turns(1);
    // What would come twice has come by now.
    await turns(3);

    this.explain();
    for (const asked of this.#asked) judge.outcome(asked, this.#streams, false);
    const open = this.#streams.filter((stream) => this.#joins.has(stream));
    const returned = open.filter(({ wish }) => standingOf(wish).position !== undefined);
    const events = open.flatMap(({ told }) => told);
    const count = (...names: string[]) => events.filter(({ event = '' }) => names.includes(event)).length;
    const answers: Record<string, number> = {};
    for (const { answer } of this.#arrivals.values()) {
      if (answer !== '') answers[answer] = (answers[answer] ?? 0) + 1;
    }
    return {
      writes: this.#writes,
      outcomes: this.#asked.length,
      channels: this.#instances.length,
      streams: open.length,
      heard: count(''),
      returned: returned.length,
      recovered: returned.filter(({ opening }) => opening?.recovered).length,
      starts: count('comet:ready'),
      'starts cut': open.filter(({ told }) => told.at(-1)?.id?.includes('!')).length,
      ends: count('comet:end'),
      'names that waited and came': count('comet:channels'),
      'gaps of open streams': count('comet:gap'),
      ...judge.excuses,
      ...answers,
    };
  }

  /** Throws what is wrong with a stream. */
  explain(): void {
    if (this.#anomaly !== undefined) throw this.#anomaly;
    this.#judge ??= new Judge(this);
    for (const stream of this.#streams) this.#judge.stream(stream);
  }

  joined(stream: Stream): Joined | undefined {
    return this.#joins.get(stream);
  }

  get joins(): Iterable<Joined> {
    return this.#joins.values();
  }

  startOf(stream: Stream, name: string): Beginning {
    const arrival = this.#arrivalOf(stream);
    const { instance, isAlive } = arrival.newest.get(name) as { instance: Instance; isAlive: boolean };
    const { frames, rewind } = this.#of(name);
    const count = Math.min(frames, rewind);
    const events = instance.events.filter(({ seq }) => seq <= arrival.head);
    const items = count === 0 ? [] : events.slice(-count);
    const optional = items.filter((item) => this.#isAged(item, arrival)).length;
    return { items: isAlive || instance.end === undefined ? items : [...items, instance.end.item], optional };
  }

  excuse(stream: Stream, name: string, seq: number): string | undefined {
    const arrival = this.#arrivalOf(stream);
    const { head } = arrival;
    const { frames, lag } = this.#of(name);
    const ends = this.#instances.filter(
      (one) => one.name === name && (one.end?.item.seq ?? Infinity) <= head,
    );
    const lastEnd = ends.at(-1)?.end?.item.seq ?? 0;
    const found = this.#found(name, seq, arrival);
    if (found === 'not' || found === 'perhaps') {
      if (lastEnd > seq) return 'ended';
      if (found === 'not') return undefined;
    }
    const { instance } = arrival.newest.get(name) as { instance: Instance };
    const events = instance.events.filter((item) => item.seq <= head);
    const aged = events.findLast((item) => this.#isAged(item, arrival));
    const isEmpty = events.length === 0 || aged === events.at(-1);
    if (lag === 'latest' && !isEmpty) return undefined;
    const trimmed = events.at(-frames - 1)?.seq ?? 0;
    if (trimmed > seq) return 'trimmed';
    if ((aged?.seq ?? 0) > seq) return 'aged';
    // It is complete, unless another of its name was there before.
    const before = ends.filter((one) => one !== instance).at(-1)?.end?.item.seq ?? 0;
    return instance.begun > seq && before > seq ? 'young' : undefined;
  }

  excuseLoss(_stream: Stream, name: string, isNext: boolean): string | undefined {
    if (isNext) return 'lost between two channels';
    return this.#of(name).age === null ? undefined : 'aged while open';
  }

  mayBeCut({ hasPaused, wish }: Stream): boolean {
    const isShort = (name: string) => this.#of(name).age !== null || this.#of(name).frames < 1000;
    return hasPaused || [...wish.names, ...wish.added].some(isShort);
  }

  isLoose(): boolean {
    return false;
  }

  mayLeaveOut(): boolean {
    return false;
  }

  mayEnd(): boolean {
    return false;
  }

  refusal(stream: Stream): void {
    const arrival = this.#arrivals.get(stream);
    if (arrival === undefined) {
      throw new Anomaly(`Stream ${stream.number} was answered ${stream.status} unasked: ${show(stream)}`);
    }
    const { head, answer } = arrival;
    const cursor = standingOf(stream.wish);
    const { position } = cursor;
    const isKnown = position?.epoch === this.epoch && position.seq <= head;
    const names = [...new Set([...stream.wish.names, ...stream.wish.added])];
    const seqOfName = (name: string) =>
      isKnown && !cursor.fresh.includes(name) && cursor.restarts !== name ? position.seq : undefined;
    const present = names.map((name) => this.#found(name, seqOfName(name), arrival));
    const items = names.map((name) => this.items.filter((item) => item.name === name && item.seq <= head));
    const isMissed = names.some((name, index) => {
      if (position === undefined || cursor.fresh.includes(name)) return false;
      const seq = seqOfName(name);
      return seq === undefined || items[index]?.some((item) => item.seq > seq);
    });
    const hasEnd = items.some((own) => own.some(({ data }) => data === undefined));
    let due = '404 UNKNOWN_CHANNEL';
    const { goneAt } = cursor;
    const isNews = items.some((own) =>
      own.some((item) => item.data === undefined && item.seq > (goneAt?.seq ?? -1)),
    );
    if (position !== undefined) {
      if (isMissed && (goneAt?.epoch !== this.epoch || isNews)) due = '200 GONE';
      else if (hasEnd && position !== null) due = '204 ENDED';
    }
    if (!present.includes('yes') && answer === due) return;
    const told = `${answer || stream.status} for ${due} at ${head}`;
    throw new Anomaly(
      `Stream ${stream.number} was answered ${told}: ${show(stream)}, ${present}, ${JSON.stringify(this.items)}`,
    );
  }

  /** Whether a channel of a name is there for a client that stands at `seq`: one whose end it has heard is not. */
  #found(name: string, seq: number | undefined, arrival: Arrival): 'yes' | 'not' | 'perhaps' {
    const { instance, isAlive } = arrival.newest.get(name) ?? {};
    if (instance === undefined) return 'not';
    if (isAlive || instance.end === undefined) return 'yes';
    const { item, linger, between } = instance.end;
    if (seq !== undefined && item.seq <= seq) return 'not';
    const { age } = this.#of(name);
    if (linger === 0 || arrival.at - between[1] > linger + 1) return 'not';
    if (arrival.until - between[0] > linger - 1) return 'perhaps';
    return age !== null && arrival.at - between[0] > age - 2 ? 'perhaps' : 'yes';
  }

  #isAged({ written, name }: { written: number; name: string }, { at }: Arrival): boolean {
    const { age } = this.#of(name);
    return age !== null && at - written > age;
  }

  #arrivalOf(stream: Stream): Arrival {
    return this.#arrivals.get(stream) as Arrival;
  }

  #of(name: string): Retention {
    return this.channels.get(name) as Retention;
  }
}

function show({ wish }: Stream): string {
  return JSON.stringify({ ...wish, server: undefined, path: undefined });
}

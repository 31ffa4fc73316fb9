import type { RedisClient } from '../../lib/engines/redis/redis.js';
import { redis } from '../../lib/engines/redis/redis.js';
import { type Channel, ChannelEndedError, type Comet, comet } from '../../lib/index.js';
import { type Delayed, delayed, turns } from '../support/delayed.js';
import { Random } from '../support/random.js';
import type { RedisServer } from '../support/redis.js';
import type { Place } from './alone.js';
import { Foreign } from './foreign.js';
import {
  Anomaly,
  type Asked,
  type Beginning,
  type Case,
  type Joined,
  Judge,
  type Retention,
} from './judge.js';
import { drawId, Stream, seqOf, standingOf } from './stream.js';
import { type Item, Witness } from './witness.js';

/** What all interleavings share. */
export interface Stage extends Place {
  readonly client: RedisClient;
  /** The same Redis, on another database number. */
  readonly foreign: RedisClient;
  readonly redis: RedisServer;
}

/** What is known of a hub of which the backplane was made to fail. */
interface Trouble {
  readonly resets: number;
  readonly lost: ReadonlySet<string>;
}

interface Hub {
  readonly name: string;
  /** What its writes begin with. */
  readonly number: number;
  readonly push: Comet;
  readonly line: Delayed;
  written: number;
  /** `<seq>@<channel>` of what it was told that was accepted. */
  readonly accepted: Set<string>;
  refused: number;
  /** It closes, or has closed. */
  closed: Promise<void> | undefined;
}

const NAMES = ['a', 'b', 'c'] as const;
// Nothing that is played here takes so long: no deadline ends by itself.
const PATIENCE = 120_000;
const LEASE = 3 * PATIENCE;
// A hub that closes waits for outcomes at the most for so long.
const DRAIN_MS = 4000;
// For so long a dismissal waits for what was written before.
const WRITTEN_MS = 1000;
const WATCHDOG_MS = 30_000;

/** Plays one interleaving, and judges it. Rejects with an Anomaly. */
export async function play(seed: number, stage: Stage): Promise<Record<string, number>> {
  const game = new Game(seed, stage);
  let bark: NodeJS.Timeout | undefined;
  const watchdog = new Promise<never>((_, reject) => {
    bark = setTimeout(() => {
      try {
        game.explain();
        throw new Anomaly(`It stands still while ${game.doing}: ${game.pending}`);
      } catch (error) {
        reject(error);
      }
    }, WATCHDOG_MS);
  });
  try {
    return await Promise.race([game.play(), watchdog]);
  } catch (error) {
    throw new Anomaly(`${(error as Error).message}\n  with ${game.troubles}`);
  } finally {
    clearTimeout(bark);
    await game.close();
  }
}

class Game implements Case {
  // A name that waits on one node does not hear of a channel that another node makes.
  readonly isWhole = false;
  doing = '';
  readonly #seed: number;
  readonly #stage: Stage;
  readonly #random: Random;
  readonly #names: readonly string[];
  readonly channels: ReadonlyMap<string, Retention>;
  readonly #loss: number;
  readonly #isResetting: boolean;
  isCalm: boolean;
  readonly #prefix: string;
  readonly #hubs: Hub[] = [];
  /** Hubs that write once and close. They have no streams. */
  readonly #jobs: Hub[] = [];
  /** Whether Redis loses keys, takes nodes for dead, and is a replica at times. */
  readonly #isFailing: boolean;
  readonly #foreign: Foreign | undefined;
  // One after the other.
  #failures: Promise<unknown> = Promise.resolve();
  /** Channels of which Redis has lost the key. */
  readonly #keyless = new Set<string>();
  /** Channels of which Redis has lost the audience. */
  readonly #unattended = new Set<string>();
  /** Hubs that Redis has taken for dead. */
  readonly #expired = new Set<Hub>();
  readonly #witness = new Witness();
  readonly #streams: Stream[] = [];
  readonly #opening: Promise<void>[] = [];
  readonly #joins = new Map<string, Joined>();
  readonly #asked: Asked[] = [];
  readonly #refused = new Set<string>();
  /** Channels that the backplane knows, and that nobody has ended. */
  readonly #known = new Set<string>();
  readonly #ended = new Set<string>();
  #writes = 0;
  readonly #turnedAway = new Set<Stream>();
  readonly #dismissed = new Set<Stream>();
  #judge: Judge | undefined;
  #anomaly: Anomaly | undefined;

  constructor(seed: number, stage: Stage) {
    this.#seed = seed;
    this.#stage = stage;
    this.#random = new Random(seed);
    const random = this.#random;
    this.#names = NAMES.slice(0, 1 + random.below(3));
    this.channels = new Map(
      this.#names.map((name) => {
        const frames = random.pick([1000, 1000, 2 + random.below(4)]);
        const lag = random.below(12) === 0 ? 'latest' : 'close';
        const age = random.pick([null, null, null, 20]);
        return [name, { frames, age, lag, rewind: random.pick([0, 0, 1, 3]) }];
      }),
    );
    const fault = random.pick(['none', 'none', 'none', 'loss', 'resets', 'both'] as const);
    this.#loss = fault === 'loss' || fault === 'both' ? random.pick([0.03, 0.15]) : 0;
    this.#isResetting = fault === 'resets' || fault === 'both';
    this.#isFailing = random.below(4) === 0;
    this.isCalm = fault === 'none' && !this.#isFailing;
    this.#prefix = `i${seed}-${Math.random()}`;
    if (random.below(3) === 0) this.#foreign = new Foreign(stage.foreign, this.#prefix, this.#names);
  }

  async play(): Promise<Record<string, number>> {
    const random = this.#random;
    this.doing = 'the witness comes';
    const prefix = this.#prefix;
    await this.#witness.watch(redis({ client: this.#stage.client, prefix }), this.#names);
    this.doing = 'it is played';
    const hubs = 2 + random.below(2);
    for (let hub = 0; hub < 2; hub += 1) this.#hubs.push(this.#newHub());
    for (const name of this.#names) if (random.below(3) > 0) this.#write(name);
    const steps = 15 + random.below(30);
    for (let step = 0; step < steps; step += 1) {
      await turns(random.pick([0, 0, 1, 2, 5, 20, random.below(100)]));
      if (step === 10 && hubs === 3) this.#hubs.push(this.#newHub());
      this.#step();
    }
    await this.#settle();
    return this.#verdict();
  }

  async close(): Promise<void> {
    for (const stream of this.#streams) stream.leave();
    for (const { name } of this.#hubs) this.#stage.hubs.delete(name);
    await Promise.all(this.#hubs.map(({ push }) => push.close({ drain: 1 })));
    await this.#foreign?.close();
    await this.#witness.close();
  }

  #newHub(): Hub {
    const number = this.#hubs.length + this.#jobs.length;
    const line = delayed(
      redis({ client: this.#stage.client, prefix: this.#prefix, lease: LEASE }),
      new Random(this.#seed * 8 + number),
    );
    line.loss = this.#loss;
    line.held = (chanIds) => {
      for (const name of chanIds) this.#known.add(name);
    };
    const push = comet({
      backplane: line,
      node: `n${number}`,
      deadline: PATIENCE,
      queue: { wait: PATIENCE },
      heartbeat: null,
    });
    const name = `${this.#prefix}-${number}`;
    const hub: Hub = {
      ...{ name, number, push, line },
      ...{ written: 0, accepted: new Set(), refused: 0, closed: undefined },
    };
    this.#stage.hubs.set(name, push);
    push.on('write', ({ channel, position }) => hub.accepted.add(`${seqOf(position)}@${channel}`));
    push.on('drop', ({ event, happened, cause, count }) => {
      if (event === 'message') hub.refused += count;
      if (this.#jobs.includes(hub) && !(cause instanceof ChannelEndedError)) {
        this.#fail('A hub that wrote and closed has lost a write.', cause);
      }
      if (happened === 'unknown') this.#fail('A write was given up.');
    });
    push.on('join', ({ listener, position }) => {
      const joined = {
        names: this.#names,
        head: push.inspect({ channels: false }).seq,
        position: seqOf(position),
      };
      this.#joins.set(listener, { ...joined, leftAt: Infinity, reason: undefined });
    });
    push.on('leave', ({ listener, reason }) => {
      const joined = this.#joins.get(listener);
      if (joined === undefined) return;
      joined.leftAt = this.#writes;
      joined.endedAt = performance.now();
      joined.reason = reason;
    });
    push.on('error', (error) => {
      this.#fail(`A hub told of an error: ${error}`, error);
    });
    return hub;
  }

  /** The hubs that are not closed. */
  get #present(): readonly Hub[] {
    return this.#hubs.filter(({ closed }) => closed === undefined);
  }

  #step(): void {
    const random = this.#random;
    const draw = random.below(126);
    const name = random.pick(this.#names);
    if (draw < 40) this.#write(name);
    else if (draw < 58) this.#request();
    else if (draw < 74) this.#leave();
    else if (draw < 80) this.#end(name);
    else if (draw < 86) this.#channel(random.pick(this.#present), name);
    else if (draw < 94) this.#pass();
    else if (draw < 98) this.#work(name);
    else if (draw < 100) this.#drain();
    else if (draw < 106) this.#dismiss();
    else if (draw < 112) this.#foreign?.step(random);
    else if (draw < 118) this.#lose(name);
    else if (this.#isResetting) random.pick(this.#present).line.reset();
  }

  #write(name: string, hub = this.#random.pick(this.#present)): void {
    const random = this.#random;
    for (let count = random.pick([1, 1, 1, 2, 5]); count > 0; count -= 1) {
      const channel = this.#channel(hub, name);
      hub.written += 1;
      this.#writes += 1;
      const data = `${hub.number}.${hub.written}`;
      if (random.below(3) > 0) channel.write(data);
      else this.#ask(channel, data);
    }
  }

  #ask(channel: Channel, data: string): Asked {
    const asked: Asked = {
      name: channel.id,
      data,
      at: this.#writes,
      outcome: undefined,
      mustCount: undefined,
    };
    this.#asked.push(asked);
    void channel.send(data, { perNode: true }).then((outcome) => {
      asked.outcome = outcome;
      asked.dismissed = asked.mustCount?.();
      if (outcome.reasons.backplane || outcome.reasons.ended) this.#refused.add(data);
    });
    return asked;
  }

  #channel({ push }: Hub, name: string) {
    const { frames, age, rewind, lag } = this.#of(name);
    return push.channels.open(name, { log: { frames, age }, rewind, lag });
  }

  /** A hub ends a channel; the same or another one may make it anew. */
  #end(name: string): void {
    const random = this.#random;
    const hub = random.pick(this.#present);
    this.#ended.add(name);
    hub.push.channels.find(name)?.end({ linger: random.pick([0, 8, 60_000, 60_000]) });
    const draw = random.below(4);
    if (draw < 2) this.#channel(hub, name);
    else if (draw < 3) this.#channel(random.pick(this.#present), name);
  }

  /** A process writes, closes its hub and exits. */
  #work(name: string): void {
    const hub = this.#newHub();
    hub.line.loss = 0;
    this.#jobs.push(hub);
    this.#write(name, hub);
    this.#close(hub);
  }

  /** A hub closes, and its streams come back to the others. One at the least stays. */
  #drain(): void {
    const [first, ...others] = this.#present;
    if (first === undefined || others.length === 0) return;
    // What is asked of it now is not answered.
    this.isCalm = false;
    this.#close(this.#random.pick(others));
  }

  #close(hub: Hub): void {
    hub.closed = hub.push.close({ drain: DRAIN_MS });
  }

  /** Right behind a write a listener of it is dismissed. */
  #dismiss(): void {
    const random = this.#random;
    const hub = random.pick(this.#present);
    const { streams = [] } = hub.push.inspect({ streams: true, channels: false });
    const listener = random.pick(streams);
    const stream = this.#streams.find(({ opening }) => opening?.listener === listener?.id);
    const name = random.pick(listener?.channels ?? []);
    const channel = name === undefined ? undefined : hub.push.channels.find(name);
    if (stream === undefined || listener === undefined || channel === undefined || stream.left) return;
    // An earlier dismissal does not wait for what is written now.
    if (this.#dismissed.has(stream)) return;
    this.#dismissed.add(stream);
    hub.written += 1;
    this.#writes += 1;
    const asked = this.#ask(channel, `${hub.number}.${hub.written}`);
    const { resets } = hub.line;
    const isHere = hub.push.inspect({ channels: false }).backplane?.healthy;
    const began = performance.now();
    // A dismissal does not wait for a Redis that is away, goes away meanwhile, or takes too long.
    asked.mustCount = () => {
      const { endedAt = Infinity } = this.#joins.get(listener.id) ?? {};
      const isInTime = endedAt - began < WRITTEN_MS;
      const isLost = hub.line.lost.some(({ chanId }) => chanId === name);
      return isHere && isInTime && !isLost && hub.line.resets === resets ? stream : undefined;
    };
    hub.push.dismiss(listener.id);
  }

  /** Redis loses a key, takes a node for dead, or is a replica for a moment. */
  #lose(name: string): void {
    if (!this.#isFailing) return;
    const lose = (key: string) => this.#stage.redis.command('DEL', `{${this.#prefix}}:${key}`);
    const hub = this.#random.pick(this.#hubs);
    const failure = this.#random.pick([
      () => lose('nodes'),
      () => {
        this.#unattended.add(name);
        return lose(`audience:${name}`);
      },
      () => {
        this.#keyless.add(name);
        return lose(`channel:${name}`);
      },
      () => this.#expire(hub),
      () => this.#demote(),
    ]);
    this.#failures = this.#failures.then(failure);
  }

  /** As after a pause of a process beyond its lease. */
  async #expire(hub: Hub): Promise<void> {
    const { number, line } = hub;
    this.#expired.add(hub);
    const { redis } = this.#stage;
    const nodes = `{${this.#prefix}}:nodes`;
    const all = (await redis.command('ZRANGE', nodes, '0', '-1')) as string[];
    const own = all.find((node) => node.startsWith(`n${number}-`));
    const [seconds] = (await redis.command('TIME')) as [string];
    if (own !== undefined) await redis.command('ZADD', nodes, 'XX', `${Number(seconds) * 1000 - 1}`, own);
    await turns(20);
    line.pass(LEASE / 3);
  }

  async #demote(): Promise<void> {
    const { redis } = this.#stage;
    // Nobody listens at this port: it keeps what it has.
    await redis.command('REPLICAOF', '127.0.0.1', '1');
    await turns(50);
    await redis.promote();
  }

  /** Time passes on one hub: who was left is let go, and what arrived is compared. */
  #pass(): void {
    const random = this.#random;
    this.isCalm = false;
    random.pick(this.#present).line.pass(random.pick([6000, 6000, LEASE / 3]));
  }

  #leave(): void {
    const random = this.#random;
    const stream = random.pick(this.#streams.filter(({ left, over }) => !left || over));
    if (stream === undefined) return;
    stream.leave();
    const id = drawId(stream, random);
    if (id === undefined || random.below(4) === 0) return;
    const { names, added } = stream.wish;
    if (random.below(4) > 0) {
      const by = random.pick(['header', 'query'] as const);
      this.#join({ ...stream.wish, returned: { id, by } });
    } else {
      const own = [...names, ...added];
      const more = this.#names.filter((name) => !own.includes(name) && random.below(2) === 0);
      this.#join({ names: own, added: more, own: id });
    }
  }

  #join({ names, added, returned, own }: Pick<Stream['wish'], 'names' | 'added' | 'returned' | 'own'>): void {
    const hub = this.#hubs.indexOf(this.#random.pick(this.#present));
    const { server } = this.#stage;
    const path = `/${(this.#hubs[hub] as Hub).name}`;
    const wish = { server, path, hub, names, added, returned, own };
    const stream = new Stream(wish, this.#streams.length, () => Infinity);
    this.#streams.push(stream);
    const known = [...names, ...added].filter((name) => this.#known.has(name));
    this.#opening.push(this.#open(stream, known));
  }

  async #open(stream: Stream, known: readonly string[]): Promise<void> {
    const { line } = this.#hubs[stream.wish.hub] as Hub;
    const { isUp, resets } = line;
    await stream.open();
    const { left, status, opening } = stream;
    if (left) return;
    // A client that returns is told to come back by a stream that ends.
    const isReturn = stream.wish.returned !== undefined;
    const isRefused = isReturn ? status === 200 && opening === undefined : status === 503;
    const isClosing = (this.#hubs[stream.wish.hub] as Hub).closed !== undefined;
    if (opening === undefined && isClosing) {
      this.#turnedAway.add(stream);
      return;
    }
    if (isRefused && !(isUp && line.isUp && line.resets === resets)) {
      this.#turnedAway.add(stream);
      return;
    }
    for (const name of known) {
      if (this.#ended.has(name) || this.#keyless.has(name) || opening?.channels.includes(name)) continue;
      const where = `${name} on hub ${stream.wish.hub}, which is known to all`;
      this.#fail(`A stream did not find ${where}: ${status} ${JSON.stringify(opening)}`);
    }
  }

  #fail(what: string, cause?: unknown): void {
    this.#anomaly ??= new Anomaly(what, { cause });
  }

  #request(): void {
    const random = this.#random;
    const some = this.#names.filter(() => random.below(2) === 0);
    const names = some.length > 0 ? some : this.#names;
    const stream = random.pick(this.#streams);
    const known = stream === undefined || random.below(8) === 0 ? undefined : drawId(stream, random);
    const id = known ?? 'x';
    const draw = random.below(9);
    if (draw < 3) this.#join({ names, added: [] });
    else if (draw < 7) this.#join({ names, added: [], returned: { id, by: 'header' } });
    else {
      const fresh = random.pick(names);
      this.#join({ names: names.filter((name) => name !== fresh), added: [fresh], own: id });
    }
  }

  /** Everything that was begun comes to its end. */
  async #settle(): Promise<void> {
    for (const { line } of this.#hubs) line.loss = 0;
    this.doing = 'Redis is healed';
    await this.#failures;
    this.doing = 'hubs close';
    await Promise.all([...this.#hubs, ...this.#jobs].map(({ closed }) => closed));
    this.doing = 'streams are opened';
    await Promise.all(this.#opening);
    for (const hub of this.#present) {
      this.doing = `what ${hub.name} wrote is accepted`;
      while (await this.#isBusy(hub)) await turns(1);
    }
    await this.#last();
    this.doing = 'the witness hears the last';
    await this.#witness.finish(this.#names);
    for (const { name, push, line } of this.#present) {
      this.doing = `${name} hears the last`;
      // A hole shows by what comes behind it; where nothing does, by the next look.
      if (line.lost.some(({ chanId, seq }) => this.#witness.last(chanId) === seq)) line.pass(LEASE / 3);
      const { healthy, reason } = await push.health();
      if (!healthy) throw new Anomaly(`A hub is not healthy: ${reason}`);
      this.#judgeChannels(push, line);
    }
  }

  /** A last write on each channel, which every stream that carries it hears. */
  async #last(): Promise<void> {
    for (const hub of this.#present) {
      this.doing = `${hub.name} knows all channels`;
      while (!(await hub.push.health()).healthy) await turns(1);
    }
    const [hub] = this.#present as [Hub];
    for (const name of this.#names) this.#write(name, hub);
    this.doing = 'the last is accepted';
    while (await this.#isBusy(hub)) await turns(1);
  }

  /** What has ended is there no more, also where nobody has listened. */
  #judgeChannels({ channels }: Comet, { lost, resets }: Delayed): void {
    if (lost.length > 0 || resets > 0 || this.#keyless.size > 0) return;
    for (const { id } of channels) {
      if (!this.#witness.open.has(id)) throw new Anomaly(`${id} has ended, and a hub does not know.`);
    }
  }

  async #isBusy({ push, accepted, refused, written }: Hub): Promise<boolean> {
    const { queued } = await push.health();
    return queued > 0 || accepted.size + refused < written;
  }

  async #verdict(): Promise<Record<string, number>> {
    const judge = new Judge(this);
    this.#judge = judge;
    this.#judgeOrder();
    this.doing = 'streams hear the last';
    const staying = this.#streams.filter(({ left, opening }) => !left && opening !== undefined);
    await Promise.all(staying.map((stream) => stream.until(() => judge.isComplete(stream))));
    this.doing = 'outcomes are told';
    // What was asked of a node that could not hear it is not answered: that is known when patience ends.
    for (const { line } of this.#present) line.pass(0, 2 * PATIENCE);
    while (this.#asked.some(({ outcome }) => outcome === undefined)) await turns(1);
    // What would come twice has come by now.
    await turns(3);

    this.explain();
    for (const asked of this.#asked) judge.outcome(asked, this.#streams, this.#refused.has(asked.data));
    const open = this.#streams.filter((stream) => this.joined(stream) !== undefined);
    const returned = open.filter(({ wish }) => standingOf(wish).position !== undefined);
    const events = open.flatMap(({ told }) => told);
    const count = (name: string) => events.filter(({ event = '' }) => event === name).length;
    return {
      writes: this.#writes,
      outcomes: this.#asked.length,
      streams: open.length,
      heard: count(''),
      returned: returned.length,
      recovered: returned.filter(({ opening }) => opening?.recovered).length,
      starts: count('comet:ready'),
      ends: count('comet:end'),
      'names that waited and came': count('comet:channels'),
      'gaps of open streams': count('comet:gap'),
      'turned away': this.#turnedAway.size,
      ...judge.excuses,
    };
  }

  /** What was done to Redis, and to the hubs. */
  get troubles(): string {
    const hubs = this.#hubs.map(({ line: { resets, lost } }) => {
      return { resets, lost: lost.map(({ chanId, seq }) => `${seq}@${chanId}`) };
    });
    const expired = [...this.#expired].map(({ number }) => number);
    return JSON.stringify({ hubs, expired, keyless: [...this.#keyless], unattended: [...this.#unattended] });
  }

  /** Who waits for what. */
  get pending(): string {
    const opening = this.#streams.filter(({ opening, over }) => opening === undefined && !over);
    const streams = opening.map(
      ({ wish }) => `${wish.names} on ${wish.hub} from ${standingOf(wish).position?.seq}`,
    );
    const asked = this.#asked.filter(({ outcome }) => outcome === undefined);
    const hubs = this.#hubs.map(({ line, written, accepted, refused }) => {
      const writes = `${accepted.size} accepted and ${refused} refused of ${written}`;
      return `${line.isUp ? 'up' : 'down'}, ${line.resets} resets, ${line.lost.length} lost, ${writes}`;
    });
    return JSON.stringify({ streams, asked: asked.map(({ name, data }) => `${data} on ${name}`), hubs });
  }

  /** Throws what is wrong with a stream. */
  explain(): void {
    if (this.#anomaly !== undefined) throw this.#anomaly;
    const strange = this.#foreign?.strange;
    if (strange !== undefined) throw new Anomaly(strange);
    for (const stream of this.#streams) this.#judge?.stream(stream);
  }

  get epoch(): string {
    return (this.#hubs[0] as Hub).push.inspect({ channels: false }).epoch;
  }

  get items(): readonly Item[] {
    return this.#witness.items;
  }

  joined({ opening }: Stream): Joined | undefined {
    return this.#joins.get(opening?.listener ?? '');
  }

  get joins(): Iterable<Joined> {
    return this.#joins.values();
  }

  /** What was retained of it there. How much of it had been let go, and whether an ended channel lingers, is not known. */
  startOf(stream: Stream, name: string): Beginning {
    const { head } = this.joined(stream) as Joined;
    const { rewind, frames, age } = this.#of(name);
    const count = Math.min(rewind, frames);
    const isTroubled = this.#isTroubled(stream);
    const before = this.items.filter((item) => item.name === name && item.seq <= head);
    const newest = (items: readonly Item[]) => {
      const own = items.slice(items.findLastIndex(({ data }) => data === undefined) + 1);
      // Where something was lost, what the hub takes for the newest may be older.
      return count === 0 ? [] : isTroubled ? own : own.slice(-count);
    };
    // The channel may linger there, or its end may not have come, while another of its name is alive elsewhere.
    const own = stream.told.filter(
      ({ id = '' }) => id.endsWith(`@${name}`) && (id.includes('!') || seqOf(id) <= head),
    );
    const first = before.findIndex(({ data }) =>
      own.some((told) => data !== undefined && told.data === data),
    );
    const isEnded = own.some(({ event }) => event === 'comet:end');
    const events = newest(before);
    const end = before.findIndex(({ data }, index) => data === undefined && index > first);
    if (end !== -1 && (isEnded || first !== -1)) {
      const last = first === -1 ? before.findLastIndex(({ data }) => data === undefined) : end;
      const tail = newest(before.slice(0, last));
      return { items: isEnded ? [...tail, before[last] as Item] : tail, optional: tail.length };
    }
    return { items: events, optional: age !== null || isTroubled ? events.length : 0 };
  }

  excuse(stream: Stream, name: string, seq: number): string | undefined {
    const { head } = this.joined(stream) as Joined;
    const { frames, age } = this.#of(name);
    if (!stream.opening?.channels.includes(name)) return 'unknown';
    const own = this.items.filter((item) => item.name === name);
    const before = own.filter((item) => item.seq <= head);
    const instance = before.slice(before.findLastIndex(({ data }) => data === undefined) + 1);
    const [first = own.find((item) => item.seq > head)] = instance;
    const begun = first?.previous ?? this.#witness.floors.get(name) ?? 0;
    if ((instance.at(-frames - 1)?.seq ?? 0) > seq) return 'trimmed';
    if (begun > seq) return 'young';
    if (age !== null) return 'aged';
    // It lingers there, and is not all that was.
    if (before.at(-1)?.data === undefined && before.length > 0) return 'ended';
    return this.#isLost(stream, name) ? 'lost' : undefined;
  }

  excuseLoss(stream: Stream, name: string, isNext: boolean): string | undefined {
    if (isNext) return 'lost between two channels';
    if (this.#of(name).age !== null) return 'aged while open';
    return this.#isLost(stream, name) ? 'lost while open' : undefined;
  }

  isLoose(stream: Stream, name: string): boolean {
    const isLost = this.#troubleOf(stream).lost.has(name);
    // What follows a loss may be heard before that is told; who leaves before that is never told.
    const isTold = stream.told.some(({ event, data }) => {
      return event === 'comet:gap' && JSON.parse(data).channels.includes(name);
    });
    const { reason = '' } = this.joined(stream) ?? {};
    const isCut = ['overrun', 'dismissed', 'drained'].includes(reason);
    return isTold || (isLost && (stream.left || isCut));
  }

  mayBeCut(): boolean {
    return true;
  }

  mayLeaveOut(name: string): boolean {
    // Redis takes a node without a lease and without a connection for one that will not come back.
    const isGone = [...this.#expired].some(({ line }) => line.resets > 0);
    return isGone || (this.#keyless.has(name) && this.#unattended.has(name));
  }

  mayEnd(): boolean {
    return true;
  }

  refusal(stream: Stream): void {
    if (this.#turnedAway.has(stream)) return;
    const { status, opening, number } = stream;
    const isGone = status === 200 && opening?.listener === null;
    if (!isGone && status !== 404 && status !== 204) {
      throw new Anomaly(`Stream ${number} was answered by ${status}.`);
    }
  }

  #troubleOf({ wish }: Stream): Trouble {
    const { line } = this.#hubs[wish.hub] as Hub;
    return {
      resets: line.resets,
      lost: new Set([...line.lost.map(({ chanId }) => chanId), ...this.#keyless]),
    };
  }

  /** Whether something of a channel may have been lost to the hub of a stream. */
  #isLost(stream: Stream, name: string): boolean {
    const { resets, lost } = this.#troubleOf(stream);
    if (lost.has(name)) return true;
    // While its hub knows that it knows not all, it takes nothing: what is retained has to last, and ends with the channel.
    const own = this.items.filter((item) => item.name === name);
    const isKept = own.length <= this.#of(name).frames && own.every(({ data }) => data !== undefined);
    return (resets > 0 || lost.size > 0) && !isKept;
  }

  #isTroubled(stream: Stream): boolean {
    const { resets, lost } = this.#troubleOf(stream);
    return resets > 0 || lost.size > 0;
  }

  #of(name: string): Retention {
    return this.channels.get(name) as Retention;
  }

  /** What writers were told is what the witness saw, and no hub's writes have overtaken each other. */
  #judgeOrder(): void {
    const events = this.#witness.items.filter(({ data }) => data !== undefined);
    const seen = events.map(({ seq, name }) => `${seq}@${name}`);
    const hubs = [...this.#hubs, ...this.#jobs];
    const told = new Set(hubs.flatMap(({ accepted }) => [...accepted]));
    const strange = seen.filter((position) => !told.delete(position));
    if (strange.length > 0) throw new Anomaly(`Nobody was told of ${strange}.`);
    if (told.size > 0) throw new Anomaly(`Nobody saw ${[...told]}.`);
    const last: number[] = [];
    for (const { data } of events) {
      const [hub, number] = (data ?? '').split('.').map(Number) as [number, number];
      if (number <= (last[hub] ?? 0)) throw new Anomaly(`${data} stands behind ${hub}.${last[hub]}.`);
      last[hub] = number;
    }
  }
}

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { RedisClient } from '../../lib/engines/redis/redis.js';
import { redis } from '../../lib/engines/redis/redis.js';
import { type Comet, comet } from '../../lib/index.js';
import { type Delayed, delayed, turns } from '../support/delayed.js';
import { Random } from '../support/random.js';
import { Anomaly, type Asked, type Case, type Excuses, type Joined, Judge, type Retention } from './judge.js';
import { Stream, seqOf } from './stream.js';
import { Witness } from './witness.js';

/** What all interleavings share. */
export interface Stage {
  readonly client: RedisClient;
  /** The path of the Unix socket on which `hubs` are served, each below its name. */
  readonly server: string;
  readonly hubs: Map<string, (request: IncomingMessage, response: ServerResponse) => void>;
}

/** What was seen. */
export interface Tally {
  readonly writes: number;
  readonly outcomes: number;
  readonly streams: number;
  readonly heard: number;
  readonly returned: number;
  readonly recovered: number;
  /** By a hub that was not connected. */
  readonly turnedAway: number;
  readonly excuses: Excuses;
}

interface Hub {
  readonly name: string;
  readonly push: Comet;
  readonly line: Delayed;
  written: number;
  /** `<seq>@<channel>` of what it was told that was accepted. */
  readonly accepted: Set<string>;
  refused: number;
}

const NAMES = ['a', 'b', 'c'] as const;
// Nothing that is played here takes so long: no deadline ends by itself.
const PATIENCE = 120_000;
const LEASE = 3 * PATIENCE;
const WATCHDOG_MS = 30_000;

/** Plays one interleaving, and judges it. Rejects with an Anomaly. */
export async function play(seed: number, stage: Stage): Promise<Tally> {
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
  } finally {
    clearTimeout(bark);
    await game.close();
  }
}

class Game {
  doing = '';
  readonly #seed: number;
  readonly #stage: Stage;
  readonly #random: Random;
  readonly #names: readonly string[];
  readonly #channels: ReadonlyMap<string, Retention>;
  readonly #loss: number;
  readonly #isResetting: boolean;
  #isCalm: boolean;
  readonly #hubs: Hub[] = [];
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
  #turnedAway = 0;
  #judge: Judge | undefined;
  #anomaly: Anomaly | undefined;

  constructor(seed: number, stage: Stage) {
    this.#seed = seed;
    this.#stage = stage;
    this.#random = new Random(seed);
    const random = this.#random;
    this.#names = NAMES.slice(0, 1 + random.below(3));
    this.#channels = new Map(
      this.#names.map((name) => {
        const frames = random.pick([1000, 1000, 2 + random.below(4)]);
        const lag = random.below(12) === 0 ? 'latest' : 'close';
        return [name, { frames, lag, rewind: random.pick([0, 0, 1, 3]) }];
      }),
    );
    const fault = random.pick(['none', 'none', 'none', 'loss', 'resets', 'both'] as const);
    this.#loss = fault === 'loss' || fault === 'both' ? random.pick([0.03, 0.15]) : 0;
    this.#isResetting = fault === 'resets' || fault === 'both';
    this.#isCalm = fault === 'none';
  }

  async play(): Promise<Tally> {
    const random = this.#random;
    this.doing = 'the witness comes';
    const prefix = `i${this.#seed}-${Math.random()}`;
    await this.#witness.watch(redis({ client: this.#stage.client, prefix }), this.#names);
    this.doing = 'it is played';
    const hubs = 2 + random.below(2);
    for (let hub = 0; hub < 2; hub += 1) this.#addHub(prefix);
    for (const name of this.#names) if (random.below(3) > 0) this.#write(name);
    const steps = 15 + random.below(30);
    for (let step = 0; step < steps; step += 1) {
      await turns(random.pick([0, 0, 1, 2, 5, 20, random.below(100)]));
      if (step === 10 && hubs === 3) this.#addHub(prefix);
      this.#step();
    }
    await this.#settle();
    return this.#verdict();
  }

  async close(): Promise<void> {
    for (const stream of this.#streams) stream.leave();
    for (const { name } of this.#hubs) this.#stage.hubs.delete(name);
    await Promise.all(this.#hubs.map(({ push }) => push.close({ drain: 1 })));
    await this.#witness.close();
  }

  #addHub(prefix: string): void {
    const number = this.#hubs.length;
    const line = delayed(
      redis({ client: this.#stage.client, prefix, lease: LEASE }),
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
    const name = `${prefix}-${number}`;
    const hub: Hub = { name, push, line, written: 0, accepted: new Set(), refused: 0 };
    this.#hubs.push(hub);
    this.#stage.hubs.set(name, push);
    push.on('write', ({ channel, position }) => hub.accepted.add(`${seqOf(position)}@${channel}`));
    push.on('drop', ({ event, happened }) => {
      if (event === 'message') hub.refused += 1;
      if (happened === 'unknown') this.#fail('A write was given up.');
    });
    push.on('join', ({ listener, channels }) => {
      this.#joins.set(listener, { hub: number, channels, head: push.inspect().seq, leftAt: Infinity });
    });
    push.on('leave', ({ listener }) => {
      const joined = this.#joins.get(listener);
      if (joined !== undefined) joined.leftAt = this.#writes;
    });
    push.on('error', (error) => {
      this.#fail('A hub told of an error.', error);
    });
  }

  #step(): void {
    const random = this.#random;
    const draw = random.below(100);
    const name = random.pick(this.#names);
    if (draw < 40) this.#write(name);
    else if (draw < 58) this.#join(this.#someNames(), random.below(3) === 0 ? undefined : this.#someCursor());
    else if (draw < 74) this.#leave();
    else if (draw < 78) this.#end(name);
    else if (draw < 84) this.#channel(random.pick(this.#hubs), name);
    else if (draw < 92) this.#pass();
    else if (this.#isResetting) random.pick(this.#hubs).line.reset();
  }

  #write(name: string): void {
    const random = this.#random;
    const hub = random.pick(this.#hubs);
    for (let count = random.pick([1, 1, 1, 2, 5]); count > 0; count -= 1) {
      const channel = this.#channel(hub, name);
      hub.written += 1;
      this.#writes += 1;
      const data = `${this.#hubs.indexOf(hub)}.${hub.written}`;
      if (random.below(3) > 0) channel.write(data);
      else {
        const asked: Asked = { name, data, at: this.#writes, outcome: undefined };
        this.#asked.push(asked);
        void channel.send(data).then((outcome) => {
          asked.outcome = outcome;
          if (outcome.reasons.backplane || outcome.reasons.ended) this.#refused.add(data);
        });
      }
    }
  }

  #channel({ push }: Hub, name: string) {
    const { frames, rewind, lag } = this.#channels.get(name) as Retention;
    return push.channels.open(name, { log: { frames }, rewind, lag });
  }

  #end(name: string): void {
    const random = this.#random;
    const hub = random.pick(this.#hubs);
    this.#ended.add(name);
    hub.push.channels.find(name)?.end();
    if (random.below(2) === 0) this.#channel(hub, name);
  }

  /** Time passes on one hub: who was left is let go, and what arrived is compared. */
  #pass(): void {
    const random = this.#random;
    this.#isCalm = false;
    random.pick(this.#hubs).line.pass(random.pick([6000, 6000, LEASE / 3]));
  }

  #leave(): void {
    const random = this.#random;
    const stream = random.pick(this.#streams.filter(({ left, over }) => !left || over));
    if (stream === undefined) return;
    stream.leave();
    const cursor = stream.ids.at(-1);
    if (cursor !== undefined && random.below(3) > 0) this.#join(stream.wish.names, cursor);
  }

  #join(names: readonly string[], cursor: string | undefined): void {
    const hub = this.#random.below(this.#hubs.length);
    const { server } = this.#stage;
    const path = `/${(this.#hubs[hub] as Hub).name}`;
    const stream = new Stream({ server, path, hub, names, cursor });
    this.#streams.push(stream);
    this.#opening.push(
      this.#open(
        stream,
        names.filter((name) => this.#known.has(name)),
      ),
    );
  }

  async #open(stream: Stream, known: readonly string[]): Promise<void> {
    const { line } = this.#hubs[stream.wish.hub] as Hub;
    const { isUp, resets } = line;
    await stream.open();
    const { left, status, opening } = stream;
    if (left) return;
    if (status === 503 && !(isUp && line.isUp && line.resets === resets)) {
      this.#turnedAway += 1;
      return;
    }
    if (status !== 200 && status !== 404) this.#fail(`A stream was answered by ${status}.`);
    for (const name of known) {
      if (this.#ended.has(name) || opening?.channels.includes(name)) continue;
      this.#fail(`A stream did not find ${name} on hub ${stream.wish.hub}, which is known to all.`);
    }
  }

  #fail(what: string, cause?: unknown): void {
    this.#anomaly ??= new Anomaly(what, { cause });
  }

  #someNames(): readonly string[] {
    const some = this.#names.filter(() => this.#random.below(2) === 0);
    return some.length > 0 ? some : this.#names;
  }

  #someCursor(): string | undefined {
    const random = this.#random;
    return random.pick(random.pick(this.#streams)?.ids ?? []);
  }

  /** Everything that was begun comes to its end. */
  async #settle(): Promise<void> {
    for (const { line } of this.#hubs) line.loss = 0;
    this.doing = 'streams are opened';
    await Promise.all(this.#opening);
    for (const hub of this.#hubs) {
      this.doing = `what ${hub.name} wrote is accepted`;
      while (await this.#isBusy(hub)) await turns(1);
    }
    this.doing = 'the witness hears the last';
    await this.#witness.finish(this.#names);
    for (const { name, push, line } of this.#hubs) {
      this.doing = `${name} hears the last`;
      // A hole shows by what comes behind it; where nothing does, by the next look.
      if (line.lost.some(({ chanId, seq }) => this.#witness.last(chanId) === seq)) line.pass(LEASE / 3);
      const { healthy, reason } = await push.health();
      if (!healthy) throw new Anomaly(`A hub is not healthy: ${reason}`);
      this.#judgeChannels(push, line);
    }
  }

  /** What has ended is there no more, also where nobody has listened. */
  #judgeChannels({ channels }: Comet, { lost, resets }: Delayed): void {
    if (lost.length > 0 || resets > 0) return;
    for (const { id } of channels) {
      if (!this.#witness.open.has(id)) throw new Anomaly(`${id} has ended, and a hub does not know.`);
    }
  }

  async #isBusy({ push, accepted, refused, written }: Hub): Promise<boolean> {
    const { queued } = await push.health();
    return queued > 0 || accepted.size + refused < written;
  }

  async #verdict(): Promise<Tally> {
    const judge = new Judge(this.#case());
    this.#judge = judge;
    this.#judgeOrder();
    this.doing = 'streams hear the last';
    const staying = this.#streams.filter(({ left, opening }) => !left && opening !== undefined);
    await Promise.all(staying.map((stream) => stream.until(() => judge.isComplete(stream))));
    this.doing = 'outcomes are told';
    // What was asked of a node that could not hear it is not answered: that is known when patience ends.
    if (!this.#isCalm) for (const { line } of this.#hubs) line.pass(0, 2 * PATIENCE);
    while (this.#asked.some(({ outcome }) => outcome === undefined)) await turns(1);
    // What would come twice has come by now.
    await turns(3);

    this.explain();
    for (const asked of this.#asked) judge.outcome(asked, this.#streams, this.#refused.has(asked.data));
    const open = this.#streams.filter(({ opening }) => opening !== undefined);
    const returned = open.filter(({ wish }) => wish.cursor !== undefined);
    return {
      writes: this.#writes,
      outcomes: this.#asked.length,
      streams: open.length,
      heard: open.reduce((sum, { heard }) => sum + heard.length, 0),
      returned: returned.length,
      recovered: returned.filter(({ opening }) => opening?.recovered).length,
      turnedAway: this.#turnedAway,
      excuses: judge.excuses,
    };
  }

  /** Who waits for what. */
  get pending(): string {
    const opening = this.#streams.filter(({ opening, over }) => opening === undefined && !over);
    const streams = opening.map(({ wish }) => `${wish.names} on ${wish.hub} from ${wish.cursor ?? 'now'}`);
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
    for (const stream of this.#streams) this.#judge?.stream(stream);
  }

  #case(): Case {
    const { items, floors } = this.#witness;
    return {
      channels: this.#channels,
      items,
      floors,
      joins: this.#joins,
      troubles: this.#hubs.map(({ line }) => {
        return { resets: line.resets, lost: new Set(line.lost.map(({ chanId }) => chanId)) };
      }),
      isCalm: this.#isCalm,
    };
  }

  /** What writers were told is what the witness saw, and no hub's writes have overtaken each other. */
  #judgeOrder(): void {
    const events = this.#witness.items.filter(({ data }) => data !== undefined);
    const seen = events.map(({ seq, name }) => `${seq}@${name}`);
    const told = new Set(this.#hubs.flatMap(({ accepted }) => [...accepted]));
    const strange = seen.filter((position) => !told.delete(position));
    if (strange.length > 0) throw new Anomaly(`Nobody was told of ${strange}.`);
    if (told.size > 0) throw new Anomaly(`Nobody saw ${[...told]}.`);
    const last = this.#hubs.map(() => 0);
    for (const { data } of events) {
      const [hub, number] = (data ?? '').split('.').map(Number) as [number, number];
      if (number <= (last[hub] ?? 0)) throw new Anomaly(`${data} stands behind ${hub}.${last[hub]}.`);
      last[hub] = number;
    }
  }
}

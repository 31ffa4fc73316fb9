import { Random } from '../support/random.js';
import type { Appetite } from './peer.js';

const KiB = 2 ** 10;
const MiB = 2 ** 20;

/**
 * How a stream's bytes go: on the socket; through a `response.write` that passes them on at once, or a turn later; through a
 * compressor, with its defaults, or made to compress.
 */
export type Via = (typeof VIAS)[number];

const VIAS = [
  'socket',
  'http/1.0',
  'wrapped',
  'late',
  'compression',
  'polka',
  'polka 0',
  'http-compression',
  'http-compression 0',
] as const;
const HOLDING: ReadonlySet<Via> = new Set(['late', 'compression', 'polka 0', 'http-compression 0']);

/** Whether it holds bytes back, so that nobody can know what becomes of them. */
export function isHolding(via: Via): boolean {
  return HOLDING.has(via);
}

/** What bytes go over. */
export type Transport = 'tcp' | 'unix' | 'TLSv1.2' | 'TLSv1.3';

export interface Join {
  readonly do: 'join';
  /** Its number: 0, 1, 2 … in the order of the joins. */
  readonly peer: number;
  readonly channels: readonly number[];
  readonly via: Via;
  /** What it would have a stream compressed as. */
  readonly encoding: 'gzip' | 'br';
  /** Whether HTTP/2 leaves it to the kernel how much is on its way. */
  readonly isWide: boolean;
  readonly appetite: Appetite;
  /** Of which peer it takes the cursor. */
  readonly returnOf: number | undefined;
  /** Requests that it pipelines before and after that of the stream. */
  readonly before: boolean;
  readonly after: boolean;
  /** Its request stops in the middle. */
  readonly partial: boolean;
}

export interface Write {
  readonly do: 'write';
  readonly channel: number;
  readonly sizes: readonly number[];
  /** Whether their outcomes are asked for. */
  readonly tracked: boolean;
  readonly event: string | undefined;
}

/** What happens next. What stands between two turns happens in one. */
export type Step =
  | Join
  | Write
  | { readonly do: 'turns'; readonly turns: number }
  | { readonly do: 'pause'; readonly ms: number }
  /** Waits until the peer has its stream, or is gone. */
  | { readonly do: 'arrival'; readonly peer: number }
  /** Waits for every outcome so far. */
  | { readonly do: 'outcomes' }
  | { readonly do: 'appetite'; readonly peer: number; readonly appetite: Appetite }
  | { readonly do: 'reset' | 'finish' | 'close' | 'cancel'; readonly peer: number }
  /** What other code on the server does to the peer's socket or response. */
  | { readonly do: 'server'; readonly peer: number; readonly fault: 'destroy' | 'reset' | 'end' }
  /** Ends a channel; one of its name, and of no other frames, takes its place. */
  | { readonly do: 'end'; readonly channel: number }
  | { readonly do: 'deactivate' | 'activate' }
  | { readonly do: 'timeout'; readonly timeout: number | null; readonly reset: boolean };

export interface ChannelPlan {
  readonly log: { readonly frames: number; readonly bytes: number; readonly age: number | null };
  readonly lag: 'close' | 'latest';
  readonly rewind: number;
}

/** One schedule, drawn from its seed: nothing in it depends on what happens. */
export interface Plan {
  readonly seed: number;
  readonly framework: 'Express 5' | 'Express 4' | 'node:http' | 'node:http2';
  readonly transport: Transport;
  readonly protocol: 'HTTP/1' | 'HTTP/2';
  readonly heartbeat: number | null;
  readonly stall: number;
  readonly timeout: number | null;
  readonly lifetime: number | null;
  readonly channels: readonly ChannelPlan[];
  /** Its writer awaits the outcomes of each burst, and none is larger than the logs. */
  readonly awaits: boolean;
  /** Its logs hold all that is written. */
  readonly roomy: boolean;
  readonly steps: readonly Step[];
  /** Writes whose outcome is asked for. */
  readonly outcomes: number;
  /** How long the hub may take to close; and whether all clients read then, so that none is cut off. */
  readonly drain: number;
  readonly calm: boolean;
}

// More is on its way than the kernel takes for a peer that does not read: the rest blocks its stream.
const SURGE = { tcp: 5 * MiB, unix: 500 * KiB, 'TLSv1.2': 5 * MiB, 'TLSv1.3': 5 * MiB };
const MOST_PEERS = 60;

/** Draws a schedule of about `writes` writes. */
export function planOf(seed: number, writes: number): Plan {
  return new Draw(new Random(seed), writes).plan();
}

class Draw {
  readonly #random: Random;
  readonly #steps: Step[] = [];
  readonly #framework;
  readonly #transport: Transport;
  readonly #protocol: 'HTTP/1' | 'HTTP/2';
  readonly #awaits: boolean;
  readonly #roomy: boolean;
  readonly #channels: readonly ChannelPlan[];
  readonly #crowd: number;
  // Peers to which nothing is done.
  readonly #steady = new Set<number>();
  readonly #restlessness: number;
  readonly #returned = new Set<number>();
  #surges: number;
  #left: number;
  #peers = 0;
  #outcomes = 0;

  constructor(random: Random, writes: number) {
    this.#random = random;
    this.#protocol = this.#chance(0.3) ? 'HTTP/2' : 'HTTP/1';
    // Express does not know HTTP/2.
    this.#framework =
      this.#protocol === 'HTTP/2'
        ? ('node:http2' as const)
        : random.pick(['Express 5', 'Express 4', 'node:http'] as const);
    this.#transport = random.pick(['tcp', 'tcp', 'unix', 'unix', 'TLSv1.2', 'TLSv1.3'] as const);
    this.#awaits = this.#chance(0.3);
    this.#roomy = this.#chance(0.35);
    const base = this.#channel();
    this.#channels = Array.from({ length: 1 + random.below(4) }, () =>
      this.#chance(0.5) ? base : this.#channel(),
    );
    this.#crowd = 3 + random.below(random.pick([5, 12, 25]));
    this.#restlessness = random.pick([2, 10, 10, 25]);
    this.#surges = this.#chance(this.#transport === 'unix' ? 0.7 : 0.4) ? 1 + random.below(3) : 0;
    this.#left = Math.max(1, Math.round(writes * (0.5 + random.next())));
  }

  plan(): Plan {
    const random = this.#random;
    const times = {
      heartbeat: random.pick([null, 10, 15_000]),
      stall: this.#awaits ? random.pick([60, 100]) : random.pick([40, 100, 30_000]),
      timeout: this.#chance(0.06) ? random.pick([20, 80]) : null,
      lifetime: this.#chance(0.06) ? random.pick([60, 200]) : null,
    };
    const first = Math.ceil(this.#crowd / 2);
    while (this.#peers < first) this.#join();
    for (let peer = 0; peer < first; peer += 1) {
      if (this.#chance(0.8)) this.#add({ do: 'arrival', peer });
    }
    while (this.#left > 0) this.#next();
    const calm = this.#chance(0.5);
    const turns = random.below(4);
    if (turns > 0) this.#add({ do: 'turns', turns });
    return {
      seed: random.seed,
      framework: this.#framework,
      transport: this.#transport,
      protocol: this.#protocol,
      ...times,
      channels: this.#channels,
      awaits: this.#awaits,
      roomy: this.#roomy,
      steps: this.#steps,
      outcomes: this.#outcomes,
      drain: calm ? 5000 : random.pick([1, 20, 60]),
      calm,
    };
  }

  #next(): void {
    const random = this.#random;
    this.#weigh([
      [40, () => this.#write()],
      [this.#surges > 0 ? 2 : 0, () => this.#surge()],
      [25, () => this.#add({ do: 'turns', turns: 1 + random.below(3) })],
      [2, () => this.#add({ do: 'pause', ms: 1 + random.below(6) })],
      [this.#peers < this.#crowd ? 8 : 0, () => this.#join()],
      [3, () => this.#comeBack()],
      [this.#restlessness, () => this.#disturb()],
      [0.6, () => this.#add({ do: 'end', channel: random.below(this.#channels.length) })],
      [0.15, () => this.#closeAndOpen()],
      [0.15, () => this.#resetTimeouts()],
    ]);
  }

  #join(returnOf?: number): void {
    if (this.#peers >= MOST_PEERS) return;
    const random = this.#random;
    const peer = this.#peers;
    this.#peers += 1;
    const isSteady = returnOf === undefined && this.#chance(0.3);
    if (isSteady) this.#steady.add(peer);
    const channels = this.#channels.map((_, index) => index).filter(() => this.#chance(0.5));
    if (channels.length === 0) channels.push(random.below(this.#channels.length));
    const drawn = this.#chance(0.5) ? 'socket' : random.pick(VIAS);
    const via = this.#protocol === 'HTTP/2' && drawn === 'http/1.0' ? 'socket' : drawn;
    const canPipeline = via !== 'http/1.0';
    this.#add({
      do: 'join',
      peer,
      channels,
      via,
      encoding: random.pick(['gzip', 'br'] as const),
      isWide: this.#chance(0.5),
      appetite: isSteady ? 'all' : random.pick(['all', 'all', 'slow', 'none'] as const),
      returnOf,
      before: canPipeline && this.#chance(0.1),
      after: canPipeline && !isSteady && this.#chance(0.1),
      partial: !isSteady && this.#chance(0.03),
    });
    if (this.#chance(0.4)) this.#add({ do: 'arrival', peer });
  }

  #comeBack(): void {
    if (this.#peers === 0) return;
    this.#join(this.#random.below(this.#peers));
  }

  #write(): void {
    const random = this.#random;
    const count = 1 + random.below(random.pick([2, 10, 60]));
    const size = this.#weighed([
      [80, () => 1 + random.below(200)],
      [12, () => random.below(8 * KiB)],
      [this.#surges > 0 ? 2 : 0.3, () => 50 * KiB + random.below(400 * KiB)],
    ]);
    // Of large ones few: dozens of clients read all of it.
    const sizes = Array.from({ length: size > 50_000 ? 1 : count }, () => 1 + random.below(2 * size));
    this.#burst(sizes, this.#chance(0.9));
  }

  /** Enough to block whoever does not read, in one turn or in several; and then what may befall a blocked stream. */
  #surge(): void {
    this.#surges -= 1;
    const blocked = this.#restless(1 + this.#random.below(6));
    for (const peer of blocked) this.#add({ do: 'appetite', peer, appetite: 'none' });
    const total = SURGE[this.#transport] * (0.6 + this.#random.next());
    const count = this.#random.pick([1, 10, 30]);
    const inOne = this.#chance(0.5);
    const sizes = Array.from({ length: count }, () => Math.ceil(total / count));
    if (inOne) this.#burst(sizes, true);
    else {
      for (const size of sizes) {
        this.#burst([size], true);
        this.#add({ do: 'turns', turns: 1 });
      }
    }
    for (const peer of blocked) {
      if (this.#chance(0.5)) this.#add({ do: 'turns', turns: 1 });
      if (this.#chance(0.2)) this.#write();
      this.#strike(peer);
      if (this.#chance(0.2)) this.#write();
      if (this.#chance(0.3)) this.#strike(peer);
    }
  }

  #restless(count: number): readonly number[] {
    const drawn = Array.from({ length: count }, () => this.#random.below(this.#peers));
    return drawn.filter((peer) => !this.#steady.has(peer));
  }

  #burst(sizes: readonly number[], tracked: boolean): void {
    const channel = this.#random.below(this.#channels.length);
    const event = this.#chance(0.2) ? 'tick' : undefined;
    const within = this.#awaits ? this.#fitting(channel, sizes) : sizes;
    if (within.length === 0) return;
    const isTracked = tracked || this.#awaits;
    this.#add({ do: 'write', channel, sizes: within, tracked: isTracked, event });
    this.#left -= within.length;
    if (isTracked) this.#outcomes += within.length;
    if (this.#awaits) this.#add({ do: 'outcomes' });
  }

  /** As many of them as the log of the channel holds. */
  #fitting(channel: number, sizes: readonly number[]): readonly number[] {
    const { frames, bytes } = (this.#channels[channel] as ChannelPlan).log;
    let sum = 0;
    return sizes.slice(0, frames).filter((size) => {
      sum += size + 200;
      return sum <= bytes;
    });
  }

  #disturb(): void {
    const [peer] = this.#restless(1);
    if (peer === undefined) return;
    if (this.#chance(0.6)) {
      const appetite = this.#random.pick(['none', 'none', 'slow', 'all'] as const);
      this.#add({ do: 'appetite', peer, appetite });
      return;
    }
    this.#strike(peer);
    // One who has left is likely to return.
    if (this.#returned.has(peer) || this.#chance(0.7)) return;
    this.#returned.add(peer);
    this.#join(peer);
  }

  #strike(peer: number): void {
    this.#weigh([
      [3, () => this.#add({ do: 'reset', peer })],
      [3, () => this.#halfClose(peer)],
      [this.#protocol === 'HTTP/2' ? 3 : 0, () => this.#add({ do: 'cancel', peer })],
      [2, () => this.#add({ do: 'close', peer })],
      [1, () => this.#add({ do: 'appetite', peer, appetite: 'all' })],
      [2, () => this.#add({ do: 'server', peer, fault: 'destroy' })],
      [2, () => this.#add({ do: 'server', peer, fault: 'reset' })],
      [2, () => this.#add({ do: 'server', peer, fault: 'end' })],
    ]);
  }

  #halfClose(peer: number): void {
    this.#add({ do: 'finish', peer });
    if (this.#chance(0.5)) return;
    // What is in flight gets through; what comes after does not.
    this.#add({ do: 'turns', turns: 1 + this.#random.below(2) });
    this.#write();
    this.#add({ do: 'appetite', peer, appetite: 'all' });
  }

  #closeAndOpen(): void {
    this.#add({ do: 'deactivate' });
    if (this.#chance(0.6)) this.#add({ do: 'turns', turns: 1 + this.#random.below(3) });
    if (this.#chance(0.3)) this.#burst([10], true);
    this.#add({ do: 'activate' });
    for (let peer = 0; peer < 4; peer += 1) this.#comeBack();
  }

  #resetTimeouts(): void {
    this.#add({ do: 'timeout', timeout: this.#random.pick([null, 50, 1000]), reset: this.#chance(0.7) });
    for (let peer = 0; peer < 4; peer += 1) this.#comeBack();
  }

  #channel(): ChannelPlan {
    const random = this.#random;
    const log = this.#roomy
      ? { frames: 100_000, bytes: 256 * MiB, age: null }
      : {
          frames: random.pick([1, 3, 20, 100, 1000]),
          bytes: random.pick([20 * KiB, 256 * KiB, MiB, 8 * MiB]),
          age: this.#awaits ? null : random.pick([null, null, null, 30]),
        };
    return { log, lag: random.pick(['close', 'latest']), rewind: random.pick([0, 0, 1, 5]) };
  }

  #add(step: Step): void {
    this.#steps.push(step);
  }

  #chance(probability: number): boolean {
    return this.#random.next() < probability;
  }

  #weigh(choices: readonly (readonly [weight: number, run: () => void])[]): void {
    this.#weighed(choices);
  }

  #weighed<T>(choices: readonly (readonly [weight: number, run: () => T])[]): T {
    const total = choices.reduce((sum, [weight]) => sum + weight, 0);
    let point = this.#random.next() * total;
    const chosen = choices.find(([weight]) => {
      point -= weight;
      return point < 0;
    });
    return (chosen ?? choices[0])?.[1]() as T;
  }
}

import { Random } from '../support/random.js';
import { CHANNEL_NAMES, type Pace, TIMES } from './messages.js';

/** What befalls the cluster; times in milliseconds. */
export type Fault =
  | { readonly do: 'kill node'; readonly node: number; readonly down: number }
  | { readonly do: 'stop node'; readonly node: number; readonly ms: number }
  | { readonly do: 'restart redis'; readonly how: 'empty' | 'killed' | 'in order'; readonly down: number }
  | { readonly do: 'stop redis'; readonly ms: number }
  | { readonly do: 'kill connections'; readonly kinds: readonly ('pubsub' | 'normal')[] }
  | {
      readonly do: 'network';
      readonly node: number;
      readonly how: 'cut' | 'stall' | 'refuse' | 'cut and refuse' | 'stall and cut';
      readonly ms: number;
    }
  /** What a node has written is accepted, and it never hears of that; Redis may even have lost everything meanwhile. */
  | { readonly do: 'deafen node'; readonly node: number; readonly empties: boolean }
  /** Clients drop their streams and come back, as those of a phone between two networks do. */
  | { readonly do: 'hop'; readonly clients: readonly number[] }
  /** A client is replaced by one that was never there. */
  | { readonly do: 'newcomer'; readonly client: number; readonly channels: readonly string[] };

export interface Cycle {
  /** One for each node. */
  readonly paces: readonly Pace[];
  readonly faults: readonly { readonly at: number; readonly fault: Fault }[];
  /** How long is written on after the last fault. */
  readonly linger: number;
}

export interface Plan {
  readonly seed: number;
  readonly nodes: number;
  /** Whether Redis keeps what it has in a file. */
  readonly keeps: boolean;
  /** The channels of each client. */
  readonly clients: readonly (readonly string[])[];
  readonly cycles: readonly Cycle[];
}

type Group = 'redis' | 'node' | 'network' | 'clients' | 'answers';

/** Draws what will happen to a cluster of so many nodes. */
export function planOf(seed: number, nodes: number, cycles: number): Plan {
  return new Draw(seed, nodes).plan(cycles);
}

class Draw {
  readonly #random: Random;
  readonly #keeps: boolean;
  readonly #clients: number;

  constructor(
    readonly seed: number,
    readonly nodes: number,
  ) {
    this.#random = new Random(seed);
    this.#keeps = this.#random.next() < 0.5;
    this.#clients = 4 * nodes;
  }

  plan(cycles: number): Plan {
    return {
      seed: this.seed,
      nodes: this.nodes,
      keeps: this.#keeps,
      clients: Array.from({ length: this.#clients }, () => this.#channels()),
      cycles: Array.from({ length: cycles }, () => this.#cycle()),
    };
  }

  #channels(): readonly string[] {
    const random = this.#random;
    const count = random.pick([1, 1, 2, 2, 3, 4]);
    return CHANNEL_NAMES.map((name) => ({ name, at: random.next() }))
      .sort((a, b) => a.at - b.at)
      .slice(0, count)
      .map(({ name }) => name);
  }

  #cycle(): Cycle {
    const random = this.#random;
    const groups: Group[] = [];
    const count = random.pick([1, 1, 2, 2, 3]);
    // By itself: the node is stopped, and Redis may be restarted.
    if (random.next() < 0.15) groups.push('answers');
    while (groups.length < count && groups[0] !== 'answers') {
      const group = random.pick(['redis', 'redis', 'node', 'node', 'network', 'network', 'clients'] as const);
      // At most one of a kind: a Redis is not restarted twice at a time.
      if (!groups.includes(group)) groups.push(group);
    }
    // Nearly always somebody is on the way from one node to another.
    if (!groups.includes('clients') && random.next() < 0.6) groups.push('clients');
    const paces = Array.from({ length: this.nodes }, () => this.#pace());
    const faults = groups.map((group) => ({ at: 30 + random.below(200), fault: this.#fault(group) }));
    for (const { fault } of faults) {
      // So that something is always on its way.
      if (fault.do === 'deafen node') paces[fault.node] = { ...this.#pace(), every: 2, burst: 4 };
    }
    return {
      paces,
      faults,
      linger: random.below(150),
    };
  }

  #pace(): Pace {
    const random = this.#random;
    const [every, burst] = random.pick([
      [4, 1],
      [10, 3],
      [40, 1],
      [150, 60],
    ] as const) as readonly [number, number];
    return { seed: random.below(2 ** 31), every, burst, asks: random.pick([0.2, 0.5, 1]) };
  }

  #fault(group: Group): Fault {
    const random = this.#random;
    const node = random.below(this.nodes);
    switch (group) {
      case 'node':
        if (random.next() < 0.5) return { do: 'kill node', node, down: random.below(200) };
        return { do: 'stop node', node, ms: this.#pause() };
      case 'answers':
        return { do: 'deafen node', node, empties: random.next() < 0.5 };
      case 'redis':
        return this.#ofRedis();
      case 'network': {
        const how = random.pick(['cut', 'stall', 'refuse', 'cut and refuse', 'stall and cut'] as const);
        return { do: 'network', node, how, ms: how === 'cut' ? 0 : this.#pause() };
      }
      case 'clients': {
        if (random.next() < 0.3) {
          return { do: 'newcomer', client: random.below(this.#clients), channels: this.#channels() };
        }
        const clients = Array.from({ length: 1 + random.below(this.#clients) }, () =>
          random.below(this.#clients),
        );
        return { do: 'hop', clients };
      }
    }
  }

  #ofRedis(): Fault {
    const random = this.#random;
    const draw = random.next();
    if (draw < 0.35) return { do: 'stop redis', ms: this.#pause() };
    if (draw < 0.65) {
      const kinds = random.pick([['pubsub'], ['normal'], ['pubsub', 'normal']] as const);
      return { do: 'kill connections', kinds: kinds as readonly ('pubsub' | 'normal')[] };
    }
    const how = this.#keeps ? random.pick(['empty', 'killed', 'in order'] as const) : 'empty';
    return { do: 'restart redis', how, down: random.below(200) };
  }

  /** Shorter than an answer may take, than a lease, or longer than that. */
  #pause(): number {
    const { lease } = TIMES;
    const random = this.#random;
    const [from, to] = random.pick([
      [20, lease / 4],
      [lease / 4, lease],
      [lease, lease * 1.7],
    ] as const) as readonly [number, number];
    return Math.round(from + random.next() * (to - from));
  }
}

import { Random } from '../support/random.js';
import { drawFault, type Fault, GROUPS, type Kind } from './faults.js';
import { CHANNEL_NAMES, LONE, MORTALS, type Pace, TIMES } from './messages.js';

export interface Cycle {
  /** One for each node. */
  readonly paces: readonly Pace[];
  readonly faults: readonly { readonly at: number; readonly fault: Fault }[];
  /** How long is written on after the last fault. */
  readonly linger: number;
  /** For each channel that may have ended: the node that has it again at the end of the cycle. */
  readonly keepers: ReadonlyMap<string, number>;
}

export interface Plan {
  readonly seed: number;
  readonly nodes: number;
  /** Whether Redis keeps what it has in a file. */
  readonly keeps: boolean;
  /** Milliseconds. */
  readonly lease: number;
  /** Whether another environment is on another database number. */
  readonly hasForeign: boolean;
  /** Whether clients come before the nodes have found Redis. */
  readonly isEarly: boolean;
  /** The channels of each client. */
  readonly clients: readonly (readonly string[])[];
  readonly cycles: readonly Cycle[];
}

/** What is drawn: kinds of faults, and `foreign` for the other environment. */
export type Draws = ReadonlySet<Kind | 'foreign'>;

const ALL: Draws = new Set([...Object.values(GROUPS).flat(), 'foreign']);
// After these a mark may be unknown for one more lease, on a busy machine.
const UNSETTLED = ['lose key', 'end channel', 'dismiss'];
/** The draws of `npm test`. The long run draws all. */
export const USUAL: Draws = new Set([...ALL].filter((kind) => !UNSETTLED.includes(kind)));
// A third of it is longer than the sweep of a hub takes a pause for: a node that was stopped does not look at once by chance.
const LONG_LEASE = 4500;
type Group = keyof typeof GROUPS;

/**
 * Draws what will happen to a cluster of so many nodes.
 * @param draws what may be drawn: everything by default
 */
export function planOf(seed: number, nodes: number, cycles: number, draws = ALL): Plan {
  return new Draw(seed, nodes, draws).plan(cycles);
}

class Draw {
  readonly #random: Random;
  readonly #keeps: boolean;
  readonly #lease: number;
  readonly #clients: number;
  readonly #draws: Draws;
  readonly #groups: readonly Group[];

  constructor(
    readonly seed: number,
    readonly nodes: number,
    draws: Draws,
  ) {
    // Of seeds that follow each other the first numbers are alike.
    this.#random = new Random(Math.imul(seed, 0x9e3779b1));
    this.#keeps = this.#random.next() < 0.5;
    this.#lease = this.#random.pick([TIMES.lease, TIMES.lease, TIMES.lease, LONG_LEASE]);
    this.#clients = 4 * nodes;
    this.#draws = draws;
    const groups = Object.keys(GROUPS) as Group[];
    this.#groups = groups.filter((group) => this.#kindsOf(group).length > 0);
  }

  plan(cycles: number): Plan {
    return {
      seed: this.seed,
      nodes: this.nodes,
      keeps: this.#keeps,
      lease: this.#lease,
      hasForeign: this.#draws.has('foreign') && this.#random.next() < 0.5,
      // Names wait then, as those of channels that have ended do.
      isEarly: this.#draws.has('end channel') && this.#random.next() < 0.5,
      clients: Array.from({ length: this.#clients }, () => this.#channels()),
      cycles: Array.from({ length: cycles }, () => this.#cycle()),
    };
  }

  /** One at the least that never ends, so that a stream never ends for want of channels. */
  #channels(): readonly string[] {
    const random = this.#random;
    const mortals = this.#draws.has('end channel') ? MORTALS : [];
    const permanent = this.#shuffled(CHANNEL_NAMES).slice(0, random.pick([1, 1, 2, 2, 3, 4]));
    const others = this.#shuffled([LONE, ...mortals]).slice(0, random.below(2 + mortals.length));
    return [...permanent, ...others];
  }

  #shuffled(names: readonly string[]): readonly string[] {
    return names
      .map((name) => ({ name, at: this.#random.next() }))
      .sort((a, b) => a.at - b.at)
      .map(({ name }) => name);
  }

  #cycle(): Cycle {
    const random = this.#random;
    const groups = this.#drawGroups();
    const paces = Array.from({ length: this.nodes }, () => this.#pace());
    const size = {
      nodes: this.nodes,
      clients: this.#clients,
      keeps: this.#keeps,
      lease: this.#lease,
      channels: () => this.#channels(),
    };
    const faults = groups.map((group) => {
      const fault = drawFault(random.pick(this.#kindsOf(group)), random, size);
      return { at: 30 + random.below(200), fault };
    });
    for (const { fault } of faults) {
      // So that something is always on its way.
      if (fault.do === 'deafen node') paces[fault.node] = { ...this.#pace(), every: 2, burst: 4 };
    }
    const mortals = this.#draws.has('end channel') ? MORTALS : [];
    const keepers = new Map(mortals.map((name) => [name, random.below(this.nodes)]));
    return { paces, faults, linger: random.below(150), keepers };
  }

  #drawGroups(): readonly Group[] {
    const random = this.#random;
    // By itself: the node is stopped, and Redis may be restarted.
    const isAlone = this.#groups.includes('answers') && random.next() < 0.1;
    const others = this.#groups.filter((group) => group !== 'answers' && group !== 'clients');
    const groups: Group[] = isAlone ? ['answers'] : [];
    const count = isAlone ? 1 : Math.min(random.pick([1, 1, 2, 2, 3, 4]), others.length);
    while (groups.length < count) {
      const group = random.pick(others);
      if (!groups.includes(group)) groups.push(group);
    }
    // Nearly always somebody is on the way from one node to another.
    if (this.#groups.includes('clients') && random.next() < 0.7) groups.push('clients');
    return groups;
  }

  #kindsOf(group: Group): readonly Kind[] {
    return GROUPS[group].filter((kind) => this.#draws.has(kind));
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
}

import type { Random } from '../support/random.js';
import { CHANNEL_NAMES, LONE, MORTALS, TIMES } from './messages.js';
import type { Key } from './servers.js';

/** What befalls the cluster; times in milliseconds. */
export type Fault =
  | { readonly do: 'kill node'; readonly node: number; readonly down: number }
  | { readonly do: 'stop node'; readonly node: number; readonly ms: number }
  /** A node closes its server and its hub, and another process takes its seat: a deploy. */
  | { readonly do: 'drain node'; readonly node: number; readonly drain: number }
  | { readonly do: 'restart redis'; readonly how: 'empty' | 'killed' | 'in order'; readonly down: number }
  | { readonly do: 'stop redis'; readonly ms: number }
  | { readonly do: 'kill connections'; readonly kinds: readonly ('pubsub' | 'normal')[] }
  /** Redis is a replica for a while, and keeps its connections. */
  | { readonly do: 'demote'; readonly ms: number }
  /** A replica becomes the primary, and the primary a replica that keeps its connections. */
  | { readonly do: 'fail over' }
  /** Redis loses one key, as by eviction. */
  | { readonly do: 'lose key'; readonly key: Key; readonly channel: string }
  | {
      readonly do: 'network';
      readonly node: number;
      readonly how: 'cut' | 'stall' | 'refuse' | 'cut and refuse' | 'stall and cut';
      readonly ms: number;
    }
  /** What a node has written is accepted, and it never hears of that; Redis may even have lost everything meanwhile. */
  | { readonly do: 'deafen node'; readonly node: number; readonly empties: boolean }
  /** One node ends a channel; another one, or the same, makes it anew: at once, or when Redis has the end. */
  | {
      readonly do: 'end channel';
      readonly channel: string;
      readonly node: number;
      readonly maker: number;
      readonly waits: boolean;
      /** Milliseconds for which the event loop of the maker is held up meanwhile. */
      readonly busy: number;
      readonly linger: number;
    }
  /** A process makes a hub, writes, closes it and exits. */
  | { readonly do: 'job'; readonly node: number; readonly writes: number; readonly seed: number }
  /** A node writes, and dismisses some of its listeners in the same turn. */
  | { readonly do: 'dismiss'; readonly node: number; readonly count: number }
  /** Clients drop their streams and come back, as those of a phone between two networks do. */
  | { readonly do: 'hop'; readonly clients: readonly number[] }
  /** A client is replaced by one that was never there. */
  | { readonly do: 'newcomer'; readonly client: number; readonly channels: readonly string[] };

export type Kind = Fault['do'];

/** At most one fault of a group in a cycle: a Redis is not restarted twice at a time. */
export const GROUPS = {
  redis: ['stop redis', 'kill connections', 'restart redis', 'demote', 'fail over'],
  keys: ['lose key'],
  node: ['kill node', 'stop node', 'drain node'],
  network: ['network'],
  answers: ['deafen node'],
  channels: ['end channel'],
  jobs: ['job'],
  dismissals: ['dismiss'],
  clients: ['hop', 'newcomer'],
} as const satisfies Record<string, readonly Kind[]>;

/** The cluster that faults are drawn for. */
export interface Size {
  readonly nodes: number;
  readonly clients: number;
  readonly keeps: boolean;
  readonly lease: number;
  channels(): readonly string[];
}

/** Draws what a fault of a kind is like. */
export function drawFault(
  kind: Kind,
  random: Random,
  { nodes, clients, keeps, lease, channels }: Size,
): Fault {
  const node = random.below(nodes);
  switch (kind) {
    case 'kill node':
      return { do: kind, node, down: random.below(200) };
    case 'stop node':
      return { do: kind, node, ms: pauseOf(random, lease) };
    case 'drain node':
      return { do: kind, node, drain: random.pick([300, 1000, 3000]) };
    case 'stop redis':
      return { do: kind, ms: pauseOf(random) };
    case 'kill connections': {
      const kinds = random.pick([['pubsub'], ['normal'], ['pubsub', 'normal']] as const);
      return { do: kind, kinds: kinds as readonly ('pubsub' | 'normal')[] };
    }
    case 'restart redis': {
      const how = keeps ? random.pick(['empty', 'killed', 'in order'] as const) : 'empty';
      return { do: kind, how, down: random.below(200) };
    }
    case 'demote':
      // Longer, at times, than a write waits for its answer.
      return { do: kind, ms: pauseOf(random) + random.pick([0, TIMES.deadline]) };
    case 'fail over':
      return { do: kind };
    case 'lose key': {
      const key = random.pick(['hub', 'nodes', 'audience', 'channel'] as const);
      return { do: kind, key, channel: random.pick([...CHANNEL_NAMES, LONE, LONE]) };
    }
    case 'network': {
      const how = random.pick(['cut', 'stall', 'refuse', 'cut and refuse', 'stall and cut'] as const);
      return { do: kind, node, how, ms: how === 'cut' ? 0 : pauseOf(random) };
    }
    case 'deafen node':
      return { do: kind, node, empties: random.next() < 0.5 };
    case 'end channel': {
      const [maker, waits] = [random.below(nodes), random.next() < 0.7];
      const linger = random.pick([0, 30, 60_000]);
      const busy = random.pick([0, 30, 60]);
      return { do: kind, channel: random.pick(MORTALS), node, maker, waits, busy, linger };
    }
    case 'job':
      return { do: kind, node, writes: 1 + random.below(20), seed: random.below(2 ** 31) };
    case 'dismiss':
      return { do: kind, node, count: 1 + random.below(3) };
    case 'newcomer':
      return { do: kind, client: random.below(clients), channels: channels() };
    case 'hop': {
      const some = Array.from({ length: 1 + random.below(clients) }, () => random.below(clients));
      return { do: kind, clients: some };
    }
  }
}

/** Shorter than an answer may take, than a lease, or longer than that. */
function pauseOf(random: Random, lease: number = TIMES.lease): number {
  const [from, to] = random.pick([
    [20, lease / 4],
    [lease / 4, lease],
    [lease, lease * 1.7],
  ] as const) as readonly [number, number];
  return Math.round(from + random.next() * (to - from));
}

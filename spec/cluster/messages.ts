import type { NodeOutcome, Outcome } from '../../lib/index.js';

// What a node's process and its driver tell each other.

/** Channels that every node opens: two with the default log, two with a small one, so that real gaps occur. */
export const CHANNELS = { wide: 1000, broad: 1000, narrow: 20, tight: 20 } as const;
export const CHANNEL_NAMES = Object.keys(CHANNELS) as (keyof typeof CHANNELS)[];

/** Milliseconds. Short, so that a pause may be longer than any of them. */
export const TIMES = { lease: 600, deadline: 800, wait: 600 } as const;

/** How a node writes until it is told otherwise. */
export interface Pace {
  readonly seed: number;
  /** Milliseconds between two bursts. */
  readonly every: number;
  /** Writes of a burst, at most. */
  readonly burst: number;
  /** The share of writes whose outcome is awaited. */
  readonly asks: number;
}

export type Command =
  | { readonly do: 'start'; readonly name: string; readonly redis: number }
  | { readonly do: 'write'; readonly pace: Pace }
  /** Stop writing; answer once the backplane is healthy, has every write, and every outcome has settled. */
  | { readonly do: 'calm' }
  /** Write one event on each channel; answer with their outcomes. */
  | { readonly do: 'mark' };

/** What happened to one write, `at` milliseconds of the system's monotonic clock. A token is `<node>:<number>`. */
export type Note =
  | {
      readonly is: 'written';
      readonly token: string;
      readonly channel: string;
      readonly at: number;
      readonly asks: boolean;
    }
  | { readonly is: 'accepted'; readonly token: string; readonly channel: string; readonly position: string }
  | { readonly is: 'dropped'; readonly token: string; readonly happened: 'never' | 'unknown' }
  | { readonly is: 'settled'; readonly token: string; readonly at: number; readonly outcome: Outcome }
  | { readonly is: 'wrong'; readonly text: string };

export interface Mark {
  readonly token: string;
  readonly channel: string;
  readonly outcome: Outcome;
}

export type Report =
  | { readonly kind: 'ready' }
  | { readonly kind: 'up'; readonly port: number }
  | { readonly kind: 'notes'; readonly notes: readonly Note[] }
  | { readonly kind: 'listeners'; readonly count: number }
  /** `heap` in bytes, after a collection. */
  | { readonly kind: 'calm'; readonly heap: number }
  | { readonly kind: 'marked'; readonly marks: readonly Mark[] };

export type { NodeOutcome, Outcome };

/** The monotonic clock of the system, which all processes share, in milliseconds. */
export const now = (): number => Number(process.hrtime.bigint() / 1000n) / 1000;

import type { NodeOutcome, Outcome } from '../../lib/index.js';

// What a node's process and its driver tell each other.

/** Channels that every node opens: two with the default log, two with a small one, so that real gaps occur. */
export const CHANNELS = { wide: 1000, broad: 1000, narrow: 20, tight: 20 } as const;
export const CHANNEL_NAMES = Object.keys(CHANNELS) as (keyof typeof CHANNELS)[];

/** A channel that the first seat alone opens. The other nodes take it over for their listeners. */
export const LONE = 'lone';

/** Channels that end and are made anew, each by a node that is told to. */
export const MORTALS = ['brief', 'fleet'] as const;

/** Frames that the log of a channel retains. */
export const framesOf = (name: string): number => CHANNELS[name as keyof typeof CHANNELS] ?? 1000;

/** Times of a hub, in milliseconds. */
export interface Times {
  readonly lease: number;
  readonly deadline: number;
  readonly wait: number;
}

/** Short, so that a pause may be longer than any of them. */
export const TIMES = { lease: 600, deadline: 800, wait: 600 } as const;

/** Times of a process that only writes and closes: no machine is so busy that it needs longer. */
export const JOB_TIMES = { lease: 6000, deadline: 6000, wait: 6000 } as const;

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
  | {
      readonly do: 'start';
      readonly name: string;
      readonly redis: number;
      readonly lease: number;
      /** The channels that it opens. */
      readonly opens: readonly string[];
    }
  | { readonly do: 'write'; readonly pace: Pace }
  /** Make the channel, as soon as its name is free here. */
  | { readonly do: 'make'; readonly channel: string }
  /** Have the channel, made here or elsewhere. */
  | { readonly do: 'open'; readonly channel: string }
  /** End the channel; report when Redis has the end. */
  | { readonly do: 'end'; readonly channel: string; readonly linger: number; readonly order: number }
  /** Hold the event loop for so many milliseconds. */
  | { readonly do: 'hold up'; readonly ms: number }
  /** Write one event on each channel, and dismiss so many listeners in the same turn. */
  | { readonly do: 'dismiss'; readonly count: number }
  /** Close the server and the hub, and exit. */
  | { readonly do: 'close'; readonly drain: number }
  /** In place of `start`: make a hub, write so many events at once, close it, and exit. */
  | {
      readonly do: 'job';
      readonly name: string;
      readonly redis: number;
      readonly writes: number;
      readonly seed: number;
      readonly drain: number;
    }
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
  | {
      readonly is: 'dropped';
      readonly token: string;
      readonly happened: 'never' | 'unknown';
      readonly cause: string;
      readonly at: number;
    }
  | { readonly is: 'settled'; readonly token: string; readonly at: number; readonly outcome: Outcome }
  /** A channel was made here. */
  | { readonly is: 'made'; readonly channel: string; readonly at: number }
  /** A channel has ended, as this node knows. */
  | { readonly is: 'over'; readonly channel: string; readonly at: number }
  /** This listener was dismissed right behind these writes. */
  | { readonly is: 'dismissed'; readonly listener: string; readonly tokens: readonly string[] }
  /** The connection was given up, because no answer came in time. */
  | { readonly is: 'slow'; readonly at: number }
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
  /** Redis has the end that was ordered by this number. */
  | { readonly kind: 'ended'; readonly order: number; readonly at: number }
  /** The hub has closed; the process exits now. */
  | { readonly kind: 'closed' }
  /** `heap` in bytes, after a collection. */
  | { readonly kind: 'calm'; readonly heap: number }
  | { readonly kind: 'marked'; readonly marks: readonly Mark[] };

export type { NodeOutcome, Outcome };

/** The monotonic clock of the system, which all processes share, in milliseconds. */
export const now = (): number => Number(process.hrtime.bigint() / 1000n) / 1000;

import type { ClientCursor, Sequence } from '../core/position.js';
import type { Ends } from './ended.js';
import type { Feed } from './feed.js';

/** What a client asks for, and where it stands. */
export interface Wish {
  /** The channels of its names: alive, or lingering. */
  readonly feeds: readonly Feed[];
  /** Its names of which there is no channel. */
  readonly missing: readonly string[];
  /** Names that start as for a newcomer, though the client has a cursor. */
  readonly newIds: ReadonlySet<string>;
  readonly cursor: ClientCursor;
  /** What is known of the ends of the names that are missing. */
  readonly ends: Ends;
}

/** Where a listener begins to read. */
export interface Start {
  /** The first position of its stream: it reads its channels on from here. */
  readonly position: number;
  /** Channels whose start begins before that position, and where it does. */
  readonly rewound: ReadonlyMap<Feed, number> | undefined;
  /** Channels that it reads from further on than that position. */
  readonly skips: Map<Feed, number> | undefined;
}

/** Where a stream begins, and the channels that were carried before and of which something may be lost to its client. */
export interface Beginning extends Start {
  readonly gaps: readonly string[];
}

const NO_GAPS: readonly string[] = [];

/** Where a client begins. What it has missed follows, or its channel is in `gaps` and starts anew. */
export function beginningOf(wish: Wish, sequence: Sequence): Beginning {
  const { feeds, missing, newIds, cursor, ends } = wish;
  const { head } = sequence;
  const seq = knownSeq(cursor, sequence);
  if (cursor.position === undefined) return { ...startOf(feeds, head, head), gaps: NO_GAPS };

  const gaps: string[] = [];
  const starting: Feed[] = [];
  const jumps = new Map<Feed, number>();
  for (const feed of feeds) {
    const { chanId } = feed;
    if (newIds.has(chanId)) starting.push(feed);
    else if (seq === undefined || chanId === cursor.restarts || !reachesBack(feed, seq, jumps)) {
      starting.push(feed);
      gaps.push(chanId);
    }
  }
  for (const name of missing) {
    if (newIds.has(name)) continue;
    if (seq === undefined || name === cursor.restarts || ends.lastEnd(name) > seq) gaps.push(name);
  }
  // Where nothing is read from the cursor on, the stream begins as a newcomer's does.
  const position = seq === undefined || starting.length === feeds.length ? head : seq;
  const start = startOf(starting, position, head);
  if (jumps.size === 0) return { ...start, gaps };
  return { ...start, skips: new Map([...jumps, ...(start.skips ?? [])]), gaps };
}

/**
 * Where channels start for a listener that stands at `position`: with their newest `rewind` events, and those that have
 * ended with their end. What of a start stands behind the position comes there, in the order of all channels.
 * @param live for channels that start anew: what stands behind this position comes in any case
 */
export function startOf(
  feeds: readonly Feed[],
  position: number,
  head: number,
  live?: ReadonlyMap<Feed, number>,
): Start {
  // As a rule there is nothing to start with.
  if (
    position === head &&
    live === undefined &&
    feeds.every(({ rewind, log }) => rewind === 0 && !log.isEnded)
  ) {
    return { position, rewound: undefined, skips: undefined };
  }
  const rewound = new Map<Feed, number>();
  const skips = new Map<Feed, number>();
  for (const feed of feeds) {
    const from = Math.min(feed.log.before(feed.rewind) ?? head, live?.get(feed) ?? head);
    if (from < position) rewound.set(feed, from);
    else if (from > position) skips.set(feed, from);
  }
  return {
    position,
    rewound: rewound.size > 0 ? rewound : undefined,
    skips: skips.size > 0 ? skips : undefined,
  };
}

/** Whether the cursor says where a client stands in the present order: if so, where. */
export function knownSeq({ position }: ClientCursor, { epoch, head }: Sequence): number | undefined {
  return position?.epoch === epoch && position.seq <= head ? position.seq : undefined;
}

/**
 * Whether a client that stands at `seq` gets what it missed of a channel, or its newest event, if the channel is such.
 * Adds to `jumps` where the channel is read from, if that is further on.
 */
function reachesBack(feed: Feed, seq: number, jumps: Map<Feed, number>): boolean {
  const { log, lag, lastEnd } = feed;
  if (seq >= log.floor) return true;
  // The channel was made after that, and no other of its name was there in between.
  if (log.isWhole && seq >= lastEnd) {
    jumps.set(feed, log.floor);
    return true;
  }
  const newest = log.before(1);
  if (lag === 'close' || newest === undefined || (log.isEnded && log.size === 1)) return false;
  jumps.set(feed, newest);
  return true;
}

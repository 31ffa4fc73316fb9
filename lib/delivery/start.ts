import type { Position, Sequence } from '../core/position.js';
import type { Feed } from './feed.js';

/** Where a listener begins to read. */
export interface Start {
  position: number;
  /** Feeds that it reads from further on than that. */
  skips: Map<Feed, number> | undefined;
  /** `false` exactly where it may have missed something. */
  recovered: boolean;
}

/** Where one begins with a cursor, without one (`undefined`), or with one that can't be read (`null`). */
export function startOf(
  feeds: readonly Feed[],
  cursor: Position | null | undefined,
  { epoch, head }: Sequence,
): Start {
  if (cursor === undefined) return startOfNewcomer(feeds, head, true);
  const { seq } = cursor ?? { seq: 0 };
  const fallen = feeds.filter(({ log }) => seq < log.floor);
  const isGap = cursor?.epoch !== epoch || seq > head || fallen.some(({ lag }) => lag === 'close');
  if (isGap) return startOfNewcomer(feeds, head, false);
  // As a slow listener on such a channel does while its stream is open: it jumps to the newest.
  const skips = new Map(fallen.map((feed) => [feed, feed.log.before(1) ?? head]));
  return { position: seq, skips, recovered: true };
}

function startOfNewcomer(feeds: readonly Feed[], head: number, recovered: boolean): Start {
  // The most of them, who get nothing that was written before they came.
  if (feeds.every(({ rewind }) => rewind === 0)) return { position: head, skips: undefined, recovered };
  const starts = new Map(feeds.map((feed) => [feed, feed.log.before(feed.rewind) ?? head]));
  return { position: Math.min(...starts.values()), skips: starts, recovered };
}

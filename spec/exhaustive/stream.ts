import type { Channel } from './channels.js';
import type { Item } from './items.js';

/** A channel that the stream carries. The page was given everything up to `from`. */
export interface Carried {
  readonly channel: Channel;
  from: number;
}

/** The stream of the page. */
export interface Stream {
  /** The names of its request. */
  readonly names: readonly string[];
  /** What the page is told first. */
  opening: Item | undefined;
  /** While starts are under way: what their ids begin with. */
  start: string | undefined;
  position: number;
  carried: Carried[];
  /** What the page is told next: that other channels are carried, and of which names something is lost. */
  hasJoined: boolean;
  gaps: string[];
}

/** The names of channels that are carried. */
export function namesOf(carried: readonly Carried[]): string[] {
  return carried.map(({ channel }) => channel.name);
}

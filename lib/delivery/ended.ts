import type { Feed } from './feed.js';

/** What a hub keeps of the channels that have ended. */
export interface EndedLimits {
  /** Channels that linger at most. As many ends are remembered. */
  readonly channels: number;
  /** Bytes of the histories that linger at most. */
  readonly bytes: number;
}

/** What is known of the ends of channels, by name. Positions are those of the present epoch. */
export interface Ends {
  /** Whether an end of a channel of this name is known. */
  has(name: string): boolean;
  /** Up to this position a channel of this name may have ended; 0 if none has. */
  lastEnd(name: string): number;
}

interface Lingering {
  readonly feed: Feed;
  /** Until then, in milliseconds of `performance.now()`. */
  readonly until: number;
  readonly bytes: number;
}

// What a channel without events takes.
const EMPTY_BYTES = 500;

/**
 * The channels of a hub that have ended. Each lingers for some time: clients that return read its last events and its
 * end. The hub remembers longer that there was an end. So it can tell a client that missed one from a client to whose
 * names nothing ever happened.
 */
export class EndedChannels implements Ends {
  readonly #limits: EndedLimits;
  // Both by name; the earliest end stands first.
  readonly #lingering = new Map<string, Lingering>();
  readonly #ends = new Map<string, number>();
  #bytes = 0;
  // Ends up to this position may be unknown.
  #since = 0;

  constructor(limits: EndedLimits) {
    this.#limits = limits;
  }

  /** Channels that linger. */
  get size(): number {
    return this.#lingering.size;
  }

  /**
   * A channel has ended at `seq`. Its history stays readable for `linger` milliseconds.
   * @param now in milliseconds of `performance.now()`
   */
  add(feed: Feed, seq: number, linger: number, now: number): void {
    const { chanId, log } = feed;
    const { channels, bytes } = this.#limits;
    this.release(chanId);
    this.learn(chanId, seq);
    if (linger > 0 && log.isEnded) {
      const held = log.bytes + EMPTY_BYTES;
      this.#lingering.set(chanId, { feed, until: now + linger, bytes: held });
      this.#bytes += held;
    }
    for (const name of this.#lingering.keys()) {
      if (this.#lingering.size <= channels && this.#bytes <= bytes) break;
      this.release(name);
    }
  }

  /** A channel of this name has ended at `seq`, here or on another node. */
  learn(name: string, seq: number): void {
    this.#ends.delete(name);
    this.#ends.set(name, seq);
    for (const [oldest, end] of this.#ends) {
      if (this.#ends.size <= this.#limits.channels) break;
      this.#ends.delete(oldest);
      this.#since = Math.max(this.#since, end);
    }
  }

  /** The channel that had this name, while it lingers. */
  find(name: string, now: number): Feed | undefined {
    const lingering = this.#lingering.get(name);
    return lingering?.feed.log.isEnded && now < lingering.until ? lingering.feed : undefined;
  }

  /** The channel that had this name lingers no more. */
  release(name: string): void {
    this.#bytes -= this.#lingering.get(name)?.bytes ?? 0;
    this.#lingering.delete(name);
  }

  has(name: string): boolean {
    return this.#ends.has(name);
  }

  lastEnd(name: string): number {
    return Math.max(this.#since, this.#ends.get(name) ?? 0);
  }

  /**
   * A new epoch has begun, in which the order stands at `seq`: no end of the old one can be compared with its positions.
   */
  clear(seq: number): void {
    this.#lingering.clear();
    this.#ends.clear();
    this.#bytes = 0;
    this.#since = seq;
  }

  /** Lets go what lingers no more. Yields each other channel, whose history still grows old. */
  *sweep(now: number): Generator<Feed> {
    for (const [name, { feed, until }] of this.#lingering) {
      if (now < until && feed.log.isEnded) yield feed;
      else this.release(name);
    }
  }
}

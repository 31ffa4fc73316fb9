import { setTimeout as pause } from 'node:timers/promises';
import { Deferred } from '../../lib/index.js';
import { CHANNEL_NAMES, LONE } from './messages.js';

interface Order {
  readonly channel: string;
  readonly from: number;
  /** When Redis had it, if that is known. */
  to: number;
  readonly accepted: Deferred<void>;
}

const PERMANENT: readonly string[] = [...CHANNEL_NAMES, LONE];
// A node that was killed does not tell that its end was accepted.
const PATIENCE_MS = 2000;

interface Known {
  readonly channel: string;
  readonly node: string;
  readonly at: number;
}

/** Judges the ends of channels: each has to be one that was ordered, of the channel that it ends. */
export class Ends {
  readonly #orders: Order[] = [];
  readonly #made: Known[] = [];
  readonly #over: Known[] = [];

  /** A node is told to end a channel. Returns the number of the order. */
  order(channel: string, from: number): number {
    return this.#orders.push({ channel, from, to: Infinity, accepted: new Deferred() }) - 1;
  }

  /** Redis has the end. */
  accept(order: number, at: number): void {
    const known = this.#orders[order] as Order;
    known.to = at;
    known.accepted.resolve();
  }

  /** Resolves when Redis has the end, or its node may have been killed. */
  async accepted(order: number): Promise<void> {
    await Promise.race([this.#orders[order]?.accepted.promise, pause(PATIENCE_MS)]);
  }

  made(node: string, channel: string, at: number): void {
    this.#made.push({ channel, node, at });
  }

  over(node: string, channel: string, at: number): void {
    this.#over.push({ channel, node, at });
  }

  /** What is wrong. */
  conclude(): readonly { readonly text: string; readonly at: number }[] {
    return this.#over.flatMap((over) => {
      const text = this.#faultOf(over);
      return text === undefined ? [] : [{ text, at: over.at }];
    });
  }

  #faultOf({ channel, node, at }: Known): string | undefined {
    if (PERMANENT.includes(channel)) return `ENDED: ${channel} has ended on ${node}, and nobody ended it`;
    const made = this.#made.findLast((one) => one.channel === channel && one.node === node && one.at <= at);
    // Another node made it. An end that Redis had before a channel was made is not the end of that one.
    if (made === undefined) return undefined;
    const isOrdered = this.#orders.some((one) => {
      return one.channel === channel && one.from <= at && one.to >= made.at;
    });
    return isOrdered ? undefined : `LATE END: ${channel} has ended on ${node} by the end of the one before`;
  }
}

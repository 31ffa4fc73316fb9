import { AsyncContext } from '../core/context.js';
import type { CometEvents, Events } from '../core/events.js';

type Drop = CometEvents['drop'];

// The shortest time between two events of the same cause.
const PAUSE_MS = 1000;

// As they are before a test of a user's replaces them.
const { setImmediate, setTimeout, clearTimeout } = globalThis;

interface Told {
  /** The drops that were not reported yet, with their count. */
  drop: Drop | undefined;
  pause: NodeJS.Timeout | undefined;
}

/**
 * Tells the event `drop`: at the end of the turn, and then once a second for each channel, event name and cause, with a
 * count. A server that refuses every write would otherwise cause as many events as writes.
 */
export class Drops {
  readonly #events: Events;
  readonly #context = new AsyncContext();
  readonly #told = new Map<string, Told>();

  constructor(events: Events) {
    this.#events = events;
  }

  /** A write was dropped. */
  add(drop: Omit<Drop, 'count'>): void {
    if (!this.#events.has('drop')) return;
    const { channel, event, happened, cause } = drop;
    const key = JSON.stringify([channel, event, happened, cause.code, cause.message]);
    const told = this.#told.get(key);
    if (told !== undefined) {
      told.drop = { ...drop, count: (told.drop?.count ?? 0) + 1 };
      return;
    }
    this.#told.set(key, { drop: { ...drop, count: 1 }, pause: undefined });
    this.#context.run(() => setImmediate(() => this.#tell(key)));
  }

  /** Reports all remaining drops. */
  close(): void {
    for (const key of [...this.#told.keys()]) {
      this.#tell(key);
      clearTimeout(this.#told.get(key)?.pause);
      this.#told.delete(key);
    }
  }

  #tell(key: string): void {
    const told = this.#told.get(key);
    if (told?.drop === undefined) {
      this.#told.delete(key);
      return;
    }
    this.#events.emit('drop', told.drop);
    told.drop = undefined;
    told.pause = setTimeout(() => this.#tell(key), PAUSE_MS).unref();
  }
}

import { performance } from 'node:perf_hooks';
import { AsyncContext } from '../core/context.js';
import { HOLD_MS } from '../core/slices.js';

/** A reader that is behind. */
export interface BehindReader {
  /** Reads its channels until it is live, blocked or gone; not past `until`. Returns whether it is done. */
  readOn(until: number): boolean;
}

/**
 * Lets readers that are behind catch up: all of them together for at most 5 ms of each turn of the event loop. A request
 * of one kilobyte can ask for the histories of 100 channels, and must not hold up every other client.
 */
export class CatchUp {
  readonly #behind = new Set<BehindReader>();
  readonly #context = new AsyncContext();
  // Until when this turn's readers may read. Undefined before the first of them.
  #until: number | undefined;

  /** Has a reader read on: now, while there is time in this turn, and in the next turns. */
  start(reader: BehindReader): void {
    if (this.#until === undefined) {
      this.#until = performance.now() + HOLD_MS;
      this.#context.run(() => setImmediate(this.#rest));
    }
    const mayRead = this.#behind.size === 0 && performance.now() < this.#until;
    if (mayRead && reader.readOn(this.#until)) return;
    this.#behind.add(reader);
  }

  /** Has a reader read on in the next turn: it can't in the midst of what happens now. */
  startLater(reader: BehindReader): void {
    if (this.#until === undefined) {
      this.#until = 0;
      this.#context.run(() => setImmediate(this.#turn));
    }
    this.#behind.add(reader);
  }

  /** Ends a turn in which readers started: those that are not done have had its time, and read on in the next. */
  readonly #rest = (): void => {
    this.#until = this.#behind.size === 0 ? undefined : 0;
    if (this.#behind.size > 0) setImmediate(this.#turn);
  };

  readonly #turn = (): void => {
    this.#until = undefined;
    if (this.#behind.size === 0) return;
    const until = performance.now() + HOLD_MS;
    this.#until = until;
    setImmediate(this.#turn);
    for (const reader of this.#behind) {
      this.#behind.delete(reader);
      // Behind the others, so that all of them come forward.
      if (!reader.readOn(until)) this.#behind.add(reader);
      if (performance.now() >= until) return;
    }
  };
}

import { AsyncContext } from './context.js';
import { inSlices } from './slices.js';

/** What is swept: told how many milliseconds have passed, it yields wherever it may be interrupted. */
export interface Swept {
  sweep(elapsed: number): Iterator<unknown>;
  /** Whether time can still change anything. */
  isQuiet(): boolean;
}

/**
 * The one timer of a hub, for everything that may come up to a second late: heartbeats, stalled streams, ends of life, frames
 * that grow old. It never keeps the process alive, and stops by itself when time can change nothing.
 */
export class Sweep {
  readonly #swept: Swept;
  readonly #context = new AsyncContext();
  #period = 1000;
  #timer: NodeJS.Timeout | undefined;
  #last = 0;
  #busy = false;

  constructor(swept: Swept) {
    this.#swept = swept;
  }

  /** Sets how often it sweeps, so that none of these times, in milliseconds, is missed by more than an eighth. */
  suit(times: readonly (number | null)[]): void {
    const shortest = Math.min(...times.filter((time) => time !== null));
    const period = Math.min(Math.max(Math.floor(shortest / 8), 5), 1000);
    if (period === this.#period) return;
    this.#period = period;
    if (this.#timer === undefined) return;
    this.stop();
    this.start();
  }

  start(): void {
    if (this.#timer !== undefined) return;
    this.#last = performance.now();
    this.#timer = this.#context.run(() => setInterval(this.#tick, this.#period).unref());
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  readonly #tick = (): void => {
    // A sweep over very many streams takes more than one turn.
    if (this.#busy) return;
    if (this.#swept.isQuiet()) {
      this.stop();
      return;
    }
    const now = performance.now();
    // A process that was suspended wakes up with an hour gone by, in which no stream had a chance to drain.
    const elapsed = Math.min(Math.ceil(now - this.#last), 2 * this.#period + 1000);
    this.#last = now;
    this.#busy = true;
    inSlices(this.#swept.sweep(elapsed), () => {
      this.#busy = false;
    });
  };
}

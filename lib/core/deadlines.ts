import { AsyncContext } from './context.js';
import { inSlices } from './slices.js';

// Deadlines within the same 20 ms share one wake-up, so that very many of them cost no more than 50 timers a second.
const STEP_MS = 20;

/**
 * Calls `due` for each item that was added, within 20 ms of its deadline. One timer serves all items; it never keeps the
 * process alive. An item stays here until its deadline: add only what is due within seconds.
 */
export class Deadlines<Item> {
  readonly #due: (item: Item) => void;
  readonly #context = new AsyncContext();
  // By the step at whose end they are due.
  readonly #items = new Map<number, Set<Item>>();
  #timer: NodeJS.Timeout | undefined;
  // The step that the timer waits for.
  #next = Infinity;

  constructor(due: (item: Item) => void) {
    this.#due = due;
  }

  /**
   * Adds an item. It changes nothing if the item was added with the same deadline before.
   * @param deadline in milliseconds of `Date.now()`
   */
  add(item: Item, deadline: number): void {
    const step = Math.ceil(deadline / STEP_MS);
    const items = this.#items.get(step);
    if (items === undefined) this.#items.set(step, new Set([item]));
    else items.add(item);
    if (step < this.#next) this.#await(step);
  }

  #await(step: number): void {
    clearTimeout(this.#timer);
    this.#next = step;
    const delay = Math.max(step * STEP_MS - Date.now(), 1);
    this.#timer = this.#context.run(() => setTimeout(this.#wake, delay).unref());
  }

  readonly #wake = (): void => {
    const now = Math.floor(Date.now() / STEP_MS);
    const due: Item[] = [];
    for (const [step, items] of this.#items) {
      if (step > now) continue;
      this.#items.delete(step);
      for (const item of items) due.push(item);
    }
    this.#next = Infinity;
    // A timer of Node may fire a millisecond early: then its step is still among these.
    const next = Math.min(...this.#items.keys());
    if (next < Infinity) this.#await(next);
    inSlices(this.#each(due));
  };

  *#each(items: readonly Item[]): Generator<void> {
    for (const item of items) {
      this.#due(item);
      yield;
    }
  }
}

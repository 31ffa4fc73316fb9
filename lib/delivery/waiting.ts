/** A listener that waits for channels, as this registry sees it. */
export interface Waiter<Found> {
  /** The channel of a name that it waits for is about to get its first event. */
  join(found: Found): void;
  /** Events of a channel of this name may be lost to it. It waits for the next one. */
  miss(name: string): void;
  /** The channel of this name can't be carried. It waits no more. */
  refuse(name: string): void;
}

/** A channel that has ended, as this registry sees it. */
interface Readable {
  readonly chanId: string;
  /** Listeners that have yet to read its end. */
  readonly listeners: number;
}

/**
 * Names of which no channel exists, and the listeners that wait for one. A stranger can name what he likes, so their
 * number is bounded.
 */
export class WaitingNames<Found extends Readable> {
  readonly #limit: number;
  readonly #waiters = new Map<string, Set<Waiter<Found>>>();
  // By name: channels that have ended, and whose listeners will wait for the next one of the name.
  readonly #ended = new Map<string, Set<Found>>();
  #size = 0;

  /** @param limit names, each counted once for each listener that waits for it */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How many more names can wait. */
  get room(): number {
    return this.#limit - this.#size;
  }

  /** Names that wait, each counted once for each listener that waits for it. */
  get size(): number {
    return this.#size;
  }

  /** Whether a listener waits for this name. */
  hasWaiter(name: string): boolean {
    return this.#size > 0 && this.#waiters.has(name);
  }

  /** Whether a listener waits for this name, or will wait for it once it has read the end of the last channel. */
  has(name: string): boolean {
    if (this.#waiters.has(name)) return true;
    for (const feed of this.#ended.get(name) ?? []) if (hasReaders(feed)) return true;
    return false;
  }

  /** How many listeners wait for this name. */
  count(name: string): number {
    return this.#waiters.get(name)?.size ?? 0;
  }

  /** Names for which `has` is true, and names whose ended channels `sweep` has yet to forget. */
  *names(): IterableIterator<string> {
    yield* this.#waiters.keys();
    yield* this.#ended.keys();
  }

  /** The listeners of a channel that has ended will wait for the next one of its name. */
  expect(ended: Found): void {
    if (!hasReaders(ended)) return;
    const feeds = this.#ended.get(ended.chanId) ?? new Set();
    this.#ended.set(ended.chanId, feeds.add(ended));
  }

  /** Forgets the channels whose end all listeners have read. */
  sweep(): void {
    for (const [name, feeds] of this.#ended) {
      for (const feed of feeds) if (!hasReaders(feed)) feeds.delete(feed);
      if (feeds.size === 0) this.#ended.delete(name);
    }
  }

  add(name: string, waiter: Waiter<Found>): void {
    const waiters = this.#waiters.get(name) ?? new Set();
    this.#waiters.set(name, waiters);
    this.#size += waiters.has(waiter) ? 0 : 1;
    waiters.add(waiter);
  }

  remove(name: string, waiter: Waiter<Found>): void {
    const waiters = this.#waiters.get(name);
    if (!waiters?.delete(waiter)) return;
    this.#size -= 1;
    if (waiters.size === 0) this.#waiters.delete(name);
  }

  /** Has every listener that waits for this name join what was found. None waits for it any more. */
  resolve(name: string, found: Found): void {
    for (const waiter of this.#take(name)) waiter.join(found);
  }

  /** Events of a channel of this name may be lost to every listener that waits for it. */
  miss(name: string): void {
    for (const waiter of [...(this.#waiters.get(name) ?? [])]) waiter.miss(name);
  }

  /** The channel of this name can't be carried. None waits for it any more. */
  refuse(name: string): void {
    for (const waiter of this.#take(name)) waiter.refuse(name);
  }

  #take(name: string): Iterable<Waiter<Found>> {
    const waiters = this.#waiters.get(name) ?? new Set();
    this.#waiters.delete(name);
    this.#size -= waiters.size;
    return waiters;
  }
}

const hasReaders = ({ listeners }: Readable): boolean => listeners > 0;

import type { Events } from '../core/events.js';
import type { Settings } from '../core/options.js';
import type { Sequence } from '../core/position.js';
import { CatchUp } from './catch-up.js';
import type { EndedChannels } from './ended.js';
import { type Feed, Groups } from './feed.js';
import type { Flush } from './flush.js';
import type { Hall, Listener } from './listener.js';
import type { WaitingNames } from './waiting.js';

/** Who is here: the listeners of a hub, and the streams of those who left that still have to close. */
export class Roster implements Hall {
  readonly groups = new Groups();
  readonly catchUp = new CatchUp();
  readonly #listeners = new Set<Listener>();
  readonly #departing = new Set<Listener>();
  readonly #clients = new Map<string, number>();
  #emptied: (() => void)[] = [];

  constructor(
    readonly settings: Settings,
    readonly sequence: Sequence,
    readonly flush: Flush,
    readonly events: Events,
    readonly ended: EndedChannels,
    readonly waiting: WaitingNames<Feed>,
    readonly feedOf: (name: string) => Feed | undefined,
    readonly onJoin: (listener: Listener) => void,
  ) {}

  /** Streams that are registered. */
  get size(): number {
    return this.#listeners.size;
  }

  /** Whether every connection has closed. */
  get isEmpty(): boolean {
    return this.#listeners.size === 0 && this.#departing.size === 0;
  }

  /** The listeners, then those who are departing. */
  *everyone(): IterableIterator<Listener> {
    yield* this.#listeners;
    yield* this.#departing;
  }

  /** The listeners. */
  [Symbol.iterator](): IterableIterator<Listener> {
    return this.#listeners.values();
  }

  /** The listener of that id. It is looked for, since nobody asks often, and an index would cost each of them memory. */
  find(id: string): Listener | undefined {
    for (const listener of this.#listeners) if (listener.id === id) return listener;
    return undefined;
  }

  /** Streams of one client; counted only where there is a limit on them. */
  ofClient(client: string): number {
    return this.#clients.get(client) ?? 0;
  }

  /** Resolves when every connection has closed. */
  async empty(): Promise<void> {
    if (this.isEmpty) return;
    await new Promise<void>((resolve) => this.#emptied.push(resolve));
  }

  joined(listener: Listener): void {
    this.#listeners.add(listener);
    this.#counted(listener, 1);
    this.onJoin(listener);
  }

  left(listener: Listener): void {
    this.#listeners.delete(listener);
    this.#departing.add(listener);
    this.#counted(listener, -1);
  }

  closed(listener: Listener): void {
    this.#departing.delete(listener);
    if (!this.isEmpty) return;
    for (const resolve of this.#emptied.splice(0)) resolve();
  }

  #counted({ client }: Listener, change: 1 | -1): void {
    if (client === undefined) return;
    const count = this.ofClient(client) + change;
    if (count > 0) this.#clients.set(client, count);
    else this.#clients.delete(client);
  }
}

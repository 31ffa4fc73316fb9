import type { Backplane, Entry, Node, RemoteLink } from '../../lib/core/backplane.js';
import { Deferred } from '../../lib/index.js';

/** One entry of the order. `data` is undefined for the end of a channel. */
export interface Item {
  readonly name: string;
  readonly seq: number;
  readonly previous: number;
  readonly data: string | undefined;
}

/** A node that takes no part, and hears everything at once: what it says is the truth. */
export class Witness implements Node {
  readonly id = 'witness';
  /** All entries of all channels, in the order. */
  readonly items: Item[] = [];
  /** Where the order stood when a channel was made on which nothing was written. */
  readonly floors = new Map<string, number>();
  /** The channels that have not ended. */
  open: ReadonlyMap<string, unknown> = new Map();
  readonly #connected = new Deferred<void>();
  readonly #marked = new Deferred<void>();
  #link: RemoteLink | undefined;

  async watch(backplane: Backplane, names: readonly string[]): Promise<void> {
    this.#link = backplane.connect(this) as RemoteLink;
    await this.#connected.promise;
    await this.#link.subscribe(names);
  }

  /** Everything that was appended until now has come. */
  async finish(names: readonly string[]): Promise<void> {
    const questions = names.map((chanId) => ({ chanId, from: null, listeners: 0 }));
    const snapshot = await this.#link?.sync(questions, 'last');
    await this.#marked.promise;
    this.open = new Map(
      [...((await this.#link?.find(names))?.names ?? [])].filter(
        ([, { terms, linger }]) => terms !== undefined && linger === undefined,
      ),
    );
    for (const { chanId, last, entries } of snapshot?.channels ?? []) {
      this.floors.set(chanId, entries[0]?.previous ?? last);
    }
  }

  /** The `seq` of the last entry of a channel. */
  last(name: string): number | undefined {
    return this.items.findLast((item) => item.name === name)?.seq;
  }

  async close(): Promise<void> {
    await this.#link?.close();
  }

  connected(): void {
    this.#connected.resolve();
  }

  disconnected(): void {}

  receive({ chanId, seq, previous, body }: Entry): void {
    this.items.push({ name: chanId, seq, previous, data: body?.slice('data: '.length).trimEnd() });
  }

  marked(): void {
    this.#marked.resolve();
  }

  made(): void {}

  hear(): void {}

  malformed(error: Error): void {
    throw error;
  }

  recall(): undefined {}
}

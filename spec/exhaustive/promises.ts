/** What the server holds when it answers a request. */
export interface Moment {
  readonly head: number;
  /** The events with which a page that is new would start, by name. */
  readonly starts: ReadonlyMap<string, readonly number[]>;
}

/** A channel that the page asks for. */
interface Wanted {
  /** Events after this position are owed to the page … */
  readonly since: number;
  /** … and these, with which it starts. */
  readonly start: readonly number[];
  readonly got: number[];
  /** The start may be under way: where the connection breaks, it begins again. */
  isStarting: boolean;
}

/**
 * What is promised to a page, without a word of how it is kept: the events of each channel that it asks for come in order
 * and once each, from a start on that it gets whole, and none is missing unless the page is told so. The model is held to it
 * as the code is.
 */
export class Promises {
  readonly #wanted = new Map<string, Wanted>();
  readonly #written: ReadonlyMap<string, readonly number[]>;
  readonly #isLatest: (name: string) => boolean;

  /**
   * @param written the positions of all events, by name
   * @param isLatest whether only the newest event of a channel is owed
   */
  constructor(written: ReadonlyMap<string, readonly number[]>, isLatest: (name: string) => boolean) {
    this.#written = written;
    this.#isLatest = isLatest;
  }

  /** Of the channels that the page has asked for it goes on with these. */
  keep(names: readonly string[]): void {
    for (const name of this.#wanted.keys()) if (!names.includes(name)) this.#wanted.delete(name);
  }

  /** `comet:open` has come. */
  open(names: readonly string[], gaps: readonly string[], hasStart: boolean, { head, starts }: Moment): void {
    for (const name of names) {
      const wanted = this.#wanted.get(name);
      if (wanted !== undefined && !wanted.isStarting && !gaps.includes(name)) continue;
      this.#wanted.set(name, { since: head, start: starts.get(name) ?? [], got: [], isStarting: hasStart });
    }
  }

  ready(): void {
    for (const wanted of this.#wanted.values()) wanted.isStarting = false;
  }

  gap(names: readonly string[], head: number): void {
    for (const name of names) this.#wanted.set(name, { since: head, start: [], got: [], isStarting: false });
  }

  /** Returns what is wrong with an event that has come, if anything is. */
  event(name: string, seq: number): string | undefined {
    const got = this.#wanted.get(name)?.got;
    if (got === undefined) return `got ${name}${seq}, which it did not ask for`;
    const last = got.at(-1) ?? 0;
    got.push(seq);
    return seq > last ? undefined : `got ${name}${seq} after ${name}${last}`;
  }

  /**
   * The page has everything that the server has for it. Returns what is missing, if anything is.
   * @param isRefused the page is told that there is nothing for it: a start that broke off is not owed any more
   */
  settle(isRefused: boolean): string | undefined {
    for (const [name, { isStarting }] of this.#wanted) {
      const [missing] = isRefused && isStarting ? [] : this.#missing(name);
      if (missing !== undefined) return `never got ${name}${missing}, and was not told so`;
    }
    return undefined;
  }

  /** What of this decides about what comes. Before positions stands `~`. */
  describe(name: string, readable: readonly number[]): string {
    const wanted = this.#wanted.get(name);
    if (wanted === undefined) return '';
    const last = wanted.got.at(-1) ?? 0;
    const repeatable = readable.filter((seq) => seq <= last).length;
    return `${this.#missing(name).map((seq) => `~${seq}`)} ${repeatable} ${wanted.isStarting}`;
  }

  #missing(name: string): number[] {
    const { since, start, got } = this.#wanted.get(name) as Wanted;
    const owed = [...start, ...(this.#written.get(name) ?? []).filter((seq) => seq > since)];
    return owed.slice(this.#isLatest(name) ? -1 : 0).filter((seq) => !got.includes(seq));
  }
}

import type { Relay, WaitingWriter } from '../cluster/relay.js';
import { AsyncContext } from '../core/context.js';
import { BackplaneError, ChannelEndedError, InvalidOptionError } from '../core/errors.js';
import { checkFlag, checkKnown, checkWait } from '../core/options.js';
import { Deferred } from '../core/outcome.js';
import type { Position, Sequence } from '../core/position.js';
import type { Feed, Writer } from '../delivery/feed.js';
import { checkEventName } from '../sse/frame.js';
import type { OpenSource } from './source.js';

/** How a source is piped. */
export interface PipeOptions<Item = unknown> {
  /**
   * The name of the events, or what names each: `undefined` for none. Default: none, which `EventSource` calls `message`.
   */
  event?: string | ((item: Item) => string | undefined) | undefined;
  /** Whether the channel ends when the source has come to its end. It stays open where that fails. Default `true`. */
  end?: boolean | undefined;
  /** Stops the source; the promise rejects with its reason. Default: none. */
  signal?: AbortSignal | undefined;
  /**
   * Milliseconds that a listener may have been blocked and is still waited for, where it would fall off the log while
   * others read. With 0 the fastest listener sets the pace, with as much as `stall` the slowest. Default 100.
   */
  patience?: number | undefined;
}

/** What became of a source. */
export interface Piped {
  /** Items that were written. */
  readonly items: number;
  /** Whether the source came to its end: `false` where the channel ended first, or the hub closed. */
  readonly complete: boolean;
}

/** The channel of a pipe, as far as it concerns the pipe. */
export interface Outlet<Item> {
  readonly feed: Feed;
  readonly sequence: Sequence;
  readonly relay: Pick<Relay, 'hasRoom' | 'awaitRoom' | 'leave'>;
  /** Writes an item, and tells the writer what becomes of that. Returns its size, roughly. Throws as `write` does. */
  write(item: Item, event: string | undefined, writer: WaitingWriter): number;
  end(): void;
  /** The source threw when it was stopped. */
  fail(error: unknown): void;
}

/** How a source is piped, every value there. */
export interface PipeSettings<Item> {
  readonly nameOf: (item: Item) => string | undefined;
  readonly end: boolean;
  readonly patience: number;
  readonly signal: AbortSignal | undefined;
}

// What is written before the event loop goes round, and what was written has been given to those who read. Of a log it
// is a quarter at the most, so that a reader which is blocked by it does not fall off that log.
const ITEMS = 256;
const BYTES = 64 * 1024;
const SHARE = 1 / 4;
// A source whose items take long to make or to encode holds the event loop for so long.
const HOLD_MS = 5;

const OPTIONS = ['event', 'end', 'signal', 'patience'];

/**
 * How a source is piped: the defaults under what was given.
 * @throws InvalidOptionError
 * @throws InvalidEventNameError
 */
export function pipeSettings<Item>(options: PipeOptions<Item>): PipeSettings<Item> {
  checkKnown(options, OPTIONS);
  const { event, end = true, signal, patience = 100 } = options;
  const nameOf = typeof event === 'function' ? event : () => event;
  if (event !== undefined && typeof event !== 'function') checkEventName(event);
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new InvalidOptionError(
      'The option signal must be an AbortSignal: pass the signal of a controller.',
    );
  }
  return { nameOf, end: checkFlag(end, 'end'), signal, patience: checkWait(patience, 'patience') };
}

/**
 * One source, written on a channel at the pace of those who read that.
 *
 * The next item is written as soon as all of this is so:
 * - the event loop has gone round since the last portion, and that was accepted by the backplane, came back from it, and
 *   was given to every reader that is not blocked;
 * - one reader at least is not blocked, or there is none: a channel that nobody listens to goes on, as with `write`;
 * - of those that are blocked, none would fall off the log who was not blocked for long: who reads as fast as the others
 *   is blocked now and then all the same, since the kernel makes room by the megabyte;
 * - the backplane is there, and the queue of writes to it is not full.
 *
 * It is woken when one of these may have changed, and otherwise does nothing.
 */
export class Pipe<Item> implements Writer, WaitingWriter {
  readonly #source: OpenSource<Item>;
  readonly #settings: PipeSettings<Item>;
  readonly #outlet: Outlet<Item>;
  readonly #done = new Deferred<Piped>();
  readonly #context = new AsyncContext();
  #items = 0;
  #isOver = false;

  // Of the present portion, and what it may be at the most.
  #written = 0;
  #bytes = 0;
  readonly #portion = { items: 1, bytes: 1 };
  #unaccepted = 0;
  #last: Position | undefined;
  // Whether something was written in this turn of the event loop, and until when more may be.
  #turning = false;
  #until = 0;

  #wake: (() => void) | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(source: OpenSource<Item>, settings: PipeSettings<Item>, outlet: Outlet<Item>) {
    this.#source = source;
    this.#settings = settings;
    this.#outlet = outlet;
  }

  /** Settles once, when nothing more is read from the source. */
  get piped(): Promise<Piped> {
    return this.#done.promise;
  }

  /** Begins to read. */
  start(): void {
    const { signal } = this.#settings;
    this.#outlet.feed.enlist(this);
    signal?.addEventListener('abort', this.#abort);
    if (signal?.aborted) this.#abort();
    else void this.#pump();
  }

  /** Stops the source, and rejects. */
  fail(error: unknown): void {
    this.#stop(() => this.#done.reject(error), error);
  }

  readonly moved = (): void => {
    this.#wake?.();
  };

  stop(): void {
    this.#stop(() => this.#done.resolve({ items: this.#items, complete: false }), undefined);
  }

  accepted(at: Position): void {
    this.#unaccepted -= 1;
    this.#last = at;
    this.moved();
  }

  refused(happened: 'never' | 'unknown', cause: unknown): void {
    // It ended on another node, and that has yet to be heard here.
    if (cause instanceof ChannelEndedError) {
      this.stop();
      return;
    }
    const message =
      'The backplane did not take an item: see the cause, and pipe what is left once that is mended.';
    this.fail(new BackplaneError(message, happened, { cause }));
  }

  async #pump(): Promise<void> {
    for (;;) {
      let step: IteratorResult<Item, unknown>;
      try {
        step = await this.#source.next();
      } catch (error) {
        this.#finish(() => this.#done.reject(error));
        return;
      }
      if (step.done) break;
      while (!this.#isOver && !this.#mayWrite()) await this.#change();
      if (this.#isOver) return;
      try {
        this.#write(step.value);
      } catch (error) {
        this.fail(error);
        return;
      }
    }
    while (!this.#isOver && this.#unaccepted > 0) await this.#change();
    this.#finish(() => {
      if (this.#settings.end) this.#outlet.end();
      this.#done.resolve({ items: this.#items, complete: true });
    });
  }

  #write(item: Item): void {
    this.#written += 1;
    this.#unaccepted += 1;
    this.#bytes += this.#outlet.write(item, this.#settings.nameOf(item), this);
    this.#items += 1;
    if (this.#turning) return;
    // Behind the flush, for which the write has asked.
    this.#turning = true;
    this.#until = performance.now() + HOLD_MS;
    setImmediate(this.#turn);
  }

  #mayWrite(): boolean {
    const { feed, relay } = this.#outlet;
    if (!this.#turning && this.#isSettled) this.#written = this.#bytes = 0;
    if (feed.isBlocked || !relay.hasRoom) return false;
    if (this.#written === 0) return !this.#awaitsStragglers(this.#measure());
    if (this.#turning && performance.now() >= this.#until) return false;
    return this.#written < this.#portion.items && this.#bytes < this.#portion.bytes;
  }

  /** What the next portion may be at the most. Several pipes on one channel share. */
  #measure(): { items: number; bytes: number } {
    const { writers, log } = this.#outlet.feed;
    const share = (most: number, bound: number) =>
      Math.max(Math.floor(Math.min(most, bound * SHARE) / writers.size), 1);
    this.#portion.items = share(ITEMS, log.limits.frames);
    this.#portion.bytes = share(BYTES, log.limits.bytes);
    return this.#portion;
  }

  /** Whether what was written has been accepted, has come back, and was given to whoever was not blocked. */
  get #isSettled(): boolean {
    if (this.#unaccepted > 0) return false;
    const { feed, sequence } = this.#outlet;
    // Whoever reads has come after the end of that epoch.
    if (feed.listeners === 0 || this.#last?.epoch !== sequence.epoch) return true;
    return feed.flushed >= this.#last.seq;
  }

  /** Whether somebody is to be waited for who is blocked; and has that end in time. */
  #awaitsStragglers({ items, bytes }: { items: number; bytes: number }): boolean {
    const { feed } = this.#outlet;
    const { patience } = this.#settings;
    clearTimeout(this.#timer);
    // Who jumps to the newest is not there to get all.
    if (patience === 0 || feed.lag === 'latest') return false;
    const now = performance.now();
    const since = feed.straggling(items, bytes, now - patience);
    if (since === undefined) return false;
    this.#timer = setTimeout(this.moved, since + patience - now);
    return true;
  }

  async #change(): Promise<void> {
    const { relay } = this.#outlet;
    if (!relay.hasRoom) relay.awaitRoom(this.moved);
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }

  readonly #turn = (): void => {
    this.#turning = false;
    this.moved();
  };

  readonly #abort = (): void => {
    this.fail(this.#settings.signal?.reason);
  };

  /** Finishes, though the source has not: that is stopped. */
  #stop(settle: () => void, reason: unknown): void {
    if (this.#isOver) return;
    this.#finish(settle);
    // What it has to say to that is nothing that whoever pipes it could act on.
    const { fail } = this.#outlet;
    try {
      this.#context.run(() => Promise.resolve(this.#source.stop(reason)).catch(fail));
    } catch (error) {
      fail(error);
    }
  }

  #finish(settle: () => void): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const { feed, relay } = this.#outlet;
    feed.dismiss(this);
    relay.leave(this.moved);
    this.#settings.signal?.removeEventListener('abort', this.#abort);
    clearTimeout(this.#timer);
    settle();
    this.#wake?.();
  }
}

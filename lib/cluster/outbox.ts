import type { Append, Appended, Link } from '../core/backplane.js';
import { BackplaneError, type CometError, type Happened, HubClosedError } from '../core/errors.js';
import type { Settings } from '../core/options.js';
import type { Sequence } from '../core/position.js';

/** A write on its way to the backplane. */
export interface Letter {
  readonly append: Pick<Append, 'chanId' | 'body' | 'bounds' | 'number' | 'asks' | 'made' | 'linger'>;
  /** Its writer waits until it is accepted, and writes only where there is room: it waits for as long as it takes. */
  readonly waits: boolean;
  /** It was accepted. */
  accepted(appended: Appended): void;
  /** It was given up. It may have been accepted, where that is not known. */
  refused(happened: Exclude<Happened, 'no'>, cause: unknown): void;
}

interface Posted {
  readonly letter: Letter;
  /** Bytes that it holds. */
  readonly bytes: number;
  readonly at: number;
  /** When it was first sent, of the attempts that may have been accepted. */
  sentAt: number;
  /** The epoch in which it may have been accepted. */
  sentIn: string | undefined;
}

// What a write holds beside its body: the letter, its place in the queue, and what tells its writer. Measured, rounded up.
const HELD_BYTES = 1100;
const HELD_BYTES_ASKING = 2200;
// What is sent before the first answer has come. The rest waits here: the client would hold several times as much for it,
// and the event loop goes round between two portions.
const PORTION = { writes: 512, bytes: 4 * 2 ** 20 } as const;

// As it is before a test of a user's replaces it.
const { setImmediate } = globalThis;

/**
 * The writes that the backplane has yet to accept, in order. While it can be reached they are sent in portions, one behind
 * the other; when it could not be, all of them again, and the backplane knows those that it has.
 *
 * What waits for too long, or is too much, is refused: a queue that grows while a server is away ends with the process.
 * While the server is there, a turn of the event loop that begins with room may write more. Until that has gone out, the
 * bounds count only what is written behind it.
 */
export class Outbox {
  readonly #link: Link;
  readonly #sequence: Sequence;
  readonly #limits: Settings['queue'];
  readonly #deadline: number;
  // Milliseconds for which the backplane surely knows what it took from this node.
  readonly #memory: number;
  // By number, which is their order.
  readonly #letters = new Map<number, Posted>();
  // Between these two numbers are those of all letters. A map that loses its first key over and over is slow to find the next.
  #first = 1;
  #last = 0;
  // The last that was sent of this pass, and the last number that the pass has come to.
  #previous = 0;
  #passed = 0;
  #writes = 0;
  // Up to this number the bounds count nothing.
  #burst = 0;
  #counted = { writes: 0, bytes: 0 };
  // Whether there was room when this turn of the event loop first wrote; undefined before it did.
  #hadRoom: boolean | undefined;
  // Those who wait until every write up to this number has left.
  #awaited: { readonly upTo: number; readonly left: () => void }[] = [];
  readonly #inFlight = { writes: 0, bytes: 0 };
  #answeredAt = 0;
  #open = false;
  #isClosed = false;
  // One was refused its place: the rest is sent again, once no answer is under way.
  #disordered = false;
  // Those who wait for room.
  readonly #waiting = new Set<() => void>();

  constructor(link: Link, sequence: Sequence, { queue, deadline }: Settings) {
    this.#link = link;
    this.#sequence = sequence;
    this.#limits = queue;
    this.#deadline = deadline;
    this.#memory = link.keep - link.lease;
  }

  /** Events in it. */
  get writes(): number {
    return this.#writes;
  }

  get isEmpty(): boolean {
    return this.#letters.size === 0;
  }

  /** Whether it holds an event or an end. A channel that is made anew by each process need not reach the backplane. */
  get isUrgent(): boolean {
    return [...this.#letters.values()].some(({ letter }) => letter.append.made === undefined);
  }

  /** Resolves when everything that is in it now has left it. */
  async flushed(): Promise<void> {
    const upTo = this.#last;
    if (!this.isEmpty) await new Promise<void>((left) => this.#awaited.push({ upTo, left }));
  }

  /** Whether one who waits for room may post. */
  get hasRoom(): boolean {
    const { writes, bytes } = this.#limits;
    const isOfBurst = this.#first <= this.#burst;
    return this.#open && !isOfBurst && this.#counted.writes < writes && this.#counted.bytes < bytes;
  }

  /** Calls `told` once there is room, or none will ever be. */
  awaitRoom(told: () => void): void {
    this.#waiting.add(told);
  }

  /** Does not call it any more. */
  leave(told: () => void): void {
    this.#waiting.delete(told);
  }

  post(letter: Letter): void {
    const { body, number, asks } = letter.append;
    const bytes = (asks ? HELD_BYTES_ASKING : HELD_BYTES) + (body === null ? 0 : Buffer.byteLength(body));
    // That a channel is made, or ends, is never refused: its listeners would hope for it for ever.
    if (this.#isClosed || (body !== null && !this.#takes(letter, bytes))) {
      letter.refused('never', this.#isClosed ? new HubClosedError() : this.#full());
      return;
    }
    const at = performance.now();
    if (this.isEmpty) this.#first = number;
    this.#letters.set(number, { letter, bytes, at, sentAt: Infinity, sentIn: undefined });
    this.#last = number;
    if (body !== null) {
      this.#writes += 1;
      this.#counted.writes += 1;
      this.#counted.bytes += bytes;
    }
    this.#sendOn();
  }

  /** The backplane can be reached: sends all that is not accepted. */
  resume(): void {
    this.#open = true;
    this.#answeredAt = performance.now();
    this.#sendAll();
    this.#tellRoom();
  }

  pause(): void {
    this.#open = false;
  }

  /** Gives up what has waited for too long. */
  expire(now: number): void {
    for (const posted of this.#letters.values()) {
      if (posted.letter.append.body !== null && now >= this.#expiryOf(posted)) {
        this.#giveUp(
          posted,
          'The backplane did not answer in time: look whether it runs, or raise queue.wait.',
        );
      }
    }
  }

  /** Gives up everything, and what is posted from now on. */
  close(): void {
    this.#isClosed = true;
    for (const posted of this.#letters.values()) this.#giveUp(posted, new HubClosedError());
    this.#tellRoom();
  }

  /** Whether there is room for a write, of so many bytes. */
  #takes({ waits }: Letter, bytes: number): boolean {
    const { writes, bytes: most, wait } = this.#limits;
    if (this.#hadRoom === undefined) {
      this.#hadRoom = this.hasRoom;
      const burst = this.#burst;
      setImmediate(() => {
        this.#hadRoom = undefined;
        if (this.#burst > burst) this.#countFrom(this.#last);
      });
    }
    if (waits) return true;
    if (!this.#open && wait === 0) return false;
    if (this.#counted.writes < writes && this.#counted.bytes + bytes <= most) return true;
    if (!this.#open || !this.#hadRoom) return false;
    this.#countFrom(this.#last);
    return true;
  }

  /** The bounds count what is written behind this number. */
  #countFrom(number: number): void {
    this.#burst = number;
    this.#counted = { writes: 0, bytes: 0 };
  }

  #full(): BackplaneError {
    const { writes, bytes } = this.#limits;
    return new BackplaneError(
      `The queue to the backplane is full, which takes ${writes} writes and ${bytes} bytes: write less, or raise queue.`,
      'never',
    );
  }

  /** When it is given up, in milliseconds of `performance.now()`. */
  #expiryOf({ letter: { waits }, at, sentAt, sentIn }: Posted): number {
    const { wait } = this.#limits;
    if (sentIn === undefined) {
      if (waits) return Infinity;
      // While the backplane answers, it waits for its turn alone.
      return this.#open ? Math.max(at, this.#answeredAt) + Math.max(wait, this.#deadline) : at + wait;
    }
    // What is under way is not called back: it has the time that any answer has. And a backplane that has forgotten what it
    // took from this node would take it twice.
    return Math.max(at + wait, sentAt + (waits ? Math.max(this.#memory, this.#deadline) : this.#deadline));
  }

  #sendAll(): void {
    this.#disordered = false;
    this.#previous = 0;
    this.#passed = this.#first - 1;
    this.#sendOn();
  }

  /** Sends what has yet to be sent, as much as may be under way. */
  #sendOn(): void {
    if (!this.#open || this.#disordered) return;
    const under = this.#inFlight;
    while (this.#passed < this.#last && under.writes < PORTION.writes && under.bytes < PORTION.bytes) {
      this.#passed += 1;
      const posted = this.#letters.get(this.#passed);
      if (posted !== undefined && this.#isOfNow(posted)) this.#send(posted);
    }
  }

  /** Whether it may be sent in this epoch. Gives it up if not. */
  #isOfNow(posted: Posted): boolean {
    if (posted.sentIn === undefined || posted.sentIn === this.#sequence.epoch) return true;
    const { append, waits } = posted.letter;
    if (append.body === null) return true;
    if (waits) {
      // Whose writer waits is to lose nothing. Every stream of that epoch was told of a gap: to none it is a second time.
      posted.sentIn = undefined;
      return true;
    }
    // Accepted in an epoch that is over it may have been delivered: in this one it would be delivered twice.
    this.#giveUp(
      posted,
      'The backplane has lost its data, and perhaps this write: write it again if it must arrive.',
    );
    return false;
  }

  #send(posted: Posted): void {
    const { epoch } = this.#sequence;
    const { chanId, body, bounds, number, asks, made, linger } = posted.letter.append;
    const after = this.#letters.has(this.#previous) ? this.#previous : 0;
    const settled = this.#first - 1;
    const again = posted.sentIn !== undefined;
    const append: Append = { chanId, epoch, body, bounds, number, after, settled, again, made, linger, asks };
    const before = posted.sentIn;
    posted.sentIn = epoch;
    posted.sentAt = Math.min(posted.sentAt, performance.now());
    this.#previous = number;
    this.#inFlight.writes += 1;
    this.#inFlight.bytes += posted.bytes;
    Promise.resolve(this.#link.append(append)).then(
      (appended) => {
        if (this.#take(posted)) posted.letter.accepted(appended);
        this.#answered(posted);
      },
      (error: unknown) => {
        const happened = error instanceof BackplaneError ? error.happened : 'unknown';
        if (happened === 'never' && this.#take(posted)) posted.letter.refused('never', error);
        if (happened === 'no') {
          posted.sentIn = before;
          if (before === undefined) posted.sentAt = Infinity;
          this.#disordered = true;
        }
        this.#answered(posted);
      },
    );
  }

  #answered({ bytes }: Posted): void {
    this.#answeredAt = performance.now();
    this.#inFlight.writes -= 1;
    this.#inFlight.bytes -= bytes;
    if (!this.#disordered) this.#sendOn();
    else if (this.#inFlight.writes === 0 && this.#open) this.#sendAll();
  }

  #giveUp(posted: Posted, cause: string | CometError): void {
    if (!this.#take(posted)) return;
    const happened = posted.sentIn === undefined ? 'never' : 'unknown';
    posted.letter.refused(happened, typeof cause === 'string' ? new BackplaneError(cause, happened) : cause);
  }

  #take({ letter, bytes }: Posted): boolean {
    const { number, body } = letter.append;
    if (!this.#letters.delete(number)) return false;
    if (body !== null) {
      this.#writes -= 1;
      if (number > this.#burst) {
        this.#counted.writes -= 1;
        this.#counted.bytes -= bytes;
      }
    }
    while (this.#first <= this.#last && !this.#letters.has(this.#first)) this.#first += 1;
    if (this.#awaited.length > 0) this.#tellLeft();
    if (this.#waiting.size > 0) this.#tellRoom();
    return true;
  }

  #tellLeft(): void {
    const over = this.#awaited.filter(({ upTo }) => upTo < this.#first);
    this.#awaited = this.#awaited.filter(({ upTo }) => upTo >= this.#first);
    for (const { left } of over) left();
  }

  /** Not at the first place that is free: each who waits would be woken for each write that is accepted. */
  #tellRoom(): void {
    const { writes, bytes } = this.#limits;
    const isHalfEmpty =
      this.hasRoom && this.#counted.writes <= writes / 2 && this.#counted.bytes <= bytes / 2;
    if (!isHalfEmpty && !this.#isClosed) return;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const told of waiting) told();
  }
}

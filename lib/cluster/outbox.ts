import type { Append, Appended, Link } from '../core/backplane.js';
import { BackplaneError, type Happened } from '../core/errors.js';
import type { Settings } from '../core/options.js';
import type { Sequence } from '../core/position.js';

/** A write on its way to the backplane. */
export interface Letter {
  readonly append: Pick<Append, 'chanId' | 'body' | 'bounds' | 'number' | 'asks' | 'made'>;
  /** Its writer waits until it is accepted, and writes only where there is room: it waits for as long as it takes. */
  readonly waits: boolean;
  /** It was accepted. */
  accepted(appended: Appended): void;
  /** It was given up. It may have been accepted, where that is not known. */
  refused(happened: Exclude<Happened, 'no'>, cause: unknown): void;
}

interface Posted {
  readonly letter: Letter;
  readonly bytes: number;
  readonly at: number;
  /** The epoch in which it may have been accepted. */
  sentIn: string | undefined;
}

/**
 * The writes that the backplane has yet to accept, in order. While it can be reached they are sent at once, one behind
 * the other; when it could not be, all of them again, and the backplane knows those that it has. What waits for too
 * long, or is too much, is refused: a queue that grows while a server is away ends with the process.
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
  #writes = 0;
  #bytes = 0;
  // Those who wait until every write up to this number has left.
  #awaited: { readonly upTo: number; readonly left: () => void }[] = [];
  #last = 0;
  #inFlight = 0;
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
    return this.#open && this.#writes < writes && this.#bytes < bytes;
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
    const { body, number } = letter.append;
    const bytes = body === null ? 0 : Buffer.byteLength(body);
    const { writes, bytes: most, wait } = this.#limits;
    const isFull = this.#writes >= writes || this.#bytes + bytes > most || (wait === 0 && !this.#open);
    // That a channel is made, or ends, is never refused: its listeners would hope for it for ever.
    if (this.#isClosed || (isFull && body !== null && !letter.waits)) {
      letter.refused('never', this.#isClosed ? closed() : new Error('The queue of the backplane is full.'));
      return;
    }
    const posted: Posted = { letter, bytes, at: performance.now(), sentIn: undefined };
    const after = this.#letters.has(this.#last) ? this.#last : 0;
    this.#letters.set(number, posted);
    this.#bytes += bytes;
    if (body !== null) this.#writes += 1;
    this.#last = number;
    if (this.#open && !this.#disordered) this.#send(posted, after);
  }

  /** The backplane can be reached: sends all that is not accepted. */
  resume(): void {
    this.#open = true;
    this.#sendAll();
    this.#tellRoom();
  }

  pause(): void {
    this.#open = false;
  }

  /** Gives up what has waited for too long. */
  expire(now: number): void {
    const { wait } = this.#limits;
    for (const posted of this.#letters.values()) {
      const { append, waits } = posted.letter;
      // What is under way is not called back: it has the time that any answer has.
      let patience = posted.sentIn === undefined ? wait : Math.max(wait, this.#deadline);
      // A backplane that has forgotten what it took from this node would take it twice.
      if (waits) patience = posted.sentIn === undefined ? Infinity : Math.max(patience, this.#memory);
      if (append.body === null || now - posted.at < patience) continue;
      this.#giveUp(posted, new Error('The backplane did not answer.'));
    }
  }

  /** Gives up everything, and what is posted from now on. */
  close(): void {
    this.#isClosed = true;
    for (const posted of this.#letters.values()) this.#giveUp(posted, closed());
    this.#tellRoom();
  }

  #sendAll(): void {
    this.#disordered = false;
    let after = 0;
    for (const posted of this.#letters.values()) {
      // Accepted in an epoch that is over it may have been delivered: in this one it would be delivered twice.
      const isOver = posted.sentIn !== undefined && posted.sentIn !== this.#sequence.epoch;
      if (isOver && posted.letter.append.body !== null) {
        if (!posted.letter.waits) {
          this.#giveUp(posted, new Error('The backplane has lost its data.'));
          continue;
        }
        // Whose writer waits is to lose nothing. Every stream of that epoch was told of a gap: to none it is a second time.
        posted.sentIn = undefined;
      }
      this.#send(posted, after);
      after = posted.letter.append.number;
    }
  }

  #send(posted: Posted, after: number): void {
    const { epoch } = this.#sequence;
    const { value: first } = this.#letters.keys().next();
    const { chanId, body, bounds, number, asks, made } = posted.letter.append;
    const settled = (first ?? number) - 1;
    const again = posted.sentIn !== undefined;
    const append: Append = { chanId, epoch, body, bounds, number, after, settled, again, made, asks };
    const before = posted.sentIn;
    posted.sentIn = epoch;
    this.#inFlight += 1;
    Promise.resolve(this.#link.append(append)).then(
      (appended) => {
        if (this.#take(posted)) posted.letter.accepted(appended);
        this.#answered();
      },
      (error: unknown) => {
        const happened = error instanceof BackplaneError ? error.happened : 'unknown';
        if (happened === 'never' && this.#take(posted)) posted.letter.refused('never', error);
        if (happened === 'no') {
          posted.sentIn = before;
          this.#disordered = true;
        }
        this.#answered();
      },
    );
  }

  #answered(): void {
    this.#inFlight -= 1;
    if (this.#inFlight === 0 && this.#disordered && this.#open) this.#sendAll();
  }

  #giveUp(posted: Posted, cause: Error): void {
    if (this.#take(posted)) posted.letter.refused(posted.sentIn === undefined ? 'never' : 'unknown', cause);
  }

  #take(posted: Posted): boolean {
    if (!this.#letters.delete(posted.letter.append.number)) return false;
    this.#bytes -= posted.bytes;
    if (posted.letter.append.body !== null) this.#writes -= 1;
    if (this.#awaited.length > 0) this.#tellLeft();
    if (this.#waiting.size > 0) this.#tellRoom();
    return true;
  }

  #tellLeft(): void {
    const { value: first = Infinity } = this.#letters.keys().next();
    const over = this.#awaited.filter(({ upTo }) => upTo < first);
    this.#awaited = this.#awaited.filter(({ upTo }) => upTo >= first);
    for (const { left } of over) left();
  }

  /** Not at the first place that is free: each who waits would be woken for each write that is accepted. */
  #tellRoom(): void {
    const { writes, bytes } = this.#limits;
    const isHalfEmpty = this.#open && this.#writes <= writes / 2 && this.#bytes <= bytes / 2;
    if (!isHalfEmpty && !this.#isClosed) return;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const told of waiting) told();
  }
}

function closed(): Error {
  return new Error('The hub was closed.');
}

import type { Append, Appended, Link } from './backplane.js';
import { BackplaneError, type Happened } from './errors.js';
import type { Settings } from './options.js';
import type { Sequence } from './position.js';

/** A write on its way to the backplane. */
export interface Letter {
  readonly append: Pick<Append, 'chanId' | 'body' | 'bounds' | 'number' | 'asks' | 'made'>;
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
  // By number, which is their order.
  readonly #letters = new Map<number, Posted>();
  #writes = 0;
  #bytes = 0;
  #emptied: (() => void)[] = [];
  #last = 0;
  #inFlight = 0;
  #open = false;
  #isClosed = false;
  // One was refused its place: the rest is sent again, once no answer is under way.
  #disordered = false;

  constructor(link: Link, sequence: Sequence, { queue, deadline }: Settings) {
    this.#link = link;
    this.#sequence = sequence;
    this.#limits = queue;
    this.#deadline = deadline;
  }

  /** Events in it. */
  get writes(): number {
    return this.#writes;
  }

  get isEmpty(): boolean {
    return this.#letters.size === 0;
  }

  /** Resolves when nothing is left in it. */
  async empty(): Promise<void> {
    if (!this.isEmpty) await new Promise<void>((resolve) => this.#emptied.push(resolve));
  }

  post(letter: Letter): void {
    const { body, number } = letter.append;
    const bytes = body === null ? 0 : Buffer.byteLength(body);
    const { writes, bytes: most, wait } = this.#limits;
    const isFull = this.#writes >= writes || this.#bytes + bytes > most || (wait === 0 && !this.#open);
    // That a channel is made, or ends, is never refused: its listeners would hope for it for ever.
    if (this.#isClosed || (isFull && body !== null)) {
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
  }

  pause(): void {
    this.#open = false;
  }

  /** Gives up what has waited for too long. */
  expire(now: number): void {
    const { wait } = this.#limits;
    for (const posted of this.#letters.values()) {
      // What is under way is not called back: it has the time that any answer has.
      const patience = posted.sentIn === undefined ? wait : Math.max(wait, this.#deadline);
      if (posted.letter.append.body === null || now - posted.at < patience) continue;
      this.#giveUp(posted, new Error('The backplane did not answer.'));
    }
  }

  /** Gives up everything, and what is posted from now on. */
  close(): void {
    this.#isClosed = true;
    for (const posted of this.#letters.values()) this.#giveUp(posted, closed());
  }

  #sendAll(): void {
    this.#disordered = false;
    let after = 0;
    for (const posted of this.#letters.values()) {
      // Accepted in an epoch that is over it may have been delivered: in this one it would be delivered twice.
      const isOver = posted.sentIn !== undefined && posted.sentIn !== this.#sequence.epoch;
      if (isOver && posted.letter.append.body !== null) {
        this.#giveUp(posted, new Error('The backplane has lost its data.'));
        continue;
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
    if (this.isEmpty) for (const resolve of this.#emptied.splice(0)) resolve();
    return true;
  }
}

function closed(): Error {
  return new Error('The hub was closed.');
}

import { AsyncContext } from '../core/context.js';
import type { Sequence } from '../core/position.js';
import { inSlices } from '../core/slices.js';
import { Batch, type Frame } from '../sse/frame.js';
import type { Feed, Group, News } from './feed.js';
import { Cursor, merge } from './log.js';

// Deliveries between two looks at the clock.
const STRIDE = 32;

/**
 * Once per turn of the event loop: what is new, to whom. A system call is nine tenths of the cost of a delivery,
 * so a write only appends to its log, and a turn's writes go to each listener as one.
 */
export class Flush implements Iterator<void> {
  /** Frames that were delivered, each as often as there were streams that took it. */
  delivered = 0;
  readonly #sequence: Sequence;
  // Not that of a writer: a write that is pending holds the context in which it was made, for as long as its client is
  // blocked.
  readonly #context = new AsyncContext();
  // In the order in which they were first written to.
  #news: News[] = [];
  #pass: Iterator<void, void> | undefined;
  #held = false;
  #scheduled = false;

  constructor(sequence: Sequence) {
    this.#sequence = sequence;
  }

  /** Appends a frame to a feed's log. It goes out at the end of this turn. */
  append(feed: Feed, frame: Frame): void {
    feed.log.append(frame, frame.seq === feed.endedAt);
    // While a pass is under way its feeds must stay as they were when it began, whoever has left meanwhile.
    if (feed.news !== undefined) feed.news.frames.push(frame);
    else if (feed.listeners > 0 || this.#pass !== undefined) this.#announce(feed, frame);
    else feed.flushed = frame.seq;
    // How old they are is for the sweep to say: the oldest frame has long left the processor's caches.
    this.trim(feed);
  }

  /**
   * Lets go the frames that are past a bound of the log. Of a burst that is larger than the log, what no listener
   * was given yet goes out first.
   * @param now in milliseconds of `performance.now()`; without it none is too old
   */
  trim(feed: Feed, now?: number): void {
    const { log } = feed;
    while (log.isOver(now)) {
      const { seq } = log.oldest as Frame;
      if (seq > feed.flushed && !this.#complete()) break;
      if (!this.#held) feed.hurry(seq);
      log.shift();
    }
    feed.overrun();
  }

  /**
   * Lets go of all that a feed retains; from now on it can be read from `floor`. What is new is delivered first.
   * @param isTold whether its readers are told next that something is lost to them: none of them is overrun
   */
  forget(feed: Feed, floor: number, isTold = false): void {
    const { log } = feed;
    while (log.oldest !== undefined) {
      if (log.oldest.seq > feed.flushed && !this.#complete()) break;
      log.shift();
    }
    log.begin(floor);
    feed.flushed = floor;
    if (!isTold) feed.overrun();
    feed.moved();
  }

  #announce(feed: Feed, frame: Frame): void {
    feed.news = { feed, frames: [frame], batch: undefined };
    this.#news.push(feed.news);
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#context.run(() => setImmediate(this.#begin));
  }

  readonly #begin = (): void => {
    this.#scheduled = false;
    // A pass that is under way comes to what is new by itself.
    if (this.#pass === undefined) inSlices(this);
  };

  /** One step of the pass that is under way, or of a new one. */
  next(): IteratorResult<void, void> {
    this.#pass ??= this.#deliver();
    const release = this.hold();
    try {
      const step = this.#pass.next();
      if (step.done) this.#pass = undefined;
      return step;
    } finally {
      release();
    }
  }

  /**
   * Nothing is flushed at once until the function that it returns is called: a write to a stream may be on the stack,
   * and what wraps it may write to a channel.
   */
  hold(): () => void {
    const held = this.#held;
    this.#held = true;
    return () => {
      this.#held = held;
    };
  }

  /** Runs the pass to its end at once. Returns false where that can't be. */
  #complete(): boolean {
    if (this.#held) return false;
    this.#context.run(() => {
      while (!this.next().done);
    });
    return true;
  }

  *#deliver(): Generator<void, void> {
    while (this.#news.length > 0) {
      const { head } = this.#sequence;
      const news = this.#news;
      this.#news = [];
      for (const { feed } of news) feed.news = undefined;

      let steps = 0;
      for (const { group, fresh } of rounds(news)) {
        const batch = batchOf(fresh, group);
        let delivered = 0;
        // A set may be walked while it changes: who leaves in the middle hides no other, who joins stands at the
        // head and takes nothing.
        for (const reader of group.readers) {
          if (reader.take(batch)) delivered += 1;
          steps += 1;
          if (steps % STRIDE === 0) yield;
        }
        if (delivered === 0) continue;
        this.delivered += delivered * batch.size;
        for (const { feed } of fresh) feed.credit(delivered, feed.flushed, head);
      }
      for (const { feed } of news) {
        feed.flushed = head;
        feed.moved();
      }
    }
  }
}

interface Round {
  readonly group: Group;
  /** What its feeds have, each of which has something. */
  readonly fresh: News[];
}

/** Who gets what. */
function rounds(news: readonly News[]): Round[] {
  const rounds: Round[] = [];
  const joint = new Map<Group, News[]>();
  for (const each of news) {
    for (const group of each.feed.groups) {
      // Never feed by feed: a client's cursor is one number, and would come past events that are yet to be written.
      const others = group.isJoint ? joint.get(group) : undefined;
      if (others !== undefined) {
        others.push(each);
        continue;
      }
      const round = { group, fresh: [each] };
      rounds.push(round);
      if (group.isJoint) joint.set(group, round.fresh);
    }
  }
  return rounds;
}

/** What is new for a group. Where only one of several feeds has news, it serves every other group like that as well. */
function batchOf(fresh: readonly News[], group: Group): Batch {
  const [first] = fresh as [News];
  if (!group.isJoint) return new Batch(first.frames, group.readers.size > 1);
  if (fresh.length === 1) {
    first.batch ??= new Batch(first.frames, first.feed.listeners > 1);
    return first.batch;
  }
  const unread = fresh.map(({ frames }) => new Cursor(frames, 0));
  return new Batch(merge(unread), group.readers.size > 1);
}

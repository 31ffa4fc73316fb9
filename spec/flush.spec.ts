import { expect } from 'chai';
import { type Outcome, Tally } from '../lib/core/outcome.js';
import { Sequence } from '../lib/core/position.js';
import { type Feed, Groups, type Reader, Feed as RealFeed } from '../lib/delivery/feed.js';
import { Flush } from '../lib/delivery/flush.js';
import type { Frame } from '../lib/sse/frame.js';

/** A reader that takes long, so that a pass over some of them takes more than one turn. */
class Slow implements Reader {
  counted = 0;

  constructor(readonly taken: () => void) {}

  take(): boolean {
    const until = performance.now() + 1;
    while (performance.now() < until);
    this.counted = 1;
    this.taken();
    return true;
  }

  standing(): number {
    return 0;
  }

  hurry(): void {}

  overrun(): void {}

  gap(): void {}

  reset(): void {}
}

describe('A flush', () => {
  it('counts a write whose listeners all leave in the middle of the pass, and another is written then', async () => {
    const sequence = new Sequence();
    const flush = new Flush(sequence);
    const groups = new Groups();
    const feed: Feed = new RealFeed(
      'news',
      { log: { frames: 9, bytes: 99, age: null }, lag: 'close', rewind: 0, encode: String },
      0,
      0,
    );
    const frame = (): Frame => ({ seq: ++sequence.head, bytes: 'x', at: performance.now() });

    let taken = 0;
    const readers = Array.from({ length: 64 }, () => new Slow(() => (taken += 1)));
    const joined = readers.map((reader) => ({ reader, group: groups.join(reader, [feed]) }));
    const outcome = new Promise<Outcome>((resolve) => feed.track(new Tally(1, readers.length, resolve)));
    flush.append(feed, frame());
    while (taken === 0) await new Promise(setImmediate);
    expect(taken, 'in the middle').below(readers.length);

    for (const { reader, group } of joined) {
      groups.leave(reader, group);
      feed.count('closed', reader, reader.counted, Infinity);
    }
    flush.append(feed, frame());
    const { delivered, failed } = await outcome;
    expect([delivered, failed]).to.deep.equal([taken, readers.length - taken]);
  });
});

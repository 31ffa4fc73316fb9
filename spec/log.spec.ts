import { expect } from 'chai';
import fc from 'fast-check';
import { Log, merge } from '../lib/delivery/log.js';
import type { Frame } from '../lib/sse/frame.js';

const frame = (seq: number, size = 1, at = 0): Frame => ({ seq, bytes: 'x'.repeat(size), at });
const seqs = (frames: Iterable<Frame>) => Array.from(frames, ({ seq }) => seq);

const limits = fc.record({
  frames: fc.integer({ min: 1, max: 8 }),
  bytes: fc.integer({ min: 1, max: 40 }),
  age: fc.option(fc.integer({ min: 1, max: 20 })),
});

/** The log as one would first write it: an array, and every question answered by looking at all of it. */
class Model {
  frames: Frame[] = [];
  constructor(
    readonly limits: { frames: number; bytes: number; age: number | null },
    public floor: number,
  ) {}

  get bytes(): number {
    return this.frames.reduce((sum, { bytes }) => sum + bytes.length, 0);
  }

  isOver(now: number): boolean {
    const { frames, bytes, age } = this.limits;
    const [oldest] = this.frames;
    if (oldest === undefined) return false;
    const isTooMany = this.frames.length > frames || this.bytes > bytes;
    return (isTooMany && this.frames.length > 1) || (age !== null && now - oldest.at > age);
  }

  shift(): void {
    const oldest = this.frames.shift();
    if (oldest !== undefined) this.floor = oldest.seq;
  }
}

describe('A log', () => {
  it('answers as an array would: append, shift, floor, bytes, age, after, before', () => {
    // How far seq and time go on, and how large the frame is; or that the oldest is let go.
    const append = fc.record({ skip: fc.nat({ max: 3 }), size: fc.integer({ min: 1, max: 20 }) });
    const trim = fc.record({ wait: fc.nat({ max: 15 }) });
    const steps = fc.array(fc.oneof(append, append, trim, fc.constant('shift' as const)), { maxLength: 60 });
    fc.assert(
      fc.property(limits, fc.nat({ max: 5 }), steps, (bounds, floor, history) => {
        const log = new Log(bounds, floor);
        const model = new Model(bounds, floor);
        let seq = floor;
        let now = 0;
        const check = () => {
          const { frames } = model;
          expect([log.size, log.bytes, log.floor]).to.deep.equal([frames.length, model.bytes, model.floor]);
          expect([log.oldest, log.newest]).to.deep.equal([frames[0], frames.at(-1)]);
          expect(log.isOver(now)).to.equal(model.isOver(now));
          for (let from = floor - 1; from <= seq + 1; from += 1) {
            expect(seqs(merge([log.after(from)], Infinity))).to.deep.equal(
              seqs(frames).filter((each) => each > from),
            );
          }
          for (let count = 1; count <= frames.length + 1; count += 1) {
            const first = frames.slice(-count)[0];
            expect(log.before(count)).to.equal(first === undefined ? undefined : first.seq - 1);
          }
          expect(log.before(0)).to.equal(undefined);
        };

        check();
        for (const step of history) {
          if (step === 'shift') {
            log.shift();
            model.shift();
          } else if ('wait' in step) {
            now += step.wait;
            while (model.isOver(now)) {
              expect(log.isOver(now)).to.equal(true);
              log.shift();
              model.shift();
            }
          } else {
            seq += step.skip + 1;
            const next = frame(seq, step.size, now);
            log.append(next);
            model.frames.push(next);
          }
          check();
        }
      }),
      { numRuns: 300 },
    );
  });

  const bounds = { frames: 2, bytes: 10, age: 5 };
  const filled = (...frames: readonly Frame[]) => {
    const log = new Log(bounds, 0);
    for (const each of frames) log.append(each);
    return log;
  };

  it('is over at one frame more than its number, not at its number', () => {
    expect(filled(frame(1), frame(2)).isOver(0)).to.equal(false);
    expect(filled(frame(1), frame(2), frame(3)).isOver(0)).to.equal(true);
  });

  it('is over at one byte more than its bytes, not at its bytes', () => {
    expect(filled(frame(1, 5), frame(2, 5)).isOver(0)).to.equal(false);
    expect(filled(frame(1, 5), frame(2, 6)).isOver(0)).to.equal(true);
  });

  it('keeps its newest frame, however large it is', () => {
    expect(filled(frame(1, 11)).isOver(0)).to.equal(false);
  });

  it('is over one millisecond after its age, not at its age', () => {
    const log = filled(frame(1, 1, 100));
    expect([log.isOver(105), log.isOver(106)]).to.deep.equal([false, true]);
  });

  it('has no bound by age where that is null', () => {
    const log = new Log({ ...bounds, age: null }, 0);
    log.append(frame(1));
    expect(log.isOver(Number.MAX_SAFE_INTEGER)).to.equal(false);
  });

  it('has its floor where it began, and then at the frame that it let go last', () => {
    const log = new Log(bounds, 7);
    expect(log.floor).to.equal(7);
    log.append(frame(9));
    log.append(frame(12));
    expect(log.floor).to.equal(7);
    log.shift();
    expect(log.floor).to.equal(9);
    log.shift();
    expect(log.floor).to.equal(12);
    log.shift();
    expect([log.floor, log.size, log.bytes]).to.deep.equal([12, 0, 0]);
  });

  it('lets go of very many frames in the order in which it took them', () => {
    const log = new Log(bounds, 0);
    const all = Array.from({ length: 100_000 }, (_, index) => index + 1);
    for (const seq of all) log.append(frame(seq));
    const gone = all.map(() => {
      const seq = log.oldest?.seq;
      log.shift();
      return seq;
    });
    expect(gone.every((seq, index) => seq === all[index])).to.equal(true);
    expect([log.size, log.bytes, log.floor]).to.deep.equal([0, 0, 100_000]);
  });
});

describe('Logs that are merged', () => {
  it('give what is after each position, by seq, up to the bytes', () => {
    const seq = fc.integer({ min: 1, max: 60 });
    const written = fc.uniqueArray(fc.record({ seq, size: fc.integer({ min: 1, max: 9 }), log: fc.nat(3) }), {
      selector: (each) => each.seq,
      maxLength: 40,
    });
    const from = fc.array(fc.nat({ max: 60 }), { minLength: 4, maxLength: 4 });
    const limit = fc.oneof(fc.integer({ min: 1, max: 100 }), fc.constant(Infinity));
    fc.assert(
      fc.property(written, from, limit, (all, positions, limit) => {
        const frames = all.toSorted((a, b) => a.seq - b.seq);
        const logs = positions.map(() => new Log({ frames: 100, bytes: 1000, age: null }, 0));
        for (const { seq, size, log } of frames) logs[log]!.append(frame(seq, size));

        const due = frames.filter(({ seq, log }) => seq > positions[log]!);
        let bytes = 0;
        const expected = due.filter(({ size }, index) => {
          bytes += size;
          return index === 0 || bytes <= limit;
        });
        const unread = logs.map((log, index) => log.after(positions[index]!));
        expect(seqs(merge(unread, limit))).to.deep.equal(expected.map((each) => each.seq));
      }),
      { numRuns: 3000 },
    );
  });

  it('give one frame at least, however large it is', () => {
    const log = new Log({ frames: 9, bytes: 9, age: null }, 0);
    log.append(frame(1, 50));
    log.append(frame(2, 50));
    expect(seqs(merge([log.after(0)], 10))).to.deep.equal([1]);
  });

  it('give nothing where there is nothing', () => {
    expect(merge([], 10)).to.deep.equal([]);
    const log = new Log({ frames: 9, bytes: 9, age: null }, 0);
    expect(merge([log.after(0)], 10)).to.deep.equal([]);
  });
});

import { expect } from 'chai';
import fc from 'fast-check';
import {
  formatGone,
  formatPosition,
  formatStart,
  NOWHERE,
  parseCursor,
  Sequence,
} from '../lib/core/position.js';

const positionOf = (text: string) => parseCursor(text).position;

describe('A position', () => {
  it('is written epoch-seq', () => {
    expect(formatPosition({ epoch: '9f3ac1', seq: 1024 })).to.equal('9f3ac1-1024');
  });

  it('is read as it was written, whatever stands behind @', () => {
    const epoch = fc.string({ unit: fc.constantFrom(...'0123456789abcdefz'), minLength: 1, maxLength: 32 });
    const label = fc.option(fc.string({ unit: 'binary' }), { nil: undefined });
    fc.assert(
      fc.property(epoch, fc.maxSafeNat(), label, (epoch, seq, label) => {
        const cursor = formatPosition({ epoch, seq }) + (label === undefined ? '' : `@${label}`);
        expect(positionOf(cursor)).to.deep.equal({ epoch, seq });
      }),
    );
  });

  it('is read at every bound', () => {
    expect(positionOf('a-0')).to.deep.equal({ epoch: 'a', seq: 0 });
    expect(positionOf('a-9007199254740991')?.seq).to.equal(Number.MAX_SAFE_INTEGER);
    expect(positionOf(`${'a'.repeat(32)}-1`)?.epoch).to.have.length(32);
  });

  const malformed = [
    ...['-', 'a', 'a-', '-1', '@', 'a@news', '1024', 'a1024', 'a--1', 'a-+1', 'a-1.0', 'a-1e3', 'a-0x1'],
    ...[
      'a-01',
      'a-00',
      'a-1 ',
      ' a-1',
      'a -1',
      'a-1\n',
      'a-1\0',
      'a-1,a-2',
      'a-1-2',
      'a-1 @news',
      'a-1/news',
      'a-1+',
      'a-1+@news',
      'a-1!!',
      'a-1!+',
      'new',
      'new@a',
      'new+!',
      'gone',
    ],
    ...['A-1', 'a_b-1', 'é-1', 'a-١', '../a-1', 'a-9007199254740992', 'a-99999999999999999999', 'a-NaN'],
    ...[`${'a'.repeat(33)}-1`, 'a'.repeat(15_000), `a-${'1'.repeat(15_000)}`, 'a-1'.repeat(5000)],
  ];
  for (const cursor of malformed) {
    it(`is not ${JSON.stringify(cursor.length > 30 ? `${cursor.slice(0, 30)}…` : cursor)}`, () => {
      expect(positionOf(cursor)).to.equal(null);
    });
  }

  it('is nothing else than what is written: what is read from any text is its beginning', () => {
    const part = fc.oneof(fc.constantFrom('a', '0', '9', '-', '@', ' ', '\n'), fc.string({ maxLength: 2 }));
    const text = fc.array(part).map((parts) => parts.join(''));
    fc.assert(
      fc.property(text, (cursor) => {
        const position = positionOf(cursor);
        if (position) expect(formatPosition(position)).to.equal(cursor.split('@')[0]);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('A cursor', () => {
  it('is none where it is empty, and where the first start of a stream was not complete', () => {
    for (const text of ['', 'new!', 'new!@news']) {
      expect(parseCursor(text), text).to.include({
        position: undefined,
        restarts: undefined,
        isFirst: false,
      });
    }
  });

  it('names the channel that starts anew', () => {
    const label = encodeURIComponent('a/b@c!');
    expect(parseCursor(`a-1!@${label}`)).to.deep.include({
      position: { epoch: 'a', seq: 1 },
      restarts: 'a/b@c!',
    });
    expect(parseCursor(`a-1@${label}`), 'an ordinary event').to.include({ restarts: undefined });
    expect(parseCursor('a-1!'), 'none').to.include({ restarts: undefined });
    expect(parseCursor('a-1!@%'), 'a malformed label').to.include({ restarts: undefined });
  });

  it('says whether the new channels of the request have yet to start', () => {
    expect(parseCursor('a-1+!@news')).to.deep.include({ position: { epoch: 'a', seq: 1 }, isFirst: true });
    expect(parseCursor('a-1!@news')).to.include({ isFirst: false });
  });

  it('is read as the ids of a start are written', () => {
    const position = { epoch: '9f3ac1', seq: 1024 };
    expect(formatStart(undefined, false)).to.equal('new!');
    expect(formatStart(null, false)).to.equal(`${NOWHERE}!`);
    expect(formatStart(position, false)).to.equal('9f3ac1-1024!');
    expect(formatStart(position, true)).to.equal('9f3ac1-1024+!');
    for (const id of ['9f3ac1-1024!', '9f3ac1-1024+!']) expect(positionOf(id)).to.deep.equal(position);
  });

  it('says where nothing is left', () => {
    const id = formatGone({ epoch: 'a', seq: 1 });
    expect(parseCursor(id)).to.deep.include({ position: null, goneAt: { epoch: 'a', seq: 1 } });
    expect(parseCursor('a-1')).to.include({ goneAt: undefined });
  });
});

describe('The sequence of a hub', () => {
  it('begins at 0, in an epoch of its own that makes a position', () => {
    const sequences = Array.from({ length: 1000 }, () => new Sequence());
    expect(new Set(sequences.map(({ epoch }) => epoch)).size).to.equal(1000);
    for (const { epoch, head } of sequences) {
      expect(positionOf(formatPosition({ epoch, seq: head }))).to.deep.equal({ epoch, seq: 0 });
    }
  });
});

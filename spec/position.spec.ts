import { expect } from 'chai';
import fc from 'fast-check';
import { formatPosition, parsePosition, Sequence } from '../lib/core/position.js';

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
        expect(parsePosition(cursor)).to.deep.equal({ epoch, seq });
      }),
    );
  });

  it('is read at every bound', () => {
    expect(parsePosition('a-0')).to.deep.equal({ epoch: 'a', seq: 0 });
    expect(parsePosition('a-9007199254740991')?.seq).to.equal(Number.MAX_SAFE_INTEGER);
    expect(parsePosition(`${'a'.repeat(32)}-1`)?.epoch).to.have.length(32);
  });

  const malformed = [
    ...['', '-', 'a', 'a-', '-1', '@', 'a@news', '1024', 'a1024', 'a--1', 'a-+1', 'a-1.0', 'a-1e3', 'a-0x1'],
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
    ],
    ...['A-1', 'a_b-1', 'é-1', 'a-١', '../a-1', 'a-9007199254740992', 'a-99999999999999999999', 'a-NaN'],
    ...[`${'a'.repeat(33)}-1`, 'a'.repeat(15_000), `a-${'1'.repeat(15_000)}`, 'a-1'.repeat(5000)],
  ];
  for (const cursor of malformed) {
    it(`is not ${JSON.stringify(cursor.length > 30 ? `${cursor.slice(0, 30)}…` : cursor)}`, () => {
      expect(parsePosition(cursor)).to.equal(undefined);
    });
  }

  it('is nothing else than what is written: what is read from any text is its beginning', () => {
    const part = fc.oneof(fc.constantFrom('a', '0', '9', '-', '@', ' ', '\n'), fc.string({ maxLength: 2 }));
    const text = fc.array(part).map((parts) => parts.join(''));
    fc.assert(
      fc.property(text, (cursor) => {
        const position = parsePosition(cursor);
        if (position !== undefined) expect(formatPosition(position)).to.equal(cursor.split('@')[0]);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('The sequence of a hub', () => {
  it('begins at 0, in an epoch of its own that makes a position', () => {
    const sequences = Array.from({ length: 1000 }, () => new Sequence());
    expect(new Set(sequences.map(({ epoch }) => epoch)).size).to.equal(1000);
    for (const { epoch, head } of sequences) {
      expect(parsePosition(formatPosition({ epoch, seq: head }))).to.deep.equal({ epoch, seq: 0 });
    }
  });
});

import { expect } from 'chai';
import { type Block, parsePage } from './page.js';
import { Expected } from './print.js';
import { check, commandsOf, expanded, parseCurl, secretOf, variablesOf } from './shell.js';

describe('The reader of the documentation', () => {
  const fence = '```';

  it('finds blocks, where they stand, what is around them, and what they print', () => {
    const { blocks } = parsePage(
      'x.md',
      [
        ...['# x', `${fence}ts`, 'a();', 'b();', fence, `${fence}text`, 'ab', fence],
        ...['- in a list:', '', `  ${fence}sh`, '  ls', '', `  ${fence}`],
        ...['<!-- run', 'before();', '…', 'after();', '-->', `${fence}js`, 'c();', fence],
      ].join('\n'),
    );
    expect(blocks).to.deep.equal([
      { ...block('ts', 3, 'a();\nb();'), prints: 'ab' },
      block('text', 7, 'ab'),
      block('sh', 12, 'ls\n'),
      { ...block('js', 21, 'c();'), around: { before: ['before();'], after: ['after();'], line: 16 } },
    ]);
  });

  it('wants a comment above a block to be understood', () => {
    expect(() => parsePage('x.md', `<!-- runs\na();\n-->\n${fence}ts\n${fence}`)).to.throw(
      /line 1: a comment/,
    );
    expect(() => parsePage('x.md', `<!-- run\na();\n-->\n\n${fence}ts\n${fence}`)).to.throw(
      /x.md:1: this comm/,
    );
    expect(() => parsePage('x.md', `${fence}ts\na();`)).to.throw(/x.md:1: this block has no end/);
  });

  it('finds links and anchors', () => {
    const { anchors, links } = parsePage(
      'x.md',
      '# `on()` & off, *now*\n## Same\n## Same\n[a](b.md#c) `[no](no)` ![d](e.png)',
    );
    expect([...anchors]).to.deep.equal(['on--off-now', 'same', 'same-1']);
    expect(links).to.deep.equal([
      { to: 'b.md#c', line: 4 },
      { to: 'e.png', line: 4 },
    ]);
  });

  it('knows what is printed anew each time, and takes nothing else for it', () => {
    const id = '5f0c7a52-6d3e-4f43-9c63-1b9e0f9f3c55';
    const page = `retry: 1\nid: 9f3ac1d2e4b5-7\n${id}\n2026-11-26T08:00:00.000Z …\n\nid: 9f3ac1d2e4b5-8@x`;
    const printed = (second: string) =>
      `retry: 2\nid: 000000000000-3\n${id.replace('5', '6')}\n2027-01-01T00:00:00.000Z a b\n\nid: ${second}`;
    expect(new Expected(page).is(printed('000000000000-4@x'))).to.equal(true);
    expect(new Expected(page).is(`${printed('000000000000-4@x')}\nmore`)).to.equal(false);
    expect(new Expected(page).isIn(`${printed('000000000000-4@x')}\nmore`)).to.equal(true);
    expect(new Expected(`${page}\n…`).is(`${printed('000000000000-4@x')}\nmore`)).to.equal(true);
    for (const wrong of [
      '000000000000-5@x',
      '111111111111-4@x',
      '000000000000-4@y',
      '000000000000-4@x more',
    ]) {
      expect(new Expected(page).is(printed(wrong)), wrong).to.equal(false);
    }
    expect(new Expected('a\n…\nb').is('a\nx\ny\nb')).to.equal(true);
    expect(new Expected('a\n…\nb').is('a\nx\ny\nc')).to.equal(false);
    expect(new Expected('(a.c)').is('(abc)')).to.equal(false);
  });

  it('reads commands as a shell does, and finds what is not there', () => {
    expect(commandsOf(`A=b npm start -- --x  # why\ncurl -H 'a: "b"' "c d" \\\n  e & ls|wc\n`)).to.deep.equal(
      [['A=b', 'npm', 'start', '--', '--x'], ['curl', '-H', 'a: "b"', 'c d', 'e'], ['ls'], ['wc']],
    );
    const isTold = (file: string) => file === 'told.mjs';
    for (const line of ['npm run bench -- --quick', 'npm install express', 'npx mocha x', 'node told.mjs']) {
      for (const words of commandsOf(line)) check(words, isTold);
    }
    for (const line of [
      'npm run nothing',
      'npm install nothing',
      'npx nothing',
      'node no.mjs',
      'format c:',
    ]) {
      for (const words of commandsOf(line)) expect(() => check(words, isTold), line).to.throw(line);
    }
    expect(variablesOf('curl "$A_B/$c" $A')).to.deep.equal(['A_B', 'A']);
    expect(expanded('x$A_B/$c')).to.equal(`x${secretOf('A_B')}/$c`);
    expect(() => parseCurl(['curl', '--nonsense', 'localhost'])).to.throw(/--nonsense/);
    expect(parseCurl(['curl', '-iN', '-d', 'x', 'localhost:1/y'])).to.deep.include({
      ...{ url: 'http://localhost:1/y', method: 'POST', body: 'x', head: true },
    });
  });

  function block(language: string, line: number, code: string): Block {
    const around = { before: [], after: [], line: 0 };
    return { page: 'x.md', line, language, code, around, prints: undefined };
  }
});

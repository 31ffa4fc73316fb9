import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { expect } from 'chai';
import type { ICruiseResult } from 'dependency-cruiser';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
const LIB = join(ROOT, 'lib');
const RULES = join(ROOT, '.dependency-cruiser.mjs');
const CRUISER = join(ROOT, 'node_modules/dependency-cruiser/bin/dependency-cruise.mjs');

interface Import {
  readonly from: string;
  readonly isType: boolean;
}

interface File {
  readonly name: string;
  readonly code: string;
  /** What stands in its string and template literals. */
  readonly literals: readonly string[];
  readonly imports: readonly Import[];
}

// A comment, a string, a template (with no other within it), or a regular expression, which no operand precedes.
const TOKEN = new RegExp(
  [
    /\/\/[^\n]*|\/\*.*?\*\//,
    /'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`/,
    /(?<=[(,=>:[!&|?{};]\s*|\breturn\s+)\/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\[\n])+\/[a-z]*/,
  ]
    .map(({ source }) => source)
    .join('|'),
  'gs',
);
const IMPORT =
  /\b(?:import\s*\(|(?:import|export)(?<type>\s+type)?\b(?:[^'";()=]*\bfrom)?)\s*(?<quoted>'[^']*'|"[^"]*")/g;

function parse(name: string, source: string): File {
  const literals: string[] = [];
  const code = source.replace(TOKEN, (token) => {
    if (token.startsWith('//') || token.startsWith('/*')) return ' ';
    if (!token.startsWith('/')) literals.push(token.slice(1, -1));
    return token;
  });
  const imports = Array.from(code.matchAll(IMPORT), ({ groups = {} }) => ({
    from: groups.quoted?.slice(1, -1) ?? '',
    isType: groups.type !== undefined,
  }));
  return { name, code, literals, imports };
}

function files(): File[] {
  const paths = readdirSync(LIB, { recursive: true, encoding: 'utf8' }).filter((file) =>
    file.endsWith('.ts'),
  );
  return paths.map((file) =>
    parse(file.replaceAll('\\', '/').slice(0, -'.ts'.length), readFileSync(join(LIB, file), 'utf8')),
  );
}

/** The room of a file. */
function roomOf(name: string): string {
  return name.split('/')[0] as string;
}

describe('The house', () => {
  const house = files();
  let rooms: readonly string[];
  let cruised: ICruiseResult;

  before(async () => {
    ({ ROOMS: rooms } = await import(pathToFileURL(RULES).href));
    // In a process of its own, because `tsx` hides the named exports of swc from dependency-cruiser.
    const args = [CRUISER, '--config', RULES, '--output-type', 'json', 'lib'];
    const { stdout, stderr } = spawnSync(process.execPath, args, {
      cwd: ROOT,
      encoding: 'utf8',
      maxBuffer: 1e8,
    });
    expect(stdout, stderr).not.to.equal('');
    cruised = JSON.parse(stdout);
  });

  it('has every file in a room', () => {
    for (const { name } of house) {
      expect(rooms, `lib/${name}.ts is in no room: put it into a folder of ROOMS`).to.include(roomOf(name));
    }
    expect(new Set(house.map(({ name }) => roomOf(name)))).to.have.keys(rooms);
  });

  it('keeps the rules of .dependency-cruiser.mjs', () => {
    const broken = cruised.summary.violations.map(({ from, to, rule }) => `${rule.name}: ${from} → ${to}`);
    expect(broken).to.deep.equal([]);
  });

  // swc reports no `import('./a.js').A` inside a type, for example.
  it('has no import that dependency-cruiser does not see', () => {
    for (const { name, imports } of house) {
      const seen = cruised.modules.find(({ source }) => source === `lib/${name}.ts`)?.dependencies ?? [];
      const own = imports.map(({ from }) => from).filter((from) => from.startsWith('.'));
      expect(
        seen.map(({ module }) => module),
        `lib/${name}.ts`,
      ).to.include.members(own);
    }
  });

  it('touches a socket in transport/ only; elsewhere node:http is there for its types', () => {
    for (const { name, imports } of house) {
      if (roomOf(name) === 'transport') continue;
      // The suite looks at hubs from outside, as an application and its clients do.
      if (roomOf(name) === 'testing') continue;
      for (const { from, isType } of imports) {
        expect(from, `lib/${name}.ts`).not.to.match(/^node:(net|tls|http2|https)$/);
        if (from === 'node:http') expect(isType, `lib/${name}.ts imports node:http for more`).to.equal(true);
      }
    }
  });

  it('knows the grammar of an event stream in sse/frame only', () => {
    const grammar = /(^|\\n|\n|\\r)(data|event|id|retry):|^:(ok|\\n)/;
    for (const { name, literals } of house) {
      const fields = literals.filter((literal) => grammar.test(literal));
      if (name === 'sse/frame') expect(fields).not.to.deep.equal([]);
      else expect(fields, `lib/${name}.ts`).to.deep.equal([]);
    }
  });

  it('needs uuid and Node, and nothing else but a peer in the entry that is for it', () => {
    const foreign = house.flatMap(({ name, imports }) =>
      imports.filter(({ from }) => !from.startsWith('.')).map(({ from }) => [name, from] as const),
    );
    const peers = [['metrics', 'prom-client']];
    for (const [name, from] of foreign) {
      if (peers.some(([file, peer]) => name === file && from === peer)) continue;
      const isBuiltin = from.startsWith('node:') && builtinModules.includes(from.slice('node:'.length));
      expect(isBuiltin || from === 'uuid', `lib/${name}.ts imports ${from}`).to.equal(true);
    }
    expect(foreign.map(([, from]) => from)).to.include('uuid');
  });

  it('takes each UUID from uuid', () => {
    for (const { name, code } of house) expect(code, `lib/${name}.ts`).not.to.include('randomUUID');
  });

  it('has no import that is not seen: none by require, none whose name is computed', () => {
    for (const { name, code } of house) {
      expect(code, `lib/${name}.ts`).not.to.match(
        /\brequire\s*\(|\bimport\s*\(\s*[^'"\s]|\/\/\/\s*<reference/,
      );
    }
  });
});

describe('The reader of the house', () => {
  it('finds every form of import, and none in a comment', () => {
    const { imports } = parse(
      'x',
      `import './a.js'; // import './no.js'
      import type { A } from './b.js';
      import { type B, c } from "./c.js";
      import {
        d,
      } from './d.js';
      export { e } from './e.js';
      export * from './f.js';
      export type { G } from './g.js';
      /* export { no } from './no.js'; */
      const h = await import('./h.js');
      type I = import('./i.js').I;
      export const from = 'x'; export const y = Array.from('x');`,
    );
    expect(imports.map(({ from, isType }) => `${from}${isType ? ' type' : ''}`)).to.deep.equal([
      ...['./a.js', './b.js type', './c.js', './d.js', './e.js', './f.js', './g.js type', './h.js', './i.js'],
    ]);
  });

  it('finds every literal, and none in a comment or a regular expression', () => {
    const source = [
      `const a = 'data: '; // 'no'`,
      'const b = `event: x`; /* "no" */',
      String.raw`const c = "it's \"x\""; x(/['"]\/\//g, 'd');`,
      `const e = a / 2 / 'f'.length;`,
    ];
    expect(parse('x', source.join('\n')).literals).to.deep.equal([
      ...['data: ', 'event: x', String.raw`it's \"x\"`, 'd', 'f'],
    ]);
  });
});

// Compiles lib/ to dist/cjs, and writes an ES module in dist/esm for each entry of `exports`. The ES modules only re-export the
// CommonJS code, so both give the same classes. The code is CommonJS because Jest cannot require ES modules.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, posix, relative, resolve, sep } from 'node:path';
import { reachable } from './published.mjs';

process.chdir(join(import.meta.dirname, '..'));

// Beside its place, and then moved there file by file: of two demos that are started together, one may still build while
// the other already runs, and must find every file.
const folder = join('.cache', `dist-${process.pid}`);
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

if ((await compile()) !== 0) process.exit(1);

// The nearest package.json decides what a .js file is, and the one above says "module".
write('cjs/package.json', '{ "type": "commonjs" }\n');

const { exports } = JSON.parse(readFileSync('package.json', 'utf8'));
const require = createRequire(import.meta.url);
for (const { import: esm, require: cjs } of Object.values(exports)) {
  if (esm === undefined) continue;
  const from = posix.relative(posix.dirname(esm.default), cjs.default);
  const names = Object.keys(require(resolve(folder, relative('dist', cjs.default))));
  write(relative('dist', esm.default), `export { ${names.join(', ')} } from '${from}';\n`);
  write(relative('dist', esm.types), `export * from '${from}';\n`);
}

// Types that no public one is made of: nobody can ask for them.
const needed = reachable(exports, (file) => readFileSync(join(folder, relative('dist', file)), 'utf8'));
const files = filesOf(folder).filter(
  (file) => !file.endsWith('.d.ts') || needed.includes(join('dist', file).replaceAll(sep, '/')),
);
for (const file of files) {
  const place = join('dist', file);
  mkdirSync(dirname(place), { recursive: true });
  renameSync(join(folder, file), place);
}
// A file that lib/ has no more must not be published.
for (const file of filesOf('dist')) if (!files.includes(file)) rmSync(join('dist', file), { force: true });

async function compile() {
  const args = ['--project', 'tsconfig.build.json', '--outDir', join(folder, 'cjs')];
  // No stdin: in `tail -f log | npm start` it belongs to the demo.
  const tsc = spawn(process.execPath, ['node_modules/typescript/bin/tsc', ...args], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const [status] = await once(tsc, 'close');
  return status;
}

function write(file, text) {
  const path = join(folder, file);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

function filesOf(root) {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
}

// lib/ → dist/esm and dist/cjs, both compilations at once.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { reachable } from './published.mjs';

process.chdir(join(import.meta.dirname, '..'));

// Beside its place, and then moved there file by file: of two demos that are started together, one may still build while
// the other already runs, and must find every file.
const folder = join('.cache', `dist-${process.pid}`);
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

const statuses = await Promise.all(['esm', 'cjs'].map(compile));
if (statuses.some((status) => status !== 0)) process.exit(1);

// The nearest package.json decides what a .js file is, and the one above says "module".
mkdirSync(join(folder, 'cjs'), { recursive: true });
writeFileSync(join(folder, 'cjs', 'package.json'), '{ "type": "commonjs" }\n');

// Types that no public one is made of: nobody can ask for them.
const { exports } = JSON.parse(readFileSync('package.json', 'utf8'));
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

async function compile(format) {
  const args = ['--project', `tsconfig.${format}.json`, '--outDir', join(folder, format)];
  // No stdin: in `tail -f log | npm start` it belongs to the demo.
  const tsc = spawn(process.execPath, ['node_modules/typescript/bin/tsc', ...args], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const [status] = await once(tsc, 'close');
  return status;
}

function filesOf(root) {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
}

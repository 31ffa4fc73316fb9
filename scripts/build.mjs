// lib/ → dist/esm and dist/cjs, both compilations at once.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

process.chdir(join(import.meta.dirname, '..'));

// Beside its place, and then moved there whole: another demo may be starting, or building, at the same time.
const folder = join('.cache', `dist-${process.pid}`);
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

const statuses = await Promise.all(['esm', 'cjs'].map(compile));
if (statuses.some((status) => status !== 0)) process.exit(1);

// The nearest package.json decides what a .js file is, and the one above says "module".
mkdirSync(join(folder, 'cjs'), { recursive: true });
writeFileSync(join(folder, 'cjs', 'package.json'), '{ "type": "commonjs" }\n');
move();

async function compile(format) {
  const args = ['--project', `tsconfig.${format}.json`, '--outDir', join(folder, format)];
  // No stdin: in `tail -f log | npm start` it belongs to the demo.
  const tsc = spawn(process.execPath, ['node_modules/typescript/bin/tsc', ...args], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const [status] = await once(tsc, 'close');
  return status;
}

function move() {
  // A file that lib/ has no more must not be published.
  rmSync('dist', { recursive: true, force: true });
  try {
    renameSync(folder, 'dist');
  } catch (error) {
    if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    // Another build came between.
    move();
  }
}

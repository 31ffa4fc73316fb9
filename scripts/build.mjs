// lib/ → dist/esm and dist/cjs, both compilations at once.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

process.chdir(join(import.meta.dirname, '..'));

// A file that lib/ has no more must not be published.
rmSync('dist', { recursive: true, force: true });

const statuses = await Promise.all(['tsconfig.esm.json', 'tsconfig.cjs.json'].map(compile));
if (statuses.some((status) => status !== 0)) process.exit(1);

// The nearest package.json decides what a .js file is, and the one above says "module".
mkdirSync('dist/cjs', { recursive: true });
writeFileSync('dist/cjs/package.json', '{ "type": "commonjs" }\n');

async function compile(project) {
  // No stdin: in `tail -f log | npm start` it belongs to the demo.
  const tsc = spawn(process.execPath, ['node_modules/typescript/bin/tsc', '--project', project], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const [status] = await once(tsc, 'close');
  return status;
}

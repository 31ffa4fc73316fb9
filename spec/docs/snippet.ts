// A block of the documentation by itself, for a test of its own.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT, readPage } from './page.js';

/** The one block of a page that has this in it. */
export function snippet(page: string, part: string): string {
  const found = readPage(page).blocks.filter(({ code }) => code.includes(part));
  if (found.length !== 1) throw new Error(`${page} has ${found.length} blocks with ${part}`);
  return found[0]!.code;
}

/** TypeScript without its types. */
export function withoutTypes(code: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'express-comet-snippet-'));
  try {
    const file = join(folder, 'snippet.mts');
    writeFileSync(file, code);
    const options = ['--ignoreConfig', '--noCheck', '--target', 'es2022', '--module', 'esnext'];
    execFileSync(join(ROOT, 'node_modules', '.bin', 'tsc'), [...options, '--outDir', folder, file]);
    return readFileSync(join(folder, 'snippet.mjs'), 'utf8');
  } finally {
    rmSync(folder, { recursive: true });
  }
}

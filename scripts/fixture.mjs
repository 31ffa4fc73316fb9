// npm run fixture: builds the package, and keeps the build in spec/fixtures, where spec/versions.spec.ts runs it beside
// newer code. Only what a hub on Redis loads is kept: no types, no metrics, and no suite for engines.

import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { run } from './programs.mjs';
import { reachable } from './published.mjs';

process.chdir(join(import.meta.dirname, '..'));

const FIXTURES = 'spec/fixtures';

// The same build gives the same bytes: npm writes one time and one owner for all files, and their modes as they are.
process.umask(0o022);
run(process.execPath, 'scripts/build.mjs');

const { name, version, type, exports, dependencies } = JSON.parse(readFileSync('package.json', 'utf8'));
const entries = { '.': exports['.'], './redis': exports['./redis'] };
const files = reachable(entries).filter((file) => !file.endsWith('.d.ts'));

const folder = mkdtempSync(join(tmpdir(), 'express-comet-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

// dist/cjs/package.json says that what lies beside it is CommonJS.
for (const file of [...files, 'dist/cjs/package.json']) {
  mkdirSync(join(folder, dirname(file)), { recursive: true });
  copyFileSync(file, join(folder, file));
}
const manifest = { name, version, type, exports: entries, dependencies };
writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);

mkdirSync(FIXTURES, { recursive: true });
const [{ filename, size }] = Object.values(
  JSON.parse(run('npm', 'pack', folder, '--ignore-scripts', '--json', '--pack-destination', FIXTURES)),
);
console.log(`${FIXTURES}/${filename}: ${Math.round(size / 1000)} kB, ${files.length + 2} files`);

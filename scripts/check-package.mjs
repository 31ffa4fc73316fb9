// Packs the package as it would be published, and checks what its users get: what its `exports` need and nothing else, that
// every export is in the tarball (publint), and that its types are found by each module resolution (attw).

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from './programs.mjs';
import { reachable } from './published.mjs';

process.chdir(join(import.meta.dirname, '..'));

const folder = mkdtempSync(join(tmpdir(), 'express-comet-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

// `ignore-scripts`: what is checked is the build that stands in dist/, not one made by `prepack`.
const report = run('npm', 'pack', '--ignore-scripts', '--json', '--pack-destination', folder);
const [{ filename, files }] = Object.values(JSON.parse(report));
checkFiles(files.map(({ path }) => path));
run('publint', join(folder, filename), '--strict');
run('attw', join(folder, filename));
console.log(`${filename}: ${files.length} files, all needed; nothing found by publint and attw`);

function checkFiles(packed) {
  const { version, exports } = JSON.parse(readFileSync('package.json', 'utf8'));
  const needed = [
    ...['package.json', 'README.md', 'CHANGELOG.md', 'LICENSE'],
    // It says that what lies beside it is CommonJS.
    'dist/cjs/package.json',
    ...reachable(exports),
  ];
  const faults = [
    ...needed.filter((file) => !packed.includes(file)).map((file) => `${file} is not packed`),
    ...packed
      .filter((file) => !needed.includes(file))
      .map((file) => `${file} is packed, and nothing needs it`),
    // There are no maps, as there are no sources that they could lead to.
    ...packed
      .filter((file) => /^\/\/# sourceMappingURL=/m.test(readFileSync(file, 'utf8')))
      .map((file) => `${file} names a source map`),
    ...(readFileSync('CHANGELOG.md', 'utf8').includes(`\n## ${version} - `)
      ? []
      : [`CHANGELOG.md has no section of ${version}`]),
  ];
  if (faults.length === 0) return;
  console.error(faults.join('\n'));
  process.exit(1);
}

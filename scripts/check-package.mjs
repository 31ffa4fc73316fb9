// Packs the package as it would be published, and checks what its users get: that every export is in
// the tarball (publint), and that its types are found from ESM and from CommonJS (attw).

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

process.chdir(join(import.meta.dirname, '..'));

const folder = mkdtempSync(join(tmpdir(), 'express-comet-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

// `ignore-scripts`: what is checked is the build that stands in dist/, not one made by `prepack`.
run('npm', 'pack', '--ignore-scripts', '--pack-destination', folder);
const [tarball] = readdirSync(folder);
run('publint', join(folder, tarball), '--strict');
// Without node10, which knows no `exports`.
run('attw', join(folder, tarball), '--profile', 'node16');
console.log(`${tarball}: nothing found by publint and attw`);

// The script is started by npm, so the tools are on the PATH. They are heard only when they object.
function run(command, ...args) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  if (error) throw error;
  if (status === 0) return;
  console.error(stdout + stderr);
  process.exit(1);
}

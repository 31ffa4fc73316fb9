// Makes a fresh clone ready: runs `npm ci`, unless it was done for this lock file under this Node.
// Uses nothing but Node, as there are no packages yet. `npm start` calls it plain; `npm test` with
// `--test`, so that what only the tests need has its place here.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

process.chdir(join(import.meta.dirname, '..'));

// Inside node_modules, which `npm ci` deletes first: an install that was cut short leaves no stamp.
const STAMP = 'node_modules/.setup-stamp';

const lock = readFileSync('package-lock.json');
const wanted = createHash('sha256').update(lock).update(process.version).digest('hex');

if (stamp() !== wanted) {
  console.log('setup: installing the packages named in package-lock.json (npm ci)');
  install();
  writeFileSync(STAMP, wanted);
}

if (process.argv.includes('--test')) await provide();

function stamp() {
  try {
    return readFileSync(STAMP, 'utf8');
  } catch {
    return undefined;
  }
}

function install() {
  // The npm that runs this script, which need not be the first on the PATH.
  const npm = process.env.npm_execpath;
  const [command, ...prefix] = npm ? [process.execPath, npm] : ['npm'];
  const { status, error } = spawnSync(
    command,
    // The tools are needed whatever NODE_ENV says, and no package needs its install script.
    [...prefix, 'ci', '--include=dev', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'],
    // No stdin: in `tail -f log | npm start` it belongs to the demo.
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  if (status !== 0) {
    console.error(`setup: npm ci failed${error ? `: ${error.message}` : ''}`);
    process.exit(1);
  }
}

async function provide() {
  const { unpackBrowser } = await import('./browser.mjs');
  const { unpackRedis, unpackRedis8, unpackValkey8 } = await import('./redis.mjs');
  const { unpackNginx } = await import('./nginx.mjs');
  const { installTools } = await import('./reference/install.mjs');
  // The tests that need one of these fail without it, those of the last two are skipped: here it is only said why.
  for (const provideOne of [
    ...[unpackBrowser, unpackRedis, unpackNginx, installTools],
    ...[unpackRedis8, unpackValkey8],
  ]) {
    try {
      provideOne();
    } catch (error) {
      console.error(`setup: ${error.message}`);
    }
  }
}

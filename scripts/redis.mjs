// The Redis of the tests: the system's, else the one that comes inside Debian's packages.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, realpathSync, renameSync, rmSync } from 'node:fs';
import { basename, delimiter, join } from 'node:path';
import { findProgram, isExecutable } from './programs.mjs';

const NAMES = ['redis-server', 'valkey-server'];
// The first is only a link to a program of the second.
const PACKAGES = ['redis-server', 'redis-tools'];
const CACHE = join(import.meta.dirname, '..', '.cache', 'redis');

/**
 * The path of the server, and the environment that it needs. Looks at `$REDIS_SERVER_PATH`, then on the PATH, then for
 * what `unpackRedis` has left.
 * @throws where there is none
 */
export function findRedis(env = process.env) {
  const path = findProgram(NAMES, 'REDIS_SERVER_PATH', env);
  if (path !== undefined) return { path, env };
  const unpacked = within(CACHE, env);
  if (isExecutable(unpacked.path)) return unpacked;
  throw new Error(
    'There is no redis-server: run `node scripts/setup.mjs --test`, or install Redis 7 or Valkey, or say where ' +
      'it is in REDIS_SERVER_PATH.',
  );
}

/** Unpacks the server of Debian's packages, where no other is found. Needs no root, and installs and starts nothing. */
export function unpackRedis() {
  try {
    return findRedis();
  } catch (error) {
    if (process.env.REDIS_SERVER_PATH) throw error;
  }
  console.log(`setup: unpacking the server of ${PACKAGES.join(' and ')} (apt-get download)`);
  // Beside its place, and then moved there: what was cut short is not taken for a server.
  const folder = `${CACHE}-${process.pid}`;
  try {
    fill(folder);
    rmSync(CACHE, { recursive: true, force: true });
    renameSync(join(folder, 'whole'), CACHE);
  } catch (error) {
    console.error(error.message);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return findRedis();
}

function fill(folder) {
  const debs = join(folder, 'debs');
  const tree = join(folder, 'tree');
  const whole = join(folder, 'whole');
  const lists = join(folder, 'lists');
  for (const each of [tree, join(whole, 'lib'), join(lists, 'partial')]) mkdirSync(each, { recursive: true });

  // As root, apt would become a user who need not be allowed to look into this folder.
  const options = ['-o', 'APT::Sandbox::User=root', '-o', `Dir::Cache=${folder}`];
  try {
    download(debs, options);
  } catch {
    // A container often has no lists, or has those of the day it was built, whose packages are gone since.
    options.push('-o', `Dir::State::lists=${lists}`);
    run('apt-get', [...options, '-o', 'Acquire::Languages=none', 'update']);
    download(debs, options);
  }

  for (const deb of readdirSync(debs)) run('dpkg-deb', ['-x', join(debs, deb), tree]);
  for (const file of readdirSync(tree, { recursive: true })) {
    if (/\.so(\.|$)/.test(file)) renameSync(join(tree, file), join(whole, 'lib', basename(file)));
  }
  const { path, env } = within(whole);
  renameSync(realpathSync(join(tree, 'usr', 'bin', 'redis-server')), path);
  run(path, ['--version'], { env });
}

function download(cwd, options) {
  // Without what an attempt before has left, which may be of another version.
  rmSync(cwd, { recursive: true, force: true });
  mkdirSync(cwd);
  // It is only asked what it would install: that is, the libraries that this system lacks.
  const plan = run('apt-get', [...options, '-s', '--no-install-recommends', 'install', ...PACKAGES]);
  const lacking = Array.from(plan.matchAll(/^Inst (\S+)/gm), ([, name]) => name);
  run('apt-get', [...options, 'download', ...new Set([...PACKAGES, ...lacking])], { cwd });
}

function run(command, args, options) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', ...options });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? stderr.trim()}`);
  return stdout;
}

function within(folder, env = process.env) {
  const libraries = [join(folder, 'lib'), env.LD_LIBRARY_PATH].filter(Boolean);
  return {
    path: join(folder, 'redis-server'),
    env: { ...env, LD_LIBRARY_PATH: libraries.join(delimiter) },
  };
}

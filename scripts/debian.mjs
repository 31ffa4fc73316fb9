// Servers of the tests: the system's, else those that come inside Debian's packages.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, realpathSync, renameSync, rmSync } from 'node:fs';
import { basename, delimiter, join } from 'node:path';
import { findProgram, isExecutable } from './programs.mjs';

// A server has `names` on the PATH, or is where a `variable` says, or is the `program` within `packages`, that is
// unpacked into a `folder` of .cache; where it is not found, `remedy` says how it is installed.

/**
 * The path of a server, and the environment that it needs. Looks at the variable, then on the PATH, then for what
 * `unpackServer` has left.
 * @throws where there is none
 */
export function findServer({ names, variable, folder, program, remedy }, env) {
  const path = findProgram(names, variable, env);
  if (path !== undefined) return { path, env };
  const unpacked = within(cacheOf(folder), program, env);
  if (isExecutable(unpacked.path)) return unpacked;
  throw new Error(
    `There is no ${basename(program)}: run \`node scripts/setup.mjs --test\`, or ${remedy}, or say where it is in ` +
      `${variable}.`,
  );
}

/** Unpacks the server of Debian's packages, where no other is found. Needs no root, and installs and starts nothing. */
export function unpackServer(server) {
  try {
    return findServer(server, process.env);
  } catch (error) {
    if (process.env[server.variable]) throw error;
  }
  console.log(`setup: unpacking the server of ${server.packages.join(' and ')} (apt-get download)`);
  const cache = cacheOf(server.folder);
  // Beside its place, and then moved there: what was cut short is not taken for a server.
  const folder = `${cache}-${process.pid}`;
  try {
    fill(folder, server);
    rmSync(cache, { recursive: true, force: true });
    renameSync(join(folder, 'whole'), cache);
  } catch (error) {
    console.error(error.message);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return findServer(server, process.env);
}

function fill(folder, { packages, program }) {
  const debs = join(folder, 'debs');
  const tree = join(folder, 'tree');
  const whole = join(folder, 'whole');
  const lists = join(folder, 'lists');
  for (const each of [tree, join(whole, 'lib'), join(lists, 'partial')]) mkdirSync(each, { recursive: true });

  // As root, apt would become a user who need not be allowed to look into this folder.
  const options = ['-o', 'APT::Sandbox::User=root', '-o', `Dir::Cache=${folder}`];
  try {
    download(debs, packages, options);
  } catch {
    // A container often has no lists, or has those of the day it was built, whose packages are gone since.
    options.push('-o', `Dir::State::lists=${lists}`);
    run('apt-get', [...options, '-o', 'Acquire::Languages=none', 'update']);
    download(debs, packages, options);
  }

  for (const deb of readdirSync(debs)) run('dpkg-deb', ['-x', join(debs, deb), tree]);
  for (const file of readdirSync(tree, { recursive: true })) {
    if (/\.so(\.|$)/.test(file)) renameSync(join(tree, file), join(whole, 'lib', basename(file)));
  }
  const { path, env } = within(whole, program, process.env);
  renameSync(realpathSync(join(tree, program)), path);
  run(path, ['-v'], { env });
}

function download(cwd, packages, options) {
  // Without what an attempt before has left, which may be of another version.
  rmSync(cwd, { recursive: true, force: true });
  mkdirSync(cwd);
  // It is only asked what it would install: that is, the libraries that this system lacks.
  const plan = run('apt-get', [...options, '-s', '--no-install-recommends', 'install', ...packages]);
  const lacking = Array.from(plan.matchAll(/^Inst (\S+)/gm), ([, name]) => name);
  run('apt-get', [...options, 'download', ...new Set([...packages, ...lacking])], { cwd });
}

function run(command, args, options) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', ...options });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? stderr.trim()}`);
  return stdout;
}

function within(folder, program, env) {
  const libraries = [join(folder, 'lib'), env.LD_LIBRARY_PATH].filter(Boolean);
  return {
    path: join(folder, basename(program)),
    env: { ...env, LD_LIBRARY_PATH: libraries.join(delimiter) },
  };
}

function cacheOf(folder) {
  return join(import.meta.dirname, '..', '.cache', folder);
}

// Servers of the tests: the system's, else those that come inside Debian's packages.

import { spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, delimiter, join } from 'node:path';
import { findProgram, isExecutable } from './programs.mjs';

// A server has `names` on the PATH, or is where a `variable` says, or is the `program` within `packages`, that is
// unpacked into a `folder` of .cache; where it is not found, `remedy` says how it is installed. Where `release` names
// another release of Debian, the packages are of that one, and among them are the libraries and their loader.

/**
 * The path of a server, the arguments that come first, and the environment that it needs. Looks at the variable, then on the PATH, then for what
 * `unpackServer` has left.
 * @throws where there is none
 */
export function findServer({ names, variable, folder, program, release, remedy }, env) {
  const path = findProgram(names, variable, env);
  if (path !== undefined) return { path, args: [], env };
  const cache = cacheOf(folder);
  if (isExecutable(join(cache, basename(program)))) return within(cache, program, release, env);
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

function fill(folder, { packages, program, release }) {
  const debs = join(folder, 'debs');
  const tree = join(folder, 'tree');
  const whole = join(folder, 'whole');
  const lists = join(folder, 'lists');
  for (const each of [tree, join(whole, 'lib'), join(lists, 'partial')]) mkdirSync(each, { recursive: true });

  // As root, apt would become a user who need not be allowed to look into this folder.
  const options = ['-o', 'APT::Sandbox::User=root', '-o', `Dir::Cache=${folder}`];
  try {
    if (release !== undefined) options.push(...sourcesOf(release, folder, lists));
    download(debs, packages, options, release);
  } catch (error) {
    if (release !== undefined) throw error;
    // A container often has no lists, or has those of the day it was built, whose packages are gone since.
    options.push('-o', `Dir::State::lists=${lists}`);
    run('apt-get', [...options, '-o', 'Acquire::Languages=none', 'update']);
    download(debs, packages, options);
  }

  for (const deb of readdirSync(debs)) run('dpkg-deb', ['-x', join(debs, deb), tree]);
  for (const file of readdirSync(tree, { recursive: true })) {
    if (!/\.so(\.\d+)*$/.test(file)) continue;
    const library = join(whole, 'lib', basename(file));
    // The loader is there twice, once as a link.
    if (lstatSync(join(tree, file)).isSymbolicLink() && existsSync(library)) continue;
    renameSync(join(tree, file), library);
  }
  renameSync(realpathSync(join(tree, program)), join(whole, basename(program)));
  const { path, args, env } = within(whole, program, release, process.env);
  run(path, [...args, '-v'], { env });
}

/** Options of apt by which it looks at another release alone, at the place that this system has its packages from. */
function sourcesOf(release, folder, lists) {
  const [place] = run('apt-get', ['indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages']).split(
    '\n',
  );
  const list = join(folder, 'sources.list');
  const key = '/usr/share/keyrings/debian-archive-keyring.gpg';
  writeFileSync(list, `deb [signed-by=${key}] ${place} ${release} main\n`);
  const options = [`Dir::Etc::sourcelist=${list}`, 'Dir::Etc::sourceparts=-', `Dir::State::lists=${lists}`];
  const chosen = options.flatMap((option) => ['-o', option]);
  run('apt-get', ['-o', 'APT::Sandbox::User=root', ...chosen, '-o', 'Acquire::Languages=none', 'update']);
  return chosen;
}

function download(cwd, packages, options, release) {
  // Without what an attempt before has left, which may be of another version.
  rmSync(cwd, { recursive: true, force: true });
  mkdirSync(cwd);
  // It is only asked what it would install: that is, the libraries that this system lacks. To another release it would
  // upgrade the system.
  const install = [...options, '-s', '--no-install-recommends', 'install', ...packages];
  const plan = release === undefined ? run('apt-get', install) : '';
  const lacking = Array.from(plan.matchAll(/^Inst (\S+)/gm), ([, name]) => name);
  run('apt-get', [...options, 'download', ...new Set([...packages, ...lacking])], { cwd });
}

function run(command, args, options) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', ...options });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? stderr.trim()}`);
  return stdout;
}

function within(folder, program, release, env) {
  const path = join(folder, basename(program));
  const lib = join(folder, 'lib');
  if (release !== undefined) {
    // The C library of another release works with the loader of that one alone.
    const loader = readdirSync(lib).find((name) => name.startsWith('ld-linux'));
    return { path: join(lib, loader), args: ['--library-path', lib, path], env };
  }
  const libraries = [lib, env.LD_LIBRARY_PATH].filter(Boolean);
  return { path, args: [], env: { ...env, LD_LIBRARY_PATH: libraries.join(delimiter) } };
}

function cacheOf(folder) {
  return join(import.meta.dirname, '..', '.cache', folder);
}

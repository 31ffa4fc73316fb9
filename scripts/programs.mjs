// Programs that scripts and tests start.

import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/**
 * The path of the program that the variable names, or of the first of these names that is on the PATH; `undefined` where
 * there is none.
 * @throws where the variable names what is no program
 */
export function findProgram(names, variable, env) {
  const named = env[variable];
  if (named) {
    if (isExecutable(named)) return named;
    throw new Error(`${variable} is ${named}, where no program is.`);
  }
  // Debian has its servers there, where only root has a PATH to.
  const folders = [...(env.PATH ?? '').split(delimiter), '/usr/sbin'];
  return names.flatMap((name) => folders.map((folder) => join(folder, name))).find(isExecutable);
}

export function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Runs a tool to its end, and returns what it prints. If it fails, prints its output and ends this process. */
export function run(command, ...args) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  if (error) throw error;
  if (status === 0) return stdout;
  console.error(stdout + stderr);
  process.exit(1);
}

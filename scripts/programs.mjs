// Programs of the system that the tests start.

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

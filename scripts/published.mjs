// What the package must hold: what its `exports` name, and what that imports in turn.

import { readFileSync } from 'node:fs';
import { dirname, posix, sep } from 'node:path';

// An import in what tsc has made, of code or of types. Its strings have no escapes.
const IMPORT = /\b(?:from|import|require)\b\s*\(?\s*(?:'(\.[^'\n]+)'|"(\.[^"\n]+)")/g;

/**
 * The files of a build that can be reached from `exports`, sorted: their paths begin as those of `exports` do, without
 * the `./`. `read` reads one of them.
 * @throws where one that is named is not there
 */
export function reachable(exports, read = (file) => readFileSync(file, 'utf8')) {
  const files = new Set();
  const queue = targetsOf(exports).filter((target) => target.startsWith('./dist/'));
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    const path = posix.normalize(file);
    if (files.has(path)) continue;
    files.add(path);
    const isTypes = path.endsWith('.d.ts');
    for (const [, single, double] of read(path.replaceAll('/', sep)).matchAll(IMPORT)) {
      const to = posix.join(dirname(path), single ?? double);
      queue.push(isTypes ? to.replace(/\.js$/, '.d.ts') : to);
    }
  }
  return [...files].sort();
}

function targetsOf(exports) {
  return typeof exports === 'string' ? [exports] : Object.values(exports).flatMap(targetsOf);
}

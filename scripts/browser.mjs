// The browser of the tests: one of the system's, else the one that comes inside an npm package.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { findProgram, isExecutable } from './programs.mjs';

const ROOT = join(import.meta.dirname, '..');
const PACKED = '@sparticuz/chromium';
const NAMES = ['chromium-headless-shell', 'chromium', 'google-chrome'];
// The package's own configuration looks for its fonts in /tmp, and without a font the browser crashes.
const FONTS = `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir prefix="relative">fonts</dir><dir>/usr/share/fonts</dir></fontconfig>
`;
const CACHE = join(ROOT, '.cache', 'chromium-147');

/** Works as root and in a container, and asks nobody on the network for anything. */
export const FLAGS = [
  ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
  ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
];

/**
 * The path of the browser, and the environment that it needs. Looks at `$CHROMIUM_PATH`, then on the PATH, then for
 * what `unpackBrowser` has left.
 * @throws where there is none
 */
export function findBrowser(env = process.env) {
  const found = findProgram(NAMES, 'CHROMIUM_PATH', env);
  if (found !== undefined) return { path: found, env };
  const path = join(CACHE, 'chromium');
  if (!isExecutable(path)) {
    throw new Error(
      "There is no browser: run `node scripts/setup.mjs --test`, or install Debian's chromium.",
    );
  }
  return { path, env: { ...env, ...ofPacked(CACHE) } };
}

/** Unpacks the browser of the npm package, where no other is found. */
export function unpackBrowser() {
  try {
    return findBrowser();
  } catch (error) {
    if (process.env.CHROMIUM_PATH) throw error;
  }
  console.log(`setup: unpacking the browser of ${PACKED}`);
  // Beside its place, and then moved there: what was cut short is not taken for a browser.
  const folder = `${CACHE}-${process.pid}`;
  mkdirSync(folder, { recursive: true });
  // In a process of its own: the package unpacks to the folder of temporary files, and changes the environment. The
  // libraries that a bare system lacks come only where it believes that it is on the platform it was made for.
  const { status, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '--eval', `import it from '${PACKED}'; await it.executablePath();`],
    {
      cwd: ROOT,
      env: { ...process.env, TMPDIR: folder, AWS_LAMBDA_JS_RUNTIME: 'nodejs20.x' },
      encoding: 'utf8',
    },
  );
  if (status === 0 && existsSync(join(folder, 'chromium'))) {
    writeFileSync(join(folder, 'fonts', 'fonts.conf'), FONTS);
    rmSync(CACHE, { recursive: true, force: true });
    renameSync(folder, CACHE);
  } else {
    console.error(stderr);
    rmSync(folder, { recursive: true, force: true });
  }
  return findBrowser();
}

function ofPacked(folder) {
  // Under the locale "C" this one says that its language is "en-US@posix", which is none.
  const libraries = [join(folder, 'al2023', 'lib'), process.env.LD_LIBRARY_PATH].filter(Boolean);
  return {
    LD_LIBRARY_PATH: libraries.join(delimiter),
    FONTCONFIG_PATH: join(folder, 'fonts'),
    LC_ALL: 'en_US.UTF-8',
  };
}

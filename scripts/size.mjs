// npm run size: what the package weighs, and what its install does, beside better-sse. Figures are bytes of files, as they
// are in the tarball and after it was unpacked; what a file system makes of them is its own affair.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { reachable } from './published.mjs';

process.chdir(join(import.meta.dirname, '..'));

const { name, version } = JSON.parse(readFileSync('package.json', 'utf8'));
const peers = JSON.parse(readFileSync('bench/package.json', 'utf8')).dependencies;

const folder = mkdtempSync(join(tmpdir(), 'express-comet-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

const own = pack('.');
console.log(row('', 'packed', 'unpacked', 'files', 'installed', 'packages'));
console.log(row('---', '--:', '--:', '--:', '--:', '--:'));
const sizes = [
  measure(name, version, own),
  measure('better-sse', peers['better-sse'], pack(`better-sse@${peers['better-sse']}`)),
];
const [ours, theirs] = sizes;
const ratios = ['packed', 'unpacked', 'files', 'installed', 'packages'].map((key) => ours[key] / theirs[key]);
console.log(row('ratio', ...ratios.map((ratio) => ratio.toFixed(1))));

console.log();

// What of the install is not the package itself.
for (const each of readdirSync(join(folder, name, 'node_modules'))) {
  if (each.startsWith('.') || each === name) continue;
  const { bytes, files } = weigh(join(folder, name, 'node_modules', each));
  say(`${each}, which it needs`, bytes, files);
}

const { exports } = JSON.parse(readFileSync('package.json', 'utf8'));
const dist = reachable(exports);
sum('code, which is CommonJS', (file) => /^dist.cjs.*\.js$/.test(file));
sum('ES modules, which re-export it', (file) => /^dist.esm.*\.js$/.test(file));
sum('declarations', (file) => file.endsWith('.d.ts'));
sum('of all that: the suite for engines', (file) => file.includes('/testing/'));
const loaded = reachable({ '.': './dist/esm/index.js' });
sum(`what \`import '${name}'\` loads`, (file) => loaded.includes(file));

function sum(what, belongs) {
  const files = dist.filter(belongs);
  say(what, total(files), files.length);
}

function say(what, bytes, files) {
  console.log(`${what}: ${format(bytes)} in ${files} files`);
}

function measure(packageName, packageVersion, tarball) {
  const place = join(folder, packageName);
  mkdirSync(place, { recursive: true });
  writeFileSync(join(place, 'package.json'), '{ "private": true }');
  const flags = [
    '--omit=dev',
    '--omit=peer',
    '--ignore-scripts',
    '--prefer-offline',
    '--no-audit',
    '--no-fund',
  ];
  npm(place, 'install', tarball, ...flags);
  const modules = join(place, 'node_modules');
  const lock = JSON.parse(readFileSync(join(modules, '.package-lock.json'), 'utf8'));
  const self = weigh(join(modules, packageName));
  const sizes = {
    packed: statSync(tarball).size,
    unpacked: self.bytes,
    files: self.files,
    installed: weigh(modules).bytes,
    packages: Object.keys(lock.packages).length,
  };
  const { packed, unpacked, files, installed, packages } = sizes;
  const title = `${packageName} ${packageVersion}`;
  console.log(row(title, format(packed), format(unpacked), files, format(installed), packages));
  return sizes;
}

function pack(what) {
  const report = npm(
    '.',
    'pack',
    what,
    '--ignore-scripts',
    '--prefer-offline',
    '--json',
    '--pack-destination',
    folder,
  );
  const [{ filename }] = Object.values(JSON.parse(report));
  return resolve(folder, filename);
}

/** What is in a folder, but for npm's own notes. */
function weigh(root) {
  const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter(
    (entry) => entry.isFile() && entry.name !== '.package-lock.json',
  );
  return { files: files.length, bytes: total(files.map((entry) => join(entry.parentPath, entry.name))) };
}

function total(files) {
  return files.reduce((bytes, file) => bytes + statSync(file).size, 0);
}

function npm(cwd, ...args) {
  const { status, error, stdout, stderr } = spawnSync('npm', args, { cwd, encoding: 'utf8' });
  if (error) throw error;
  if (status === 0) return stdout;
  console.error(stderr);
  process.exit(1);
}

function format(bytes) {
  return `${Math.round(bytes / 1000)} kB`;
}

function row(...cells) {
  return `| ${cells.join(' | ')} |`;
}

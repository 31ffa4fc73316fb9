import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';

export type Command = [file: string, args: string[]];

/** Whether a process can be kept on one core of this machine. */
export const pins = availableParallelism() > 1 && succeeds('taskset', '-c', '0,1', 'true');

/** Compiles what is in C, and installs the peers unless they are. */
export function prepare(): void {
  installPeers();
  mkdirSync(here('.cache'), { recursive: true });
  for (const source of ['client.c', 'servers/send.c']) {
    const { status } = spawnSync('cc', ['-O3', '-o', binary(source), here(source)], { stdio: 'inherit' });
    if (status !== 0)
      throw new Error(`The bench needs Linux and a C compiler (cc), to compile bench/${source}.`);
  }
}

export function pinned(core: number, [file, args]: Command): Command {
  return pins ? ['taskset', ['-c', String(core), file, ...args]] : [file, args];
}

export function compiled(source: string, args: readonly (string | number)[]): Command {
  return [binary(source), args.map(String)];
}

export function typescript(source: string, args: string[], flags: readonly string[] = []): Command {
  return [process.execPath, [...flags, '--import', import.meta.resolve('tsx'), here(source), ...args]];
}

/** A path of this folder. */
export function here(path: string): string {
  return fileURLToPath(new URL(path, import.meta.url));
}

function binary(source: string): string {
  return here(`.cache/${basename(source, '.c')}`);
}

function installPeers(): void {
  const lock = here('package-lock.json');
  // npm writes it last, and a lock file that is newer names other packages.
  const installed = here('node_modules/.package-lock.json');
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(lock).mtimeMs) return;
  console.error('bench: installing the peers named in bench/package-lock.json (npm ci)');
  const npm = process.env.npm_execpath;
  const [file, ...prefix] = npm ? [process.execPath, npm] : ['npm'];
  const args = [...prefix, 'ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  const { status } = spawnSync(file as string, args, {
    cwd: here('.'),
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (status !== 0) throw new Error('npm ci failed in bench/');
}

function succeeds(file: string, ...args: string[]): boolean {
  return spawnSync(file, args, { stdio: 'ignore' }).status === 0;
}

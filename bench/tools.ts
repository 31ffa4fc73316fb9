import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';

export type Command = [file: string, args: string[]];

/** What this machine has for a bench. */
export interface Tools {
  /** Whether a process can be kept on one core. */
  pins: boolean;
  language: 'C' | 'Node';
  /** How the clients of a round are started. */
  client(args: string[]): Command;
}

/** Builds the client, and installs the peers unless they are. */
export function prepare(): Tools {
  installPeers();
  const pins = availableParallelism() > 1 && succeeds('taskset', '-c', '0,1', 'true');
  const binary = here('.cache/client');
  mkdirSync(here('.cache'), { recursive: true });
  return succeeds('cc', '-O3', '-o', binary, here('client.c'))
    ? { pins, language: 'C', client: (args) => [binary, args] }
    : { pins, language: 'Node', client: (args) => typescript(here('client.ts'), args) };
}

export function pinned({ pins }: Tools, core: number, [file, args]: Command): Command {
  return pins ? ['taskset', ['-c', String(core), file, ...args]] : [file, args];
}

export function typescript(file: string, args: string[], flags: string[] = []): Command {
  return [process.execPath, [...flags, '--import', import.meta.resolve('tsx'), file, ...args]];
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

function here(path: string): string {
  return fileURLToPath(new URL(path, import.meta.url));
}

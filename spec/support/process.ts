import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { cleanup } from './server.js';

/** What a process of its own came to. */
export interface Run {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a script, an ES module of TypeScript, that can import `./lib/index.ts`; waits for it to exit by itself. */
export async function run(script: string): Promise<Run> {
  return execute(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', script]);
}

/** Runs a program; waits for it to exit by itself. */
export async function execute(
  program: string,
  args: readonly string[],
  options: { readonly cwd?: string } = {},
): Promise<Run> {
  const child: ChildProcessByStdio<null, Readable, Readable> = spawn(program, args, {
    ...options,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  cleanup(() => void child.kill('SIGKILL'));
  const result: Run = { code: null, stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text) => {
    result.stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    result.stderr += text;
  });
  [result.code] = (await once(child, 'close')) as [number | null];
  return result;
}

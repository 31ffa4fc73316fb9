// Where the blocks of pages are checked and run: a folder that looks like a project which has the package installed.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Block, ROOT } from './page.js';
import { patiently } from './patience.js';
import type { Order, Report } from './sandbox.js';

const SANDBOX = fileURLToPath(new URL('./sandbox.ts', import.meta.url));
const REPLACED = ['console', 'setInterval', 'setTimeout'];

/** The public names of the package, and the sources that they are built from. */
function publicNames(): Record<string, string[]> {
  const { name, exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const built: [string, string][] = Object.entries(exports).flatMap(([path, target]) => {
    const { import: entry } = target as { import?: { default: string } };
    return entry === undefined ? [] : [[path, entry.default]];
  });
  const sourceOfBuilt = (path: string) => join(ROOT, path.replace('dist/esm', 'lib').replace(/\.js$/, '.ts'));
  return Object.fromEntries(built.map(([path, file]) => [name + path.slice(1), [sourceOfBuilt(file)]]));
}

/** What a project of TypeScript has, as strict as it can be; the package is what stands in lib/, by its public names. */
const TSCONFIG = {
  extends: join(ROOT, 'tsconfig.json'),
  compilerOptions: {
    lib: ['ES2023', 'ES2024.String', 'DOM', 'DOM.Iterable'],
    types: ['node'],
    paths: publicNames(),
    rootDir: '/',
    allowJs: true,
    checkJs: true,
    // A page shows what there is, and need not do anything with it.
    noUnusedLocals: false,
    noUnusedParameters: false,
  },
  // Packages without types of their own.
  include: ['checked', join(ROOT, 'spec/support/*.d.ts')],
};

export class Workshop {
  readonly #folder = mkdtempSync(join(tmpdir(), 'express-comet-docs-'));
  readonly #env: Readonly<Record<string, string>>;
  readonly #blocks = new Map<string, Block>();
  #complaints: Promise<Map<Block, string[]>> | undefined;
  #sandbox: Sandbox | undefined;
  #runs = 0;
  #isClosed = false;

  /** @param env variables of the environment, besides those of this process */
  constructor(blocks: readonly Block[], env: Readonly<Record<string, string>>) {
    this.#env = env;
    // Where the tests are aborted, nobody closes it.
    process.on('exit', this.#remove);
    for (const folder of ['checked', 'run']) mkdirSync(join(this.#folder, folder));
    symlinkSync(join(ROOT, 'node_modules'), join(this.#folder, 'node_modules'));
    writeFileSync(join(this.#folder, 'tsconfig.json'), JSON.stringify(TSCONFIG));
    for (const block of blocks) {
      const name = `checked/${nameOf(block)}`;
      this.#blocks.set(name, block);
      writeFileSync(join(this.#folder, name), sourceOf(block));
    }
  }

  /** What the compiler says against a block. It is asked once, about all of them. */
  async complaints(block: Block): Promise<string[]> {
    this.#complaints ??= this.#compile();
    return (await this.#complaints).get(block) ?? [];
  }

  /** The process in which blocks run, made anew where it has come to an end. */
  sandbox(): Sandbox {
    if (this.#isClosed) throw new Error('The tests are over.');
    if (this.#sandbox === undefined || this.#sandbox.hasEnded)
      this.#sandbox = new Sandbox(this.#folder, this.#env);
    return this.#sandbox;
  }

  /**
   * Runs a block of a server. Resolves when its last line has been evaluated, and what it serves can be reached; rejects
   * with what it threw.
   */
  async run(block: Block, replace: Readonly<Record<string, string>> = {}): Promise<Running> {
    const number = ++this.#runs;
    const path = join(this.#folder, 'run', `${number}-${nameOf(block)}`);
    let source = sourceOf(block);
    for (const [from, to] of Object.entries(replace)) source = source.replaceAll(from, to);
    const own = REPLACED.filter((name) => !new RegExp(`import .*\\b${name}\\b.* from`).test(source));
    // In its first line, which no block begins in: all others keep their places.
    writeFileSync(path, `const { ${own.join(', ')} } = globalThis.surroundings(${number});${source}`);
    return this.sandbox().run(path, number);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#sandbox?.close();
    await this.#complaints?.catch(() => {});
    process.off('exit', this.#remove);
    this.#remove();
  }

  readonly #remove = (): void => {
    rmSync(this.#folder, { recursive: true, force: true });
  };

  async #compile(): Promise<Map<Block, string[]>> {
    const output = await new Promise<string>((resolve, reject) => {
      const tsc = join(ROOT, 'node_modules', '.bin', 'tsc');
      execFile(tsc, ['--noEmit', '--pretty', 'false', '-p', '.'], { cwd: this.#folder }, (error, stdout) => {
        if (error !== null && stdout === '') reject(error);
        else resolve(stdout);
      });
    });
    const complaints = new Map<Block, string[]>();
    let block: Block | undefined;
    for (const line of output.split('\n').filter((each) => each !== '')) {
      const [, file, at, message] = /^(\S+?)\((\d+),\d+\): (.*)$/.exec(line) ?? [];
      if (file !== undefined) block = this.#blocks.get(file);
      if (block === undefined) throw new Error(`Not even the package compiles: ${line}`);
      // JavaScript can't say what a parameter is.
      if (block.language === 'js' && /error TS70\d\d/.test(message ?? '')) continue;
      const complaint = file === undefined ? line : `${block.page}:${at}: ${message}`;
      complaints.set(block, [...(complaints.get(block) ?? []), complaint]);
    }
    return complaints;
  }
}

/** A block that runs. */
export interface Running {
  /** Where what listens on a port can be reached. */
  readonly ports: Readonly<Record<string, number>>;
  /** What it has printed. */
  readonly printed: readonly string[];
  /** Waits until that holds, for as long as anybody would; says whether it does. */
  until(holds: () => boolean): Promise<boolean>;
}

class Sandbox {
  /** What went wrong without a block that could be told. */
  readonly faults: string[] = [];
  readonly #process: ChildProcess;
  readonly #told = new EventEmitter().setMaxListeners(0);
  readonly #printed = new Map<number, string[]>();
  #answers = 0;
  readonly #done = new Map<number, { error: string | undefined; ports: Record<string, number> }>();

  constructor(folder: string, env: Readonly<Record<string, string>>) {
    this.#process = spawn(process.execPath, ['--no-warnings', '--import', 'tsx', SANDBOX], {
      cwd: folder,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    process.on('exit', this.#kill);
    this.#process.on('message', (report: Report) => {
      if ('fault' in report) this.faults.push(report.fault);
      else if ('printed' in report) this.#printedBy(report.block).push(report.printed);
      else this.#done.set(report.done, report);
      this.#told.emit('report');
    });
    this.#process.on('exit', () => {
      process.off('exit', this.#kill);
      this.#told.emit('report');
    });
  }

  get hasEnded(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null;
  }

  begin(): void {
    this.#order({ begin: true });
  }

  /** Resolves when all has been told that has gone wrong so far. */
  async settle(): Promise<void> {
    const answer = --this.#answers;
    this.#order({ answer });
    await this.#until(() => this.#done.has(answer) || this.hasEnded);
  }

  async run(path: string, block: number): Promise<Running> {
    const printed = this.#printedBy(block);
    this.#order({ run: path, block });
    if (!(await this.#until(() => this.#done.has(block) || this.hasEnded)))
      throw new Error('It comes to no end.');
    const done = this.#done.get(block);
    if (done === undefined) throw new Error('It has ended the process.');
    if (done.error !== undefined) throw new Error(done.error);
    return { ports: done.ports, printed, until: (holds) => this.#until(holds) };
  }

  #until(holds: () => boolean): Promise<boolean> {
    return patiently(this.#told, 'report', holds);
  }

  async close(): Promise<void> {
    if (this.hasEnded) return;
    const gone = once(this.#process, 'exit');
    this.#kill();
    await gone;
  }

  #printedBy(block: number): string[] {
    const printed = this.#printed.get(block) ?? [];
    this.#printed.set(block, printed);
    return printed;
  }

  #order(order: Order): void {
    this.#process.send(order);
  }

  readonly #kill = (): void => {
    this.#process.kill('SIGKILL');
  };
}

/** A module of its own, of a page and a line. */
function nameOf({ page, line, language }: Block): string {
  return `${page.replaceAll('/', '-').replace(/\.md$/, '')}-${line}.m${language}`;
}

/** The lines of the page, as far as they are code: each where it stands there. */
function sourceOf({ line, code, around }: Block): string {
  const lines: string[] = Array(line - 1).fill('');
  for (const [index, each] of around.before.entries()) lines[around.line - 1 + index] = each;
  return [...lines, code, ...around.after, ''].join('\n');
}

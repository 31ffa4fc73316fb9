import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Command, Note, Report } from './messages.js';

const NODE = fileURLToPath(new URL('./node.ts', import.meta.url));
const FOREIGN = fileURLToPath(new URL('./foreign.ts', import.meta.url));

/** What processes tell the machine. */
export interface Ear {
  notes(node: string, notes: readonly Note[]): void;
  /** A node has done what none may. */
  wrong(text: string): void;
  /** Redis has the end of a channel that was ordered by this number. */
  ended(order: number, at: number): void;
  changed(): void;
}

/** A process that is a node, or will be one. */
export class Occupant {
  readonly child: ChildProcess;
  /** Its exit code, once it has exited; `null` where it was killed. */
  readonly exit: Promise<number | null>;
  port = 0;
  /** Listeners, as it has told last. */
  listeners = 0;
  /** Bytes of its heap when it was first calm. */
  heap: number | undefined;
  /** The answer that came last. */
  answer: Extract<Report, { kind: 'calm' | 'marked' }> | undefined;
  /** It is to end. */
  isDoomed = false;
  // What it is told before it can hear; undefined from then on.
  #untold: Command[] | undefined = [];

  constructor(
    readonly name: string,
    readonly ear: Ear,
    script = NODE,
    args: readonly string[] = [],
  ) {
    this.child = fork(script, args, {
      execArgv: ['--import', 'tsx', '--expose-gc'],
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    this.child.on('message', (report: Report) => this.#hear(report));
    this.exit = once(this.child, 'exit').then(([code]) => code as number | null);
    this.child.on('exit', (code, signal) => {
      if (!this.isDoomed) ear.wrong(`${name} exited with ${code ?? signal}`);
    });
    for (const output of [this.child.stdout, this.child.stderr]) {
      output?.setEncoding('utf8').on('data', (text) => ear.wrong(`${name} printed ${text}`));
    }
  }

  /** Another environment on the same Redis. */
  static foreign(ear: Ear, redis: number, seed: number): Occupant {
    return new Occupant('foreign', ear, FOREIGN, [String(redis), String(seed)]);
  }

  tell(command: Command): void {
    this.answer = undefined;
    if (this.#untold !== undefined) {
      this.#untold.push(command);
      return;
    }
    // One that was killed a moment ago hears nothing.
    if (this.child.connected) this.child.send(command, () => {});
  }

  kill(): void {
    this.isDoomed = true;
    this.child.kill('SIGKILL');
  }

  #hear(report: Report): void {
    if (report.kind === 'notes') this.ear.notes(this.name, report.notes);
    else if (report.kind === 'up') this.port = report.port;
    else if (report.kind === 'listeners') this.listeners = report.count;
    else if (report.kind === 'ended') this.ear.ended(report.order, report.at);
    else if (report.kind === 'calm' || report.kind === 'marked') this.answer = report;
    else {
      const untold = this.#untold ?? [];
      this.#untold = undefined;
      for (const command of untold) this.tell(command);
    }
    this.ear.changed();
  }
}

import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { TcpProxy } from '../support/proxy.js';
import type { Address } from './client.js';
import type { Command, Note, Pace, Report } from './messages.js';

const SCRIPT = fileURLToPath(new URL('./node.ts', import.meta.url));

/** What a seat tells the machine. */
export interface Ear {
  notes(node: string, notes: readonly Note[]): void;
  /** A node has done what none may. */
  wrong(text: string): void;
  changed(): void;
}

/** A process that is a node, or will be one. */
class Occupant {
  readonly child: ChildProcess;
  port = 0;
  /** Listeners, as it has told last. */
  listeners = 0;
  /** Bytes of its heap when it was first calm. */
  heap: number | undefined;
  /** The answer that came last. */
  answer: Extract<Report, { kind: 'calm' | 'marked' }> | undefined;
  isDoomed = false;
  // What it is told before it can hear; undefined from then on.
  #untold: Command[] | undefined = [];

  constructor(
    readonly name: string,
    readonly ear: Ear,
  ) {
    this.child = fork(SCRIPT, {
      execArgv: ['--import', 'tsx', '--expose-gc'],
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    this.child.on('message', (report: Report) => this.#hear(report));
    this.child.on('exit', (code, signal) => {
      if (!this.isDoomed) ear.wrong(`${name} exited with ${code ?? signal}`);
    });
    for (const output of [this.child.stdout, this.child.stderr]) {
      output?.setEncoding('utf8').on('data', (text) => ear.wrong(`${name} printed ${text}`));
    }
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
    else if (report.kind !== 'ready') this.answer = report;
    else {
      const untold = this.#untold ?? [];
      this.#untold = undefined;
      for (const command of untold) this.tell(command);
    }
    this.ear.changed();
  }
}

/** The place of a node in the cluster, with the network before its Redis; one process after the other sits there. */
export class Seat {
  readonly #ear: Ear;
  #lives = 0;
  #present: Occupant;
  // It takes a while until a process runs: where one will be killed, the next one is waiting.
  #next: Occupant | undefined;

  constructor(
    readonly index: number,
    readonly proxy: TcpProxy,
    ear: Ear,
  ) {
    this.#ear = ear;
    this.#present = this.#fork();
  }

  get address(): Address {
    const { name, port } = this.#present;
    return { name, port };
  }

  get listeners(): number {
    return this.#present.listeners;
  }

  get answer(): Occupant['answer'] {
    return this.#present.answer;
  }

  /** Bytes by which its heap has grown since it was first calm. */
  get growth(): number {
    const { answer } = this.#present;
    if (answer?.kind !== 'calm') return 0;
    this.#present.heap ??= answer.heap;
    return answer.heap - this.#present.heap;
  }

  start(pace: Pace | undefined): void {
    this.#present.tell({ do: 'start', name: this.#present.name, redis: this.proxy.port });
    if (pace !== undefined) this.tell({ do: 'write', pace });
  }

  tell(command: Command): void {
    this.#present.tell(command);
  }

  /** This one will be killed. */
  prepare(): void {
    this.#next ??= this.#fork();
  }

  kill(): void {
    this.#present.kill();
  }

  /** Another process takes the seat of the one that was killed. */
  replace(pace: Pace): void {
    this.#present = this.#next ?? this.#fork();
    this.#next = undefined;
    this.start(pace);
  }

  stop(): void {
    this.#present.child.kill('SIGSTOP');
  }

  resume(): void {
    this.#present.child.kill('SIGCONT');
  }

  close(): void {
    for (const occupant of [this.#present, this.#next]) occupant?.kill();
  }

  #fork(): Occupant {
    this.#lives += 1;
    return new Occupant(`node${this.index}.${this.#lives}`, this.#ear);
  }
}

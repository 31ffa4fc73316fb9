import type { TcpProxy } from '../support/proxy.js';
import type { Address } from './client.js';
import { CHANNEL_NAMES, type Command, LONE, type Pace } from './messages.js';
import { type Ear, Occupant } from './occupant.js';

/** The place of a node in the cluster, with the network before its Redis; one process after the other sits there. */
export class Seat {
  readonly #ear: Ear;
  #lives = 0;
  #present: Occupant;
  // It takes a while until a process runs: where one will end, the next one is waiting.
  #next: Occupant | undefined;

  constructor(
    readonly index: number,
    readonly proxy: TcpProxy,
    readonly lease: number,
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
    const opens = this.index === 0 ? [...CHANNEL_NAMES, LONE] : CHANNEL_NAMES;
    this.tell({ do: 'start', name: this.#present.name, redis: this.proxy.port, lease: this.lease, opens });
    if (pace !== undefined) this.tell({ do: 'write', pace });
  }

  tell(command: Command): void {
    this.#present.tell(command);
  }

  /** The process that sits there will end. */
  prepare(): void {
    this.#next ??= this.#fork();
  }

  kill(): void {
    this.#present.kill();
  }

  /** Another process takes the seat of the one that has ended, or is about to. Returns that one. */
  replace(pace: Pace): Occupant {
    const before = this.#present;
    before.isDoomed = true;
    this.#present = this.#next ?? this.#fork();
    this.#next = undefined;
    this.start(pace);
    return before;
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

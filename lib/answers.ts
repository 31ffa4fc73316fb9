import type { Asker } from './backplane.js';
import { type NodeOutcome, Tally } from './outcome.js';
import { Poll } from './poll.js';

/** Listeners of a channel on all nodes. */
export interface ListenerCount {
  /** Of all nodes that answered. */
  readonly listeners: number;
  /** Of each of them, by its name. */
  readonly nodes: Readonly<Record<string, number>>;
  /** Nodes that are alive, as far as is known, and did not answer in time. */
  readonly silent: readonly string[];
}

/** The node that asks and answers, as far as that concerns its questions. */
export interface Respondent {
  readonly id: string;
  /** Milliseconds that other nodes have for an answer. */
  readonly deadline: number;
  tell(node: string | null, word: Word): void;
  listenersOf(chanId: string): number;
}

/** What nodes tell each other. */
export type Word =
  | { readonly kind: 'outcomes'; readonly node: string; readonly outcomes: readonly [number, NodeOutcome][] }
  | { readonly kind: 'count'; readonly node: string; readonly question: number; readonly chanId: string }
  | {
      readonly kind: 'counted';
      readonly node: string;
      readonly question: number;
      readonly listeners: number;
    };

interface Owed {
  readonly asker: Asker;
  readonly tally: Tally;
  readonly until: number;
}

/** What nodes ask each other, and owe each other: what became of a write, and how many listeners there are. */
export class Answers {
  readonly #node: Respondent;
  readonly #outcomes = new Map<number, Poll<NodeOutcome>>();
  readonly #counts = new Map<number, Poll<number>>();
  readonly #owed = new Set<Owed>();
  #questions = 0;
  // What is to be told at the end of this turn, by node: the answers of one turn go out as one.
  readonly #letters = new Map<string, [number, NodeOutcome][]>();

  constructor(node: Respondent) {
    this.#node = node;
  }

  /** Whether time can change anything. */
  get isQuiet(): boolean {
    return this.#outcomes.size === 0 && this.#counts.size === 0 && this.#owed.size === 0;
  }

  /** Awaits the outcome of a write of this node. */
  await(write: number, poll: Poll<NodeOutcome>): void {
    this.#outcomes.set(write, poll);
  }

  /** The write was accepted, and these nodes take it. */
  expect(write: number, nodes: ReadonlyMap<string, number>): void {
    this.#outcomes.get(write)?.expect(nodes, performance.now() + this.#node.deadline);
  }

  /** The write was not accepted: nobody else will answer. */
  settle(write: number, outcome: NodeOutcome): void {
    // Never inside the write itself.
    queueMicrotask(() => {
      this.expect(write, new Map([[this.#node.id, 0]]));
      this.#outcomes.get(write)?.answer(this.#node.id, outcome);
    });
  }

  /** The outcome of a write of this node has been settled. */
  forget(write: number): void {
    this.#outcomes.delete(write);
  }

  /** The tally of a write, for whoever made it. */
  tally({ node, number }: Asker, seq: number, listeners: number): Tally {
    if (node === this.#node.id) {
      return new Tally(seq, listeners, (outcome) => this.#outcomes.get(number)?.answer(node, outcome));
    }
    // Before the asker's patience ends it is told what is known by then: one slow client must not make a whole node silent.
    const until = performance.now() + this.#node.deadline * 0.75;
    const tally = new Tally(seq, listeners, (outcome) => {
      if (this.#owed.delete(owed)) this.#give(owed.asker, outcome);
    });
    const owed: Owed = { asker: { node, number }, tally, until };
    this.#owed.add(owed);
    return tally;
  }

  /** Counts the listeners of a channel on these nodes. */
  count(chanId: string, nodes: readonly string[]): Promise<ListenerCount> {
    const question = ++this.#questions;
    const { id, deadline } = this.#node;
    return new Promise((resolve) => {
      const poll = new Poll<number>(({ answers, silent }) => {
        this.#counts.delete(question);
        const listeners = [...answers.values()].reduce((sum, count) => sum + count, 0);
        resolve({ listeners, nodes: Object.fromEntries(answers), silent: [...silent.keys()] });
      });
      this.#counts.set(question, poll);
      poll.answer(id, this.#node.listenersOf(chanId));
      poll.expect(new Map(nodes.map((node) => [node, 0])), performance.now() + deadline);
      if (this.#counts.has(question)) this.#node.tell(null, { kind: 'count', node: id, question, chanId });
    });
  }

  hear(word: Word): void {
    const { id } = this.#node;
    if (word.node === id) return;
    if (word.kind === 'outcomes') {
      for (const [write, outcome] of word.outcomes) this.#outcomes.get(write)?.answer(word.node, outcome);
    } else if (word.kind === 'count') {
      const listeners = this.#node.listenersOf(word.chanId);
      this.#node.tell(word.node, { kind: 'counted', node: id, question: word.question, listeners });
    } else if (word.kind === 'counted') this.#counts.get(word.question)?.answer(word.node, word.listeners);
  }

  /** Time has passed, to `now` in milliseconds of `performance.now()`. */
  expire(now: number): void {
    for (const owed of this.#owed) {
      if (now < owed.until) break;
      this.#owed.delete(owed);
      this.#give(owed.asker, owed.tally.outcomeSoFar);
    }
    for (const poll of this.#outcomes.values()) poll.expire(now, this.#node.id);
    for (const poll of this.#counts.values()) poll.expire(now, this.#node.id);
  }

  #give({ node, number }: Asker, outcome: NodeOutcome): void {
    const letter = this.#letters.get(node);
    if (letter !== undefined) {
      letter.push([number, outcome]);
      return;
    }
    this.#letters.set(node, [[number, outcome]]);
    setImmediate(() => {
      const outcomes = this.#letters.get(node) ?? [];
      this.#letters.delete(node);
      this.#node.tell(node, { kind: 'outcomes', node: this.#node.id, outcomes });
    });
  }
}

/** Reads what another node told; `undefined` for what is none of ours, or of a version to come. */
export function parseWord(text: string): Word | undefined {
  try {
    const word: Word | null = JSON.parse(text);
    return typeof word?.node === 'string' && typeof word.kind === 'string' ? word : undefined;
  } catch {
    return undefined;
  }
}

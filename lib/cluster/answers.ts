import type { Asker } from '../core/backplane.js';
import { MalformedMessageError } from '../core/errors.js';
import { type NodeOutcome, Tally } from '../core/outcome.js';
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

// In the place of a name, for the nodes that nobody told of: no node's name has a space.
const ELSEWHERE = 'other nodes';
const NOBODY: NodeOutcome = {
  status: 'success',
  listeners: 0,
  delivered: 0,
  failed: 0,
  unknown: 0,
  reasons: {},
};

/** What nodes ask each other, and owe each other: what became of a write, and how many listeners there are. */
export class Answers {
  readonly #node: Respondent;
  readonly #outcomes = new Map<number, Poll<NodeOutcome>>();
  readonly #counts = new Map<number, Poll<number>>();
  // Writes of this node that have come back to it.
  readonly #taken = new Set<number>();
  readonly #owed = new Set<Owed>();
  #settled: (() => void)[] = [];
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
    const expect = () => this.#outcomes.get(write)?.expect(nodes, performance.now() + this.#node.deadline);
    // Never inside the write itself; and a loop that awaits writes to nobody lets the event loop go round.
    if (nodes.size === 0) setImmediate(expect);
    else expect();
  }

  /**
   * The write was refused: it has not happened, or nobody knows. Listeners of other nodes can't be counted then, nor is
   * it known that there was none.
   * @param outcome its outcome on this node
   */
  giveUp(write: number, outcome: NodeOutcome): void {
    // Never inside the write itself; and a loop that awaits writes which are refused lets the event loop go round.
    setImmediate(() => {
      const { id } = this.#node;
      const poll = this.#outcomes.get(write);
      if (poll === undefined) return;
      // What has come here has happened; but who else took it was not told.
      const nodes = this.#taken.has(write) ? [id, ELSEWHERE] : [id];
      if (nodes.length === 1) poll.answer(id, outcome);
      poll.expect(new Map(nodes.map((node) => [node, 0])), 0);
    });
  }

  /** Nobody listens here to what was written. */
  disclaim({ node, number }: Asker): void {
    if (node === this.#node.id) this.#outcomes.get(number)?.answer(node, NOBODY);
    else this.#give({ node, number }, NOBODY);
  }

  /** Whether a write of this node has come back to it. */
  hasTaken(write: number): boolean {
    return this.#taken.has(write);
  }

  /** The outcome of a write of this node has been settled. */
  forget(write: number): void {
    this.#outcomes.delete(write);
    this.#taken.delete(write);
    if (this.#outcomes.size === 0) for (const resolve of this.#settled.splice(0)) resolve();
  }

  /** Resolves when every outcome has been settled. */
  async quiet(): Promise<void> {
    if (this.#outcomes.size > 0) await new Promise<void>((resolve) => this.#settled.push(resolve));
  }

  /** The tally of a write, for whoever made it. */
  tally({ node, number }: Asker, seq: number, listeners: number): Tally {
    if (node === this.#node.id) {
      // It may have been settled before.
      if (this.#outcomes.has(number)) this.#taken.add(number);
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
    const { id } = this.#node;
    // What has come here will be answered for here, however long a client is blocked; what has not may never come.
    for (const [write, poll] of this.#outcomes) poll.expire(now, this.#taken.has(write) ? id : undefined);
    for (const poll of this.#counts.values()) poll.expire(now, undefined);
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

/**
 * Reads what another node told.
 * @returns `undefined` for a kind that is not known here
 * @throws MalformedMessageError
 */
export function parseWord(text: string): Word | undefined {
  const where = 'A message of another node';
  let word: unknown;
  try {
    word = JSON.parse(text);
  } catch {
    throw new MalformedMessageError(where, 'it is no JSON');
  }
  if (!isObject(word) || typeof word.kind !== 'string')
    throw new MalformedMessageError(where, 'it is of no kind');
  const { kind, node, question, chanId, listeners, outcomes } = word;
  if (kind !== 'outcomes' && kind !== 'count' && kind !== 'counted') return undefined;
  const isWord =
    (kind === 'outcomes' && Array.isArray(outcomes) && outcomes.every(isAnswer)) ||
    (kind === 'count' && isCount(question) && typeof chanId === 'string') ||
    (kind === 'counted' && isCount(question) && isCount(listeners));
  if (!isWord || typeof node !== 'string') throw new MalformedMessageError(where, `it is no ${kind}`);
  return word as unknown as Word;
}

function isAnswer(answer: unknown): boolean {
  if (!Array.isArray(answer) || !isCount(answer[0]) || !isObject(answer[1])) return false;
  const { listeners, delivered, failed, unknown, reasons } = answer[1];
  return (
    [listeners, delivered, failed, unknown].every(isCount) &&
    isObject(reasons) &&
    Object.values(reasons).every(isCount)
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

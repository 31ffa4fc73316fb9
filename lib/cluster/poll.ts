import type { FailureReason, NodeOutcome, Outcome } from '../core/outcome.js';

const NOBODY: ReadonlyMap<string, number> = new Map();

/** Collects the answers of nodes, until all that are expected have come, or the deadline has. */
export class Poll<Answer> {
  readonly answers = new Map<string, Answer>();
  /** The nodes that did not answer in time, and how many listeners each was last known to have. */
  silent = NOBODY;
  readonly #settled: (poll: Poll<Answer>) => void;
  // Those who answer; undefined while that is not known, and once it is settled.
  #expected: ReadonlyMap<string, number> | undefined;
  #expires = Infinity;

  constructor(settled: (poll: Poll<Answer>) => void) {
    this.#settled = settled;
  }

  /**
   * Says who will answer.
   * @param expires when those who have not are silent, in milliseconds of `performance.now()`
   */
  expect(nodes: ReadonlyMap<string, number>, expires: number): void {
    this.#expires = expires;
    this.#expected = nodes;
    this.#settleIfComplete();
  }

  answer(node: string, answer: Answer): void {
    this.answers.set(node, answer);
    this.#settleIfComplete();
  }

  /** Waits no longer, but for the node that is known to answer. */
  expire(now: number, sure: string | undefined): void {
    if (now < this.#expires) return;
    const missing = [...(this.#expected ?? NOBODY)].filter(([node]) => !this.answers.has(node));
    this.silent = new Map(missing.filter(([node]) => node !== sure));
    this.#settleIfComplete();
  }

  #settleIfComplete(): void {
    if (this.#expected === undefined) return;
    for (const node of this.#expected.keys()) {
      if (!this.answers.has(node) && !this.silent.has(node)) return;
    }
    this.#expected = undefined;
    this.#settled(this);
  }
}

/** The outcome of one write, of what became of it on each node. */
export function outcomeOf({ answers, silent }: Poll<NodeOutcome>, perNode: boolean): Outcome {
  const [only] = answers.values();
  if (only !== undefined && answers.size === 1 && silent.size === 0 && !perNode) return only;
  const all = new Map(answers);
  // A node that was subscribed had a listener, or had one a moment before.
  for (const [node, listeners] of silent) all.set(node, unknownOf(Math.max(listeners, 1)));

  const sum = { listeners: 0, delivered: 0, failed: 0, unknown: 0 };
  const reasons: Record<string, number> = {};
  for (const outcome of all.values()) {
    for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += outcome[key];
    for (const [reason, count] of Object.entries(outcome.reasons)) {
      reasons[reason] = (reasons[reason] ?? 0) + count;
    }
  }
  const status = sum.delivered === sum.listeners ? 'success' : 'failure';
  return { status, ...sum, reasons, ...(perNode && { perNode: Object.fromEntries(all) }) };
}

/** That of a write of which nobody knows what became. */
export function unknownOf(listeners: number): NodeOutcome {
  return { status: 'failure', listeners, delivered: 0, failed: 0, unknown: listeners, reasons: {} };
}

/** That of a write which was never accepted. */
export function refusedOf(listeners: number, reason: FailureReason): NodeOutcome {
  return {
    status: 'failure',
    listeners,
    delivered: 0,
    failed: listeners,
    unknown: 0,
    reasons: { [reason]: listeners },
  };
}

/**
 * Why a write failed on a stream: it ended first (`closed`), broke (`error`), fell off the log (`overrun`),
 * stayed blocked for too long (`stalled`), acknowledged nothing for too long (`vanished`), or was closed by
 * `deactivate()` (`deactivated`). Or the write was never accepted, because its channel had `ended` or by the `backplane`:
 * then it counts for each listener of this node, and for one where it has none, because the listeners of other nodes are
 * not known.
 */
export type FailureReason =
  | 'closed'
  | 'error'
  | 'overrun'
  | 'stalled'
  | 'vanished'
  | 'deactivated'
  | 'ended'
  | 'backplane';

/**
 * What became of one write. `listeners` are the streams that were registered when it was made, and
 * `delivered + failed + unknown === listeners`.
 *
 * Delivered means: every byte of the frame was accepted by the operating system on a connection that was alive
 * at that moment. It does not mean that the browser has read it.
 */
export interface Outcome {
  /** `success` exactly when `delivered === listeners`; a write to nobody succeeds, with 0 of 0. */
  readonly status: 'success' | 'failure';
  /** Streams that were registered when the write was made. */
  readonly listeners: number;
  /** Those of them for which the operating system took every byte. */
  readonly delivered: number;
  /** Those of them for which it did not. */
  readonly failed: number;
  /**
   * What nobody can know: a stream whose bytes a middleware holds back, as a compressor does; a node that did not answer in time (as many as it was last
   * known to have, one at the least). Never counted as delivered.
   */
  readonly unknown: number;
  /** `failed`, by reason; a reason that did not occur is absent. */
  readonly reasons: Readonly<Partial<Record<FailureReason, number>>>;
  /** The same of each node, by its name; where that was asked for. */
  readonly perNode?: Readonly<Record<string, NodeOutcome>>;
}

/** What became of one write on the listeners of one node. */
export type NodeOutcome = Omit<Outcome, 'perNode'>;

/** A promise, and the power to settle it: `channel.write(data, { outcome: new Deferred<Outcome>() })`. */
export class Deferred<T> {
  /** Settles as `resolve` or `reject` says, the first time that either is called. */
  readonly promise: Promise<T>;
  /** Fulfils the promise. */
  resolve!: (value: T) => void;
  /** Rejects it. */
  reject!: (reason?: unknown) => void;

  /** Makes a promise that is not settled. */
  constructor() {
    this.promise = new Promise<T>((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }
}

/** What a tally counts a stream as. */
export type Verdict = 'delivered' | 'unknown' | FailureReason;

/**
 * Counts one write's streams until each has been counted once. It knows the write by its `seq` only: were it to
 * hold the frame, stalled readers would keep every frame alive.
 */
export class Tally {
  #delivered = 0;
  #unknown = 0;
  #failed = 0;
  readonly #reasons: Partial<Record<FailureReason, number>> = {};
  // Streams that were counted while others of theirs were still to come. Rare: only a jump (lag: 'latest') does it.
  #counted: Set<object> | undefined;

  constructor(
    readonly seq: number,
    readonly listeners: number,
    readonly settled: (outcome: NodeOutcome) => void,
  ) {}

  /** Whether every stream has been counted. */
  get complete(): boolean {
    return this.#delivered + this.#unknown + this.#failed === this.listeners;
  }

  /** Counts `streams` of them as delivered. */
  credit(streams: number): void {
    this.#delivered += streams;
  }

  count(verdict: Verdict, stream: object): void {
    if (this.#counted?.has(stream)) return;
    if (verdict === 'delivered') this.#delivered += 1;
    else if (verdict === 'unknown') this.#unknown += 1;
    else {
      this.#failed += 1;
      this.#reasons[verdict] = (this.#reasons[verdict] ?? 0) + 1;
    }
  }

  /** As `count`, for a stream that goes on and whose later deliveries are not to count it again. */
  countOnce(verdict: Verdict, stream: object): void {
    this.count(verdict, stream);
    this.exempt(stream);
  }

  /** Does not count this stream any more, or at all. */
  exempt(stream: object): void {
    this.#counted ??= new Set();
    this.#counted.add(stream);
  }

  /** The outcome if it were settled now: of those that are still to be counted nothing is known. */
  get outcomeSoFar(): NodeOutcome {
    const { outcome, listeners } = this;
    const unknown = listeners - outcome.delivered - outcome.failed;
    return { ...outcome, unknown, reasons: { ...outcome.reasons } };
  }

  get outcome(): NodeOutcome {
    return {
      status: this.#delivered === this.listeners ? 'success' : 'failure',
      listeners: this.listeners,
      delivered: this.#delivered,
      failed: this.#failed,
      unknown: this.#unknown,
      reasons: this.#reasons,
    };
  }
}

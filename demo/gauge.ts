import type { Comet, CometEvents, FailureReason } from 'express-comet';

/** What became of the writes that settled within one second. Times in milliseconds, `null` where none settled. */
export interface Second {
  readonly delivered: number;
  readonly failed: number;
  /** Median of the time from a write to its outcome. */
  readonly p50: number | null;
  /** 99th percentile of it. */
  readonly p99: number | null;
}

/** Since the server started. */
export interface Totals {
  readonly delivered: number;
  readonly failed: number;
  readonly unknown: number;
  readonly reasons: Readonly<Partial<Record<FailureReason, number>>>;
}

/** Adds up what `on('outcome')` tells. */
export class Gauge {
  readonly #reasons: Partial<Record<FailureReason, number>> = {};
  #delivered = 0;
  #failed = 0;
  #unknown = 0;
  #before = { delivered: 0, failed: 0 };
  #times: number[] = [];

  watch(push: Comet): void {
    push.on('outcome', (event) => this.#add(event));
  }

  get totals(): Totals {
    return {
      delivered: this.#delivered,
      failed: this.#failed,
      unknown: this.#unknown,
      reasons: { ...this.#reasons },
    };
  }

  /** What came since it was last asked. */
  second(): Second {
    const times = this.#times.sort((a, b) => a - b);
    const second = {
      delivered: this.#delivered - this.#before.delivered,
      failed: this.#failed - this.#before.failed,
      p50: quantile(times, 0.5),
      p99: quantile(times, 0.99),
    };
    this.#before = { delivered: this.#delivered, failed: this.#failed };
    this.#times = [];
    return second;
  }

  #add({ elapsed, outcome }: CometEvents['outcome']): void {
    const { delivered, failed, unknown, reasons } = outcome;
    this.#delivered += delivered;
    this.#failed += failed;
    this.#unknown += unknown;
    for (const [reason, count] of Object.entries(reasons) as [FailureReason, number][]) {
      this.#reasons[reason] = (this.#reasons[reason] ?? 0) + count;
    }
    this.#times.push(elapsed);
  }
}

function quantile(sorted: readonly number[], share: number): number | null {
  const value = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  return value === undefined ? null : Math.round(value * 1000) / 1000;
}

import type { Happened } from '../../lib/index.js';
import type { NodeOutcome, Outcome } from './messages.js';
import type { Stream } from './stream.js';
import type { Troubles } from './troubles.js';

/** One write, as the process that made it has told of it. */
export interface Written {
  readonly token: string;
  readonly node: string;
  readonly channel: string;
  readonly at: number;
  readonly asks: boolean;
  happened: Exclude<Happened, 'no'> | undefined;
  droppedAt: number | undefined;
  cause: string | undefined;
  settledAt: number | undefined;
  outcome: Outcome | undefined;
}

/** What an outcome is judged by. */
export interface Evidence {
  readonly streams: readonly Stream[];
  /** The processes that were alive at the end, if it came to one. */
  readonly living: ReadonlySet<string>;
  /** When the cycles began: the cluster was healed then. */
  readonly began: readonly number[];
  readonly troubles: Troubles;
  readonly lease: number;
  /** The listeners that were dismissed right behind a write. */
  readonly dismissed: ReadonlyMap<string, ReadonlySet<string>>;
}

/** Judges outcomes by what streams heard. */
export class Outcomes {
  readonly #evidence: Evidence;
  // By token: the streams on which it was heard; and when, if it was heard live.
  readonly #heard = new Map<string, Map<Stream, number | undefined>>();

  constructor(evidence: Evidence) {
    this.#evidence = evidence;
    for (const stream of evidence.streams) {
      for (const step of stream.steps) {
        if (step.is !== 'event') continue;
        const by = this.#heard.get(step.token) ?? new Map<Stream, number | undefined>();
        this.#heard.set(step.token, by.set(stream, step.place && step.at));
      }
    }
  }

  /** What is wrong with the outcome of a write. */
  faultsOf(written: Written): readonly string[] {
    const { token, node, channel, asks, outcome } = written;
    const faults = this.#ofDrop(written);
    if (!asks) return faults;
    if (outcome === undefined) {
      // What a process that was killed still had to say, nobody knows.
      return this.#evidence.living.has(node) ? [...faults, `UNSETTLED: ${token}`] : faults;
    }
    const says = `${token} on ${channel}, says ${JSON.stringify(outcome)}`;
    return [
      ...faults,
      ...this.#ofRefusal(written, outcome, says),
      ...this.#ofDelivered(written, outcome, says),
      ...this.#ofSuccess(written, outcome, says),
      ...this.#ofListeners(written, outcome, says),
    ];
  }

  /** What Redis refused, because it was a replica, was not taken. */
  #ofDrop({ token, node, at, happened, cause, droppedAt = 0 }: Written): readonly string[] {
    if (happened !== 'unknown') return [];
    const demotion = this.#evidence.troubles
      .called('demote')
      .find((one) => one.from < at && one.to > droppedAt);
    if (demotion === undefined || this.#evidence.troubles.of(node, at, droppedAt).length > 1) return [];
    return [`UNKNOWN: ${token} was refused for as long as it waited, and was dropped as unknown: ${cause}`];
  }

  #ofRefusal({ happened }: Written, outcome: Outcome, says: string): readonly string[] {
    const isRefused = outcome.reasons.backplane !== undefined || outcome.reasons.ended !== undefined;
    const isPartial = happened === 'unknown' && outcome.unknown === 0;
    if (isRefused === (happened === 'never') && !isPartial && !(isRefused && outcome.delivered > 0))
      return [];
    return [`FALSE OUTCOME: ${says}, and was dropped as ${happened}`];
  }

  #ofDelivered(written: Written, outcome: Outcome, says: string): readonly string[] {
    const { token, channel, at, settledAt = Infinity } = written;
    const by = this.#heard.get(token) ?? new Map();
    const { streams, began } = this.#evidence;
    // What the kernel took, a stream that broke has lost. A node that was stopped finds what clients have left only after
    // what has come from Redis meanwhile: at the beginning of a cycle it knew of everybody.
    const healed = Math.max(...began.filter((begin) => begin <= at));
    const broken = streams.filter((stream) => {
      const wasThere = stream.channels.includes(channel) && stream.askedAt <= settledAt;
      return wasThere && !stream.isWhole && (stream.endedAt ?? 0) >= healed && !by.has(stream);
    });
    const faults: string[] = [];
    if (outcome.delivered > by.size + broken.length) {
      faults.push(`FALSE DELIVERED: ${says}; heard by ${by.size}, ${broken.length} broke`);
    }
    for (const [name, { delivered }] of Object.entries(outcome.perNode ?? {})) {
      const isThere = (stream: Stream) => name.startsWith(`${stream.node}-`);
      const most = [...by.keys()].filter(isThere).length + broken.filter(isThere).length;
      if (delivered > most) faults.push(`FALSE DELIVERED: ${says}; on ${name} for ${most} at most`);
    }
    return faults;
  }

  #ofSuccess(written: Written, outcome: Outcome, says: string): readonly string[] {
    const { token, channel, at, settledAt = Infinity } = written;
    if (outcome.status !== 'success') return [];
    const by = this.#heard.get(token);
    return this.#evidence.streams
      .filter(
        ({ lost, isWhole, endedAt = Infinity }) => !lost.has(channel) && (endedAt === Infinity || isWhole),
      )
      .filter((stream) => stream.hasCarried(channel, at, settledAt))
      .filter((stream) => (stream.endedAt ?? Infinity) > settledAt && !by?.has(stream))
      .filter(({ node }) => !this.#wasDead(node, written))
      .map(({ node }) => `FALSE SUCCESS: ${says}; a client on ${node} was there and did not hear it`);
  }

  /** Streams that carried the channel before the write, and heard it, are counted. */
  #ofListeners(written: Written, outcome: Outcome, says: string): readonly string[] {
    const { token, node, channel, at } = written;
    const by = this.#heard.get(token) ?? new Map<Stream, number | undefined>();
    const heard = [...by].flatMap(([stream, when]) => {
      return when !== undefined && stream.hasCarried(channel, at, when) ? [stream] : [];
    });
    // One that was dismissed behind the write ends in order: it has to have heard what was written before. It does not wait
    // for a Redis that is away.
    const { settledAt = Infinity } = written;
    const { troubles, lease } = this.#evidence;
    const isDisturbed = troubles.of(node, at - 2 * lease, settledAt).length > 0;
    const dismissed = this.#evidence.streams.filter((stream) => {
      if (isDisturbed) return false;
      const isOfIt = this.#evidence.dismissed.get(token)?.has(stream.opening?.listener ?? '');
      return isOfIt && stream.isWhole && !by.has(stream) && stream.hasCarried(channel, at, at);
    });
    const certain = [...heard, ...dismissed].filter(
      (stream) => stream.node === node || !this.#wasAway(stream, written),
    );
    const own = certain.filter((stream) => stream.node === node);
    const [, ofNode] =
      Object.entries(outcome.perNode ?? {}).find(([name]) => name.startsWith(`${node}-`)) ?? [];
    const isRefused = outcome.reasons.backplane !== undefined || outcome.reasons.ended !== undefined;
    const counted = ofNode as NodeOutcome | undefined;
    if (outcome.perNode !== undefined && !isRefused && (counted?.listeners ?? 0) < own.length) {
      return [`LEFT OUT: ${says}; ${own.length} of ${node} itself are not all counted`];
    }
    if (outcome.unknown > 0 || isRefused || outcome.listeners >= certain.length) return [];
    const nodes = certain.map((stream) => stream.node).join();
    return [`LEFT OUT: ${says}; ${heard.length} heard it, ${dismissed.length} were dismissed, on ${nodes}`];
  }

  /** Whether the lease of a node that was stopped was over, and it had lost its connection to Redis. */
  #wasDead(node: string, { at, settledAt = Infinity }: Written): boolean {
    const { troubles, lease } = this.#evidence;
    const stop = troubles.of(node, at, settledAt).find(({ what, from }) => {
      // It renewed its lease up to a third of that before it was stopped.
      return what === 'stop node' && settledAt - from > (lease * 2) / 3;
    });
    return stop !== undefined && troubles.of(node, stop.from, settledAt).length > 1;
  }

  /** Whether Redis may have taken the node of a stream for dead. */
  #wasAway({ node }: Stream, { at, settledAt = Infinity }: Written): boolean {
    const { troubles, lease } = this.#evidence;
    return troubles.of(node, at - 2 * lease, settledAt).some((one) => one.node === node);
  }
}

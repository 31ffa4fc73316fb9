import {
  type Aggregator,
  Counter,
  Gauge,
  Histogram,
  type OpenMetricsContentType,
  type PrometheusContentType,
  type Registry,
  register as sharedRegistry,
} from 'prom-client';
import { InvalidOptionError } from './core/errors.js';
import type { LeaveReason, RefusalCode } from './core/events.js';
import { checkKnown } from './core/options.js';
import type { FailureReason } from './core/outcome.js';
import type { Comet, Snapshot } from './hub.js';

/** A registry of `prom-client`. */
export type MetricsRegistry = Registry<PrometheusContentType> | Registry<OpenMetricsContentType>;

/** The options of `metrics()`. */
export interface MetricsOptions {
  /** Where the metrics are registered. Default: the registry that `prom-client` exports as `register`. */
  register?: MetricsRegistry | undefined;
  /** What every name begins with. Default `express_comet_`. */
  prefix?: string | undefined;
  /** The label `hub` of every metric, for several hubs on one registry. Default: no such label. */
  hub?: string | undefined;
}

/** What every label can say: a name that is missing here, or not there, does not compile. */
const FAILURES = Object.keys({
  closed: 0,
  error: 0,
  overrun: 0,
  stalled: 0,
  vanished: 0,
  deactivated: 0,
  ended: 0,
  backplane: 0,
} satisfies Record<FailureReason, 0>) as FailureReason[];

const LEAVES = Object.keys({
  closed: 0,
  error: 0,
  overrun: 0,
  stalled: 0,
  vanished: 0,
  deactivated: 0,
  timeout: 0,
  lifetime: 0,
  expired: 0,
  ended: 0,
  dismissed: 0,
  drained: 0,
} satisfies Record<LeaveReason, 0>);

const REFUSALS = Object.keys({
  NOT_FOUND: 0,
  UNAVAILABLE: 0,
  METHOD_NOT_ALLOWED: 0,
  MALFORMED: 0,
  NO_CURSOR: 0,
  ENDED: 0,
  GONE: 0,
  NO_CHANNEL: 0,
  INVALID_CHANNEL_NAME: 0,
  TOO_MANY_CHANNELS: 0,
  NOT_ACCEPTABLE: 0,
  FORBIDDEN: 0,
  UNKNOWN_CHANNEL: 0,
  TOO_MANY_LISTENERS: 0,
  TOO_MANY_LISTENERS_OF_CHANNEL: 0,
  TOO_MANY_LISTENERS_OF_CLIENT: 0,
  INTERNAL: 0,
} satisfies Record<RefusalCode, 0>);

// From a turn of the event loop to the default of `stall`, and what a slow client takes beyond it.
const SETTLE_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** What is read off a hub when the registry is scraped. */
interface Reading {
  readonly name: string;
  readonly help: string;
  /** `undefined` where the hub has no such thing. */
  readonly of: (seen: Snapshot, push: Comet) => number | undefined;
  /** What prom-client makes of those of several workers. Default `sum`. */
  readonly aggregator?: Aggregator;
}

const GAUGES: readonly Reading[] = [
  { name: 'listeners', help: 'Streams that are open.', of: ({ listeners }) => listeners },
  { name: 'channels', help: 'Channels that there are.', of: (_seen, { channels }) => channels.size },
  {
    name: 'listeners_lagging',
    help: 'Listeners whose stream is blocked while retained frames wait for them.',
    of: ({ lagging }) => lagging,
  },
  {
    name: 'lag_frames',
    help: 'The most frames that wait for one of the lagging listeners.',
    of: ({ lag }) => lag,
    aggregator: 'max',
  },
  {
    name: 'retained_frames',
    help: 'Frames that the logs of all channels retain.',
    of: ({ frames }) => frames,
  },
  {
    name: 'retained_bytes',
    help: 'Bytes of the frames that the logs of all channels retain.',
    of: ({ bytes }) => bytes,
  },
  {
    name: 'backplane_healthy',
    help: 'Whether the backplane can be reached and all is caught up with, 1 or 0; absent where there is none.',
    of: ({ backplane }) => (backplane === null ? undefined : Number(backplane.healthy)),
    aggregator: 'min',
  },
  {
    name: 'backplane_queued_writes',
    help: 'Writes that the backplane has yet to accept; absent where there is none.',
    of: ({ backplane }) => backplane?.queued,
  },
];

// The hub counts these by itself, since a write must cost no more where it is measured.
const TOTALS: readonly Reading[] = [
  { name: 'writes_total', help: 'Events that were written.', of: ({ writes }) => writes },
  {
    name: 'deliveries_total',
    help: 'Events that streams took, once for each stream; of all writes, and replayed ones too.',
    of: ({ delivered }) => delivered,
  },
];

type Label = 'hub' | 'reason' | 'code' | 'lag' | 'happened' | 'status';
type Labels = Partial<Record<Label, string>>;

/**
 * Registers the metrics of a hub with `prom-client`. Counters begin at 0 here; gauges are read when the registry is
 * scraped. Returns the function that stops it and takes the metrics out of the registry.
 * @throws InvalidOptionError also for a second hub of the same `prefix` and `hub` on one registry, and for a name that
 *   is taken
 */
export function metrics(push: Comet, options: MetricsOptions = {}): () => void {
  checkKnown(options, ['register', 'prefix', 'hub']);
  const { register = sharedRegistry, prefix = 'express_comet_', hub } = options;
  if (typeof push?.inspect !== 'function') {
    throw new InvalidOptionError('metrics() measures a hub: pass what comet() returned.');
  }
  if (typeof register?.registerMetric !== 'function') {
    throw new InvalidOptionError('The option register must be a registry of prom-client: new Registry().');
  }
  // Without colons, which Prometheus keeps for the rules of its users.
  if (typeof prefix !== 'string' || !/^[a-zA-Z_][a-zA-Z0-9_]{0,63}$/.test(prefix)) {
    throw new InvalidOptionError(
      'The option prefix must be 1 to 64 letters, digits or underlines, and not begin with a digit.',
    );
  }
  if (hub !== undefined && (typeof hub !== 'string' || !/^[\w.-]{1,64}$/.test(hub))) {
    throw new InvalidOptionError(
      'The option hub must be 1 to 64 letters, digits, dots, underlines or hyphens.',
    );
  }
  return instrumentsOf(register, prefix).watch(push, hub);
}

// By prefix. What prom-client registers under a name is one object, which all hubs of a registry have to share.
const shared = new WeakMap<MetricsRegistry, Map<string, Instruments>>();

function instrumentsOf(register: MetricsRegistry, prefix: string): Instruments {
  const present = shared.get(register) ?? new Map<string, Instruments>();
  shared.set(register, present);
  const found = present.get(prefix);
  // Whoever cleared the registry has thrown them out of it.
  if (found?.isRegistered) return found;
  const made = new Instruments(register, prefix);
  present.set(prefix, made);
  return made;
}

/** A hub that is measured. */
class Watched {
  /** What the hub had counted when that was last read. */
  readonly counted = new Map<Reading, number>();
  readonly #push: Comet;
  #seen: Snapshot | undefined;

  constructor(
    push: Comet,
    readonly labels: Labels,
  ) {
    this.#push = push;
    for (const reading of TOTALS) this.counted.set(reading, this.read(reading) ?? 0);
  }

  read(reading: Reading): number | undefined {
    return reading.of(this.#look(), this.#push);
  }

  /** At this scrape: a registry asks all its metrics in one turn, and the hub has to be looked at once. */
  #look(): Snapshot {
    if (this.#seen === undefined) {
      this.#seen = this.#push.inspect({ channels: false });
      queueMicrotask(() => {
        this.#seen = undefined;
      });
    }
    return this.#seen;
  }
}

/** What a metric says of one hub. */
interface Series {
  begin(labels: Labels): void;
  end(labels: Labels): void;
}

/** The metrics of one registry under one prefix. */
class Instruments {
  readonly #register: MetricsRegistry;
  readonly #prefix: string;
  readonly #metrics = new Map<string, Counter<Label> | Gauge<Label> | Histogram<Label>>();
  readonly #series: Series[] = [];
  readonly #hubs = new Map<string | undefined, Watched>();

  readonly #joins: Counter<Label>;
  readonly #leaves: Counter<Label>;
  readonly #refusals: Counter<Label>;
  readonly #overruns: Counter<Label>;
  readonly #replays: Counter<Label>;
  readonly #gaps: Counter<Label>;
  readonly #replayed: Counter<Label>;
  readonly #drops: Counter<Label>;
  readonly #outcomes: Counter<Label>;
  readonly #deliveries: Counter<Label>;
  readonly #failures: Counter<Label>;
  readonly #unknown: Counter<Label>;
  readonly #settled: Histogram<Label>;

  constructor(register: MetricsRegistry, prefix: string) {
    this.#register = register;
    this.#prefix = prefix;
    for (const reading of GAUGES) this.#gauge(reading);
    for (const reading of TOTALS) this.#total(reading);
    this.#joins = this.#counter('joins_total', 'Streams that were opened.');
    this.#leaves = this.#counter('leaves_total', 'Streams that are listeners no more.', 'reason', LEAVES);
    this.#refusals = this.#counter('refusals_total', 'Requests that were refused.', 'code', REFUSALS);
    this.#overruns = this.#counter(
      'overruns_total',
      'Listeners that fell off the log of a channel, and were closed or jumped to the latest.',
      'lag',
      ['close', 'latest'],
    );
    this.#replays = this.#counter('replays_total', 'Clients that came back and missed nothing.');
    this.#gaps = this.#counter(
      'gaps_total',
      'Clients that were told of a gap, as they came back or on an open stream.',
    );
    this.#replayed = this.#counter('replayed_frames_total', 'Frames that waited for clients that came back.');
    this.#drops = this.#counter(
      'drops_total',
      'Writes that were given up: their channel had ended, or the backplane did not take them.',
      'happened',
      ['never', 'unknown'],
    );
    this.#outcomes = this.#counter('outcomes_total', 'Outcomes that were settled.', 'status', [
      'success',
      'failure',
    ]);
    this.#deliveries = this.#counter(
      'outcome_deliveries_total',
      'Listeners that outcomes count as delivered.',
    );
    this.#failures = this.#counter(
      'outcome_failures_total',
      'Listeners that outcomes count as failed.',
      'reason',
      FAILURES,
    );
    this.#unknown = this.#counter('outcome_unknown_total', 'Listeners that outcomes count as unknown.');
    this.#settled = this.#histogram('settle_seconds', 'From a write to its outcome.', SETTLE_SECONDS);
    this.#registerAll();
  }

  /** Whether the registry still has them. */
  get isRegistered(): boolean {
    return [...this.#metrics].every(([name, metric]) => this.#register.getSingleMetric(name) === metric);
  }

  watch(push: Comet, hub: string | undefined): () => void {
    if (this.#hubs.has(hub)) {
      throw new InvalidOptionError(
        hub === undefined
          ? "This registry has a hub's metrics already: give each hub a name, such as metrics(push, { hub: 'chat' })."
          : `This registry has the metrics of a hub ${JSON.stringify(hub)} already: choose another name.`,
      );
    }
    const labels: Labels = hub === undefined ? {} : { hub };
    this.#hubs.set(hub, new Watched(push, labels));
    for (const series of this.#series) series.begin(labels);
    const offs = this.#listen(push, labels);
    return () => {
      if (offs.length === 0) return;
      for (const off of offs.splice(0)) off();
      this.#hubs.delete(hub);
      for (const series of this.#series) series.end(labels);
      if (this.#hubs.size === 0) this.#unregister();
    };
  }

  // `error` is not listened to: that would silence the warning which tells of it.
  #listen(push: Comet, labels: Labels): (() => void)[] {
    return [
      push.on('join', () => this.#joins.inc(labels)),
      push.on('leave', ({ reason }) => this.#leaves.inc({ ...labels, reason })),
      push.on('refuse', ({ code }) => this.#refusals.inc({ ...labels, code })),
      push.on('overrun', ({ lag }) => this.#overruns.inc({ ...labels, lag })),
      push.on('drop', ({ happened, count }) => this.#drops.inc({ ...labels, happened }, count)),
      push.on('gap', () => this.#gaps.inc(labels)),
      push.on('replay', ({ frames, recovered }) => {
        (recovered ? this.#replays : this.#gaps).inc(labels);
        this.#replayed.inc(labels, frames);
      }),
      push.on('outcome', ({ elapsed, outcome }) => {
        const { status, delivered, unknown, reasons } = outcome;
        this.#outcomes.inc({ ...labels, status });
        this.#deliveries.inc(labels, delivered);
        this.#unknown.inc(labels, unknown);
        // Those that are known here: what other nodes answer may be of a version to come.
        for (const reason of FAILURES) {
          if (reasons[reason] !== undefined) this.#failures.inc({ ...labels, reason }, reasons[reason]);
        }
        this.#settled.observe(labels, elapsed / 1000);
      }),
    ];
  }

  #gauge(reading: Reading): void {
    const { name, help, aggregator = 'sum' } = reading;
    const gauge = new Gauge<Label>({
      ...this.#config(name, help),
      aggregator,
      collect: () => {
        for (const hub of this.#hubs.values()) {
          const value = hub.read(reading);
          if (value !== undefined) gauge.set(hub.labels, value);
        }
      },
    });
    this.#add(name, gauge, { begin: () => {}, end: (labels) => gauge.remove(labels) });
  }

  #total(reading: Reading): void {
    const { name, help } = reading;
    const counter = new Counter<Label>({
      ...this.#config(name, help),
      collect: () => {
        for (const hub of this.#hubs.values()) {
          const value = hub.read(reading) ?? 0;
          counter.inc(hub.labels, value - (hub.counted.get(reading) ?? 0));
          hub.counted.set(reading, value);
        }
      },
    });
    this.#add(name, counter, { begin: () => {}, end: (labels) => counter.remove(labels) });
  }

  /** One whose every value of its label stands there from the beginning, as 0: what is absent can't be compared. */
  #counter(name: string, help: string, label?: Label, values: readonly string[] = []): Counter<Label> {
    const counter = new Counter<Label>(this.#config(name, help, label));
    const each = (labels: Labels): Labels[] =>
      label === undefined ? [labels] : values.map((value) => ({ ...labels, [label]: value }));
    this.#add(name, counter, {
      begin: (labels) => {
        for (const one of each(labels)) counter.inc(one, 0);
      },
      end: (labels) => {
        for (const one of each(labels)) counter.remove(one);
      },
    });
    return counter;
  }

  #histogram(name: string, help: string, buckets: readonly number[]): Histogram<Label> {
    const histogram = new Histogram<Label>({ ...this.#config(name, help), buckets: [...buckets] });
    this.#add(name, histogram, {
      begin: (labels) => histogram.zero(labels),
      end: (labels) => histogram.remove(labels),
    });
    return histogram;
  }

  // With no registry yet: a name that is taken must not leave half of them behind.
  #config(name: string, help: string, label?: Label) {
    const labelNames: Label[] = label === undefined ? ['hub'] : ['hub', label];
    return { name: this.#prefix + name, help, labelNames, registers: [] };
  }

  #add(name: string, metric: Counter<Label> | Gauge<Label> | Histogram<Label>, series: Series): void {
    this.#metrics.set(this.#prefix + name, metric);
    this.#series.push(series);
  }

  #registerAll(): void {
    for (const name of this.#metrics.keys()) {
      if (this.#register.getSingleMetric(name) === undefined) continue;
      throw new InvalidOptionError(`The registry has another metric ${name}: give these another prefix.`);
    }
    for (const metric of this.#metrics.values()) this.#register.registerMetric(metric);
  }

  #unregister(): void {
    for (const [name, metric] of this.#metrics) {
      if (this.#register.getSingleMetric(name) === metric) this.#register.removeSingleMetric(name);
    }
  }
}

import type { Client, Heard, Place, Step, Stream } from './client.js';
import { type NodeOutcome, type Note, now, type Outcome, TIMES } from './messages.js';

/** What became of one or many clusters. */
export interface Figures {
  cycles: number;
  writes: number;
  accepted: number;
  neverAccepted: number;
  outcomes: number;
  delivered: number;
  failed: number;
  unknown: number;
  events: number;
  streams: number;
  recovered: number;
  gapsSaid: number;
  epochs: number;
  slowestOutcome: number;
}

export const noFigures = (): Figures => ({
  cycles: 0,
  writes: 0,
  accepted: 0,
  neverAccepted: 0,
  outcomes: 0,
  delivered: 0,
  failed: 0,
  unknown: 0,
  events: 0,
  streams: 0,
  recovered: 0,
  gapsSaid: 0,
  epochs: 0,
  slowestOutcome: 0,
});

/** Adds what became of more. */
export function addFigures(sum: Figures, more: Figures): void {
  for (const key of Object.keys(sum) as (keyof Figures)[]) {
    sum[key] = key === 'slowestOutcome' ? Math.max(sum[key], more[key]) : sum[key] + more[key];
  }
}

/** One write, as the process that made it has told of it. */
interface Written {
  readonly token: string;
  readonly node: string;
  readonly channel: string;
  readonly at: number;
  readonly asks: boolean;
  happened: 'never' | 'unknown' | undefined;
  settledAt: number | undefined;
  outcome: Outcome | undefined;
}

/** What one client heard of one channel without being told of a gap: all of it after `seq`, up to `last`. */
interface Chain {
  readonly channel: string;
  readonly epoch: string;
  /** Undefined until its first event: it begins there. */
  seq: number | undefined;
  readonly heard: Set<number>;
  last: number;
}

// A write waits for the backplane, and then for other nodes; each give or take an eighth. The rest is for a busy machine.
const BOUND_MS = 2 * 1.25 * Math.max(TIMES.deadline, TIMES.wait) + 2000;
const SHOWN = 700;

/** Judges a cluster by what its clients heard, and what its writers were told. */
export class Checker {
  readonly figures = noFigures();
  /** What is wrong. */
  readonly faults: string[] = [];
  readonly clients: Client[] = [];
  // For how long each process was stopped.
  readonly #stops = new Map<string, number>();
  /** The processes that were alive at the end, if it came to one. */
  living: ReadonlySet<string> = new Set();
  readonly #written = new Map<string, Written>();
  // The order: by epoch and seq, and by the token. What is accepted stands there, whether or not anybody heard it.
  readonly #order = new Map<string, Map<number, Heard>>();
  readonly #places = new Map<string, Heard>();
  readonly #began: number[] = [];

  /** A cycle begins. */
  begin(cycle: number): void {
    this.#began[cycle] = now();
    this.figures.cycles += 1;
  }

  /** A process was stopped for so many milliseconds. */
  stopped(node: string, ms: number): void {
    this.#stops.set(node, (this.#stops.get(node) ?? 0) + ms);
  }

  fault(text: string): void {
    this.faults.push(`cycle ${this.#began.length - 1}: ${text}`.slice(0, SHOWN));
  }

  note(node: string, notes: readonly Note[]): void {
    for (const note of notes) {
      if (note.is === 'wrong') this.fault(`${node}: ${note.text}`);
      else if (note.is === 'written') {
        const { token, channel, at, asks } = note;
        const rest = { happened: undefined, settledAt: undefined, outcome: undefined };
        this.#written.set(token, { token, node, channel, at, asks, ...rest });
      } else if (note.is === 'accepted') {
        const [epoch = '', seq] = note.position.split('-');
        this.#place({ epoch, seq: Number(seq), channel: note.channel, token: note.token }, node);
        this.figures.accepted += 1;
      } else {
        const written = this.#written.get(note.token);
        if (written === undefined) this.fault(`${node} tells of ${note.token}, which it never wrote`);
        else if (note.is === 'dropped') this.#drop(written, note.happened);
        else this.#settle(written, note.at, note.outcome);
      }
    }
  }

  /** Whether it is known that a write stands in the order. */
  isAccepted(token: string): boolean {
    return this.#places.has(token);
  }

  /** All is over. */
  conclude(): void {
    const chains = this.clients.map((client) => {
      for (const fault of client.faults) this.fault(fault);
      return this.#chainsOf(client);
    });
    this.#checkOrder();
    for (const [index, client] of this.clients.entries()) {
      for (const chain of chains[index] ?? []) this.#checkGaps(client, chain);
    }
    const heard = this.#heardBy();
    for (const written of this.#written.values()) this.#checkOutcome(written, heard);
    this.figures.writes += this.#written.size;
    this.figures.epochs += this.#order.size;
  }

  #drop(written: Written, happened: 'never' | 'unknown'): void {
    if (written.happened !== undefined) this.fault(`${written.token} was dropped twice`);
    written.happened = happened;
    if (happened === 'never') this.figures.neverAccepted += 1;
  }

  #settle(written: Written, at: number, outcome: Outcome): void {
    const says = `${written.token} says ${JSON.stringify(outcome)}`;
    if (written.outcome !== undefined) this.fault(`SETTLED TWICE: ${says}`);
    written.outcome = outcome;
    written.settledAt = at;
    this.#checkSum(says, outcome);
    for (const one of Object.values(outcome.perNode ?? {})) this.#checkSum(says, one);
    const { figures } = this;
    figures.outcomes += 1;
    figures.delivered += outcome.delivered;
    figures.failed += outcome.failed;
    figures.unknown += outcome.unknown;
    const elapsed = at - written.at - (this.#stops.get(written.node) ?? 0);
    figures.slowestOutcome = Math.max(figures.slowestOutcome, Math.round(elapsed));
    if (elapsed > BOUND_MS) this.fault(`LATE: ${says}, after ${Math.round(elapsed)} ms`);
  }

  #checkSum(says: string, { status, listeners, delivered, failed, unknown, reasons }: NodeOutcome): void {
    if (delivered + failed + unknown !== listeners) this.fault(`${says}, which does not add up`);
    if ((status === 'success') !== (delivered === listeners)) this.fault(`${says}, with the wrong status`);
    const sum = Object.values(reasons).reduce((total, count) => total + count, 0);
    if (sum !== failed) this.fault(`${says}, of which the reasons do not add up`);
  }

  /** One position has one event, and one event one position, whoever tells of it. */
  #place(heard: Heard, teller: string): void {
    const { epoch, seq, channel, token } = heard;
    const order = this.#order.get(epoch) ?? new Map<number, Heard>();
    this.#order.set(epoch, order);
    const there = order.get(seq);
    if (there !== undefined && (there.token !== token || there.channel !== channel)) {
      this.fault(`TWO ORDERS: at ${epoch}-${seq} stands ${there.token}, and for ${teller} ${token}`);
    }
    const before = this.#places.get(token);
    if (before !== undefined && (before.epoch !== epoch || before.seq !== seq)) {
      this.fault(`TWICE IN ORDER: ${token} at ${placeOf(before)} and, for ${teller}, at ${placeOf(heard)}`);
    }
    order.set(seq, heard);
    this.#places.set(token, heard);
  }

  /** Follows a client from stream to stream. */
  #chainsOf(client: Client): readonly Chain[] {
    const { figures } = this;
    const path = new Path(client, (text) => this.fault(text));
    for (const stream of client.streams) {
      const { opening, steps, isWhole } = stream;
      if (opening === undefined) continue;
      figures.streams += 1;
      const { place, gaps } = opening;
      if (path.isNew || gaps.length > 0) figures.gapsSaid += path.isNew ? 0 : 1;
      else figures.recovered += 1;
      path.open(stream, place, gaps);
      if (isWhole) this.fault(`${path.says} was ended without a word`);
      for (const step of steps) {
        if (step.is === 'gap') figures.gapsSaid += 1;
        if (step.is === 'event') figures.events += 1;
        if (step.is === 'event' && step.place !== undefined) {
          this.#place({ ...step.place, channel: step.channel, token: step.token }, client.name);
        }
        path.take(step);
      }
    }
    return path.end();
  }

  /** What each writer wrote stands in the order in which it wrote it; and what never was accepted, nowhere. */
  #checkOrder(): void {
    for (const order of this.#order.values()) {
      const numbers = new Map<string, number>();
      for (const seq of [...order.keys()].sort((a, b) => a - b)) {
        const { token, channel } = order.get(seq) as Heard;
        const [writer, number] = numberOf(token);
        if (number <= (numbers.get(writer) ?? 0)) this.fault(`ORDER: ${token} at ${seq} is too late`);
        numbers.set(writer, number);
        const written = this.#written.get(token);
        // Of one that was killed it may not be known.
        if (written !== undefined && written.channel !== channel) this.fault(`${token} stands on ${channel}`);
        if (written?.happened === 'never') this.fault(`GHOST: ${token} was never accepted, and is at ${seq}`);
      }
    }
  }

  /** Between two events of one chain nothing of its channel is missing. */
  #checkGaps(client: Client, { epoch, seq: start = Infinity, last, channel, heard }: Chain): void {
    const missing = [...(this.#order.get(epoch) ?? [])]
      .filter(([seq, one]) => seq > start && seq <= last && one.channel === channel && !heard.has(seq))
      .map(([seq, { token }]) => `${token} at ${seq}`);
    if (missing.length === 0) return;
    this.fault(
      `SILENT GAP: ${client.name} lost ${missing.length} of ${channel}, ${missing[0]}, between ${start} and ${last}`,
    );
  }

  /** The streams on which each token was heard. */
  #heardBy(): ReadonlyMap<string, ReadonlySet<Stream>> {
    const heard = new Map<string, Set<Stream>>();
    for (const { streams } of this.clients) {
      for (const stream of streams) {
        for (const step of stream.steps) {
          if (step.is !== 'event') continue;
          const by = heard.get(step.token) ?? new Set();
          heard.set(step.token, by.add(stream));
        }
      }
    }
    return heard;
  }

  #checkOutcome(written: Written, heard: ReadonlyMap<string, ReadonlySet<Stream>>): void {
    const { token, node, channel, at, asks, outcome, settledAt = Infinity, happened } = written;
    if (!asks) return;
    const by = heard.get(token) ?? new Set();
    if (outcome === undefined) {
      // What a process that was killed still had to say, nobody knows.
      if (this.living.has(node)) this.fault(`UNSETTLED: ${token}`);
      return;
    }
    const says = `${token} on ${channel}, says ${JSON.stringify(outcome)}`;
    const isRefused = outcome.reasons.backplane !== undefined || outcome.reasons.ended !== undefined;
    const isPartial = happened === 'unknown' && outcome.unknown === 0;
    if (isRefused !== (happened === 'never') || isPartial || (isRefused && outcome.delivered > 0)) {
      this.fault(`FALSE OUTCOME: ${says}, and was dropped as ${happened}`);
    }

    const streams = this.clients.flatMap((client) => client.streams);
    const there = streams.filter(
      ({ channels, askedAt }) => channels.includes(channel) && askedAt <= settledAt,
    );
    // What the kernel took, a stream that broke has lost. A node that was stopped finds what clients have left only after
    // what has come from Redis meanwhile: at the beginning of a cycle it knew of everybody.
    const healed = Math.max(...this.#began.filter((began) => began <= at));
    const broken = there.filter(
      (stream) => !stream.isWhole && (stream.endedAt ?? 0) >= healed && !by.has(stream),
    );
    if (outcome.delivered > by.size + broken.length) {
      this.fault(`FALSE DELIVERED: ${says}; heard by ${by.size}, ${broken.length} broke`);
    }
    for (const [name, { delivered }] of Object.entries(outcome.perNode ?? {})) {
      const isThere = (stream: Stream) => name.startsWith(`${stream.node}-`);
      const most = [...by].filter(isThere).length + broken.filter(isThere).length;
      if (delivered > most) this.fault(`FALSE DELIVERED: ${says}; on ${name} for ${most} at most`);
    }
    if (outcome.status !== 'success') return;
    for (const stream of there) {
      const { opening, endedAt = Infinity, lost, isWhole } = stream;
      const wasThere = opening !== undefined && opening.at < at && endedAt > settledAt;
      const readAll = endedAt === Infinity || isWhole;
      if (wasThere && readAll && !lost.has(channel) && !by.has(stream)) {
        this.fault(`FALSE SUCCESS: ${says}; a client on ${stream.node} was there and did not hear it`);
      }
    }
  }
}

/** The way of one client: where it stands, and what it has heard of each channel since it was told of a gap last. */
class Path {
  says = '';
  readonly #client: Client;
  readonly #fault: (text: string) => void;
  readonly #chains: Chain[] = [];
  readonly #present = new Map<string, Chain>();
  readonly #tokens = new Set<string>();
  // Of each epoch the last position that it was told; and of each writer the number that it heard last.
  readonly #told = new Map<string, number>();
  readonly #numbers = new Map<string, number>();
  #at: Place | undefined;

  constructor(client: Client, fault: (text: string) => void) {
    this.#client = client;
    this.#fault = fault;
  }

  get isNew(): boolean {
    return this.#at === undefined;
  }

  open(stream: Stream, place: Place, gaps: readonly string[]): void {
    const { name, channels } = this.#client;
    const at = this.#at;
    this.says = `${name} on ${stream.node} from ${stream.cursor}`;
    const isStart = at === undefined || gaps.length === channels.length;
    if (at === undefined && gaps.length > 0) this.#fault(`${this.says} was told of a gap, and is new`);
    if (!isStart && (place.epoch !== at.epoch || place.seq !== at.seq)) {
      this.#fault(`SILENT GAP: ${this.says} was recovered at ${placeOf(place)}, and stood at ${placeOf(at)}`);
    }
    // A newcomer's place is where the order stands: behind all that it was told before.
    if (place.seq < (this.#told.get(place.epoch) ?? 0)) {
      this.#fault(`BACK: ${this.says} starts at ${placeOf(place)}`);
    }
    for (const channel of isStart ? channels : gaps) {
      // Where others are read from the cursor on, it starts further on than that.
      this.#begin(channel, place.epoch, isStart ? place.seq : undefined);
    }
    this.#stand(place);
  }

  take(step: Step): void {
    if (step.is === 'at') this.#stand(step.place);
    else if (step.is === 'event') this.#hear(step);
    else for (const channel of step.channels) this.#present.delete(channel);
  }

  /** Everything up to where it stands now was heard. */
  end(): readonly Chain[] {
    for (const chain of this.#present.values())
      if (chain.epoch === this.#at?.epoch) chain.last = this.#at.seq;
    return this.#chains;
  }

  #begin(channel: string, epoch: string, seq: number | undefined): Chain {
    const chain = { channel, epoch, seq, heard: new Set<number>(), last: seq ?? 0 };
    this.#chains.push(chain);
    this.#present.set(channel, chain);
    return chain;
  }

  #hear({ place, channel, token }: Extract<Step, { is: 'event' }>): void {
    const { says } = this;
    if (this.#tokens.has(token)) this.#fault(`DOUBLE: ${says} heard ${token}`);
    if (!this.#client.channels.includes(channel)) this.#fault(`${says} heard ${token}, not for it`);
    this.#tokens.add(token);
    // What came late comes in a start, behind later ones.
    if (place === undefined) return;
    const at = this.#at as Place;
    if (place.epoch !== at.epoch) this.#fault(`${says} heard ${placeOf(place)} in ${at.epoch}`);
    if (place.seq <= at.seq) this.#fault(`${says} heard ${placeOf(place)} after ${at.seq}`);
    const [writer, number] = numberOf(token);
    if (number <= (this.#numbers.get(writer) ?? 0)) this.#fault(`ORDER: ${says} heard ${token} too late`);
    this.#numbers.set(writer, number);
    const chain = this.#present.get(channel) ?? this.#begin(channel, place.epoch, undefined);
    chain.seq ??= place.seq - 1;
    chain.heard.add(place.seq);
    this.#stand(place);
  }

  #stand(place: Place): void {
    this.#at = place;
    this.#told.set(place.epoch, place.seq);
    for (const chain of this.#present.values()) if (chain.epoch === place.epoch) chain.last = place.seq;
  }
}

function numberOf(token: string): readonly [writer: string, number: number] {
  const [writer = '', number] = token.split(':');
  return [writer, Number(number)];
}

const placeOf = ({ epoch, seq }: Place): string => `${epoch}-${seq}`;

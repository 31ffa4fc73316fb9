import type { Client } from './client.js';
import { Ends } from './ends.js';
import { noFigures } from './figures.js';
import { type NodeOutcome, type Note, now, type Outcome, TIMES } from './messages.js';
import { Outcomes, type Written } from './outcomes.js';
import { type Chain, numberOf, Path, placeOf } from './path.js';
import type { Heard } from './stream.js';
import { Troubles } from './troubles.js';

// A write waits for the backplane, and then for other nodes; each give or take an eighth. The rest is for a busy machine.
const BOUND_MS = 2 * 1.25 * Math.max(TIMES.deadline, TIMES.wait) + 2000;
const SHOWN = 700;

type NoteOf<Is> = Extract<Note, { is: Is }>;

/** Judges a cluster by what its clients heard, and what its writers were told. */
export class Checker {
  readonly figures = noFigures();
  /** What is wrong. */
  readonly faults: string[] = [];
  readonly clients: Client[] = [];
  readonly ends = new Ends();
  readonly troubles = new Troubles();
  /** The processes that were alive at the end, or have ended in order. */
  readonly living = new Set<string>();
  /** Since when each process drops nothing, unless Redis was away. */
  readonly draining = new Map<string, number>();
  readonly #lease: number;
  // For how long each process was stopped.
  readonly #stops = new Map<string, number>();
  readonly #written = new Map<string, Written>();
  // The order: by epoch and seq, and by the token. What is accepted stands there, whether or not anybody heard it.
  readonly #order = new Map<string, Map<number, Heard>>();
  readonly #places = new Map<string, Heard>();
  readonly #began: number[] = [];
  readonly #dismissed = new Map<string, Set<string>>();

  constructor(lease: number) {
    this.#lease = lease;
  }

  /** A cycle begins. */
  begin(cycle: number): void {
    this.#began[cycle] = now();
    this.count('cycles');
  }

  count(figure: string): void {
    this.figures[figure] = (this.figures[figure] ?? 0) + 1;
  }

  /** A process was stopped for so many milliseconds. */
  stopped(node: string, ms: number): void {
    this.#stops.set(node, (this.#stops.get(node) ?? 0) + ms);
  }

  /** @param at when that began: now, if it is not known */
  fault(text: string, at = now()): void {
    const cycle = this.#began.findLastIndex((began) => began <= at);
    this.faults.push(`cycle ${cycle}: ${text}`.slice(0, SHOWN));
  }

  note(node: string, notes: readonly Note[]): void {
    for (const note of notes) this.#note(node, note);
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
    const outcomes = new Outcomes({
      streams: this.clients.flatMap(({ streams }) => streams),
      living: this.living,
      began: this.#began,
      troubles: this.troubles,
      lease: this.#lease,
      dismissed: this.#dismissed,
    });
    for (const written of this.#written.values()) {
      for (const fault of outcomes.faultsOf(written)) this.fault(fault, written.at);
      this.#checkDrained(written);
    }
    for (const { text, at } of this.ends.conclude()) this.fault(text, at);
    this.figures.writes = this.#written.size;
    this.figures.epochs = this.#order.size;
  }

  #note(node: string, note: Note): void {
    switch (note.is) {
      case 'wrong':
        this.fault(`${node}: ${note.text}`);
        break;
      case 'written': {
        const { token, channel, at, asks } = note;
        const rest = {
          happened: undefined,
          droppedAt: undefined,
          cause: undefined,
          settledAt: undefined,
          outcome: undefined,
        };
        this.#written.set(token, { token, node, channel, at, asks, ...rest });
        break;
      }
      case 'accepted': {
        const [epoch = '', seq] = note.position.split('-');
        this.#place({ epoch, seq: Number(seq), channel: note.channel, token: note.token }, node);
        this.count('accepted');
        break;
      }
      case 'dropped':
        this.#drop(this.#find(node, note.token), note);
        break;
      case 'settled':
        this.#settle(this.#find(node, note.token), note.at, note.outcome);
        break;
      case 'slow':
        // On a busy machine that happens without a fault, and what was under way is unknown.
        this.troubles.add({ what: 'slow', node, from: note.at - this.#lease }).to = note.at;
        break;
      case 'made':
        this.count('made');
        this.ends.made(node, note.channel, note.at);
        break;
      case 'over':
        this.ends.over(node, note.channel, note.at);
        break;
      case 'dismissed':
        this.count('dismissed');
        for (const token of note.tokens) {
          this.#dismissed.set(token, (this.#dismissed.get(token) ?? new Set()).add(note.listener));
        }
    }
  }

  #find(node: string, token: string): Written | undefined {
    const written = this.#written.get(token);
    if (written === undefined) this.fault(`${node} tells of ${token}, which it never wrote`);
    return written;
  }

  #drop(written: Written | undefined, { happened, cause, at }: NoteOf<'dropped'>): void {
    if (written === undefined) return;
    if (written.happened !== undefined) this.fault(`${written.token} was dropped twice`);
    written.happened = happened;
    written.droppedAt = at;
    written.cause = cause;
    if (happened === 'never') this.count('neverAccepted');
  }

  #settle(written: Written | undefined, at: number, outcome: Outcome): void {
    if (written === undefined) return;
    const says = `${written.token} says ${JSON.stringify(outcome)}`;
    if (written.outcome !== undefined) this.fault(`SETTLED TWICE: ${says}`);
    written.outcome = outcome;
    written.settledAt = at;
    this.#checkSum(says, outcome);
    for (const one of Object.values(outcome.perNode ?? {})) this.#checkSum(says, one);
    const { figures } = this;
    this.count('outcomes');
    for (const key of ['delivered', 'failed', 'unknown'] as const)
      figures[key] = (figures[key] ?? 0) + outcome[key];
    if (this.draining.has(written.node)) return;
    const elapsed = at - written.at - (this.#stops.get(written.node) ?? 0);
    figures.slowestOutcome = Math.max(figures.slowestOutcome ?? 0, Math.round(elapsed));
    if (elapsed > BOUND_MS) this.fault(`LATE: ${says}, after ${Math.round(elapsed)} ms`);
  }

  #checkSum(says: string, { status, listeners, delivered, failed, unknown, reasons }: NodeOutcome): void {
    if (delivered + failed + unknown !== listeners) this.fault(`${says}, which does not add up`);
    if ((status === 'success') !== (delivered === listeners)) this.fault(`${says}, with the wrong status`);
    const sum = Object.values(reasons).reduce((total, count) => total + count, 0);
    if (sum !== failed) this.fault(`${says}, of which the reasons do not add up`);
  }

  /** A process that closes its hub has everything accepted first, if Redis is there. */
  #checkDrained({ token, node, happened, cause, outcome, at, droppedAt = at }: Written): void {
    if (
      happened === undefined ||
      outcome?.reasons.ended !== undefined ||
      droppedAt < (this.draining.get(node) ?? Infinity)
    )
      return;
    const began = Math.max(...this.#began.filter((begin) => begin <= at));
    if (this.troubles.of(node, began, droppedAt).some(({ what }) => what !== 'drain')) return;
    this.fault(
      `LOST BY CLOSE: ${token} was dropped as ${happened} at ${node}, though Redis was there: ${cause}`,
      at,
    );
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
    let at = 0;
    const path = new Path(client, (text) => this.fault(text, at));
    for (const stream of client.streams) {
      const { opening, steps } = stream;
      if (opening === undefined) continue;
      this.count('streams');
      at = stream.askedAt;
      if (opening.gaps.length > 0) this.count('gapsSaid');
      else if (!path.isNew) this.count('recovered');
      path.open(stream);
      if (stream.isWhole && !this.#mayEnd(stream.node, opening.listener)) {
        this.fault(`${path.says} was ended without a word`);
      }
      for (const step of steps) {
        if (step.is === 'gap') this.count('gapsSaid');
        if (step.is === 'event') {
          this.count('events');
          if (step.place !== undefined) {
            this.#place({ ...step.place, channel: step.channel, token: step.token }, client.name);
          }
        }
        path.take(step);
      }
    }
    return path.end();
  }

  /** Whether a stream may end in order: its node closes, or has dismissed it. Each client has a channel that never ends. */
  #mayEnd(node: string, listener: string): boolean {
    return (
      this.draining.has(node) || [...this.#dismissed.values()].some((listeners) => listeners.has(listener))
    );
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
}

import type { LeaveReason, Outcome } from '../../lib/index.js';
import type { Plan } from './plan.js';
import type { Heard } from './reading.js';
import { type Attendance, type Client, type Figures, type Line, noFigures, type Written } from './record.js';

// Orderly ends: what was written before them was delivered.
const ORDERLY: ReadonlySet<LeaveReason | undefined> = new Set(['ended', 'drained', 'timeout', 'lifetime']);

/** Holds what a hub says became of its writes against what the kernel took and what the clients read. */
export class Checker {
  readonly figures: Figures = noFigures();
  /** What is wrong. */
  readonly faults: string[] = [];
  readonly #plan: Plan;
  readonly #deactivates: boolean;

  constructor(plan: Plan) {
    this.#plan = plan;
    this.#deactivates = plan.steps.some((step) => step.do === 'deactivate');
  }

  fault(text: string): void {
    this.faults.push(text);
  }

  /** An outcome settles: now is the moment of which it speaks. */
  settle(written: Written, outcome: Outcome): void {
    written.settled += 1;
    if (written.settled > 1) {
      this.figures.settledTwice += 1;
      this.fault(`${nameOf(written)} settled ${written.settled} times`);
      return;
    }
    written.outcome = outcome;
    this.#count(outcome);
    const { status, listeners, delivered, failed, unknown, reasons } = outcome;
    const says = `${nameOf(written)} says ${JSON.stringify(outcome)}`;
    if (listeners !== written.roster.length) this.fault(`${says}, of ${written.roster.length} listeners`);
    if (delivered + failed + unknown !== listeners) this.fault(`${says}, which does not add up`);
    if ((status === 'success') !== (delivered === listeners)) this.fault(`${says}, with the wrong status`);
    const sum = Object.values(reasons).reduce((total, count) => total + count, 0);
    if (sum !== failed) this.fault(`${says}, of which the reasons do not add up`);

    const taken = written.roster.filter((one) => isKnown(one) && one.sent?.took(written.seq)).length;
    if (delivered > taken) {
      this.figures.falseDelivered += delivered - taken;
      this.fault(`FALSE DELIVERED: ${says}; by then the kernel had taken it for ${taken}`);
    }
    const opaque = written.roster.filter((one) => !isKnown(one)).length;
    if (unknown > opaque) this.fault(`${says}; ${opaque} streams are written to later`);
  }

  /** All is over: every connection is closed, and what each client could read it has read. */
  conclude(clients: readonly Client[], attendances: readonly Attendance[], lines: readonly Line[]): void {
    this.figures.schedules = 1;
    for (const client of clients) this.#checkCount(client);
    const bySeq = new Map(lines.flatMap(({ writes }) => writes.map((written) => [written.seq, written])));
    const read = new Map<Attendance, ReadonlySet<number>>();
    for (const one of attendances) {
      const heard = heardBy(one);
      read.set(one, new Set(heard?.frames.map((frame) => frame.seq ?? Number.NaN)));
      this.figures.streams += 1;
      this.figures.framesRead += heard?.frames.length ?? 0;
      if (one.sent?.connection.wasBlocked) this.figures.blocked += 1;
      this.figures.leaves[String(one.left)] = (this.figures.leaves[String(one.left)] ?? 0) + 1;
      this.#checkEnd(one, heard);
      if (heard !== undefined) this.#checkHeard(one, heard, bySeq);
    }
    for (const written of bySeq.values()) this.#checkOutcome(written, read);
  }

  #count({ listeners, delivered, failed, unknown, reasons }: Outcome): void {
    const { figures } = this;
    figures.outcomes += 1;
    figures.listeners += listeners;
    figures.delivered += delivered;
    figures.failed += failed;
    figures.unknown += unknown;
    for (const [reason, count] of Object.entries(reasons)) {
      figures.reasons[reason] = (figures.reasons[reason] ?? 0) + count;
    }
  }

  /** The count of what the kernel took is the judge of the outcomes; it is judged by what orderly clients read. */
  #checkCount({ join, peer, connection }: Client): void {
    for (const fault of peer.reading.faults) this.fault(`client ${join.peer} read ${fault}`);
    if (connection === undefined) return;
    const { accepted, atMost } = connection;
    const { bytes } = peer.reading;
    if (bytes > atMost) this.fault(`client ${join.peer} read ${bytes} bytes, ${atMost} were counted`);
    // A reset throws away what the kernel had taken, and so does a close before a pipelined request was read; the
    // client may read an end all the same, if something else has already come upon the error.
    if (!peer.readToEnd || peer.provoked.has('reset') || join.after) return;
    this.figures.judged += 1;
    if (bytes < accepted) {
      this.fault(`client ${join.peer} read ${bytes} bytes to the end, ${accepted} were counted`);
    }
  }

  /** Each end has its cause: a client that reads, and to whom nothing is done, stays. */
  #checkEnd(one: Attendance, heard: Heard | undefined): void {
    const { left, client } = one;
    const { stall, awaits, roomy, calm } = this.#plan;
    const text = `client ${client?.join.peer} (${client?.join.via}) left as ${left}`;
    if (left === undefined) this.fault(`${text}: its end was not told`);
    if (client === undefined) return;
    const { provoked } = client.peer;
    const isMild = [...provoked].every((each) => each === 'appetite' || each === 'finish');
    if (left === 'error' && isMild) this.fault(`${text}, and nothing of what was done to it is an error`);
    if (provoked.size > 0) return;
    if (left === 'closed' || left === 'error') this.fault(`${text}, and nothing was done to it`);
    if (left === 'deactivated' && !this.#deactivates) this.fault(`${text}, and nobody deactivated`);
    if (left === 'stalled' && stall > 1000) this.fault(`${text}, and it reads`);
    const isBehind = client.cursor !== undefined || one.lines.some(({ plan }) => plan.rewind > 0);
    if (left === 'overrun' && (roomy || (awaits && !isBehind))) {
      this.fault(`${text}, although it reads and the writer waits for it or the log holds all`);
    }
    // What is held back may take longer than the hub waits for an end.
    const isPrompt = isKnown(one) || stall > 1000;
    if (calm && isPrompt && ORDERLY.has(left) && heard?.complete !== true) {
      this.fault(`${text}, and its response has no end`);
    }
  }

  /** A client has read what was written on its channels while it was there: all of it, once, in order. */
  #checkHeard(one: Attendance, heard: Heard, bySeq: ReadonlyMap<number, Written>): void {
    const { client, lines } = one;
    const { opening } = heard;
    if (client === undefined || opening === undefined) return;
    const text = `client ${client.join.peer} (${client.join.via}, from ${client.cursor})`;
    let last = -1;
    for (const { seq = Number.NaN, length, label, data } of heard.frames) {
      const written = bySeq.get(seq);
      if (written === undefined || !lines.includes(written.line)) {
        this.fault(`${text} read ${seq}, which is none of its channels'`);
        continue;
      }
      const { mark, line } = written;
      if (length !== written.length || !data.startsWith(mark) || label !== encodeURIComponent(line.name)) {
        this.fault(`${text} read ${nameOf(written)} as ${length} bytes, ${label}, ${data.slice(0, 20)}`);
      }
      if (seq <= last) this.fault(`${text} read ${seq} after ${last}`);
      last = seq;
    }
    const { recovered, seq: from } = opening;
    if (client.cursor === undefined) {
      if (!recovered) this.fault(`${text} was told of a gap, and is new`);
    } else if (recovered) {
      if (from !== client.cursor) this.fault(`${text} was recovered at ${from}`);
    } else if (this.#plan.roomy && lines.every(({ madeAt }) => madeAt <= (client.cursor ?? 0))) {
      this.fault(`${text} was told of a gap that is none`);
    }
    const isWhole = this.#isWhole(one, heard) && !client.peer.provoked.has('end');
    const read = new Set(heard.frames.map(({ seq }) => seq));
    const isReturning = client.cursor !== undefined && recovered;
    for (const line of lines) {
      this.#checkLine(text, one, { line, read, from, to: isWhole ? Infinity : last, isReturning });
      if (isWhole && one.left === 'ended' && !heard.ended.includes(line.name)) {
        this.fault(`${text} was not told the end of ${line.name}`);
      }
    }
  }

  #checkLine(
    text: string,
    one: Attendance,
    {
      line,
      read,
      from,
      to,
      isReturning,
    }: {
      line: Line;
      read: ReadonlySet<number | undefined>;
      from: number;
      to: number;
      isReturning: boolean;
    },
  ): void {
    // One that returns to a channel of lag 'latest' that is younger than it, or whose log has let go, starts at the
    // newest.
    const mayJump = line.plan.lag === 'latest' && (!this.#plan.roomy || line.madeAt > from);
    let early = 0;
    for (const written of line.writes) {
      const { seq, roster } = written;
      if (seq > to) break;
      const isThere = roster.includes(one);
      const isEarly = !isThere && seq <= one.joinedAt;
      const isMissed = isEarly && isReturning && seq > from && !mayJump;
      const isDue = isThere || isMissed || (isEarly && early > 0);
      if (!read.has(seq)) {
        if (isDue && !one.jumped.has(line))
          this.fault(`${text} lost ${nameOf(written)}, from ${from} to ${to}`);
        continue;
      }
      if (isEarly) early += 1;
      if (!isThere && (!isEarly || seq <= from)) this.fault(`${text} read ${nameOf(written)}, not for it`);
    }
    if (!isReturning && early > line.plan.rewind) {
      this.fault(`${text} was given ${early} events of before on ${line.name}`);
    }
  }

  /** What clients that stayed to an orderly end have read was delivered to them. */
  #checkOutcome(written: Written, read: ReadonlyMap<Attendance, ReadonlySet<number>>): void {
    const { outcome, roster, seq, line } = written;
    if (!written.tracked) return;
    if (outcome === undefined) {
      this.figures.unsettled += 1;
      this.fault(`${nameOf(written)} is UNSETTLED`);
      return;
    }
    const certain = roster.filter((one) => this.#stayed(one) && read.get(one)?.has(seq));
    const known = certain.filter(isKnown).length;
    const opaque = certain.filter((one) => !isKnown(one) && one.left !== 'closed').length;
    const says = `${nameOf(written)} says ${JSON.stringify(outcome)}`;
    if (outcome.delivered < known) this.fault(`FALSE FAILURE: ${says}; ${known} have read it in order`);
    if (outcome.unknown < opaque)
      this.fault(`${says}; ${opaque} streams that are written to later have carried it`);
    for (const [reason, count] of Object.entries(outcome.reasons)) {
      const cause = (one: Attendance) =>
        failureOf(one.left) === reason || (reason === 'overrun' && one.jumped.has(line));
      const causes = roster.filter(cause).length;
      if (count > causes) this.fault(`${says}; ${causes} listeners left as ${reason}`);
    }
  }

  #stayed(one: Attendance): boolean {
    const { client, left } = one;
    const heard = heardBy(one);
    if (client === undefined || heard === undefined || !client.peer.readToEnd) return false;
    const { provoked } = client.peer;
    if (provoked.has('destroy') || provoked.has('reset') || provoked.has('close')) return false;
    return this.#isWhole(one, heard) || (left === 'closed' && provoked.has('finish') && !provoked.has('end'));
  }

  /** Whether the hub ended the stream after all that it had written. */
  #isWhole({ client, left }: Attendance, heard: Heard): boolean {
    // The end of a response of HTTP/1.0 is that of its connection, also where it was cut off.
    const isCut = client?.join.via === 'http/1.0' && left === 'drained' && !this.#plan.calm;
    return heard.complete && ORDERLY.has(left) && !isCut;
  }
}

/** Whether anyone can know what becomes of its bytes. */
function isKnown({ client }: Attendance): boolean {
  return client?.join.via !== 'late';
}

function heardBy({ id, client }: Attendance): Heard | undefined {
  return client?.peer.reading.streams.find(({ opening }) => opening?.listener === id);
}

function nameOf({ seq, line, length }: Written): string {
  return `write ${seq} on ${line.name} (${length} bytes)`;
}

function failureOf(reason: LeaveReason | undefined): string {
  return ORDERLY.has(reason) || reason === 'expired' ? 'closed' : String(reason);
}

import type { LeaveReason, Outcome } from '../../lib/index.js';
import type { Heard } from './heard.js';
import { isHolding, type Plan } from './plan.js';
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

    const taken = written.roster.filter((one) => isKnown(one) && one.sent?.took(written.serial)).length;
    if (delivered > taken) {
      this.figures.falseDelivered += delivered - taken;
      this.fault(`FALSE DELIVERED: ${says}; by then the kernel had taken it for ${taken}`);
    }
    const holding = written.roster.filter((one) => !isKnown(one)).length;
    if (unknown > holding) this.fault(`${says}; of ${holding} streams bytes are held back`);
  }

  /** All is over: every connection is closed, and what each client could read it has read. */
  conclude(clients: readonly Client[], attendances: readonly Attendance[], lines: readonly Line[]): void {
    this.figures.schedules = 1;
    for (const client of clients) this.#checkCount(client);
    const all = new Map(lines.flatMap(({ writes }) => writes.map((written) => [written.serial, written])));
    const read = new Map<Attendance, ReadonlySet<number>>();
    for (const one of attendances) {
      const heard = heardBy(one);
      read.set(one, new Set(heard?.frames.map(({ serial }) => serial ?? Number.NaN)));
      this.figures.streams += 1;
      const via = String(one.client?.join.via);
      this.figures.vias[via] = (this.figures.vias[via] ?? 0) + 1;
      this.figures.framesRead += heard?.frames.length ?? 0;
      if (one.sent?.connection.wasBlocked) this.figures.blocked += 1;
      this.figures.leaves[String(one.left)] = (this.figures.leaves[String(one.left)] ?? 0) + 1;
      this.#checkEnd(one, heard);
      if (heard !== undefined) this.#checkHeard(one, heard, all);
    }
    for (const written of all.values()) this.#checkOutcome(written, read);
  }

  #count({ listeners, delivered, failed, unknown, reasons }: Outcome): void {
    const { figures } = this;
    figures.outcomes += 1;
    const { protocol, transport } = this.#plan;
    const over = `${protocol} over ${transport}`;
    figures.over[over] = (figures.over[over] ?? 0) + 1;
    figures.listeners += listeners;
    figures.delivered += delivered;
    figures.failed += failed;
    figures.unknown += unknown;
    for (const [reason, count] of Object.entries(reasons)) {
      figures.reasons[reason] = (figures.reasons[reason] ?? 0) + count;
    }
  }

  /** The count of what the kernel took is the judge of the outcomes; it is judged by what orderly clients read. */
  #checkCount(client: Client): void {
    const { join, peer, connection } = client;
    for (const fault of peer.reading.faults) this.fault(`client ${join.peer} read ${fault}`);
    if (connection === undefined) return;
    const { accepted, atMost, unit } = connection;
    const bytes = unit === 'wire' ? peer.wireBytes : peer.reading.bytes;
    if (bytes > atMost) this.fault(`client ${join.peer} read ${bytes} bytes, ${atMost} were counted`);
    if (!this.#hasReadAll(client)) return;
    this.figures.judged += 1;
    if (bytes < accepted) {
      this.fault(`client ${join.peer} read ${bytes} bytes to the end, ${accepted} were counted`);
    }
  }

  /** Each end has its cause: a client that reads, and to whom nothing is done, stays. */
  #checkEnd(one: Attendance, heard: Heard | undefined): void {
    const { left, client } = one;
    const { stall, awaits, roomy, calm, protocol, transport } = this.#plan;
    const text = `client ${client?.join.peer} (${client?.join.via}) left as ${left}`;
    if (left === undefined) this.fault(`${text}: its end was not told`);
    if (client === undefined) return;
    const { provoked } = client.peer;
    const isMild = [...provoked].every(
      (each) => each === 'appetite' || each === 'finish' || each === 'cancel',
    );
    if (left === 'error' && isMild) this.fault(`${text}, and nothing of what was done to it is an error`);
    if (provoked.size > 0) return;
    if (left === 'closed' || left === 'error') this.fault(`${text}, and nothing was done to it`);
    if (left === 'deactivated' && !this.#deactivates) this.fault(`${text}, and nobody deactivated`);
    if (left === 'stalled' && stall > 1000) this.fault(`${text}, and it reads`);
    const isBehind = client.cursor !== undefined || one.lines.some(({ plan }) => plan.rewind > 0);
    if (left === 'overrun' && (roomy || (awaits && !isBehind))) {
      this.fault(`${text}, although it reads and the writer waits for it or the log holds all`);
    }
    // Else an end takes some turns of the event loop, and a busy one may need longer for them than the hub waits.
    const isAtOnce = isKnown(one) && protocol === 'HTTP/1' && (transport === 'tcp' || transport === 'unix');
    const isPrompt = isAtOnce || stall > 1000;
    if (calm && isPrompt && ORDERLY.has(left) && heard?.complete !== true) {
      this.fault(`${text}, and its response has no end`);
    }
  }

  /** A client has read what was written on its channels while it was there: all of it, once, in order. */
  #checkHeard(one: Attendance, heard: Heard, all: ReadonlyMap<number, Written>): void {
    const { client, lines } = one;
    const { opening } = heard;
    if (client === undefined || opening === undefined) return;
    const text = `client ${client.join.peer} (${client.join.via}, from ${client.cursor?.id})`;
    let last = -1;
    let lastOfStart = -1;
    // Events of a start: their ids name the position with which the client came.
    const starts = new Set<number>();
    for (const { serial = Number.NaN, id = '', seq: said, length, label, data } of heard.frames) {
      const written = all.get(serial);
      if (written === undefined || !lines.includes(written.line)) {
        this.fault(`${text} read ${id} ${data.slice(0, 20)}, which is none of its channels'`);
        continue;
      }
      const { seq, line } = written;
      const isOfStart = id.includes('!@');
      const isWhole = length - id.length === written.length - written.idLength;
      if (!isWhole || (said !== seq && !isOfStart) || label !== encodeURIComponent(line.name)) {
        this.fault(`${text} read ${nameOf(written)} as ${length} bytes, ${id}, ${data.slice(0, 20)}`);
      }
      const before = isOfStart ? lastOfStart : last;
      if (seq <= before || (isOfStart && last !== -1)) this.fault(`${text} read ${seq} after ${before}`);
      if (isOfStart) {
        starts.add(serial);
        lastOfStart = seq;
      } else last = seq;
    }
    const { recovered, gaps, seq: from = -1 } = opening;
    // One that lost its first start comes back as if it had never been there.
    const cursor = client.cursor?.id.startsWith('new!') ? undefined : client.cursor;
    if (recovered !== (gaps.length === 0)) this.fault(`${text} was told ${recovered}, and gaps ${gaps}`);
    if (cursor === undefined) {
      if (!recovered) this.fault(`${text} was told of a gap, and is new`);
    } else {
      const { seq: returned = 0 } = cursor;
      // A start that was cut off before its end says no position.
      const isPlaced = starts.size === 0 || last !== -1;
      if (gaps.length < opening.channels.length && isPlaced && from !== returned)
        this.fault(`${text} was recovered at ${from}`);
      const isNone = ({ name, madeAt }: Line) => gaps.includes(name) && madeAt <= returned;
      if (this.#plan.roomy && !cursor.id.includes('!') && lines.some(isNone))
        this.fault(`${text} was told of a gap that is none`);
    }
    const isWhole = this.#isWhole(one, heard) && !client.peer.provoked.has('end');
    const read = new Set(heard.frames.map(({ serial }) => serial));
    for (const line of lines) {
      const isReturning = cursor !== undefined && !gaps.includes(line.name);
      this.#checkLine(text, one, { line, read, starts, from, to: isWhole ? Infinity : last, isReturning });
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
      starts,
      from,
      to,
      isReturning,
    }: {
      line: Line;
      read: ReadonlySet<number | undefined>;
      starts: ReadonlySet<number>;
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
      if (!read.has(written.serial)) {
        if (isDue && !one.jumped.has(line))
          this.fault(`${text} lost ${nameOf(written)}, from ${from} to ${to}`);
        continue;
      }
      if (isEarly) early += 1;
      if (!isThere && (!isEarly || (seq <= from && !starts.has(written.serial))))
        this.fault(`${text} read ${nameOf(written)}, not for it`);
    }
    if (!isReturning && early > line.plan.rewind) {
      this.fault(`${text} was given ${early} events of before on ${line.name}`);
    }
  }

  /** What clients that stayed to an orderly end have read was delivered to them. */
  #checkOutcome(written: Written, read: ReadonlyMap<Attendance, ReadonlySet<number>>): void {
    const { outcome, roster, serial, line } = written;
    if (!written.tracked) return;
    if (outcome === undefined) {
      this.figures.unsettled += 1;
      this.fault(`${nameOf(written)} is UNSETTLED`);
      return;
    }
    const certain = roster.filter((one) => this.#stayed(one) && read.get(one)?.has(serial));
    const known = certain.filter(isKnown).length;
    const opaque = certain.filter((one) => !isKnown(one) && one.left !== 'closed').length;
    // Whatever the kernel is said to have taken: these clients read all that came, and it did not.
    const missed = roster.filter(
      (one) => one.client !== undefined && this.#hasReadAll(one.client) && !read.get(one)?.has(serial),
    );
    const says = `${nameOf(written)} says ${JSON.stringify(outcome)}`;
    if (outcome.delivered > roster.length - missed.length) {
      this.figures.falseDelivered += outcome.delivered - roster.length + missed.length;
      this.fault(`FALSE DELIVERED: ${says}; ${missed.length} have read to the end, and not that`);
    }
    if (outcome.delivered < known) this.fault(`FALSE FAILURE: ${says}; ${known} have read it in order`);
    if (outcome.unknown < opaque)
      this.fault(`${says}; ${opaque} streams that hold bytes back have carried it`);
    for (const [reason, count] of Object.entries(outcome.reasons)) {
      const cause = (one: Attendance) =>
        failureOf(one.left) === reason || (reason === 'overrun' && one.jumped.has(line));
      const causes = roster.filter(cause).length;
      if (count > causes) this.fault(`${says}; ${causes} listeners left as ${reason}`);
    }
  }

  /**
   * Whether a client has read all that the kernel took for it. A reset throws that away, and so does a close before the
   * server has read what came: a pipelined request, or what a client of HTTP/2 sends by itself. The client may read an end
   * all the same, if something else has already come upon the error.
   */
  #hasReadAll({ peer, join }: Client): boolean {
    const { provoked } = peer;
    const mayBeReset = join.after || (this.#plan.protocol === 'HTTP/2' && provoked.has('destroy'));
    if (!peer.readToEnd || provoked.has('reset') || mayBeReset) return false;
    return this.#hasHalves || !provoked.has('finish');
  }

  /** Whether a client may close its half, and read on: not under TLS by Node's client, nor by a session of HTTP/2. */
  get #hasHalves(): boolean {
    const { protocol, transport } = this.#plan;
    return protocol === 'HTTP/1' && (transport === 'tcp' || transport === 'unix');
  }

  #stayed(one: Attendance): boolean {
    const { client, left } = one;
    const heard = heardBy(one);
    if (client === undefined || heard === undefined || !client.peer.readToEnd) return false;
    const { provoked } = client.peer;
    if (['destroy', 'reset', 'close', 'cancel'].some((each) => provoked.has(each as never))) return false;
    if (this.#isWhole(one, heard)) return true;
    return this.#hasHalves && left === 'closed' && provoked.has('finish') && !provoked.has('end');
  }

  /** Whether the hub ended the stream after all that it had written. */
  #isWhole({ client, left }: Attendance, heard: Heard): boolean {
    // The end of a response of HTTP/1.0 is that of its connection, also where it was cut off.
    const mayBeCut =
      (left === 'drained' && !this.#plan.calm) || (client?.peer.provoked.has('finish') && !this.#hasHalves);
    const isCut = client?.join.via === 'http/1.0' && mayBeCut === true;
    return heard.complete && ORDERLY.has(left) && !isCut;
  }
}

/** Whether anyone can know what becomes of its bytes. */
function isKnown({ client }: Attendance): boolean {
  return client === undefined || !isHolding(client.join.via);
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

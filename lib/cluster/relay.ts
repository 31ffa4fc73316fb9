import { v4 as uuid } from 'uuid';
import type {
  Appended,
  Backplane,
  Entry,
  Findings,
  Found,
  Link,
  Made,
  Node,
  Retained,
  Terms,
} from '../core/backplane.js';
import { AsyncContext } from '../core/context.js';
import {
  BackplaneError,
  ChannelEndedError,
  CometError,
  HubClosedError,
  MalformedMessageError,
} from '../core/errors.js';
import type { Events } from '../core/events.js';
import { channelSettings, type Settings } from '../core/options.js';
import { Deferred, type NodeOutcome, type Outcome } from '../core/outcome.js';
import { formatPosition, type Position, type Sequence } from '../core/position.js';
import type { EndedChannels } from '../delivery/ended.js';
import { Feed } from '../delivery/feed.js';
import type { Flush } from '../delivery/flush.js';
import type { WaitingNames } from '../delivery/waiting.js';
import { sizeOf } from '../sse/frame.js';
import { Answers, type ListenerCount, parseWord, type Word } from './answers.js';
import { Drops } from './drops.js';
import { Follower, type Inquiry, type Member } from './follower.js';
import { type Letter, Outbox } from './outbox.js';
import { outcomeOf, Poll, refusedOf, unknownOf } from './poll.js';

/** What a relay needs of its hub. */
export interface RelayStation {
  readonly settings: Settings;
  readonly sequence: Sequence;
  readonly flush: Flush;
  readonly events: Events;
  readonly ended: EndedChannels;
  readonly waiting: WaitingNames<Feed>;
  /** The channel that has this name now. */
  feedOf(name: string): Feed | undefined;
  /** Makes a channel that another node has made. Returns whether it is there now. */
  adopt(name: string, terms: Terms): boolean;
}

/** A write that was checked, and is to be carried out. */
export interface Write {
  readonly member: Member;
  readonly body: string;
  readonly event: string | undefined;
  readonly outcome: Pick<Deferred<Outcome>, 'resolve'> | undefined;
  readonly perNode: boolean;
  /** Its writer, where that waits until it is accepted: it is not given up meanwhile. */
  readonly writer?: WaitingWriter | undefined;
}

/** Who writes only where there is room, and waits until what was written is accepted. */
export interface WaitingWriter {
  /** One write more of it has this place in the order. */
  accepted(at: Position): void;
  /** One has none, as `on('drop')` tells. */
  refused(happened: 'never' | 'unknown', cause: unknown): void;
}

/** What `push.health()` says. */
export interface Health {
  /** Whether what is written now would be delivered. */
  readonly healthy: boolean;
  /** Why not. */
  readonly reason: string | null;
  /** This hub's name among the nodes. */
  readonly node: string;
  /** `in process`, `redis`. */
  readonly backplane: string;
  /** Milliseconds that a mark took to the backplane, and back by the way that events come. */
  readonly roundTrip: number | null;
  /** Writes that the backplane has yet to accept. */
  readonly queued: number;
}

/** The backplane at one moment, as far as this hub knows. */
export interface BackplaneSnapshot {
  /** `redis`. */
  readonly name: string;
  /** What the event `backplane` said last; `false` before it did. `push.health()` asks. */
  readonly healthy: boolean;
  /** Writes that it has yet to accept. */
  readonly queued: number;
}

type Told = Pick<Letter, 'waits' | 'accepted' | 'refused'>;

const NOTHING = {};
const NOBODY: Told = { waits: false, accepted: () => {}, refused: () => {} };

// Channels that are made known again in one call, and calls in one third of the lease.
const HOLD = 500;
const HOLD_CALLS = 4;
// The process is warned of a backplane that was away for so many milliseconds: one that restarts is back by then.
const AWAY_MS = 5000;
// Messages of errors that are remembered, so that each is told once.
const TOLD = 1000;
// What waits for the writes of this node gives up after so many milliseconds: a server that hangs says nothing.
const WRITTEN_MS = 1000;

/**
 * The hub's end of the backplane. Writes go out, and come back in the one order of all nodes; outcomes are gathered
 * from the nodes that took the write.
 */
export class Relay implements Node {
  readonly id: string;
  /** Events that were written here. */
  written = 0;
  readonly #station: RelayStation;
  readonly #backplane: Backplane;
  readonly #link: Link;
  readonly #follower: Follower;
  readonly #answers: Answers;
  readonly #outbox: Outbox | undefined;
  readonly #drops: Drops;
  // Channels that were made here, and that the backplane has yet to hear of.
  readonly #making = new Set<Member>();
  // Channels that have ended, by name, while what is retained of them is read.
  readonly #ended = new Map<string, Member>();
  #writes = 0;
  // When channels were last made known again, in milliseconds of `performance.now()`, and which are next.
  #heldAt = 0;
  #nextHeld: Iterator<Member> | undefined;
  // The last write of this node that was accepted.
  #accepted: Position | undefined;
  // What was told as malformed.
  readonly #toldMalformed = new Set<string>();
  // Those who wait for the writes of this node.
  readonly #awaiting = new Set<() => void>();
  // Undefined until it is known.
  #isUp: boolean | undefined;
  // Since when it can't be used, and why.
  #away: { readonly since: number; cause: Error } | undefined;
  // Causes of which the process was warned.
  readonly #warned = new Set<string>();
  #historyLost = false;
  #isClosed = false;

  constructor(station: RelayStation, backplane: Backplane) {
    const { settings, sequence } = station;
    const { deadline } = settings;
    this.#station = station;
    this.#backplane = backplane;
    this.#drops = new Drops(station.events);
    this.id = `${settings.node}-${uuid().slice(0, 8)}`;
    this.#answers = new Answers({
      id: this.id,
      deadline,
      tell: (node, word) => this.#tell(node, word),
      listenersOf: (chanId) => this.#follower.listenersOf(chanId),
    });
    this.#link = backplane.connect(this);
    this.#follower = new Follower(this.#link, {
      ...station,
      deadline,
      tally: (asker, seq, listeners) => this.#answers.tally(asker, seq, listeners),
      disclaim: (asker) => this.#answers.disclaim(asker),
      caughtUp: (historyLost) => void this.#resume(historyLost),
      malformed: (error) => this.malformed(error),
      adopt: (name, found) => this.#adopt(name, found, 0),
    });
    if (this.#link.direct !== undefined) this.#isUp = true;
    else this.#outbox = new Outbox(this.#link, sequence, settings);
  }

  /** Whether time can change nothing here. */
  get isQuiet(): boolean {
    return this.#link.direct !== undefined && this.#answers.isQuiet;
  }

  /** The times, in milliseconds, that `tick` must not miss by much. */
  get times(): readonly number[] {
    const { deadline, queue } = this.#station.settings;
    return this.#link.direct === undefined ? [deadline, this.#link.lease / 3, Math.max(queue.wait, 1)] : [];
  }

  /**
   * A channel was made here.
   * @param isAdopted whether another node has made it, which makes it known to nobody
   */
  hold(member: Member, isAdopted: boolean): void {
    const { id, terms } = member;
    const { direct } = this.#link;
    this.#follower.add(member, direct?.recall(id), direct !== undefined || isAdopted ? 0 : undefined);
    if (direct !== undefined) {
      direct.hold(id, terms);
      return;
    }
    // It may end there meanwhile, and is not to be made anew by that.
    if (!isAdopted) this.#make(member);
  }

  /** Makes a channel known to the backplane: behind the end of another one of its name, and before all that is written on it. */
  #make(member: Member): void {
    this.#making.add(member);
    const made = (begun: number) => {
      this.#making.delete(member);
      this.#follower.began(member, begun);
    };
    this.#append(
      member,
      null,
      ++this.#writes,
      false,
      { waits: false, accepted: ({ seq }) => made(seq), refused: () => made(0) },
      { made: member.terms },
    );
  }

  /** A channel is no longer known here. */
  forget(chanId: string): void {
    this.#follower.forget(chanId);
  }

  /** Which channels of these names there are on any node, and which have ended. Rejects with a BackplaneError. */
  async find(chanIds: readonly string[]): Promise<Findings> {
    let found = await this.#attempt(() => this.#link.find(chanIds));
    while (found === undefined || found.epoch !== this.#station.sequence.epoch) {
      // The connection is being made, perhaps, or a new epoch has begun.
      await this.#follower.look();
      found = await this.#link.find(chanIds);
    }
    return found;
  }

  /** Waits for the ends of channels of these names that were ended here. `undefined` where there is nothing to wait for. */
  endings(chanIds: readonly string[]): Promise<void> | undefined {
    return this.#follower.endings(chanIds);
  }

  /** Names of which nothing has changed since they were added to it. */
  inquire(): Inquiry {
    return this.#follower.inquire();
  }

  /** Adds the channel of a name, alive or lingering, as another node made it. Returns whether that could be. */
  adopt(name: string, found: Found): boolean {
    return this.#adopt(name, found, 1);
  }

  /** @param least milliseconds for which what has ended must linger */
  #adopt(name: string, { terms, linger, lastEnd }: Found, least: number): boolean {
    const { adopt, ended, feedOf } = this.#station;
    // It may have been made here meanwhile.
    if (feedOf(name) !== undefined) return true;
    if (terms !== undefined && linger === undefined) {
      if (!adopt(name, terms)) return false;
      this.#follower.beganElsewhere(name, lastEnd);
      return true;
    }
    const present = ended.find(name, performance.now());
    if (present?.endedAt === lastEnd) return true;
    ended.release(name);
    if (terms !== undefined && linger !== undefined && linger >= least)
      this.#recallEnded(name, terms, linger);
    return true;
  }

  /** Has what is retained of a channel that has ended arrive here, where it lingers on. */
  #recallEnded(name: string, terms: Terms, linger: number): void {
    if (this.#ended.has(name)) return;
    const { settings, sequence, ended } = this.#station;
    const feed = new Feed(name, channelSettings(terms, settings), sequence.head, ended.lastEnd(name));
    const done = () => this.#ended.delete(name);
    const member: Member = {
      id: name,
      label: encodeURIComponent(name),
      feed,
      terms,
      ended: (seq, left) => {
        done();
        ended.add(feed, seq, Math.min(linger, left), performance.now());
      },
      left: () => {
        done();
        this.#follower.forget(name);
      },
    };
    this.#ended.set(name, member);
    this.#follower.addEnded(member);
  }

  /**
   * Has channels arrive here, and the order be known up to a cursor. `undefined` where that is so already. Rejects with
   * a BackplaneError where it can't be in time.
   */
  ready(chanIds: readonly string[], cursor: Position | null | undefined): Promise<void> | undefined {
    return this.#follower.ready(chanIds, cursor);
  }

  /** Appends an event; it comes back as an entry. */
  write(write: Write): void {
    const { member, body, outcome, writer } = write;
    this.written += 1;
    const number = ++this.#writes;
    const isHeard = outcome !== undefined || writer !== undefined || this.#station.events.has('write');
    // In one process nothing is refused: where nobody listens there is nothing to tell.
    const told = isHeard || this.#outbox !== undefined ? this.#teller(write, number) : NOBODY;
    this.#append(member, body, number, outcome !== undefined, told);
  }

  /** Gives up a write of which the relay knows that it can't happen. */
  drop(write: Write, cause: CometError): void {
    this.#teller(write, ++this.#writes).refused('never', cause);
  }

  /** Who tells of a write what becomes of it. */
  #teller({ member, body, event, outcome, perNode, writer }: Write, number: number): Told {
    const { events, sequence } = this.#station;
    const channel = member.id;
    let place: Position | undefined;
    if (outcome !== undefined) {
      const at = performance.now();
      // Code that awaits a Deferred has its own context. Another resolve is a callback, and has that of the write.
      const resolve = (told: Outcome) => outcome.resolve(told);
      const settle = outcome instanceof Deferred ? resolve : AsyncContext.bind(resolve);
      const poll = new Poll<NodeOutcome>((answered) => {
        const told = outcomeOf(answered, perNode);
        this.#answers.forget(number);
        events.guard(() => settle(told));
        if (!events.has('outcome')) return;
        const position = place === undefined ? '' : formatPosition(place);
        events.emit('outcome', { channel, position, elapsed: performance.now() - at, outcome: told });
      });
      this.#answers.await(number, poll);
    }
    return {
      waits: writer !== undefined,
      accepted: ({ seq, nodes }) => {
        this.#accepted = { epoch: sequence.epoch, seq };
        if (outcome !== undefined) {
          place = { epoch: sequence.epoch, seq };
          this.#answers.expect(number, this.#takersOf(member, number, seq, nodes));
        }
        writer?.accepted({ epoch: sequence.epoch, seq });
        if (!events.has('write')) return;
        const at = { epoch: sequence.epoch, seq };
        const { listeners } = member.feed;
        const bytes = sizeOf(body, at, member.label);
        const position = formatPosition(at);
        events.emit('write', { channel, position, event: event ?? 'message', bytes, listeners });
      },
      refused: (happened, error) => {
        const cause = endOf(error) ?? causeOf(error, happened);
        writer?.refused(happened, cause);
        this.#drops.add({ channel, event: event ?? 'message', happened, cause });
        const reason = cause instanceof ChannelEndedError ? 'ended' : 'backplane';
        // Its end has yet to arrive, or got lost.
        if (reason === 'ended' && member.feed.endedAt === undefined) this.#follower.lookSoon();
        const listeners = Math.max(member.feed.listeners, 1);
        const outcome = happened === 'never' ? refusedOf(listeners, reason) : unknownOf(listeners);
        this.#answers.giveUp(number, outcome);
      },
    };
  }

  /** The nodes that take a write. This node is one of them if the write arrives here, whether the backplane names it or not. */
  #takersOf(member: Member, number: number, seq: number, nodes: Appended['nodes']): Appended['nodes'] {
    if (nodes.has(this.id)) {
      if (this.#answers.hasTaken(number) || this.#follower.hears(member.id)) return nodes;
      return new Map([...nodes].filter(([node]) => node !== this.id));
    }
    const isTaken = this.#answers.hasTaken(number) || this.#follower.awaits(member, seq);
    if (!isTaken) return nodes;
    // The backplane has lost this node, or takes it for dead.
    this.#follower.lookSoon();
    return new Map(nodes).set(this.id, member.feed.listeners);
  }

  /** Appends the end of a channel. */
  end(member: Member, linger: number): void {
    // Refused, it has ended on another node before.
    const ended = () => this.#follower.settled(member);
    this.#follower.ending(member);
    this.#append(
      member,
      null,
      ++this.#writes,
      false,
      { waits: false, accepted: ended, refused: ended },
      { linger },
    );
  }

  /** Whether one who waits for room may write: not while the backplane is away, nor while the queue to it is full. */
  get hasRoom(): boolean {
    return this.#outbox?.hasRoom ?? true;
  }

  /** Calls `told` once there is room, or none will ever be. */
  awaitRoom(told: () => void): void {
    this.#outbox?.awaitRoom(told);
  }

  /** Does not call it any more. */
  leave(told: () => void): void {
    this.#outbox?.leave(told);
  }

  /** Listeners on all nodes. Rejects with a BackplaneError or a HubClosedError. */
  async countListeners(chanId: string): Promise<ListenerCount> {
    const nodes = await this.#link.nodes();
    if (this.#isClosed) throw new HubClosedError();
    return this.#answers.count(chanId, nodes);
  }

  /** What `push.inspect()` says of the backplane; `null` where it is this process, which can't be away. */
  inspect(): BackplaneSnapshot | null {
    if (this.#outbox === undefined) return null;
    return { name: this.#backplane.name, healthy: this.#isUp === true, queued: this.#outbox.writes };
  }

  /** Has a mark go to the backplane, and come back by the way of the events. */
  async health(): Promise<Health> {
    const state = { node: this.id, backplane: this.#backplane.name, queued: this.#outbox?.writes ?? 0 };
    const began = performance.now();
    try {
      if (this.#isClosed) throw new HubClosedError();
      await this.#follower.look();
    } catch (error) {
      return { healthy: false, reason: (error as Error).message, ...state, roundTrip: null };
    }
    return { healthy: true, reason: null, ...state, roundTrip: performance.now() - began };
  }

  /** Time has passed: `elapsed` milliseconds, to `now` in those of `performance.now()`. */
  tick(elapsed: number, now: number): void {
    this.#answers.expire(now);
    this.#outbox?.expire(now);
    if (this.#away !== undefined && now - this.#away.since >= AWAY_MS) this.#warn(this.#away.cause);
    this.#follower.tick(elapsed, now);
    const { lease, keep } = this.#link;
    const pause = Math.min(lease, keep) / 3;
    if (now - this.#heldAt < pause) return;
    this.#heldAt = now;
    // In turn, but each of them three times within `keep`.
    void this.#hold(Math.max(HOLD * HOLD_CALLS, Math.ceil((this.#follower.size * 3 * pause) / keep)));
  }

  /** Whether the backplane is known to be away. */
  get isAway(): boolean {
    return this.#isUp === false;
  }

  /**
   * Has what was written be accepted, and come back. Waits for a backplane that is away, or not there yet, if it holds
   * an event or an end. `undefined` where there is nothing to wait for.
   */
  settle(): Promise<unknown> | undefined {
    const outbox = this.#outbox;
    if (outbox === undefined || (!this.#isUp && !outbox.isUrgent)) return undefined;
    return outbox.flushed().then(() => this.#attempt(() => this.#follower.look()));
  }

  /**
   * Calls `then` when what this node has written so far has come back to it: at once if it has, or if the backplane is
   * away or goes away meanwhile.
   */
  afterWritten(then: () => void): void {
    const outbox = this.#outbox;
    if (outbox === undefined || !this.#isUp || (outbox.isEmpty && this.#isBack)) {
      then();
      return;
    }
    const timer = setTimeout(() => done(), WRITTEN_MS);
    const done = () => {
      clearTimeout(timer);
      if (this.#awaiting.delete(done)) then();
    };
    this.#awaiting.add(done);
    void outbox
      .flushed()
      .then(() => (this.#isBack ? undefined : this.#attempt(() => this.#follower.look())))
      .then(done);
  }

  /** Whether the last write that was accepted has come back. */
  get #isBack(): boolean {
    const { epoch, head } = this.#station.sequence;
    return this.#accepted === undefined || this.#accepted.epoch !== epoch || this.#accepted.seq <= head;
  }

  /** Resolves when every outcome of a write of this hub is settled. */
  answered(): Promise<void> {
    return this.#answers.quiet();
  }

  /** Leaves the backplane. What is not accepted is refused, and what is not answered is unknown. */
  async close(): Promise<void> {
    this.#isUp = false;
    this.#isClosed = true;
    for (const done of [...this.#awaiting]) done();
    this.#outbox?.close();
    this.#follower.close();
    this.#answers.expire(Infinity);
    await this.#link.close();
    this.#drops.close();
  }

  connected(): void {
    this.#follower.connected();
  }

  disconnected(cause: Error): void {
    this.#outbox?.pause();
    this.#follower.disconnected(cause);
    this.#away = { since: this.#away?.since ?? performance.now(), cause };
    if (cause instanceof BackplaneError && cause.happened === 'never') this.#warn(cause);
    this.#tellHealth(false, cause);
    for (const done of [...this.#awaiting]) done();
  }

  receive(entry: Entry): void {
    this.#follower.receive(entry);
  }

  marked(mark: string): void {
    this.#follower.marked(mark);
  }

  made(made: Made): void {
    this.#follower.made(made);
  }

  hear(text: string): void {
    const { events } = this.#station;
    try {
      const word = parseWord(text);
      if (word !== undefined) events.guard(() => this.#answers.hear(word));
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
      this.malformed(error);
    }
  }

  malformed(error: MalformedMessageError): void {
    const { message } = error;
    if (this.#toldMalformed.has(message)) return;
    if (this.#toldMalformed.size >= TOLD) this.#toldMalformed.clear();
    this.#toldMalformed.add(message);
    this.#station.events.fail(error);
  }

  recall(chanId: string): Retained | undefined {
    return this.#follower.recall(chanId);
  }

  #append(
    { id, feed }: Member,
    body: string | null,
    number: number,
    asks: boolean,
    told: Told,
    { made, linger = 0 }: { readonly made?: Terms; readonly linger?: number } = NOTHING,
  ): void {
    const chanId = id;
    const bounds = feed.log.limits;
    if (this.#link.direct === undefined) {
      this.#outbox?.post({ append: { chanId, body, bounds, number, asks, made, linger }, ...told });
      return;
    }
    const { epoch } = this.#station.sequence;
    // Written out: to spread an object into another with more in it costs three times what the whole write does.
    told.accepted(
      this.#link.append({
        chanId,
        epoch,
        body,
        bounds,
        number,
        after: 0,
        settled: 0,
        again: false,
        made,
        linger,
        asks,
      }),
    );
  }

  #tell(node: string | null, word: Word): void {
    // What is not told is not answered, and the one who asked finds that out.
    void this.#attempt(() => this.#link.tell(node, JSON.stringify(word)));
  }

  /** Everything that was appended before has come. */
  async #resume(historyLost: boolean): Promise<void> {
    this.#historyLost ||= historyLost;
    this.#away = undefined;
    // First what was written: a channel may have been ended and made anew meanwhile.
    this.#outbox?.resume();
    this.#nextHeld = undefined;
    await this.#hold(this.#follower.size);
    if (this.#follower.isSynced) this.#tellHealth(true, undefined);
  }

  #tellHealth(healthy: boolean, cause: Error | undefined): void {
    const historyLost = healthy && this.#historyLost;
    if ((this.#isUp === healthy && !historyLost) || this.#isClosed) return;
    this.#isUp = healthy;
    if (healthy) this.#historyLost = false;
    const { events } = this.#station;
    if (events.has('backplane')) events.emit('backplane', { healthy, cause, historyLost });
  }

  /** Warns of a backplane that can't be used: once for each cause. */
  #warn({ message }: Error): void {
    if (this.#isClosed || this.#warned.has(message)) return;
    this.#warned.add(message);
    const { events } = this.#station;
    events.warn('backplane', `The backplane can not be used, and events wait or are dropped. ${message}`);
  }

  /** Keeps the next `count` channels of this node known, and makes known again what the backplane has lost. */
  async #hold(count: number): Promise<void> {
    const link = this.#link;
    if (link.direct !== undefined) return;
    const members = this.#nextMembers(count).filter(
      (member) => !this.#making.has(member) && this.#ended.get(member.id) !== member,
    );
    for (let first = 0; first < members.length; first += HOLD) {
      const channels = new Map(members.slice(first, first + HOLD).map(({ id, terms }) => [id, terms]));
      const ended = await this.#attempt(() => link.hold(channels));
      for (const [chanId, seq] of ended ?? []) {
        const lost = this.#follower.missed(chanId, seq);
        if (lost !== undefined) this.#make(lost);
      }
    }
  }

  #nextMembers(count: number): Member[] {
    const members: Member[] = [];
    this.#nextHeld ??= this.#follower.members();
    while (members.length < count) {
      const { done, value } = this.#nextHeld.next();
      if (done) {
        this.#nextHeld = undefined;
        break;
      }
      members.push(value);
    }
    return members;
  }

  /** What fails is done again when the connection is there again. */
  async #attempt<T>(call: () => T | Promise<T>): Promise<T | undefined> {
    try {
      return await call();
    } catch (error) {
      if (error instanceof BackplaneError) return undefined;
      throw error;
    }
  }
}

function causeOf(error: unknown, happened: 'never' | 'unknown'): CometError {
  if (error instanceof CometError) return error;
  return new BackplaneError('The backplane did not take a write: see the cause.', happened, { cause: error });
}

/** The error by which an engine says that the channel of a write has ended, on another node. */
function endOf(error: unknown): ChannelEndedError | undefined {
  const { cause } = error instanceof BackplaneError ? error : {};
  return cause instanceof ChannelEndedError ? cause : undefined;
}

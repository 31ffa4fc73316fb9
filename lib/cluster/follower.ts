import type {
  Asker,
  DirectLink,
  Entry,
  Findings,
  Found,
  Link,
  Made,
  Question,
  RemoteLink,
  Retained,
  Snapshot,
  Terms,
} from '../core/backplane.js';
import { AsyncContext } from '../core/context.js';
import { BackplaneError, MalformedMessageError } from '../core/errors.js';
import type { Events } from '../core/events.js';
import { Deferred, type Tally } from '../core/outcome.js';
import type { Position, Sequence } from '../core/position.js';
import type { EndedChannels } from '../delivery/ended.js';
import type { Feed } from '../delivery/feed.js';
import type { Flush } from '../delivery/flush.js';
import { merge } from '../delivery/log.js';
import type { WaitingNames } from '../delivery/waiting.js';
import { bodyOf, encodeEnd, isBody, toFrame } from '../sse/frame.js';

/** A channel, as it is followed. */
export interface Member {
  readonly id: string;
  /** Its id, percent-encoded. */
  readonly label: string;
  readonly feed: Feed;
  readonly terms: Terms;
  /** It has ended, here or on another node, at `seq`. It can be read for `linger` milliseconds. */
  ended(seq: number, linger: number): void;
  /** Nobody has listened for a while, and nothing of it arrives any more. */
  left(): void;
}

/** What a follower needs of its hub. */
export interface Lookup {
  readonly sequence: Sequence;
  readonly flush: Flush;
  readonly events: Events;
  /** Milliseconds that somebody waits for a channel. */
  readonly deadline: number;
  readonly waiting: WaitingNames<Feed>;
  readonly ended: EndedChannels;
  /** Adds the channel of a name, alive or lingering, as another node made it. Returns whether it could. */
  adopt(name: string, found: Found): boolean;
  /** The tally of a write whose outcome is awaited, here or on another node. */
  tally(asker: Asker, seq: number, listeners: number): Tally;
  /** Nobody listens here to what that write was made on. */
  disclaim(asker: Asker): void;
  /** Something has come that is malformed, and was ignored. */
  malformed(error: MalformedMessageError): void;
  /**
   * All that was appended before has come, for the first time since the connection is there.
   * @param historyLost whether another epoch has begun since the last time
   */
  caughtUp(historyLost: boolean): void;
}

/** How one channel stands with the backplane. */
interface Mirror {
  readonly member: Member;
  /** All that is appended is received: its log here is what the backplane retains. */
  attached: boolean;
  /** Somebody waits for that. */
  wanted: boolean;
  /** The `seq` of its last entry. */
  last: number;
  /** It was ended on this node. Its end has yet to arrive. */
  isEnding: boolean;
  /** It had ended before it was added: its history is read. */
  isRecalled: boolean;
  /** Ends up to this `seq` are of earlier channels of its name. Undefined until the backplane has made the channel. */
  begun: number | undefined;
  /** The last end that arrived while the channel was not followed. */
  heardEnd: { readonly seq: number; readonly linger: number };
  /** It has ended, though that has not come; rounds that had begun when that was known. */
  overSince: number;
  /** Milliseconds that nobody has listened. */
  idle: number;
  /** The channel of the same name that was made before this one's end had come back. */
  successor: Mirror | undefined;
}

/** A name that listeners wait for, and of which no channel is followed. */
interface Watch {
  /** Listeners that wait need not be told of ends up to this `seq`. */
  known: number;
  /** Whether the whole of the next channel arrives here, and its writers count this node. */
  isCurrent: boolean;
  /** An event came of a channel whose making was never told. The listeners that wait were told of a gap. */
  isMissed: boolean;
}

/** One look at the order: what stood before its mark is in the snapshot, what stands behind it arrives behind it. */
interface Round {
  readonly mark: string;
  /** Whether it looks at every channel. */
  readonly full: boolean;
  readonly number: number;
  /** Those of which all was asked for. */
  readonly whole: ReadonlySet<Mirror>;
  /** Names whose audience this node entered before its mark. */
  readonly entered: ReadonlyMap<string, Watch>;
  /** What `find` told before the mark about all awaited names. Only a full look asks. */
  readonly findings: Findings | undefined;
  readonly done: Deferred<void>;
  marked: boolean;
  snapshot: Snapshot | undefined;
}

/** An entry, or a channel that was made. */
type Arrival = Entry | Made;

interface Waiter {
  readonly mirrors: readonly Mirror[];
  /** Names for which a listener is about to wait. */
  readonly names: readonly string[];
  /** The first round that is late enough. */
  readonly round: number;
  readonly until: number;
  readonly done: Deferred<void>;
}

const NO_END = { seq: 0, linger: 0 };
// A channel that nobody listens to is let go after so long: clients that reconnect come within that.
const GRACE_MS = 5000;
// An entry that stands further behind the last one that is known is compared with the backplane before it is taken: no
// engine appends so many between two looks.
const JUMP = 2 ** 20;
// What may come between a mark and its snapshot. Beyond that another look is cheaper.
const HELD_BACK = 10_000;

/**
 * Follows the order of all nodes. A channel that has listeners here is a mirror of what the backplane retains, so that
 * replay, slow readers and live delivery are what they are in one process.
 *
 * A mirror is right as long as each entry tells of the one before it. Where one does not, where the connection is new,
 * or where a look at the order shows more than has come, everything is compared with the backplane; until that is done
 * nothing that arrives is taken. A client's cursor is one number for all its channels, and must not come past an event
 * that is yet to be filled in.
 */
export class Follower {
  readonly #direct: DirectLink | undefined;
  // None in one process, where everything arrives as it is written.
  readonly #remote: RemoteLink | undefined;
  readonly #hub: Lookup;
  readonly #context = new AsyncContext();
  readonly #mirrors = new Map<string, Mirror>();
  #waiters: Waiter[] = [];

  // One connection after the other: what belongs to an earlier one says nothing of this.
  #life = 0;
  #connected: boolean;
  #caughtUp = false;
  // Whether it has ever caught up, and whether that epoch is over.
  #hasHistory = false;
  #historyLost = false;
  #subscribed = new Set<string>();
  #leaving = new Set<string>();
  #synced: boolean;
  #pursuing = 0;
  #round: Round | undefined;
  #rounds = 0;
  #concluded = 0;
  #began = Infinity;
  #due = false;
  // What came behind the mark of a round whose snapshot has not come.
  #heldBack: Arrival[] | undefined;
  // More came than could be held back.
  #isFlooded = false;
  readonly #watches = new Map<string, Watch>();
  // Names that the next look looks for. If `#anyMade` is set, it looks for all names that listeners wait for.
  readonly #made = new Set<string>();
  #anyMade = false;
  // The requests that look for channels.
  readonly #inquiries = new Set<OpenInquiry>();
  // Where the order stood at the last look.
  #seen = 0;
  // An entry that stands too far behind that. The next look shows whether the order has come to it.
  #suspect: Entry | undefined;
  // The last foreign epoch that an entry carried. The follower looks at each foreign epoch once.
  #doubted: string | undefined;
  // When it last began to look at every channel, in milliseconds of `performance.now()`.
  #lookedAt = 0;
  #isClosed = false;
  #cause = new Error('The backplane did not answer in time.');

  constructor(link: Link, hub: Lookup) {
    if (link.direct === undefined) this.#remote = link;
    else this.#direct = link;
    this.#hub = hub;
    this.#connected = this.#synced = this.#direct !== undefined;
    if (this.#direct === undefined) return;
    const { epoch, seq } = this.#direct.direct.position;
    hub.sequence.epoch = epoch;
    hub.sequence.head = seq;
  }

  /** The channels of this node. */
  *members(): IterableIterator<Member> {
    for (const mirror of this.#mirrors.values()) yield newest(mirror).member;
  }

  /** How many channels this node has. */
  get size(): number {
    return this.#mirrors.size;
  }

  listenersOf(chanId: string): number {
    return this.#mirrors.get(chanId)?.member.feed.listeners ?? 0;
  }

  /**
   * A channel was made here; `retained` is what its log begins with, where that is known at once.
   * @param begun ends up to this `seq` are of earlier channels of its name; `undefined` if `began` will tell
   */
  add(member: Member, retained: Retained | undefined, begun: number | undefined): void {
    const attached = this.#direct !== undefined;
    const last = this.#direct?.direct.position.seq ?? this.#hub.sequence.head;
    const common = { overSince: Infinity, idle: 0, successor: undefined, isEnding: false, isRecalled: false };
    const wanted = this.#isAwaited(member.id);
    const mirror: Mirror = { member, attached, wanted, last, begun, heardEnd: NO_END, ...common };
    if (retained !== undefined) this.#load(mirror, retained);
    const present = this.#mirrors.get(member.id);
    if (present === undefined) this.#mirrors.set(member.id, mirror);
    else newest(present).successor = mirror;
    if (present !== undefined && present.overSince < Infinity) this.lookSoon();
  }

  /** Adds a channel that has ended on another node, so that its history can be read. */
  addEnded(member: Member): void {
    this.add(member, undefined, 0);
    for (const mirror of this.#mirrorsOf(member.id)) {
      if (mirror.member !== member) continue;
      mirror.overSince = this.#rounds;
      mirror.isRecalled = true;
    }
  }

  /** The backplane has made a channel of this node, or has it already: ends up to `seq` are of earlier ones. */
  began(member: Member, seq: number): void {
    for (const mirror of this.#mirrorsOf(member.id)) if (mirror.member === member) mirror.begun = seq;
    this.#endHeard(member.id);
    const mirror = this.#mirrors.get(member.id);
    if (mirror?.member === member && mirror.wanted && !mirror.attached) this.lookSoon();
  }

  /** A channel that another node has made was added here: ends up to `seq` are of earlier ones. */
  beganElsewhere(chanId: string, seq: number): void {
    const mirror = this.#mirrors.get(chanId);
    if (mirror !== undefined) newest(mirror).begun = seq;
  }

  /** The channels of one name, the earliest first. */
  *#mirrorsOf(chanId: string): IterableIterator<Mirror> {
    for (let mirror = this.#mirrors.get(chanId); mirror !== undefined; mirror = mirror.successor)
      yield mirror;
  }

  /** Names of which nothing has changed since they were added. Ends by `close`. */
  inquire(): Inquiry {
    const inquiry: OpenInquiry = { names: new Set(), awaited: new Set() };
    this.#inquiries.add(inquiry);
    return {
      names: inquiry.names,
      awaits: (names) => this.#awaits(inquiry, names),
      close: () => this.#inquiries.delete(inquiry),
    };
  }

  /** Has names be watched for which the listener of a request is about to wait. */
  #awaits({ awaited }: OpenInquiry, names: readonly string[]): Promise<void> | undefined {
    if (this.#remote === undefined) return undefined;
    for (const name of names) awaited.add(name);
    for (const name of names) this.#watch(name);
    return this.#synced && names.every((name) => this.#isWatched(name))
      ? undefined
      : this.#wait([], 0, names);
  }

  #watch(name: string): void {
    if (this.#mirrors.get(name)?.attached === true || this.#watches.has(name)) return;
    this.#watches.set(name, { known: this.#hub.sequence.head, isCurrent: false, isMissed: false });
  }

  /** Whether the whole of the next channel of this name arrives here, and its writers count this node. */
  #isWatched(name: string): boolean {
    return this.#mirrors.get(name)?.attached === true || this.#watches.get(name)?.isCurrent === true;
  }

  /** What is retained here of a channel. */
  recall(chanId: string): Retained | undefined {
    const mirror = this.#mirrors.get(chanId);
    if (mirror === undefined || !mirror.attached) return undefined;
    const { epoch } = this.#hub.sequence;
    const { log, lastEnd } = mirror.member.feed;
    let previous = log.floor;
    const entries = merge([log.after(0)]).map((frame): Entry => {
      const { seq, at } = frame;
      const entry = { chanId, epoch, seq, previous, body: bodyOf(frame), age: performance.now() - at };
      previous = seq;
      return { ...entry, asker: undefined };
    });
    const { begun: made } = log;
    return { chanId, begun: lastEnd, made, lastEnd, last: mirror.last, entries };
  }

  /**
   * Has these channels arrive here, and the order be known up to the cursor. `undefined` where that is so already.
   * Rejects with a BackplaneError where it can't be in time.
   */
  ready(chanIds: readonly string[], cursor: Position | null | undefined): Promise<void> | undefined {
    const { sequence } = this.#hub;
    if (this.#direct !== undefined) {
      sequence.head = this.#direct.direct.position.seq;
      return undefined;
    }
    const mirrors = chanIds
      .map((id) => this.#mirrors.get(id))
      .filter((mirror) => mirror !== undefined)
      .map(newest);
    for (const mirror of mirrors) {
      mirror.idle = 0;
      mirror.wanted = true;
    }
    // It comes from another node, which may be further on than what has arrived here.
    const isAhead = cursor && (cursor.epoch !== sequence.epoch || cursor.seq > sequence.head);
    if (this.#synced && !isAhead && mirrors.every(({ attached }) => attached)) return undefined;
    return this.#wait(mirrors, isAhead ? this.#rounds + 1 : 0);
  }

  /** A channel is ended here. Its end has yet to arrive. */
  ending(member: Member): void {
    for (const mirror of this.#mirrorsOf(member.id)) if (mirror.member === member) mirror.isEnding = true;
  }

  /**
   * Waits for the ends of channels of these names that were ended here. `undefined` where all of them have arrived. Rejects
   * with a BackplaneError where they can't arrive in time.
   */
  endings(chanIds: readonly string[]): Promise<void> | undefined {
    const mirrors = chanIds.flatMap((chanId) => [...this.#mirrorsOf(chanId)]);
    const ending = mirrors.filter(({ isEnding }) => isEnding);
    if (ending.length === 0) return undefined;
    if (ending.some(({ overSince }) => overSince < Infinity)) this.lookSoon();
    return this.#wait(ending, 0);
  }

  /** Everything up to the head of the sequence has come. */
  get isSynced(): boolean {
    return this.#synced;
  }

  /** Looks at the order. Rejects with a BackplaneError where that can't be done in time. */
  async look(): Promise<void> {
    if (this.#direct !== undefined) return;
    await this.#wait([], this.#rounds + 1);
  }

  /** Looks at every channel, though nothing is in doubt. */
  lookSoon(): void {
    this.#due = true;
    this.#pursue();
  }

  /** Whether entries of a channel of this name arrive here. */
  hears(chanId: string): boolean {
    return this.#remote === undefined || this.#subscribed.has(chanId);
  }

  /** Whether the entry at `seq`, which this channel has, is yet to come here. */
  awaits(member: Member, seq: number): boolean {
    // Within one process it has come, or the hub was closed.
    if (this.#remote === undefined || this.#isClosed) return false;
    const mirror = this.#mirrors.get(member.id);
    return mirror?.member === member && mirror.attached && seq > mirror.last;
  }

  connected(): void {
    this.#life += 1;
    this.#connected = true;
    this.#lookedAt = performance.now();
    this.#caughtUp = false;
    this.#anyMade = true;
    this.#subscribed.clear();
    this.#pursue();
  }

  disconnected(cause: Error): void {
    this.#life += 1;
    this.#connected = false;
    this.#synced = false;
    this.#cause = cause;
    this.#began = Infinity;
    this.#heldBack = undefined;
    this.#isFlooded = false;
    this.#made.clear();
    for (const watch of this.#watches.values()) watch.isCurrent = false;
    this.#round?.done.reject(cause);
    this.#round = undefined;
    for (const { names } of this.#inquiries) names.clear();
  }

  /** A channel was made. If its name is awaited, this node follows it from its first event on, or looks for it if it can't. */
  made(made: Made): void {
    const { chanId, epoch, lastEnd, terms } = made;
    for (const { names } of this.#inquiries) names.delete(chanId);
    if (this.#heldBack !== undefined) {
      this.#holdBack(made);
      return;
    }
    if (!this.#isAwaited(chanId)) return;
    if (this.#remote !== undefined && !this.#canFollow(made)) {
      if (this.#synced && epoch !== this.#hub.sequence.epoch) this.#doubtEpoch(epoch);
      this.#find(chanId);
      return;
    }
    // A channel of this node has a mirror already, also if this node has ended it since.
    const isHere = this.#mirrors.has(chanId);
    if (!isHere && !this.#hub.adopt(chanId, { terms, linger: undefined, lastEnd })) {
      this.#hub.waiting.refuse(chanId);
      return;
    }
    const mirror = this.#mirrors.get(chanId);
    if (mirror === undefined || mirror.attached) return;
    mirror.begun ??= made.last;
    this.#hub.sequence.head = Math.max(this.#hub.sequence.head, made.last);
    this.#begin(mirror, made, made.last);
    this.#tellMet();
  }

  /** Whether all that is written on a channel which was made arrives here, and nothing was written on it before. */
  #canFollow({ chanId, epoch, made, last }: Made): boolean {
    if (!this.#synced || epoch !== this.#hub.sequence.epoch || made !== last) return false;
    return this.#isWatched(chanId) && this.#mirrors.get(chanId)?.isRecalled !== true;
  }

  /** Whether a listener waits for the next channel of a name, or is about to. */
  #isAwaited(name: string): boolean {
    if (this.#hub.waiting.has(name)) return true;
    for (const { awaited } of this.#inquiries) if (awaited.has(name)) return true;
    return false;
  }

  receive(entry: Entry): void {
    if (entry.body === null) for (const { names } of this.#inquiries) names.delete(entry.chanId);
    if (this.#heldBack !== undefined) {
      this.#holdBack(entry);
      return;
    }
    const mirror = this.#mirrors.get(entry.chanId);
    const { sequence } = this.#hub;
    const isFollowed = mirror?.attached === true;
    if (mirror !== undefined && entry.epoch !== sequence.epoch && (isFollowed || entry.body === null)) {
      if (!isFollowed || this.#synced) this.#doubtEpoch(entry.epoch);
    } else if (mirror !== undefined && entry.seq > sequence.head + JUMP && this.#remote !== undefined) {
      this.#suspect = entry;
      this.#doubt();
    } else if (isFollowed) this.#receiveNext(mirror, entry);
    else if (entry.body === null) this.#hearEnd(entry.chanId, entry.seq, lingerOf(entry));
    else if (mirror === undefined) this.#missEntry(entry);
    // `#load` or `#take` answers the asker if a listener waits for the channel.
    if (!isFollowed && entry.asker !== undefined && !this.#hub.waiting.has(entry.chanId))
      this.#hub.disclaim(entry.asker);
  }

  /** An event of a channel arrived that was not made, as far as the engine told. */
  #missEntry({ chanId }: Entry): void {
    const { waiting } = this.#hub;
    const watch = this.#watches.get(chanId);
    if (!this.#synced || !watch?.isCurrent || watch.isMissed || !waiting.has(chanId)) return;
    watch.isMissed = true;
    waiting.miss(chanId);
    this.#find(chanId);
  }

  /** Looks for the channel of a name that is awaited: it can't be followed from its first event on. */
  #find(name: string): void {
    this.#watch(name);
    const watch = this.#watches.get(name);
    if (watch !== undefined) watch.isCurrent = false;
    this.#made.add(name);
    this.#pursue();
  }

  #receiveNext(mirror: Mirror, entry: Entry): void {
    // Before the last look, it was in that.
    if (!this.#synced || (entry.seq <= mirror.last && entry.seq <= this.#seen)) return;
    const isNext = entry.seq > this.#hub.sequence.head && entry.previous === mirror.last;
    if (isNext) this.#take(mirror, entry);
    else this.#doubt();
  }

  /** A mark has come by the way of the entries. */
  marked(mark: string): void {
    const round = this.#round;
    if (round?.mark !== mark) return;
    round.marked = true;
    if (round.snapshot === undefined) this.#heldBack = [];
    else this.#conclude(round, round.snapshot);
  }

  /**
   * The engine reports that a channel ended at `seq`. The end did not arrive here. Returns the channel that this node made under
   * the same name after that end, because the engine has lost it.
   */
  missed(chanId: string, seq: number): Member | undefined {
    let lost: Mirror | undefined;
    for (const mirror of this.#mirrorsOf(chanId)) {
      if (mirror.begun === undefined) continue;
      // Its end may be on the way, or still be in the log.
      if (mirror.begun < seq) mirror.overSince = this.#rounds;
      else if (!mirror.isEnding) lost = mirror;
    }
    this.lookSoon();
    return lost?.member;
  }

  /** The end of a channel of this node has been accepted, or there is nothing left to end. */
  settled(member: Member): void {
    for (const mirror of this.#mirrorsOf(member.id)) {
      if (mirror.member !== member) continue;
      mirror.overSince = this.#rounds;
      // If the end got lost, a look finds that out. Otherwise requests and listeners would wait for it.
      const isAwaited = this.#waiters.some(({ mirrors }) => mirrors.includes(mirror));
      if (mirror.successor !== undefined || isAwaited) this.lookSoon();
    }
  }

  /** Time has passed: `elapsed` milliseconds, to `now` in those of `performance.now()`. */
  tick(elapsed: number, now: number): void {
    this.#hub.waiting.sweep();
    const link = this.#remote;
    if (link === undefined) return;
    const pause = link.lease / 3;
    // By the clock and not by `elapsed`, because the lease goes on while the process stands still.
    if (now - this.#lookedAt >= pause) {
      this.#lookedAt = now;
      this.#due = true;
    }
    for (const [chanId, mirror] of this.#mirrors) this.#rest(chanId, mirror, elapsed);
    for (const name of this.#watches.keys()) {
      if (this.#isAwaited(name)) continue;
      this.#watches.delete(name);
      this.#leaving.add(name);
    }
    for (const waiter of this.#waiters) {
      if (now >= waiter.until) waiter.done.reject(this.#unreachable());
    }
    this.#waiters = this.#waiters.filter(({ until }) => now < until);
    if (this.#connected && now - this.#began > pause) {
      link.reset(new Error(`The backplane did not answer within ${pause} ms.`));
    }
    this.#pursue();
  }

  /** Lets a channel go that nobody has listened to for a while. */
  #rest(chanId: string, mirror: Mirror, elapsed: number): void {
    const { member, attached, wanted } = mirror;
    if (member.feed.listeners > 0 || !(attached || wanted) || this.#isAwaited(chanId)) {
      mirror.idle = 0;
      return;
    }
    mirror.idle += elapsed;
    if (mirror.idle < GRACE_MS || this.#waiters.some(({ mirrors }) => mirrors.includes(mirror))) return;
    mirror.attached = mirror.wanted = false;
    this.#hub.flush.forget(member.feed, this.#hub.sequence.head);
    this.#leaving.add(chanId);
    member.left();
  }

  /** Nothing is followed any more. */
  close(): void {
    this.#isClosed = true;
    for (const { done } of this.#waiters.splice(0)) done.reject(this.#unreachable());
  }

  /** Forgets a channel that was let go. */
  forget(chanId: string): void {
    for (const { names } of this.#inquiries) names.delete(chanId);
    this.#replace(chanId, this.#mirrors.get(chanId)?.successor);
  }

  #replace(chanId: string, successor: Mirror | undefined): void {
    if (successor === undefined) this.#mirrors.delete(chanId);
    else this.#mirrors.set(chanId, successor);
  }

  async #wait(mirrors: readonly Mirror[], round: number, names: readonly string[] = []): Promise<void> {
    const done = new Deferred<void>();
    if (this.#isClosed) throw this.#unreachable();
    this.#waiters.push({ mirrors, names, round, until: performance.now() + this.#hub.deadline, done });
    this.#pursue();
    return done.promise;
  }

  #unreachable(): BackplaneError {
    return new BackplaneError(this.#cause.message, 'no', { cause: this.#cause });
  }

  #isMet({ mirrors, names, round }: Waiter): boolean {
    return (
      this.#synced &&
      this.#concluded >= round &&
      names.every((name) => this.#isWatched(name) || this.#mirrors.has(name)) &&
      mirrors.every(({ attached, isEnding, member }) => {
        return member.feed.endedAt !== undefined || (attached && !isEnding);
      })
    );
  }

  /** Something may be missing. */
  #doubt(): void {
    this.#synced = false;
    this.#pursue();
  }

  /** Looks whether this epoch has begun, once for each. */
  #doubtEpoch(epoch: string): void {
    if (epoch === this.#doubted) return;
    this.#doubted = epoch;
    this.#doubt();
  }

  /** Looks at the order for as long as there is reason to. One look at a time, of one connection. */
  #pursue(): void {
    const link = this.#remote;
    if (link === undefined || this.#pursuing === this.#life || !this.#connected) return;
    // A request may be the reason. Others will be.
    void this.#context.run(() => this.#lookOnAndOn(link, this.#life));
  }

  async #lookOnAndOn(link: RemoteLink, life: number): Promise<void> {
    this.#pursuing = life;
    try {
      while (this.#life === life && this.#hasReason()) {
        this.#began = performance.now();
        await this.#lookOnce(link);
      }
    } catch (error) {
      if (this.#life === life) link.reset(error as Error);
    } finally {
      if (this.#life === life) this.#began = Infinity;
      if (this.#pursuing === life) this.#pursuing = 0;
    }
  }

  #hasReason(): boolean {
    return (
      !this.#synced ||
      this.#due ||
      this.#made.size > 0 ||
      this.#leaving.size > 0 ||
      this.#waiters.some((one) => this.#helps(one))
    );
  }

  /** Whether a look brings nearer what is waited for: not where another one's end has to come first. */
  #helps({ mirrors, names, round }: Waiter): boolean {
    const isNext = (mirror: Mirror) => this.#mirrors.get(mirror.member.id) === mirror;
    return (
      this.#concluded < round ||
      names.some((name) => !this.#isWatched(name)) ||
      mirrors.some((mirror) => {
        return !mirror.attached && !mirror.isEnding && isNext(mirror) && mirror.begun !== undefined;
      })
    );
  }

  /** Asks the engine for the channels of awaited names, and adds those that exist. Returns the answer, if it asked. */
  async #findAwaited(link: RemoteLink, full: boolean): Promise<Findings | undefined> {
    const isOfAll = full || this.#anyMade;
    const awaited = [...new Set(isOfAll ? this.#hub.waiting.names() : this.#made)].filter(
      (name) => this.#isAwaited(name) && this.#mirrors.get(name)?.attached !== true,
    );
    this.#anyMade = false;
    this.#made.clear();
    if (awaited.length === 0) return undefined;
    for (const name of awaited) this.#watch(name);
    const life = this.#life;
    const findings = await link.find(awaited);
    // What is of another epoch is asked again, once the look has found that.
    if (this.#life !== life) return undefined;
    if (findings.epoch !== this.#hub.sequence.epoch) {
      this.#doubt();
      return undefined;
    }
    for (const name of awaited) {
      const watch = this.#watches.get(name);
      // A current watch gets the messages themselves. They may still be on the way.
      if (watch !== undefined && !watch.isCurrent) this.#found(name, watch, findings);
    }
    return findings;
  }

  /** Applies the answer of `find` for a name: adds its channel, or tells listeners of a gap if one ended unseen. */
  #found(name: string, watch: Watch, { forgotten, names }: Findings): void {
    const { waiting, adopt } = this.#hub;
    const found = names.get(name);
    const lastEnd = Math.max(forgotten, found?.lastEnd ?? 0);
    const isLingering = found?.linger !== undefined;
    const isNews = lastEnd > watch.known;
    if (found?.terms !== undefined && (!isLingering || isNews)) {
      if (!adopt(name, found)) waiting.refuse(name);
      const mirror = this.#mirrors.get(name);
      if (mirror !== undefined) newest(mirror).wanted = true;
    } else if (isNews) this.#miss(name, lastEnd);
  }

  /** A channel of a name that waits may have been made and have ended, and can't be read. */
  #miss(name: string, lastEnd: number): void {
    const watch = this.#watches.get(name);
    if (watch !== undefined) watch.known = Math.max(watch.known, lastEnd);
    this.#hub.ended.learn(name, lastEnd);
    this.#hub.waiting.miss(name);
  }

  async #lookOnce(link: RemoteLink): Promise<void> {
    const life = this.#life;
    const full = !this.#synced || this.#due;
    this.#due = false;
    let findings: Findings | undefined;
    do {
      findings = await this.#findAwaited(link, full);
      if (this.#life === life) await this.#subscribe(link);
      if (this.#life !== life) return;
      // Until then a channel may have been made that this look is to include.
    } while (this.#made.size > 0);
    const entered = await this.#enter(link, full);
    if (this.#life !== life) return;
    // Until a channel is made, what is retained under its name is of an earlier one.
    const mirrors = [...this.#mirrors.values()].filter(
      ({ member, begun }) =>
        this.#subscribed.has(member.id) && (begun !== undefined || this.#hub.waiting.has(member.id)),
    );
    const questions = mirrors
      .filter(({ attached }) => full || !attached)
      .map(({ member, attached, last }): Question => {
        return { chanId: member.id, from: attached ? last : null, listeners: member.feed.listeners };
      });

    this.#rounds += 1;
    const round: Round = {
      mark: `${this.#life}-${this.#rounds}`,
      number: this.#rounds,
      whole: new Set(mirrors.filter(({ attached }) => !attached)),
      entered,
      findings: full ? findings : undefined,
      full,
      done: new Deferred(),
      marked: false,
      snapshot: undefined,
    };
    // Where the look fails before it is awaited, nobody hears of it twice.
    round.done.promise.catch(() => {});
    this.#round = round;
    const snapshot = await link.sync(questions, round.mark);
    if (this.#round !== round) return;
    round.snapshot = snapshot;
    if (round.marked) this.#conclude(round, snapshot);
    await round.done.promise;
  }

  /** Enters the audience of names that are watched. */
  async #enter(link: RemoteLink, full: boolean): Promise<ReadonlyMap<string, Watch>> {
    const entering = new Map(
      [...this.#watches].filter(
        ([name, { isCurrent }]) => this.#subscribed.has(name) && (full || !isCurrent),
      ),
    );
    const { waiting } = this.#hub;
    const listeners = new Map([...entering.keys()].map((name) => [name, waiting.count(name)]));
    if (listeners.size > 0) await link.awaitChannels(listeners);
    return entering;
  }

  async #subscribe(link: RemoteLink): Promise<void> {
    const life = this.#life;
    const isFollowed = (chanId: string) => {
      const mirror = this.#mirrors.get(chanId);
      return this.#watches.has(chanId) || (mirror !== undefined && (mirror.attached || mirror.wanted));
    };
    for (const id of this.#leaving) if (isFollowed(id)) this.#leaving.delete(id);
    const leaving = [...this.#leaving];
    if (leaving.length > 0) await link.unsubscribe(leaving);
    // Not before that is done: who is named in a channel's audience is waited for by those who write.
    for (const id of leaving) {
      this.#leaving.delete(id);
      this.#subscribed.delete(id);
    }
    const followed = new Set([...this.#mirrors.keys(), ...this.#watches.keys()]);
    const coming = [...followed].filter((id) => isFollowed(id) && !this.#subscribed.has(id));
    if (coming.length > 0) await link.subscribe(coming);
    if (this.#life === life) for (const chanId of coming) this.#subscribed.add(chanId);
  }

  #holdBack(arrival: Arrival): void {
    const heldBack = this.#heldBack as Arrival[];
    if (heldBack.length < HELD_BACK) heldBack.push(arrival);
    else this.#isFlooded = true;
  }

  #conclude(round: Round, snapshot: Snapshot): void {
    this.#round = undefined;
    round.done.resolve();
    const heldBack = this.#heldBack ?? [];
    const isFlooded = this.#isFlooded;
    this.#heldBack = undefined;
    this.#isFlooded = false;
    if (isFlooded) {
      this.#synced = false;
      this.#anyMade = true;
    } else {
      this.#seen = snapshot.head;
      // Where a doubt has come up, a look at some of the channels has not settled it.
      if (round.full || this.#synced) this.#install(snapshot, round);
      for (const arrival of heldBack) {
        if ('terms' in arrival) this.made(arrival);
        else this.receive(arrival);
      }
    }
    this.#concluded = round.number;
    this.#tellMet();
  }

  /** Begins with the channels that are awaited and can stand in order. */
  #join(channels: readonly Retained[], whole: ReadonlySet<Mirror>): void {
    const { sequence, waiting } = this.#hub;
    const { head } = sequence;
    for (const retained of channels) {
      const mirror = this.#mirrors.get(retained.chanId);
      if (mirror === undefined || mirror.attached || !whole.has(mirror)) continue;
      if (!waiting.has(retained.chanId) || isOfEarlier(mirror, retained)) continue;
      const isInOrder = isWhole(retained) && retained.entries.every(({ seq }) => seq > head);
      if (isInOrder) this.#begin(mirror, retained, floorOf(retained));
    }
  }

  /**
   * Watches the names that this node entered before the mark, which stood at `head`. If the findings show a channel whose message
   * never came, looks for it.
   */
  #watchFrom({ entered, findings }: Round, head: number): void {
    for (const [name, watch] of entered) {
      if (this.#watches.get(name) !== watch) continue;
      const { terms, linger, lastEnd = 0 } = findings?.names.get(name) ?? {};
      const isAlive = terms !== undefined && linger === undefined;
      const isLost =
        watch.isCurrent && this.#mirrors.get(name) === undefined && (isAlive || lastEnd > watch.known);
      // A channel that was made while the node looked is yet to be found.
      const isCurrent = !isLost && !this.#made.has(name);
      // Listeners that waited before were told by `#found`. Others begin behind the mark.
      if (isCurrent && !watch.isCurrent) watch.known = Math.max(watch.known, head);
      watch.isCurrent = isCurrent;
      if (isLost) this.#find(name);
    }
  }

  #tellMet(): void {
    const met = new Set(this.#waiters.filter((waiter) => this.#isMet(waiter)));
    this.#waiters = this.#waiters.filter((waiter) => !met.has(waiter));
    for (const { done } of met) done.resolve();
  }

  /** Everything before the mark has come, or comes now. */
  #install({ epoch, head, channels }: Snapshot, round: Round): void {
    const { whole } = round;
    const { sequence } = this.#hub;
    if (epoch !== sequence.epoch) {
      // What was asked for was asked in positions of another epoch: it has to be asked again.
      this.#beginAnew(epoch, head);
      return;
    }
    if (head < sequence.head) {
      // What is behind the head was never appended. Positions that clients have of it mean nothing.
      this.#hub.malformed(new MalformedMessageError('An entry', 'it stands behind the end of the order'));
      this.#beginAnew(epoch, head);
      return;
    }
    this.#join(channels, whole);
    const known: [Mirror, Retained][] = [];
    const fresh: [Mirror, Retained][] = [];
    for (const retained of channels) {
      const mirror = this.#mirrors.get(retained.chanId);
      if (mirror === undefined) continue;
      if (!mirror.attached) {
        // It may have been let go, or made anew, since it was asked for the rest of it.
        if (whole.has(mirror) && !isOfEarlier(mirror, retained)) fresh.push([mirror, retained]);
      } else if (retained.begun <= mirror.last) known.push([mirror, retained]);
      // It has ended, and another one of its name is there.
      else this.#abandon(mirror);
    }

    const missing = known.flatMap(([mirror, { entries }]) => entries.map((entry) => ({ mirror, entry })));
    missing.sort((a, b) => a.entry.seq - b.entry.seq);
    for (const { mirror, entry } of missing) {
      if (entry.seq <= mirror.last) continue;
      const isLate = entry.seq <= sequence.head;
      if (isLate || entry.previous !== mirror.last) this.#gap(mirror, entry.previous, isLate);
      this.#take(mirror, entry, isLate);
    }
    // What was let go before it could be read.
    for (const [mirror, { last }] of known) if (last > mirror.last) this.#gap(mirror, last, false);
    sequence.head = Math.max(sequence.head, head);
    for (const [mirror, retained] of fresh) {
      if (!mirror.attached) this.#load(mirror, retained);
    }
    for (const chanId of [...this.#mirrors.keys()]) this.#buryOver(chanId);
    this.#watchFrom(round, head);

    this.#synced = true;
    this.#judge(head);
    if (this.#caughtUp && !this.#historyLost) return;
    const historyLost = this.#historyLost;
    this.#caughtUp = this.#hasHistory = true;
    this.#historyLost = false;
    this.#hub.caughtUp(historyLost);
  }

  /** The order stands at `head`: what was too far behind it is taken, or is none. */
  #judge(head: number): void {
    const suspect = this.#suspect;
    this.#suspect = undefined;
    if (suspect === undefined) return;
    if (suspect.seq <= head) this.receive(suspect);
    else {
      const where = `An entry of the channel ${JSON.stringify(suspect.chanId)}`;
      this.#hub.malformed(new MalformedMessageError(where, 'it stands behind the end of the order'));
    }
  }

  /** The next entry of a channel. */
  #take(mirror: Mirror, entry: Entry, isLate = false): void {
    const { seq, body, age, asker } = entry;
    const { sequence, flush, tally, waiting } = this.#hub;
    const { label, feed } = mirror.member;
    mirror.last = seq;
    sequence.head = Math.max(sequence.head, seq);
    if (body === null) {
      this.#end(mirror, seq, lingerOf(entry), isLate);
      return;
    }
    if (!isBody(body)) {
      this.#hub.malformed(malformedEvent(mirror.member.id));
      this.#gap(mirror, seq, true);
      if (asker !== undefined) this.#hub.disclaim(asker);
      return;
    }
    const frame = toFrame(body, { epoch: sequence.epoch, seq }, label, age);
    // Listeners that wait for the channel stand behind a late event: they must find it in the log when they join.
    const isFirst = isLate && waiting.hasWaiter(feed.chanId);
    if (isFirst) flush.append(feed, frame);
    this.#welcome(feed);
    if (asker !== undefined) feed.track(tally(asker, seq, feed.listeners));
    if (isLate) feed.countMissed(seq);
    if (!isFirst) flush.append(feed, frame);
  }

  /** Has the listeners join that wait for the first event of a channel, its end included: they are among those it reaches. */
  #welcome(feed: Feed): void {
    const { waiting } = this.#hub;
    if (waiting.hasWaiter(feed.chanId)) waiting.resolve(feed.chanId, feed);
  }

  /** A channel of this name has ended at `seq`. Ends each one of the name that began before. */
  #hearEnd(chanId: string, seq: number, linger: number): void {
    for (const mirror of this.#mirrorsOf(chanId))
      if (seq > mirror.heardEnd.seq) mirror.heardEnd = { seq, linger };
    this.#endHeard(chanId);
  }

  #endHeard(chanId: string): void {
    const mirror = this.#mirrors.get(chanId);
    if (mirror === undefined || mirror.attached || mirror.begun === undefined) return;
    const { seq, linger } = mirror.heardEnd;
    if (seq > mirror.begun) this.#end(mirror, seq, linger);
  }

  #end(mirror: Mirror, seq: number, linger = 0, isLate = false): void {
    const { flush } = this.#hub;
    const { member, attached, successor } = mirror;
    member.feed.end(seq);
    // Listeners that wait stand behind a late end: they can't join the channel any more.
    if (attached && isLate && !member.feed.log.isWhole) this.#miss(member.id, seq);
    if (attached) {
      if (!isLate) this.#welcome(member.feed);
      const position = { epoch: this.#hub.sequence.epoch, seq };
      flush.append(member.feed, encodeEnd(member.id, position, member.label));
    }
    // Nothing of it came here: the listeners that wait for its name may have missed events.
    else if (this.#hub.waiting.has(member.id)) this.#miss(member.id, seq);
    this.#hub.waiting.expect(member.feed);
    this.#replace(member.id, successor);
    if (this.#remote !== undefined) this.#followOn(mirror, seq, attached);
    member.ended(seq, successor === undefined ? linger : 0);
    this.#endHeard(member.id);
    // Somebody may have waited for it, or waits for the next one of its name.
    this.#tellMet();
    this.#pursue();
  }

  /** A channel has ended at `seq`: watches its name if listeners wait for the next one, and leaves it otherwise. */
  #followOn({ member, successor }: Mirror, seq: number, wasAttached: boolean): void {
    const { id } = member;
    if (this.#isAwaited(id)) {
      if (successor !== undefined) successor.wanted = true;
      if (wasAttached) this.#watches.set(id, { known: seq, isCurrent: true, isMissed: false });
      else this.#find(id);
    } else if (wasAttached || this.#subscribed.has(id)) this.#leaving.add(id);
  }

  /** A channel begins with nothing, at `floor`. */
  #begin(mirror: Mirror, { made, lastEnd }: Pick<Retained, 'made' | 'lastEnd'>, floor: number): void {
    const { id, feed } = mirror.member;
    // An earlier channel of this name ended unseen. Listeners that wait for the name are told of a gap.
    const watch = this.#watches.get(id);
    if (watch?.isCurrent === false && lastEnd > watch.known) this.#miss(id, lastEnd);
    this.#watches.delete(id);
    this.#hub.flush.forget(feed, floor);
    feed.log.begin(floor, made);
    feed.lastEnd = lastEnd;
    mirror.last = floor;
    mirror.attached = true;
  }

  /** The log of a channel is what the backplane retains of it. */
  #load(mirror: Mirror, retained: Retained): void {
    const { sequence, flush, malformed, waiting } = this.#hub;
    const { id, feed, label } = mirror.member;
    const { last } = retained;
    const known = this.#watches.get(id)?.known ?? 0;
    const lost = retained.entries.findLastIndex(({ body }) => body !== null && !isBody(body));
    const entries = retained.entries.slice(lost + 1);
    if (lost >= 0) malformed(malformedEvent(id));
    this.#begin(mirror, retained, floorOf({ entries, last }));
    for (const { body, seq, age } of entries) {
      if (body !== null) feed.log.append(toFrame(body, { epoch: sequence.epoch, seq }, label, age));
    }
    feed.flushed = last;
    flush.trim(feed, performance.now());
    mirror.last = last;
    // Readers that were there before stand in an order that has been lost, and were told so. What is retained of the new
    // order they get as a start.
    if (feed.log.size > 0 || [...feed.readers()].some((reader) => reader.standing(feed) < feed.log.floor))
      tellGap(feed);
    const newest = entries.at(-1);
    const isOver = newest?.body === null;
    // The history stands before live events, so listeners join with a gap. An end that they have read already is not news.
    if (waiting.has(id) && (isOver ? last > known : feed.hasBegun)) {
      this.#welcome(feed);
      this.#answer(feed, retained.entries);
    }
    if (!isOver) return;
    this.#end(mirror, last, lingerOf(newest));
    const watch = this.#watches.get(id);
    if (watch !== undefined) watch.known = Math.max(watch.known, known);
  }

  /** Answers the writers of what came to a channel before it was followed. Some of it its listeners never get. */
  #answer(feed: Feed, entries: readonly Entry[]): void {
    for (const { asker, seq } of entries) {
      if (asker === undefined) continue;
      feed.track(this.#hub.tally(asker, seq, feed.listeners));
      feed.countMissed(seq);
    }
  }

  /**
   * Something of a channel up to `floor` is lost to its listeners: they are told.
   * @param always also where a listener of the channel may miss something, since later events were delivered already
   */
  #gap(mirror: Mirror, floor: number, always: boolean): void {
    const { feed } = mirror.member;
    const isTold = feed.lag === 'close' || always;
    this.#hub.flush.forget(feed, floor, isTold);
    mirror.last = floor;
    if (isTold) tellGap(feed);
  }

  /** What had ended before this look, and of which no end has come with it, is over all the same. */
  #buryOver(chanId: string): void {
    let mirror = this.#mirrors.get(chanId);
    while (mirror !== undefined && this.#rounds > mirror.overSince) {
      if (mirror.attached) this.#abandon(mirror);
      else this.#end(mirror, this.#hub.sequence.head);
      mirror = this.#mirrors.get(chanId);
    }
  }

  /** Its end can't be read any more. */
  #abandon(mirror: Mirror): void {
    const { head } = this.#hub.sequence;
    this.#gap(mirror, head, true);
    mirror.attached = false;
    this.#end(mirror, head);
  }

  #beginAnew(epoch: string, head: number): void {
    const { sequence, flush, ended } = this.#hub;
    const mirrors = [...this.#mirrors.values()].filter(({ attached }) => attached);
    const feeds = mirrors.map(({ member }) => member.feed);
    // Readers get what has come of the old epoch, before its positions mean nothing any more.
    for (const feed of feeds) flush.forget(feed, feed.log.newest?.seq ?? feed.log.floor);
    sequence.epoch = epoch;
    sequence.head = head;
    this.#historyLost = this.#hasHistory;
    ended.clear(head);
    this.#anyMade = true;
    for (const watch of this.#watches.values()) {
      watch.known = head;
      watch.isCurrent = false;
    }
    for (const reader of new Set(feeds.flatMap((feed) => [...feed.readers()]))) reader.reset();
    for (const mirror of mirrors) {
      flush.forget(mirror.member.feed, head);
      mirror.attached = false;
    }
    for (const chanId of this.#mirrors.keys()) {
      for (const mirror of this.#mirrorsOf(chanId)) {
        // An end of the old epoch is one of an earlier channel still.
        if (mirror.begun !== undefined) mirror.begun = Math.min(mirror.begun, head);
        mirror.heardEnd = NO_END;
      }
    }
    this.#synced = false;
  }
}

/** A request that looks for channels. */
interface OpenInquiry {
  /** Names of which nothing has changed since it asked. */
  readonly names: Set<string>;
  /** Names that its listener is about to wait for. */
  readonly awaited: Set<string>;
}

/** The names of which nothing has changed. */
export interface Inquiry {
  readonly names: Set<string>;
  /**
   * Has the outcomes of all writes on channels of these names count this node, because a listener is about to wait for them.
   * `undefined` where they do so already. Rejects with a BackplaneError where it can't be in time.
   */
  awaits(names: readonly string[]): Promise<void> | undefined;
  close(): void;
}

/** For how much longer a channel can be read, of its end. */
function lingerOf({ linger = 0, age }: Entry): number {
  return Math.max(linger - age, 0);
}

/** The lowest position from which nothing of a channel is missing. */
function floorOf({ entries, last }: Pick<Retained, 'entries' | 'last'>): number {
  return entries[0]?.previous ?? last;
}

function isWhole(retained: Retained): boolean {
  return floorOf(retained) === retained.made;
}

/** Whether the retained entries belong to an earlier channel that ended before this mirror's channel was made. */
function isOfEarlier({ begun = Infinity }: Mirror, { entries, last }: Retained): boolean {
  return entries.at(-1)?.body === null && last <= begun;
}

function malformedEvent(chanId: string): MalformedMessageError {
  return new MalformedMessageError(`An entry of the channel ${JSON.stringify(chanId)}`, 'it is no event');
}

/** The one of its name that is alive. */
function newest(mirror: Mirror): Mirror {
  return mirror.successor === undefined ? mirror : newest(mirror.successor);
}

/** Has the readers of a channel tell that something of it is lost, and start it anew. */
function tellGap(feed: Feed): void {
  const lost = new Set([feed]);
  for (const reader of [...feed.readers()]) reader.gap(lost);
}

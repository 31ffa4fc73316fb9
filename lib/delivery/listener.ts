import { v4 as uuid } from 'uuid';
import type { Events, LeaveReason, Transport } from '../core/events.js';
import { drawn, shortened } from '../core/jitter.js';
import type { Lag, Settings } from '../core/options.js';
import type { FailureReason, Verdict } from '../core/outcome.js';
import { formatPosition, formatStart, type Position, type Sequence } from '../core/position.js';
import { HOLD_MS } from '../core/slices.js';
import {
  Batch,
  encodeChannels,
  encodeEnds,
  encodeGap,
  encodeOpening,
  encodeReady,
  encodeRetry,
  encodeStartEvent,
  HEARTBEAT,
} from '../sse/frame.js';
import { type Encoded, Payload } from '../sse/payload.js';
import {
  openStream,
  type Request,
  type Response,
  type Stream,
  type StreamOwner,
  type Written,
} from '../transport/stream.js';
import type { BehindReader, CatchUp } from './catch-up.js';
import type { EndedChannels } from './ended.js';
import type { Feed, Group, Groups, Reader } from './feed.js';
import type { Flush } from './flush.js';
import { merge } from './log.js';
import { type Beginning, beginningOf, knownSeq, startOf, type Wish } from './start.js';
import type { Waiter, WaitingNames } from './waiting.js';

/** Hub services that a listener uses. */
export interface Hall {
  readonly settings: Settings;
  readonly sequence: Sequence;
  readonly groups: Groups;
  readonly flush: Flush;
  readonly catchUp: CatchUp;
  readonly ended: EndedChannels;
  readonly waiting: WaitingNames<Feed>;
  readonly events: Events;
  /** The channel that has this name now. */
  feedOf(name: string): Feed | undefined;
  /** A listener's stream is open. */
  joined(listener: Listener): void;
  /** It reads no more; its connection may still have to close. */
  left(listener: Listener): void;
  /** Its connection is gone. */
  closed(listener: Listener): void;
}

/** What a request brings, once it may become a listener. */
export interface Admission extends Wish {
  readonly request: Request;
  readonly response: Response;
  /** Who the client is, where it is counted. */
  readonly client: string | undefined;
  /** When its authorization ends, in milliseconds of `Date.now()`, if ever. */
  readonly expires: number | undefined;
  /** The stream is closed when no event was written for so long, in milliseconds. */
  readonly timeout: number | null;
}

/** A start that is being written: of the events before the stream's position, those that a newcomer gets. */
interface OngoingStart {
  /** Where it begins in each channel. */
  readonly rewound: Map<Feed, number>;
  /** Up to here it was written. */
  at: number;
  /** What the ids of its events say. */
  readonly id: string;
}

/** The stream ends once everything was written. */
interface Ending {
  readonly reason: LeaveReason;
  readonly farewell: Payload | undefined;
}

/** What the client has to be told as soon as its stream takes it. */
interface Notice {
  /** Channels of which something is lost, and from where each is read on. */
  readonly gaps: Map<Feed, number>;
  /** Names of which something is lost, and of which no channel starts anew. */
  readonly missed: string[];
  /** Channels that the stream carries no more, and whose end is in no history. */
  readonly ends: string[];
  /** The stream carries other channels. */
  channels: boolean;
}

// What a reader that is behind gets at a time: it bounds the bytes that a blocked stream holds for itself alone.
const PIECE = 64 * 1024;

const heartbeat = new Payload([HEARTBEAT], true);

/**
 * A client on one or more channels: a reader at a position. Replay, catching up and live delivery are one thing,
 * to read on from where it stands; so nothing is lost, doubled or reordered between them.
 *
 * - *live*: it stands where its feeds were last flushed, and takes the batches that all share;
 * - *behind*: it reads the histories on its own, in its share of each turn, until it is live;
 * - *blocked*: it is behind, and its stream has bytes pending. It keeps its position and holds no queue;
 * - *left*: it reads no more.
 */
export class Listener implements Reader, BehindReader, Waiter<Feed>, StreamOwner {
  // It is in lower case already (RFC 9562 §4). But V8 keeps it as the twenty pieces of which Node makes it, 0.4 KiB, until
  // something goes through it.
  readonly id: string = uuid().toLowerCase();
  readonly client: string | undefined;

  readonly #hall: Hall;
  readonly #since = Date.now();
  readonly #timeout: number | null;
  // Undefined rather than Infinity: V8 keeps a box for each number of a field that is not small and whole.
  readonly #expires: number | undefined;
  readonly #endOfLife: number | undefined;
  #stream!: Stream;
  #group!: Group;
  // Names of which there is no channel.
  #waiting: Set<string> | undefined;

  // Everything up to here was written to the stream …
  #position: number;
  // … and up to here it was delivered, or is not for this listener's count: it was written before it joined.
  #counted: number;
  // Feeds that it reads from further on than its position. Only while it is behind.
  #skips: Map<Feed, number> | undefined;
  // What comes before all events behind its position. Only while it is behind.
  #start: OngoingStart | undefined;
  #notice: Notice | undefined;

  #behind = false;
  #blocked = false;
  // Frames that are pending.
  #pending = 0;
  #left = false;
  #ending: Ending | undefined;
  // Milliseconds, added up tick by tick: a look at the clock for each delivery costs more.
  #sinceWrite = 0;
  #sinceEvent = 0;
  #blockedFor = 0;

  private constructor(hall: Hall, admission: Admission, beginning: Beginning) {
    this.#hall = hall;
    this.client = admission.client;
    this.#timeout = admission.timeout;
    const { lifetime } = hall.settings;
    this.#expires = admission.expires;
    this.#endOfLife = lifetime === null ? undefined : Date.now() + shortened(lifetime);
    const { position, rewound, skips } = beginning;
    this.#position = position;
    this.#skips = skips;
    if (rewound !== undefined) {
      const { cursor, newIds } = admission;
      // A position that the order has yet to reach means nothing now, and must mean nothing when the client returns.
      const isKnown = cursor.position === undefined || knownSeq(cursor, hall.sequence) !== undefined;
      const id = formatStart(isKnown ? cursor.position : null, newIds.size > 0);
      this.#start = { rewound: new Map(rewound), at: 0, id };
    }
    this.#counted = hall.sequence.head;
  }

  /** Opens the stream. The request is answerable, has its turn, and is within every limit. */
  static join(hall: Hall, admission: Admission): Listener {
    const { request, response, feeds, missing, cursor } = admission;
    const { sequence, settings, events, waiting } = hall;
    const beginning = beginningOf(admission, sequence);
    const listener = new Listener(hall, admission, beginning);

    const channels = feeds.map((feed) => feed.chanId);
    const { gaps } = beginning;
    const recovered = gaps.length === 0;
    const position = formatPosition({ epoch: sequence.epoch, seq: beginning.position });
    const names = missing.slice(0, waiting.room).map(copied);
    const opening = encodeOpening({
      retry: drawn(settings.retry),
      id: listener.#start?.id ?? position,
      listener: listener.id,
      channels,
      waiting: names,
      gaps,
      missing: missing.slice(names.length),
    });
    const { stream, written } = openStream(request, response, listener, opening);
    listener.#stream = stream;
    // What was written while the head was sent, by code of the user's that hangs on that, was not written to it.
    listener.#counted = sequence.head;
    listener.#group = hall.groups.join(listener, feeds);
    for (const name of names) listener.#await(name);
    for (const feed of feeds) if (feed.endedAt !== undefined) waiting.expect(feed);
    hall.joined(listener);
    if (events.has('join')) {
      const { transport } = stream;
      events.emit('join', { listener: listener.id, channels, position, recovered, transport });
    }
    if (cursor.position !== undefined && events.has('replay')) {
      events.emit('replay', { listener: listener.id, channels, frames: listener.#lag, recovered, gaps });
    }
    if (listener.#went(written)) listener.#advance();
    return listener;
  }

  /** When its authorization ends, in milliseconds of `Date.now()`. */
  get expires(): number | undefined {
    return this.#expires;
  }

  get channels(): readonly string[] {
    return this.#group.feeds.map((feed) => feed.chanId);
  }

  get connection(): string {
    return this.#stream.connection;
  }

  /** What `push.inspect({ streams: true })` says of it. */
  inspect(): ListenerSnapshot {
    return {
      id: this.id,
      since: new Date(this.#since),
      channels: this.channels,
      transport: this.#stream.transport,
      position: formatPosition(this.#at),
      lag: this.#lag,
      state: this.#behind ? 'behind' : 'live',
    };
  }

  take(batch: Batch): boolean {
    if (this.#behind || this.#left || batch.last <= this.#position) return false;
    // It joined in the middle of this batch; or a channel ends in the middle of it, and another of its name may follow.
    if (batch.first <= this.#position || this.#nextEnd < batch.last) {
      this.#advance();
      return false;
    }
    if (!this.#write(batch)) return false;
    if (this.#stream.opaque) {
      this.#count();
    } else {
      this.#counted = batch.last;
      if (this.#group.ending) this.#dropEnded();
    }
    if (this.#ending !== undefined) this.#advance();
    return !this.#stream.opaque;
  }

  standing(feed: Feed): number {
    const from = this.#start?.rewound.get(feed);
    const begun = from === undefined ? this.#position : Math.max(from, this.#start?.at ?? 0);
    return Math.max(begun, this.#skips?.get(feed) ?? 0);
  }

  hurry(): void {
    // Only what its client is told first keeps it from being live. Others catch up in their share of each turn.
    if (this.#notice !== undefined && !this.#blocked) this.readOn(performance.now() + HOLD_MS);
  }

  overrun(feed: Feed): void {
    this.#tellOverrun(feed.chanId, feed.lag);
    if (feed.lag === 'close') {
      this.evict('overrun');
      return;
    }
    const from = feed.log.isEnded && feed.log.size === 1 ? undefined : feed.log.before(1);
    const to = from ?? feed.log.floor;
    feed.countOnce('overrun', this, Math.max(this.standing(feed), this.#counted), to);
    this.#skipTo(feed, to);
    // Not even the newest event is there any more.
    if (from === undefined) this.gap(new Set([feed]));
  }

  gap(feeds: ReadonlySet<Feed>): void {
    if (this.#left) return;
    const lost = this.#group.feeds.filter((feed) => feeds.has(feed));
    if (lost.length === 0) return;
    const notice = this.#noticed();
    for (const feed of lost) {
      feed.countOnce('overrun', this, Math.max(this.standing(feed), this.#counted), feed.log.floor);
      // What is written before the client is told comes behind the start.
      notice.gaps.set(feed, feed.log.newest?.seq ?? feed.log.floor);
      this.#skipTo(feed, feed.log.floor);
    }
    const { events } = this.#hall;
    const channels = lost.map(({ chanId }) => chanId);
    if (events.has('gap')) events.emit('gap', { listener: this.id, channels });
    this.#fallBehind();
  }

  reset(): void {
    // Of what is pending it will not be known in the new epoch what became of it.
    if (this.#behind) {
      this.evict('overrun');
      return;
    }
    this.#position = this.#counted = this.#hall.sequence.head;
    this.gap(new Set(this.#group.feeds));
    // A channel of these names may have been made and ended meanwhile.
    for (const name of this.#waiting ?? []) this.miss(name);
  }

  /** A channel that it waited for gets its first event, or has had it. */
  join(feed: Feed): void {
    // A stream that ends in order carries nothing new: its client comes back.
    if (this.#left || this.#ending !== undefined) return;
    const { groups, settings } = this.#hall;
    const { maxListenersPerChannel: limit } = settings;
    const notice = this.#noticed();
    this.#waiting?.delete(feed.chanId);
    if (limit !== null && feed.listeners >= limit) notice.ends.push(feed.chanId);
    else {
      groups.leave(this, this.#group);
      this.#group = groups.join(this, [...this.#group.feeds, feed]);
      notice.channels = true;
      const { isWhole, oldest, floor } = feed.log;
      if (!isWhole || (oldest !== undefined && oldest.seq <= this.#position)) notice.gaps.set(feed, floor);
      this.#skipTo(feed, floor);
      if (this.#behind) feed.lagging(this);
    }
    this.#fallBehind();
  }

  miss(name: string): void {
    // A stream that ends in order carries nothing new: its client comes back.
    if (this.#left || this.#ending !== undefined) return;
    this.#noticed().missed.push(name);
    const { events } = this.#hall;
    if (events.has('gap')) events.emit('gap', { listener: this.id, channels: [name] });
    this.#fallBehind();
  }

  refuse(name: string): void {
    this.#waiting?.delete(name);
    if (this.#left || this.#ending !== undefined) return;
    this.#noticed().ends.push(name);
    this.#fallBehind();
  }

  /** Ends the stream in order: after all that was written, and with a new time to reconnect after, if given. */
  end(reason: LeaveReason, retry?: number): void {
    if (this.#left) return;
    this.#ending ??= { reason, farewell: farewellOf(retry) };
    if (this.#blocked) return;
    if (this.#isLevel) {
      this.#goLive();
      return;
    }
    // At once, though others catch up as well: if it can be, an event that is written after this call is not for it.
    this.#becomeBehind();
    if (!this.readOn(performance.now() + HOLD_MS)) this.#hall.catchUp.startLater(this);
  }

  /** Closes the stream at once: what is not delivered has failed. */
  evict(reason: LeaveReason): void {
    this.#leave(reason);
    this.#stream.destroy();
  }

  /** Stops reading at once, and leaves it to `close()` to end the stream: when very many go, that is what costs. */
  dismiss(reason: LeaveReason): void {
    this.#leave(reason);
  }

  /** Ends the stream of a listener that was dismissed, with a new time to reconnect after, if given. */
  close(retry?: number): void {
    const farewell = farewellOf(retry);
    if (this.#blocked) this.#stream.destroy();
    else {
      if (farewell !== undefined) this.#stream.write(farewell);
      this.#stream.end();
    }
  }

  /** Time has passed: `elapsed` milliseconds since the last tick, to `now` in milliseconds of `Date.now()`. */
  tick(elapsed: number, now: number): void {
    const { heartbeat: pause, stall } = this.#hall.settings;
    this.#blockedFor += elapsed;
    if (this.#left) {
      // Its last bytes, or the client's side of the close, never come.
      if (this.#blockedFor >= stall) this.#stream.destroy();
      return;
    }
    if (this.#expires !== undefined && now >= this.#expires) {
      if (!this.#blocked) this.end('expired');
      // What the client has yet to read would be sent after its authorization has ended.
      if (!this.#left) this.evict('expired');
      return;
    }
    if (this.#blocked) {
      if (this.#blockedFor >= stall) this.evict('stalled');
      return;
    }
    this.#sinceWrite += elapsed;
    this.#sinceEvent += elapsed;
    if (this.#endOfLife !== undefined && now >= this.#endOfLife) this.end('lifetime');
    else if (this.#timeout !== null && this.#sinceEvent >= this.#timeout) this.end('timeout');
    else if (pause !== null && this.#sinceWrite >= pause) {
      this.#sinceWrite = 0;
      this.#went(this.#stream.write(heartbeat));
    }
  }

  drained(): void {
    if (this.#left || !this.#blocked) return;
    this.#blocked = false;
    this.#delivered(this.#pending);
    this.#pending = 0;
    this.#count();
    this.#advance();
  }

  closed(reason: 'closed' | 'error'): void {
    this.#leave(reason);
    this.#hall.closed(this);
  }

  get #at(): Position {
    return { epoch: this.#hall.sequence.epoch, seq: this.#position };
  }

  /** Retained frames that it has yet to be written. */
  get #lag(): number {
    let frames = 0;
    for (const feed of this.#group.feeds) frames += feed.log.sizeAfter(this.standing(feed));
    return frames;
  }

  /** Where the first of its channels ends. Not past that: the next channel of the same name may have to be joined there. */
  get #nextEnd(): number {
    if (!this.#group.ending) return Infinity;
    return Math.min(
      ...this.#group.feeds.map(({ endedAt = Infinity }) => (endedAt > this.#position ? endedAt : Infinity)),
    );
  }

  /** Whether there is nothing that it has yet to write: no history need be looked into. */
  get #isLevel(): boolean {
    const isReading = this.#start !== undefined || this.#notice !== undefined;
    return !isReading && this.#position === this.#hall.sequence.head;
  }

  /** Reads on: now, if it may, or as soon as it may. */
  #advance(): void {
    if (this.#blocked || this.#left) return;
    if (this.#isLevel) this.#goLive();
    else {
      this.#becomeBehind();
      this.#hall.catchUp.start(this);
    }
  }

  /** Reads on by itself from the next turn on: in the midst of an append, or of a pass, it can't. */
  #fallBehind(): void {
    this.#becomeBehind();
    if (!this.#blocked) this.#hall.catchUp.startLater(this);
  }

  #becomeBehind(): void {
    if (this.#behind) return;
    this.#behind = true;
    for (const feed of this.#group.feeds) feed.lagging(this);
  }

  readOn(until: number): boolean {
    const release = this.#hall.flush.hold();
    try {
      do {
        if (!this.#behind || this.#blocked || this.#left) return true;
        if (this.#notice !== undefined) this.#tell(this.#notice);
        else if (this.#start !== undefined) this.#writeStart(this.#start);
        else this.#writeOn();
      } while (performance.now() < until);
    } finally {
      release();
    }
    return !this.#behind || this.#blocked || this.#left;
  }

  /** Writes the next events behind its position, or goes live where there are none. */
  #writeOn(): void {
    // A channel may have ended in a start, or while the client had to be told of something first.
    if (this.#group.ending) this.#dropEnded();
    if (this.#notice !== undefined || this.#writeEvents()) return;
    const end = this.#nextEnd;
    // An end that stands in no history: what comes behind it is yet to be read.
    if (end > this.#position && end < this.#hall.sequence.head) this.#position = end;
    else this.#goLive();
  }

  /** Writes the next events behind its position. Returns whether there were any. */
  #writeEvents(): boolean {
    const unread = this.#group.feeds.map((feed) => feed.log.after(this.standing(feed)));
    const frames = merge(unread, PIECE, this.#nextEnd);
    if (frames.length === 0) return false;
    if (this.#write(new Batch(frames, false))) {
      this.#delivered(frames.length);
      this.#count();
    }
    return true;
  }

  /** Writes the next events of a start, and behind the last of them that it is complete. */
  #writeStart(start: OngoingStart): void {
    const unread = Array.from(start.rewound, ([feed]) => feed.log.after(this.standing(feed)));
    const frames = merge(unread, PIECE, this.#position);
    const parts: Encoded[] = frames.map((frame) => encodeStartEvent(frame, start.id));
    start.at = frames.at(-1)?.seq ?? start.at;
    if (unread.every(({ frame }) => frame === undefined || frame.seq > this.#position)) {
      this.#start = undefined;
      parts.push(encodeReady(this.#at));
    }
    if (this.#send(new Payload(parts, false), frames.length)) this.#delivered(frames.length);
  }

  /** Tells its client what has changed, and plans how channels start anew. */
  #tell(notice: Notice): void {
    this.#notice = undefined;
    const { feeds } = this.#group;
    const lost = feeds.filter((feed) => notice.gaps.has(feed));
    const parts: Encoded[] = [];
    // First: the stream may carry the next channel of the same name.
    if (notice.ends.length > 0) parts.push(encodeEnds(notice.ends));
    if (notice.channels) parts.push(encodeChannels(this.channels, [...(this.#waiting ?? [])]));
    if (lost.length + notice.missed.length > 0) parts.push(this.#restart(lost, notice));
    // An empty chunk would end the response. The channels of a notice may have ended meanwhile.
    if (parts.length > 0) this.#send(new Payload(parts, false), 0);
  }

  /** Has channels start anew. Returns what tells that something of them is lost. */
  #restart(lost: readonly Feed[], { gaps, missed }: Notice): Encoded {
    const { rewound, skips } = startOf(lost, this.#position, this.#hall.sequence.head, gaps);
    for (const feed of lost) this.#skips?.delete(feed);
    for (const [feed, from] of skips ?? []) this.#skipTo(feed, from);
    const names = [...new Set([...lost.map(({ chanId }) => chanId), ...missed])];
    const ongoing = this.#start;
    if (rewound === undefined && ongoing === undefined) return encodeGap(names, formatPosition(this.#at));
    // One id can say of one channel that it starts anew. Of several, only that everything does.
    const isOne = names.length === 1 && ongoing === undefined;
    const id = formatStart(isOne ? this.#at : null, false);
    const before = Array.from(ongoing?.rewound ?? [], ([feed]) => [feed, this.standing(feed)] as const);
    this.#start = { rewound: new Map([...before, ...(rewound ?? [])]), at: 0, id };
    return encodeGap(names, isOne ? `${id}@${encodeURIComponent(names[0] as string)}` : id);
  }

  #goLive(): void {
    this.#position = this.#counted = this.#hall.sequence.head;
    this.#skips = undefined;
    if (this.#group.ending) this.#dropEnded();
    if (this.#notice !== undefined) {
      this.#fallBehind();
      return;
    }
    if (this.#behind) {
      this.#behind = false;
      for (const feed of this.#group.feeds) feed.caughtUp(this);
    }
    if (this.#ending !== undefined) this.#finish(this.#ending);
  }

  /** Returns whether all of it was taken, at once. The position moves only here, together with the write. */
  #write(batch: Batch): boolean {
    const written = this.#stream.write(batch);
    this.#position = batch.last;
    return this.#wrote(written, batch.size);
  }

  #send(payload: Payload, frames: number): boolean {
    return this.#wrote(this.#stream.write(payload), frames);
  }

  #wrote(written: Written, frames: number): boolean {
    this.#sinceWrite = 0;
    this.#sinceEvent = 0;
    if (written === 'pending') this.#pending = frames;
    return this.#went(written);
  }

  #delivered(frames: number): void {
    if (!this.#stream.opaque) this.#hall.flush.delivered += frames;
  }

  #went(written: Written): boolean {
    // It may have been evicted from inside the write, by what wraps that.
    if (this.#left) return false;
    if (written === 'taken') return true;
    if (written === 'pending') this.#block();
    else this.evict(written);
    return false;
  }

  /** What was written was taken: counts it, and is done with the channels that ended in it. */
  #count(): void {
    this.#countAll(this.#stream.opaque ? 'unknown' : 'delivered', this.#position);
    this.#counted = Math.max(this.#counted, this.#position);
    if (this.#group.ending) this.#dropEnded();
  }

  #countAll(verdict: Verdict, to: number): void {
    for (const feed of this.#group.feeds) feed.count(verdict, this, this.#counted, to);
  }

  /** Carries the channels no more whose end was written. The stream ends with the last of them. */
  #dropEnded(): void {
    // An end can be part of a start.
    if (this.#start !== undefined || this.#notice !== undefined) return;
    const { groups } = this.#hall;
    const { feeds } = this.#group;
    const over = feeds.filter(({ endedAt }) => endedAt !== undefined && endedAt <= this.#position);
    const isLast = over.length === feeds.length;
    if (over.length === 0 || (isLast && this.#ending !== undefined)) return;
    // The end of a channel whose history was lost stands in none.
    const untold = over.filter(({ log }) => !log.isEnded).map(({ chanId }) => chanId);
    if (untold.length > 0) this.#noticed().ends.push(...untold);
    if (isLast) {
      this.#ending = { reason: 'ended', farewell: undefined };
      return;
    }
    groups.leave(this, this.#group);
    this.#group = groups.join(
      this,
      feeds.filter((feed) => !over.includes(feed)),
    );
    for (const feed of over) {
      feed.caughtUp(this);
      this.#awaitNext(feed);
    }
    if (this.#notice !== undefined) this.#fallBehind();
  }

  /** Waits for the next channel of a name, and joins it at once if it has begun. */
  #awaitNext({ chanId: name, endedAt = 0 }: Feed): void {
    const { waiting, ended, feedOf } = this.#hall;
    const present = feedOf(name);
    // It may have ended as well, while this listener was behind.
    const next = present ?? ended.find(name, performance.now());
    const isNew = next?.endedAt === undefined || next.endedAt > endedAt;
    const lastEnd = next !== undefined && isNew ? next.lastEnd : ended.lastEnd(name);
    // A channel of this name was there in between.
    if (lastEnd > endedAt) this.#noticed().missed.push(name);
    if (next !== undefined && isNew && next.hasBegun) {
      this.join(next);
      next.exempt(this);
    } else if (waiting.room > 0) this.#await(name);
    else this.#noticed().ends.push(name);
  }

  #await(name: string): void {
    this.#waiting ??= new Set();
    this.#waiting.add(name);
    this.#hall.waiting.add(name, this);
  }

  #skipTo(feed: Feed, position: number): void {
    if (position <= this.standing(feed)) return;
    this.#skips ??= new Map();
    this.#skips.set(feed, position);
  }

  #noticed(): Notice {
    this.#notice ??= { gaps: new Map(), missed: [], ends: [], channels: false };
    return this.#notice;
  }

  #block(): void {
    this.#blocked = true;
    this.#blockedFor = 0;
    this.#becomeBehind();
  }

  #finish({ reason, farewell }: Ending): void {
    this.#leave(reason);
    if (farewell !== undefined) this.#stream.write(farewell);
    this.#stream.end();
  }

  #tellOverrun(channel: string, lag: Lag): void {
    const { events } = this.#hall;
    if (events.has('overrun')) events.emit('overrun', { listener: this.id, channel, lag });
  }

  /** The one way out: whoever finds the end first says the reason. */
  #leave(reason: LeaveReason): void {
    if (this.#left) return;
    this.#left = true;
    this.#blockedFor = 0;
    for (const feed of this.#group.feeds) feed.caughtUp(this);
    for (const name of this.#waiting ?? []) this.#hall.waiting.remove(name, this);
    this.#hall.groups.leave(this, this.#group);
    this.#countAll(failureOf(reason), Infinity);
    this.#hall.left(this);
    if (this.#hall.events.has('leave')) {
      this.#hall.events.emit('leave', { listener: this.id, channels: this.channels, reason });
    }
  }
}

/** A listener at one moment. */
export interface ListenerSnapshot {
  /** What `comet:open` calls it: a UUID. */
  readonly id: string;
  /** When its stream was opened. */
  readonly since: Date;
  /** The ids of its channels. */
  readonly channels: readonly string[];
  /** How its bytes are written. */
  readonly transport: Transport;
  /** What it was written to: `<epoch>-<seq>`, as on the wire. */
  readonly position: string;
  /** Retained frames that it has yet to be written. */
  readonly lag: number;
  /** `behind` while its stream is blocked, or it reads what it missed. */
  readonly state: 'live' | 'behind';
}

/** The same text for itself. V8 keeps a part of a request's URL as a view of the whole, of up to 16 KiB. */
function copied(text: string): string {
  return Buffer.from(text).toString();
}

function farewellOf(retry: number | undefined): Payload | undefined {
  return retry === undefined ? undefined : new Payload([encodeRetry(retry)], false);
}

function failureOf(reason: LeaveReason): FailureReason {
  switch (reason) {
    case 'error':
    case 'overrun':
    case 'stalled':
    case 'deactivated':
    case 'vanished':
      return reason;
    default:
      return 'closed';
  }
}

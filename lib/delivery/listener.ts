import { v4 as uuid } from 'uuid';
import type { Events, LeaveReason, Transport } from '../core/events.js';
import { drawn, shortened } from '../core/jitter.js';
import type { Lag, Settings } from '../core/options.js';
import type { FailureReason, Verdict } from '../core/outcome.js';
import { formatPosition, type Position, type Sequence } from '../core/position.js';
import { Batch, encodeGap, encodeOpening, encodeRetry, HEARTBEAT } from '../sse/frame.js';
import { Payload } from '../sse/payload.js';
import {
  openStream,
  type Request,
  type Response,
  type Stream,
  type StreamOwner,
  type Written,
} from '../transport/stream.js';
import type { Feed, Group, Groups, Reader } from './feed.js';
import type { Flush } from './flush.js';
import { merge } from './log.js';
import { startOf } from './start.js';

/** What listeners have in common: the hub they belong to, as far as it concerns them. */
export interface Hall {
  readonly settings: Settings;
  readonly sequence: Sequence;
  readonly groups: Groups;
  readonly flush: Flush;
  readonly events: Events;
  /** A listener's stream is open. */
  joined(listener: Listener): void;
  /** It reads no more; its connection may still have to close. */
  left(listener: Listener): void;
  /** Its connection is gone. */
  closed(listener: Listener): void;
}

/** What a request brings, once it may become a listener. */
export interface Admission {
  readonly request: Request;
  readonly response: Response;
  /** One or more, all alive. */
  readonly feeds: readonly Feed[];
  /** Channels that were asked for and do not exist. */
  readonly missing: readonly string[];
  /** Where the client stands: `undefined` for a newcomer, `null` for one whose cursor can't be read. */
  readonly cursor: Position | null | undefined;
  /** Who the client is, where it is counted. */
  readonly client: string | undefined;
  /** When its authorization ends, in milliseconds of `Date.now()`, if ever. */
  readonly expires: number | undefined;
  /** The stream is closed when no event was written for so long, in milliseconds. */
  readonly timeout: number | null;
}

// What a reader that is behind gets at a time: it bounds the bytes that a blocked stream holds for itself alone.
const PIECE = 64 * 1024;

const heartbeat = new Payload([HEARTBEAT], true);

/**
 * A client on one or more channels: a reader at a position. Replay, catching up and live delivery are one thing,
 * to read on from where it stands; so nothing is lost, doubled or reordered between them.
 *
 * - *live*: it stands where its feeds were last flushed, and takes the batches that all share;
 * - *blocked*: its stream has bytes pending. It keeps its position and holds no queue;
 * - *behind*: it drained, or came back with a cursor, and reads the logs on its own until it is live;
 * - *left*: it reads no more.
 */
export class Listener implements Reader, StreamOwner {
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

  // Everything up to here was written to the stream …
  #position: number;
  // … and up to here it was delivered, or is not for this listener's count: it was written before it joined.
  #counted: number;
  // Feeds that it reads from further on than its position. Only while it is behind.
  #skips: Map<Feed, number> | undefined;

  #blocked = false;
  // Frames that are pending.
  #pending = 0;
  #left = false;
  #ending: { reason: LeaveReason; farewell: Payload | undefined } | undefined;
  // Milliseconds, added up tick by tick: a look at the clock for each delivery costs more.
  #sinceWrite = 0;
  #sinceEvent = 0;
  #waiting = 0;

  private constructor(hall: Hall, admission: Admission, position: number) {
    this.#hall = hall;
    this.client = admission.client;
    this.#timeout = admission.timeout;
    const { lifetime } = hall.settings;
    this.#expires = admission.expires;
    this.#endOfLife = lifetime === null ? undefined : Date.now() + shortened(lifetime);
    this.#position = position;
    this.#counted = hall.sequence.head;
  }

  /** Opens the stream. The request is answerable, has its turn, and is within every limit. */
  static join(hall: Hall, admission: Admission): Listener {
    const { request, response, feeds, missing, cursor } = admission;
    const { sequence, settings, events } = hall;
    const start = startOf(feeds, cursor, sequence);
    const listener = new Listener(hall, admission, start.position);
    listener.#skips = start.skips;

    const channels = feeds.map((feed) => feed.chanId);
    const { recovered } = start;
    const position = { epoch: sequence.epoch, seq: start.position };
    const opening = encodeOpening({
      retry: drawn(settings.retry),
      start: position,
      listener: listener.id,
      channels,
      missing,
      recovered,
    });
    const { stream, written } = openStream(request, response, listener, opening);
    listener.#stream = stream;
    // What was written while the head was sent, by code of the user's that hangs on that, was not written to it.
    listener.#counted = sequence.head;
    listener.#group = hall.groups.join(listener, feeds);
    hall.joined(listener);
    if (events.has('join')) {
      const { transport } = stream;
      events.emit('join', {
        listener: listener.id,
        channels,
        position: formatPosition(position),
        recovered,
        transport,
      });
    }
    if (cursor !== undefined && events.has('replay')) {
      events.emit('replay', { listener: listener.id, channels, frames: listener.#lag, recovered });
    }
    if (listener.#went(written)) listener.#readOn();
    return listener;
  }

  get channels(): readonly string[] {
    return this.#group.feeds.map((feed) => feed.chanId);
  }

  get connection(): string {
    return this.#stream.connection;
  }

  /** What `push.inspect({ streams: true })` says of it. */
  inspect(): ListenerSnapshot {
    const { epoch } = this.#hall.sequence;
    return {
      id: this.id,
      since: new Date(this.#since),
      channels: this.channels,
      transport: this.#stream.transport,
      position: formatPosition({ epoch, seq: this.#position }),
      lag: this.#lag,
      state: this.#blocked ? 'behind' : 'live',
    };
  }

  take(batch: Batch): boolean {
    if (this.#blocked || this.#left || batch.last <= this.#position) return false;
    if (batch.first <= this.#position) {
      // It joined in the middle of this batch.
      this.#readOn();
      return false;
    }
    if (!this.#write(batch)) return false;
    if (this.#stream.opaque) {
      this.#count();
      return false;
    }
    this.#counted = batch.last;
    if (this.#group.ending) this.#dropEnded();
    return true;
  }

  standing(feed: Feed): number {
    return Math.max(this.#position, this.#skips?.get(feed) ?? 0);
  }

  overrun(feed: Feed): void {
    this.#tellOverrun(feed.chanId, feed.lag);
    if (feed.lag === 'close') {
      this.evict('overrun');
      return;
    }
    const newest = feed.log.newest?.seq ?? feed.log.floor + 1;
    feed.countOnce('overrun', this, Math.max(this.standing(feed), this.#counted), newest - 1);
    this.#skips ??= new Map();
    this.#skips.set(feed, newest - 1);
  }

  gap(chanIds: ReadonlySet<string>): () => void {
    const lost = this.channels.filter((chanId) => chanIds.has(chanId));
    for (const channel of lost) this.#tellOverrun(channel, 'close');
    this.#leave('overrun');
    return () => {
      if (!this.#blocked) this.#stream.write(new Payload([encodeGap(lost)], false));
      this.close();
    };
  }

  /** Ends the stream in order: after all that was written, and with a new time to reconnect after, if given. */
  end(reason: LeaveReason, retry?: number): void {
    if (this.#left) return;
    const farewell = retry === undefined ? undefined : new Payload([encodeRetry(retry)], false);
    this.#ending ??= { reason, farewell };
    this.#readOn();
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

  /** Ends the stream of a listener that was dismissed. */
  close(): void {
    if (this.#blocked) this.#stream.destroy();
    else this.#stream.end();
  }

  /** Time has passed: `elapsed` milliseconds since the last tick, to `now` in milliseconds of `Date.now()`. */
  tick(elapsed: number, now: number): void {
    const { heartbeat: pause, stall } = this.#hall.settings;
    this.#waiting += elapsed;
    if (this.#left) {
      // Its last bytes, or the client's side of the close, never come.
      if (this.#waiting >= stall) this.#stream.destroy();
      return;
    }
    if (this.#expires !== undefined && now >= this.#expires) {
      if (this.#blocked) this.evict('expired');
      else this.end('expired');
      return;
    }
    if (this.#blocked) {
      if (this.#waiting >= stall) this.evict('stalled');
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
    this.#unblock();
    this.#delivered(this.#pending);
    this.#pending = 0;
    this.#count();
    this.#readOn();
  }

  closed(reason: 'closed' | 'error'): void {
    this.#leave(reason);
    this.#hall.closed(this);
  }

  /** Retained frames that it has yet to be written. */
  get #lag(): number {
    let frames = 0;
    for (const feed of this.#group.feeds) frames += feed.log.sizeAfter(this.standing(feed));
    return frames;
  }

  /** Reads the logs from where it stands until it is live, blocked or gone. */
  #readOn(): void {
    if (this.#blocked || this.#left) return;
    // Nothing was written since: there is no log to look into.
    if (this.#position === this.#hall.sequence.head) {
      this.#goLive();
      return;
    }
    const release = this.#hall.flush.hold();
    try {
      this.#readUntilLive();
    } finally {
      release();
    }
  }

  #readUntilLive(): void {
    while (!this.#blocked && !this.#left) {
      const unread = this.#group.feeds.map((feed) => feed.log.after(this.standing(feed)));
      const frames = merge(unread, PIECE);
      if (frames.length === 0) {
        this.#goLive();
        return;
      }
      if (!this.#write(new Batch(frames, false))) return;
      this.#delivered(frames.length);
      this.#count();
    }
  }

  #goLive(): void {
    this.#position = this.#counted = this.#hall.sequence.head;
    this.#skips = undefined;
    if (this.#ending !== undefined) this.#finish(this.#ending);
  }

  /** Returns whether all of it was taken, at once. The position moves only here, together with the write. */
  #write(batch: Batch): boolean {
    const written = this.#stream.write(batch);
    this.#position = batch.last;
    this.#sinceWrite = 0;
    this.#sinceEvent = 0;
    if (written === 'pending') this.#pending = batch.size;
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

  #dropEnded(): void {
    const { groups } = this.#hall;
    const { feeds } = this.#group;
    const remaining = feeds.filter(({ endedAt }) => endedAt === undefined || endedAt > this.#counted);
    if (remaining.length === feeds.length) return;
    if (remaining.length === 0) {
      this.end('ended');
      return;
    }
    groups.leave(this, this.#group);
    this.#group = groups.join(this, remaining);
  }

  #block(): void {
    this.#blocked = true;
    this.#waiting = 0;
    for (const feed of this.#group.feeds) feed.lagging(this);
  }

  #unblock(): void {
    this.#blocked = false;
    for (const feed of this.#group.feeds) feed.caughtUp(this);
  }

  #finish({ reason, farewell }: { reason: LeaveReason; farewell: Payload | undefined }): void {
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
    this.#waiting = 0;
    for (const feed of this.#group.feeds) feed.caughtUp(this);
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
  /** `behind` while its stream is blocked. */
  readonly state: 'live' | 'behind';
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

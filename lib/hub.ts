import type { IncomingMessage } from 'node:http';
import type { ChannelSnapshot } from './channels/channel.js';
import { Channels } from './channels/channels.js';
import { type BackplaneSnapshot, type Health, Relay } from './cluster/relay.js';
import type { Terms } from './core/backplane.js';
import { AsyncContext } from './core/context.js';
import { Deadlines } from './core/deadlines.js';
import { HubClosedError, TooManyVirtualChannelsError } from './core/errors.js';
import { type CometEvents, Events, type RefusalCode } from './core/events.js';
import { drawn } from './core/jitter.js';
import {
  type CometOptions,
  checkDuration,
  checkFlag,
  checkKnown,
  checkRange,
  hubSettings,
  type PublisherOptions,
  publisherSettings,
  type Settings,
} from './core/options.js';
import { Deferred } from './core/outcome.js';
import { Sequence } from './core/position.js';
import { inSlices } from './core/slices.js';
import { Sweep } from './core/sweep.js';
import { EndedChannels } from './delivery/ended.js';
import { type Backlog, backlogOf, type Feed } from './delivery/feed.js';
import { Flush } from './delivery/flush.js';
import type { Listener, ListenerSnapshot } from './delivery/listener.js';
import { Lookout } from './delivery/lookout.js';
import { Roster } from './delivery/roster.js';
import { WaitingNames } from './delivery/waiting.js';
import { inProcess } from './engines/memory.js';
import { admin, isResource } from './http/admin.js';
import { mountedAdmin, mountedHub, mountedPublisher } from './http/mount.js';
import { publisher } from './http/publisher.js';
import { type Closure, Registration } from './http/registration.js';
import type { Handler, Next } from './http/reply.js';
import type { Request, Response } from './transport/stream.js';

// When clients of a node that drains come back to another one, in milliseconds.
const ELSEWHERE_MS = [100, 500] as const;

// Longer than the time between two sweeps, also where a sweep over very many listeners takes seconds.
const EXPIRES_SOON_MS = 3000;

/** What `inspect()` is to tell of one by one. */
export interface InspectOptions {
  /** Each listener. Default `false`. */
  streams?: boolean | undefined;
  /** Each channel. Default `true`. */
  channels?: boolean | undefined;
}

/** What `inspect()` returns: the hub at one moment, as plain data; what happens later does not change it. */
export interface Snapshot extends Backlog {
  /** Whether streams can be opened. */
  readonly activated: boolean;
  /** Whether it was closed, for good. */
  readonly closed: boolean;
  /** The life of the log: a position of another one means nothing here. */
  readonly epoch: string;
  /** Where the last write stands in that life. */
  readonly seq: number;
  /** Events that were written here since the hub was made. */
  readonly writes: number;
  /**
   * Events that were delivered since then, each as often as there were streams that took it: those of writes that asked
   * for no outcome too, and those that were replayed. The `comet:end` of a channel is one of them; what became
   * `unknown` is none.
   */
  readonly delivered: number;
  /** Streams open now. */
  readonly listeners: number;
  /** Each of them, where that was asked for. */
  readonly streams?: readonly ListenerSnapshot[];
  /** Each channel, in the order in which they were made; none, where that was asked for. */
  readonly channels: readonly ChannelSnapshot[];
  /** Requests that were refused, by code. */
  readonly refusals: Readonly<Partial<Record<RefusalCode, number>>>;
  /** `null` where the channels are of this process alone. */
  readonly backplane: BackplaneSnapshot | null;
}

/** How a hub is deactivated. */
export interface DeactivateOptions {
  /**
   * Milliseconds after which clients try again: a number, or a range from which each client's time is drawn. Default: none,
   * and they stop.
   */
  retry?: number | readonly [min: number, max: number] | undefined;
}

/** An Express handler, and the hub of its channels. */
export interface Comet {
  /**
   * Opens streams: `app.use('/channels', push)`, `app.get('/events/:id', push)`, or `http.createServer(push)`. At the root of
   * an Express application it takes only requests that say `Accept: text/event-stream`. Unless something has to be waited
   * for, as a promise of `authorize` has, the stream is open when this returns: headers of your own must be set before.
   * Gives `next` an InvalidMountError where Express's route names no channel.
   */
  (request: Request, response: Response, next?: Next): void;
  /** Its channels, by their ids. */
  readonly channels: Channels;
  /** Whether streams can be opened. */
  readonly activated: boolean;
  /**
   * Lets streams be opened again.
   * @throws HubClosedError
   */
  activate(): void;
  /**
   * Closes every stream, and refuses every attempt after that by 503, until `activate()`. At 503 an EventSource stops for
   * good: with `retry` clients that return are told to come back after that time instead.
   * @throws InvalidOptionError
   */
  deactivate(options?: DeactivateOptions): void;
  /**
   * Sets after how many milliseconds without an event a stream is closed, `null` for never: that of new streams,
   * and with `reset` that of the present ones too, by closing them.
   * @throws InvalidOptionError
   */
  setTimeout(timeout: number | null, options?: { reset?: boolean | undefined }): void;
  /**
   * Ends the stream of the listener of that id, after all that was written to it; one that is blocked ends when it has
   * taken that, or after `stall`. With a backplane, what this process wrote comes back first, within 1 s; while the
   * backplane is away nothing is waited for. Its client comes back by itself: to keep it out, have `authorize` refuse it. Returns
   * whether there is such a listener here; those of other nodes are theirs.
   */
  dismiss(listener: string): boolean;
  /** Calls `handler` for each event of that name, until the function that it returns is called. */
  on<Name extends keyof CometEvents>(name: Name, handler: (event: CometEvents[Name]) => void): () => void;
  /**
   * The hub at this moment. It costs as much as there are channels, and with `streams` as there are listeners; a fraction
   * of that with `channels: false`.
   * @throws InvalidOptionError
   */
  inspect(options?: InspectOptions): Snapshot;
  /**
   * Whether what is written now would be delivered: not whether a port is open, but whether a mark comes back by the way
   * that events come. Takes as long as that, `deadline` at the most; never rejects.
   */
  health(): Promise<Health>;
  /**
   * A handler that administers the hub over HTTP: `GET /` and `/health`, `POST /activate` and `/deactivate`, `PUT /timeout`,
   * `DELETE /channels/ID` and `/listeners/ID`. It lets everyone in: mount it behind what says who may. `GET /health` says
   * only whether the hub is healthy; `GET /?health` adds what `health()` says to the snapshot.
   */
  admin(): Handler;
  /**
   * A handler that takes `POST /ID` from other services: the body is written on the channel, and the answer is what became
   * of it.
   * @throws InvalidOptionError, without an `authorize` too
   */
  publisher<Req extends IncomingMessage = IncomingMessage>(options: PublisherOptions<Req>): Handler;
  /**
   * Closes the hub for good: refuses new streams, delivers what was written, tells each client to come back at
   * its own time within `drain` milliseconds (default 3000), and ends the streams. What is not gone by then is
   * cut off. If the backplane is not there, what was written waits for it within `drain`. Resolves when every connection has closed; rejects with an InvalidOptionError.
   */
  close(options?: { drain?: number | undefined }): Promise<void>;
}

/**
 * Makes a hub of channels, as an Express handler.
 * @throws InvalidOptionError
 */
export function comet<Req extends IncomingMessage = IncomingMessage>(options: CometOptions<Req> = {}): Comet {
  const hub = new Hub(hubSettings(options));
  const handler = mountedHub((request, response, next) => {
    hub.registration.handle(request, response, next);
  }, hub.events);
  return Object.defineProperties(handler, {
    channels: { value: hub.channels, enumerable: true },
    activated: { get: () => hub.activated, enumerable: true },
    activate: { value: () => hub.activate() },
    deactivate: { value: hub.deactivate.bind(hub) },
    setTimeout: { value: hub.setTimeout.bind(hub) },
    dismiss: { value: hub.dismiss.bind(hub) },
    on: { value: hub.events.on.bind(hub.events) },
    inspect: { value: hub.inspect.bind(hub) },
    health: { value: hub.health.bind(hub) },
    admin: { value: () => hub.admin() },
    publisher: { value: hub.publisher.bind(hub) },
    close: { value: hub.close.bind(hub) },
  }) as Comet;
}

class Hub {
  readonly events = new Events();
  readonly channels: Channels;
  readonly registration: Registration;
  readonly #settings: Settings;
  readonly #context = new AsyncContext();
  readonly #sequence = new Sequence();
  readonly #flush = new Flush(this.#sequence);
  readonly #roster: Roster;
  readonly #sweep: Sweep;
  readonly #expiries = new Deadlines<Listener>((listener) => listener.tick(0, Date.now()));
  readonly #lookout: Lookout;
  readonly #relay: Relay;
  #timeout: number | null;
  #activated = true;
  // While it is deactivated: when clients that return are to try again, if they are.
  #retry: readonly [min: number, max: number] | undefined;
  #closed: Promise<void> | undefined;
  #isOver = false;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#timeout = settings.timeout;
    this.#sweep = new Sweep({
      sweep: (elapsed) => this.#pass(elapsed),
      isQuiet: () => this.#roster.isEmpty && this.#relay.isQuiet && this.#retainsNothing(),
    });
    const wake = () => {
      if (this.#closed === undefined) this.#sweep.start();
    };
    const ended = new EndedChannels(settings.maxLingering);
    const waiting = new WaitingNames<Feed>(settings.maxWaitingNames);
    const feedOf = (name: string) => this.channels.peek(name)?.feed;
    this.#roster = new Roster(
      settings,
      this.#sequence,
      this.#flush,
      this.events,
      ended,
      waiting,
      feedOf,
      (listener) => {
        wake();
        this.#watchExpiry(listener);
      },
    );
    this.#lookout = new Lookout(settings.vanish, this.#roster, this.events);
    this.#relay = new Relay(
      {
        settings,
        sequence: this.#sequence,
        flush: this.#flush,
        events: this.events,
        ended,
        waiting,
        feedOf,
        adopt: (name, terms) => this.#adopt(name, terms),
      },
      settings.backplane ?? inProcess(),
    );
    this.channels = new Channels(
      { settings, sequence: this.#sequence, relay: this.#relay, wrote: wake },
      this.events,
      ended,
    );
    this.registration = new Registration({
      channels: this.channels,
      roster: this.#roster,
      relay: this.#relay,
      closure: () => this.#closure(),
      timeout: () => this.#timeout,
    });
    this.#suitSweep();
    if (!this.#relay.isQuiet) wake();
  }

  get activated(): boolean {
    return this.#activated && this.#closed === undefined;
  }

  activate(): void {
    if (this.#closed !== undefined) throw new HubClosedError();
    if (this.#activated) return;
    this.#activated = true;
    this.events.emit('activate', {});
  }

  deactivate(options: DeactivateOptions = {}): void {
    checkKnown(options, ['retry']);
    const retry = options.retry === undefined ? undefined : checkRange(options.retry, 'retry');
    if (!this.activated) return;
    this.#activated = false;
    this.#retry = retry;
    // All at once for the writers, whose outcomes settle now; in slices for the streams, whose ends cost most.
    const listeners = [...this.#roster];
    for (const listener of listeners) listener.dismiss('deactivated');
    this.#toEach(listeners, (listener) => listener.close(retry && drawn(retry)));
    this.events.emit('deactivate', {});
  }

  setTimeout(timeout: number | null, options: { reset?: boolean | undefined } = {}): void {
    checkKnown(options, ['reset']);
    const { reset = false } = options;
    checkFlag(reset, 'reset');
    this.#timeout = timeout === null ? null : checkDuration(timeout, 'timeout');
    this.#suitSweep();
    if (!reset) return;
    const listeners = [...this.#roster];
    this.#afterWritten(() => this.#toEach(listeners, (listener) => listener.end('timeout')));
  }

  dismiss(id: string): boolean {
    const listener = this.#roster.find(id);
    if (listener === undefined) return false;
    this.#afterWritten(() => this.#toEach([listener], () => listener.end('dismissed')));
    return true;
  }

  inspect(options: InspectOptions = {}): Snapshot {
    checkKnown(options, ['streams', 'channels']);
    const { streams = false, channels = true } = options;
    checkFlag(streams, 'streams');
    checkFlag(channels, 'channels');
    return {
      activated: this.activated,
      closed: this.#closed !== undefined,
      epoch: this.#sequence.epoch,
      seq: this.#sequence.head,
      writes: this.#relay.written,
      delivered: this.#flush.delivered,
      listeners: this.#roster.size,
      ...backlogOf(this.#feeds()),
      ...(streams && { streams: Array.from(this.#roster, (listener) => listener.inspect()) }),
      channels: channels ? Array.from(this.channels, (channel) => channel.inspect()) : [],
      refusals: this.registration.refusals,
      backplane: this.#relay.inspect(),
    };
  }

  health(): Promise<Health> {
    return this.#relay.health();
  }

  admin(): Handler {
    const { channels, events } = this;
    return mountedAdmin(admin({ channels, relay: this.#relay, events, hub: this }), events, isResource);
  }

  publisher(options: unknown): Handler {
    const { channels, events } = this;
    const { maxFrame } = this.#settings;
    const isClosed = () => this.#closed !== undefined;
    const press = { channels, relay: this.#relay, events, maxFrame, isClosed };
    return mountedPublisher(publisher(press, publisherSettings(options)), events);
  }

  async close(options: { drain?: number | undefined } = {}): Promise<void> {
    checkKnown(options, ['drain']);
    const { drain = 3000 } = options;
    checkDuration(drain, 'drain');
    this.#closed ??= this.#context
      .run(() => this.#drain(drain))
      .finally(() => {
        this.#isOver = true;
      });
    await this.#closed;
  }

  async #drain(drain: number): Promise<void> {
    this.channels.close();
    this.events.emit('close', {});
    const overdue = new Deferred<void>();
    const deadline = setTimeout(() => {
      overdue.resolve();
      for (const listener of this.#roster.everyone()) listener.evict('drained');
    }, drain);
    const settled = this.#relay.settle();
    // While the backplane is away nothing arrives: the streams need not wait for it.
    if (!this.#relay.isAway) await Promise.race([settled, overdue.promise]);
    this.#toEach([...this.#roster], (listener) => listener.end('drained', drawn([1, drain])));
    await this.#roster.empty();
    await Promise.race([settled, overdue.promise]);
    await Promise.race([this.#relay.answered(), overdue.promise]);
    clearTimeout(deadline);
    await this.#relay.close();
    this.#sweep.stop();
  }

  /** What was written before the call goes out first, also if it comes back from a backplane. */
  #afterWritten(then: () => void): void {
    this.#context.run(() => this.#relay.afterWritten(then));
  }

  /** Ends listeners in slices, in the context of the hub: the stream of one that is blocked outlives the call. */
  #toEach(listeners: readonly Listener[], end: (listener: Listener) => void): void {
    this.#context.run(() => inSlices(eachOf(listeners, end)));
  }

  *#pass(elapsed: number): Generator<void> {
    this.#lookout.tick(elapsed);
    this.#relay.tick(elapsed, performance.now());
    const now = Date.now();
    for (const listener of this.#roster.everyone()) {
      listener.tick(elapsed, now);
      this.#watchExpiry(listener);
      yield;
    }
    for (const { feed } of this.channels) {
      this.#flush.trim(feed, performance.now());
      yield;
    }
    for (const feed of this.#roster.ended.sweep(performance.now())) {
      this.#flush.trim(feed, performance.now());
      yield;
    }
  }

  /** Ends a listener on time if its authorization ends before the next sweep. Others cost nothing until then. */
  #watchExpiry(listener: Listener): void {
    const { expires } = listener;
    if (expires !== undefined && expires < Date.now() + EXPIRES_SOON_MS)
      this.#expiries.add(listener, expires);
  }

  /** A stream waits for a channel that another node has made. Returns whether it is there now. */
  #adopt(name: string, terms: Terms): boolean {
    try {
      this.channels.adopt(name, terms);
      return true;
    } catch (error) {
      if (error instanceof TooManyVirtualChannelsError || error instanceof HubClosedError) return false;
      throw error;
    }
  }

  *#feeds(): Generator<Feed> {
    for (const { feed } of this.channels) yield feed;
  }

  #retainsNothing(): boolean {
    if (this.#roster.ended.size > 0) return false;
    for (const { feed } of this.channels) if (feed.log.size > 0) return false;
    return true;
  }

  #closure(): Closure | undefined {
    if (this.#closed === undefined) {
      return this.#activated ? undefined : { retry: this.#retry, isElsewhere: false };
    }
    if (this.#isOver) return { retry: undefined, isElsewhere: false };
    // Other nodes take over at once. A process that is alone comes back after its restart.
    const isElsewhere = this.#settings.backplane !== undefined;
    return { retry: isElsewhere ? ELSEWHERE_MS : this.#settings.retry, isElsewhere };
  }

  #suitSweep(): void {
    const { heartbeat, stall, vanish, lifetime, log } = this.#settings;
    this.#sweep.suit([heartbeat, stall, vanish, lifetime, log.age, this.#timeout, ...this.#relay.times]);
  }
}

function* eachOf<T>(items: readonly T[], visit: (item: T) => void): Generator<void> {
  for (const item of items) {
    visit(item);
    yield;
  }
}

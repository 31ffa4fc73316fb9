import { channel } from 'node:diagnostics_channel';
import { inspect } from 'node:util';
import { AsyncContext } from './context.js';
import { type CometError, InvalidOptionError } from './errors.js';
import type { FailureReason, Outcome } from './outcome.js';

/**
 * Why a listener left: what a write can fail by, or an orderly end before which everything written was
 * delivered: no event for `timeout`, older than its `lifetime`, its authorization `expired`, its last channel
 * `ended`, `dismissed` by `dismiss()`, the hub closing (`drained`).
 */
export type LeaveReason =
  | Exclude<FailureReason, 'ended' | 'backplane'>
  | 'timeout'
  | 'lifetime'
  | 'expired'
  | 'ended'
  | 'dismissed'
  | 'drained';

/** Why a request was refused: the `code` of the answer's body. An error of `authorize` is `FORBIDDEN`, whatever its status. */
export type RefusalCode =
  | 'NOT_FOUND'
  | 'UNAVAILABLE'
  | 'METHOD_NOT_ALLOWED'
  | 'MALFORMED'
  | 'NO_CHANNEL'
  | 'NO_CURSOR'
  | 'INVALID_CHANNEL_NAME'
  | 'TOO_MANY_CHANNELS'
  | 'NOT_ACCEPTABLE'
  | 'FORBIDDEN'
  | 'UNKNOWN_CHANNEL'
  | 'ENDED'
  | 'GONE'
  | 'TOO_MANY_LISTENERS'
  | 'TOO_MANY_LISTENERS_OF_CHANNEL'
  | 'TOO_MANY_LISTENERS_OF_CLIENT'
  | 'INTERNAL';

/** How a stream's bytes are written: on its socket, or through `response.write`. */
export type Transport = 'socket' | 'response';

/** What `on()` tells of, by name. Positions are strings as on the wire: `<epoch>-<seq>`. */
export interface CometEvents {
  /** A channel was made. */
  create: { channel: string };
  /** A channel was ended. */
  end: { channel: string };
  /** A stream opened; it reads from `position` on. */
  join: {
    listener: string;
    channels: readonly string[];
    position: string;
    recovered: boolean;
    transport: Transport;
  };
  /**
   * A client came back with a cursor, and joined. `frames` are those that its logs hold for it at this moment: what it
   * missed, or where it was not `recovered` those that `rewind` gives a newcomer.
   */
  replay: {
    listener: string;
    channels: readonly string[];
    frames: number;
    recovered: boolean;
    /** Channels of which it may have missed something. */
    gaps: readonly string[];
  };
  /** Something of these channels was lost to an open stream. Its client is told, and the channels start anew. */
  gap: { listener: string; channels: readonly string[] };
  /** A stream is no longer a listener. */
  leave: { listener: string; channels: readonly string[]; reason: LeaveReason };
  /** A listener fell off the log of a channel: it was closed, or it jumped to the newest frame (`latest`). */
  overrun: { listener: string; channel: string; lag: 'close' | 'latest' };
  /** A request was refused. */
  refuse: { status: number; code: RefusalCode; channels: readonly string[] };
  /** An event was written; `bytes` are those of its frame, `listeners` those it goes to. */
  write: { channel: string; position: string; event: string; bytes: number; listeners: number };
  /** A write that asked for its outcome has it, `elapsed` milliseconds after it was made. */
  outcome: { channel: string; position: string; elapsed: number; outcome: Outcome };
  /**
   * `count` writes were given up (`never`), or nobody knows whether they happened (`unknown`): `cause` says why. It is a
   * ChannelEndedError if the channel had ended, a HubClosedError if the hub was closed, and otherwise a BackplaneError.
   * Listeners may have missed the events. Told once a second for each channel, event name and cause.
   */
  drop: { channel: string; event: string; happened: 'never' | 'unknown'; count: number; cause: CometError };
  /**
   * The backplane can be reached, and everything that was missed has been filled in or said; or it can't, for this `cause`.
   * `historyLost`: it has lost what it retained, or may have, so that every stream was told of a gap. Write again what
   * clients need, such as latest values. If it can't be used and `backplane` has no handler, it is a warning of the process,
   * once for each cause.
   */
  backplane: { healthy: boolean; cause: Error | undefined; historyLost: boolean };
  /** Streams can be opened again. */
  activate: Record<never, never>;
  /** Every stream was closed, and no new one is opened. */
  deactivate: Record<never, never>;
  /** The hub closes, for good. */
  close: Record<never, never>;
  /**
   * Code of yours that was called from here threw: a handler of `on()`, an outcome's `resolve`, `authorize`, a source that
   * was stopped. Or `channels.open()` was given options that its channel does not have: an InvalidOptionError, once for a
   * channel. Or something malformed came by the backplane and was ignored: a MalformedMessageError, once for each message of
   * it.
   * No stream is harmed by it. If `error` has no handler, it is a warning of the process.
   */
  error: unknown;
}

/**
 * What `node:diagnostics_channel` is told, by the name of the channel:
 * `message as CometDiagnostics['express-comet:join']`.
 */
export type CometDiagnostics = {
  readonly [Name in keyof CometEvents as `express-comet:${Name}`]: CometEvents[Name];
};

// Every name, which the type above says once more: a name that is missing here, or not there, does not compile.
const NAMES = Object.keys({
  create: 0,
  end: 0,
  join: 0,
  replay: 0,
  gap: 0,
  leave: 0,
  overrun: 0,
  refuse: 0,
  write: 0,
  outcome: 0,
  drop: 0,
  backplane: 0,
  activate: 0,
  deactivate: 0,
  close: 0,
  error: 0,
} satisfies Record<keyof CometEvents, 0>) as (keyof CometEvents)[];

// For tools that watch a process and know no hub: `express-comet:join` and so on, as `on()` tells it.
const DIAGNOSTICS = new Map(NAMES.map((name) => [name, channel(`express-comet:${name}`)]));

type Handler<Name extends keyof CometEvents> = (event: CometEvents[Name]) => void;

/** The events of one hub. Node's EventEmitter would let one handler that throws keep the event from the rest. */
export class Events {
  readonly #handlers = new Map<keyof CometEvents, Set<Handler<never>>>();

  /**
   * Calls `handler` for each event of that name until the function that it returns is called: in the async context of this
   * call, not of what it tells.
   * @throws InvalidOptionError for a name that is none, or a handler that is no function
   */
  on<Name extends keyof CometEvents>(name: Name, handler: Handler<Name>): () => void {
    if (!NAMES.includes(name)) {
      throw new InvalidOptionError(`There is no event ${inspect(name)}: the events are ${NAMES.join(', ')}.`);
    }
    if (typeof handler !== 'function') {
      throw new InvalidOptionError(`The handler of ${name} must be a function, not ${inspect(handler)}.`);
    }
    const handlers = this.#handlers.get(name) ?? new Set();
    this.#handlers.set(name, handlers);
    // Wrapped, so that the same function may be given twice and each switch turns off its own.
    const context = new AsyncContext();
    const entry: Handler<Name> = (event) => context.runInAsyncScope(handler, undefined, event);
    handlers.add(entry);
    return () => {
      handlers.delete(entry);
    };
  }

  /** Whether anyone listens: what nobody hears need not be put together. */
  has(name: keyof CometEvents): boolean {
    return this.#isHandled(name) || DIAGNOSTICS.get(name)?.hasSubscribers === true;
  }

  #isHandled(name: keyof CometEvents): boolean {
    return (this.#handlers.get(name)?.size ?? 0) > 0;
  }

  /** Tells the handlers as microtasks: none of them can re-enter the write or the flush that it hears of. */
  emit<Name extends keyof CometEvents>(name: Name, event: CometEvents[Name]): void {
    const handlers = this.#handlers.get(name);
    for (const handler of handlers ?? []) {
      const call = () => (handlers?.has(handler) ? (handler as Handler<Name>)(event) : undefined);
      queueMicrotask(name === 'error' ? call : () => this.guard(call));
    }
    const diagnostics = DIAGNOSTICS.get(name);
    if (diagnostics?.hasSubscribers) queueMicrotask(() => diagnostics.publish(event));
  }

  /** Calls code of the user's, and tells what it throws, or its promise rejects with. */
  guard(call: () => unknown): void {
    try {
      const result = call();
      if (result instanceof Promise) result.catch((error: unknown) => this.fail(error));
    } catch (error) {
      this.fail(error);
    }
  }

  /** Warns of what an operator has to mend, where nobody listens to the event that tells it. */
  warn(name: keyof CometEvents, message: string): void {
    if (!this.has(name)) process.emitWarning(message, { type: 'CometWarning' });
  }

  /** Tells that code of the user's threw. */
  fail(error: unknown): void {
    this.emit('error', error);
    if (this.#isHandled('error')) return;
    const { message, stack } = error instanceof Error ? error : new Error(inspect(error));
    process.emitWarning(message, { type: 'CometWarning', detail: stack ?? '' });
  }
}

import { setMaxListeners } from 'node:events';
import type { ListenerCount } from '../cluster/answers.js';
import type { Member } from '../cluster/follower.js';
import type { Relay, WaitingWriter } from '../cluster/relay.js';
import { type Moment, thisTurn } from '../core/clock.js';
import type { AsyncContext } from '../core/context.js';
import {
  ChannelEndedError,
  CometError,
  HubClosedError,
  InvalidDataError,
  InvalidOptionError,
} from '../core/errors.js';
import type { Events } from '../core/events.js';
import { type ChannelSettings, checkFlag, checkKnown, checkWait, type Settings } from '../core/options.js';
import { Deferred, type Outcome } from '../core/outcome.js';
import type { Sequence } from '../core/position.js';
import { type Backlog, backlogOf, Feed } from '../delivery/feed.js';
import { checkEventName, checkSize, encodeBody } from '../sse/frame.js';
import { Pipe, type Piped, type PipeOptions, pipeSettings } from './pipe.js';
import { openSource, type Source } from './source.js';

/** How an event is sent. */
export interface SendOptions {
  /**
   * The event's name: not `open` or `error`, which an `EventSource` fires itself, and nothing that begins with `comet:`.
   * Default: none, which `EventSource` calls `message`.
   */
  event?: string | undefined;
  /** Whether the outcome tells of each node. Default `false`. */
  perNode?: boolean | undefined;
}

/** How an event is written. */
export interface WriteOptions extends SendOptions {
  /**
   * Is resolved with what became of the write, in the async context of the write. Default: nobody asks, and nothing is
   * tracked.
   */
  outcome?: Pick<Deferred<Outcome>, 'resolve'> | undefined;
}

/** How a channel is ended. */
export interface EndOptions {
  /** Milliseconds for which its last events and its end stay readable; 0 for none. Default 60 000. */
  linger?: number | undefined;
}

/** The hub of a channel, as far as it concerns the channel. */
export interface Station {
  readonly settings: Settings;
  readonly sequence: Sequence;
  readonly relay: Relay;
  readonly events: Events;
  readonly context: AsyncContext;
  /** A log holds frames, which grow old. */
  wrote(): void;
  /** Up to this position a channel of this name may have ended before. */
  lastEnd(name: string): number;
  /** The channel has ended: its name is free. */
  ended(channel: Channel<never>): void;
  /** Its end stands at `seq`. It stays readable for `linger` milliseconds. */
  lingers(channel: Channel<never>, seq: number, linger: number): void;
  /** Nobody listens to it any more. */
  left(channel: Channel<never>): void;
}

const NO_OPTIONS: WriteOptions & EndOptions = Object.freeze({});
const LINGER_MS = 60_000;
const SEND_OPTIONS = ['event', 'perNode'];
const WRITE_OPTIONS = [...SEND_OPTIONS, 'outcome'];

/** A named line from the server to its listeners. `Data` is what is written on it. */
export class Channel<Data = unknown> {
  /** Its `chan_id`: what a client registers with. */
  readonly id: string;
  readonly #station: Station;
  #encode: (data: Data) => unknown;
  readonly #member: Member;
  #ended = false;
  #closed = false;
  #writes = 0;
  #lastWrite: Moment | undefined;
  // Made for the first that asks for its signal: most channels need none.
  #controller: AbortController | undefined;

  /** @internal Channels are made by `channels.create()` and `channels.open()`. */
  constructor(id: string, settings: ChannelSettings, station: Station, isAdopted: boolean) {
    this.id = id;
    this.#station = station;
    this.#encode = settings.encode as (data: Data) => unknown;
    const { log, lag, rewind } = settings;
    this.#member = {
      id,
      // Percent-encoded, an id of any name stands in the id of an event: no CR, LF or NUL, and no space.
      label: encodeURIComponent(id),
      feed: new Feed(id, settings, station.sequence.head, station.lastEnd(id)),
      terms: { log, lag, rewind },
      ended: (seq, linger) => {
        this.#end();
        station.lingers(this, seq, linger);
      },
      left: () => station.left(this),
    };
    station.relay.hold(this.#member, isAdopted);
  }

  /**
   * The streams open now, of this process. A client that has gone, but is not yet known to be gone, still counts; the
   * outcome of a write tells the truth about it.
   */
  get listeners(): number {
    return this.#member.feed.listeners;
  }

  /**
   * The streams open now on all nodes of the backplane. Rejects with a BackplaneError where that is away, and
   * with a HubClosedError; a node that does not answer within `deadline` is named as silent.
   */
  async countListeners(): Promise<ListenerCount> {
    return this.#station.relay.countListeners(this.id);
  }

  /** Whether it has ended, here or on another node. What is written on it now is dropped. */
  get ended(): boolean {
    return this.#ended;
  }

  /**
   * Aborts when nothing more can be written: with a ChannelEndedError as its reason when the channel has ended, here or on
   * another node, and with a HubClosedError when the hub closes. Stop what writes on the channel by it. Its handlers are
   * never called inside the call that ends the channel.
   */
  get signal(): AbortSignal {
    this.#controller ??= createController();
    if (this.#ended || this.#closed) this.#abort();
    return this.#controller.signal;
  }

  /** @internal */
  get settings(): ChannelSettings {
    return { ...this.#member.terms, encode: this.#encode as ChannelSettings['encode'] };
  }

  /** @internal Sets how data is encoded, on a channel of another node: that one could not say. */
  encodeBy(encode: ChannelSettings['encode']): void {
    this.#encode = encode as (data: Data) => unknown;
  }

  /** @internal */
  get feed(): Feed {
    return this.#member.feed;
  }

  /** What `push.inspect()` says of it. */
  inspect(): ChannelSnapshot {
    const { feed } = this.#member;
    const { frames, bytes, lagging, lag } = backlogOf([feed]);
    return {
      id: this.id,
      listeners: feed.listeners,
      writes: this.#writes,
      lastWrite: this.#lastWrite === undefined ? null : new Date(this.#lastWrite.date),
      frames,
      bytes,
      lagging,
      lag,
    };
  }

  /**
   * Sends an event to all listeners, at the end of this turn of the event loop. On a channel that has ended, the event is
   * dropped: `on('drop')` tells, and the outcome is a failure with the reason `ended`.
   * @throws InvalidDataError for data that can't be encoded, bytes without an `encode` of the channel, and lone surrogates;
   *   nothing of it is sent
   * @throws InvalidEventNameError
   * @throws FrameTooLargeError
   */
  write(data: Data, options: WriteOptions = NO_OPTIONS): void {
    if (options !== NO_OPTIONS) checkKnown(options, WRITE_OPTIONS);
    const { event, outcome, perNode = false } = options;
    if (outcome !== undefined && typeof outcome?.resolve !== 'function') {
      throw new InvalidOptionError(
        'The option outcome must have a function resolve: pass a Deferred<Outcome>.',
      );
    }
    this.#append(data, event, outcome, perNode);
  }

  /**
   * Sends an event as `write` does, and tells what became of it. Rejects with what `write` throws.
   *
   * The outcome settles once, when each listener has taken the event, or fallen off the log, or stayed blocked for the
   * hub's `stall`; and never inside this call. On a channel that has ended it is a failure with the reason `ended`.
   */
  async send(data: Data, options: SendOptions = {}): Promise<Outcome> {
    checkKnown(options, SEND_OPTIONS);
    const outcome = new Deferred<Outcome>();
    this.#append(data, options.event, outcome, options.perNode ?? false);
    return outcome.promise;
  }

  /**
   * @internal Sends an event whose text is there already, past the channel's `encode`; else as `write` does.
   * @throws as `write`
   */
  writeText(text: string, event: string | undefined, outcome: WriteOptions['outcome']): void {
    if (event !== undefined) checkEventName(event);
    this.#appendText(text, event, outcome, false);
  }

  /**
   * Writes the items of a source, each as `write` does, at the pace of those who listen to it here: it waits while all of
   * them are blocked, and while the backplane is away or the queue to it is full. Where nobody listens it goes on. It
   * holds one item at the most.
   *
   * Resolves when the source has come to its end and the backplane has accepted every item; the channel is ended then,
   * but for `end: false`. Resolves as not `complete` where the channel ends first, or the hub closes. Rejects with the error
   * of the source, with what `write` throws for an item, with the reason of `signal`, and with a BackplaneError for an item
   * that the backplane refused; the channel stays open. However it settles, the source is at its end or has been stopped:
   * an iterator by its `return()`, a Readable by `destroy()`, a ReadableStream by `cancel()`.
   *
   * Rejects at once with an InvalidOptionError, InvalidEventNameError, InvalidSourceError, ChannelEndedError or
   * HubClosedError.
   */
  async pipe<Item extends Data>(source: Source<Item>, options: PipeOptions<Item> = {}): Promise<Piped> {
    const settings = pipeSettings(options);
    const { sequence, relay, events } = this.#station;
    const pipe = new Pipe(openSource(source), settings, {
      feed: this.#member.feed,
      sequence,
      relay,
      write: (item, event, writer) => this.#append(item, event, undefined, false, writer),
      end: () => this.end(),
      fail: (error) => events.fail(error),
    });
    if (this.#ended) pipe.fail(new ChannelEndedError(this.id));
    else if (this.#closed) pipe.fail(new HubClosedError());
    else pipe.start();
    return pipe.piped;
  }

  /**
   * Ends the channel, on every node. Its listeners get what was written and then `comet:end`; a stream that carries no
   * other channel is ended. Its name is free at once, and a write on it is dropped. Does nothing if the channel has ended.
   *
   * The channel lingers: for that time clients that return get its last events and its end. It lingers no more where
   * another channel of its name is made.
   * @throws InvalidOptionError
   */
  end(options: EndOptions = NO_OPTIONS): void {
    checkKnown(options, ['linger']);
    const linger = checkWait(options.linger ?? LINGER_MS, 'linger');
    if (this.#ended) return;
    this.#end();
    this.#station.relay.end(this.#member, linger);
  }

  /** @internal The hub closes: nothing is piped any more. */
  close(): void {
    this.#closed = true;
    this.#stopWriters();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#station.ended(this);
    this.#stopWriters();
  }

  #stopWriters(): void {
    for (const writer of this.#member.feed.writers) writer.stop();
    // The handlers of the signal are the user's code, and the end of the channel is under way.
    if (this.#controller !== undefined) queueMicrotask(() => this.#abort());
  }

  #abort(): void {
    const reason = this.#ended ? new ChannelEndedError(this.id) : new HubClosedError();
    this.#station.context.run(() => this.#controller?.abort(reason));
  }

  /** Returns how long the event is, but for its number: in units of UTF-16, which are bytes mostly. */
  #append(
    data: Data,
    event: string | undefined,
    outcome: WriteOptions['outcome'],
    perNode: boolean,
    writer?: WaitingWriter,
  ): number {
    if (event !== undefined) checkEventName(event);
    checkFlag(perNode, 'perNode');
    return this.#appendText(this.#encoded(data), event, outcome, perNode, writer);
  }

  #appendText(
    text: string,
    event: string | undefined,
    outcome: WriteOptions['outcome'],
    perNode: boolean,
    writer?: WaitingWriter,
  ): number {
    const { sequence, settings, relay } = this.#station;
    const body = encodeBody(text, event);
    const position = { epoch: sequence.epoch, seq: sequence.head + 1 };
    checkSize(body, position, this.#member.label, settings.maxFrame);

    const write = { member: this.#member, body, event, outcome, perNode, writer };
    // Asked last: the encoder is the user's code, and may have ended this channel.
    if (this.#ended) {
      relay.drop(write, new ChannelEndedError(this.id));
      return 0;
    }
    this.#writes += 1;
    this.#lastWrite = thisTurn();
    relay.write(write);
    this.#station.wrote();
    return body.length + this.#member.label.length;
  }

  #encoded(data: Data): string {
    let text: unknown;
    try {
      text = this.#encode(data);
    } catch (cause) {
      if (cause instanceof CometError) throw cause;
      throw new InvalidDataError(
        'The data could not be encoded (see the cause): write what JSON can say, or give the channel an encode.',
        { cause },
      );
    }
    if (typeof text === 'string') return text;
    throw new InvalidDataError(
      `The data was encoded as ${typeof text}, not a string: write what JSON can say, or give the channel an encode.`,
    );
  }
}

function createController(): AbortController {
  const controller = new AbortController();
  // Everything that feeds a channel may hang on its signal: Node would warn of a leak at eleven.
  setMaxListeners(0, controller.signal);
  return controller;
}

/** A channel at one moment. */
export interface ChannelSnapshot extends Backlog {
  /** Its `chan_id`. */
  readonly id: string;
  /** Streams open now, of this process. */
  readonly listeners: number;
  /** Events written since it was made. */
  readonly writes: number;
  /** When the last of them was written here, or `null` where none was. */
  readonly lastWrite: Date | null;
}

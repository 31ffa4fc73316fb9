import type { ListenerCount } from './answers.js';
import { ChannelEndedError, CometError, InvalidDataError, InvalidOptionError } from './errors.js';
import { type Backlog, backlogOf, Feed } from './feed.js';
import type { Member } from './follower.js';
import { checkEventName, checkSize, encodeBody } from './frame.js';
import { type ChannelSettings, checkFlag, checkKnown, type Settings } from './options.js';
import { Deferred, type Outcome } from './outcome.js';
import type { Sequence } from './position.js';
import type { Relay } from './relay.js';

/** How an event is sent. */
export interface SendOptions {
  /** The event's name. Default: none, which `EventSource` calls `message`. */
  event?: string | undefined;
  /** Whether the outcome tells of each node. Default `false`. */
  perNode?: boolean | undefined;
}

/** How an event is written. */
export interface WriteOptions extends SendOptions {
  /** Is resolved with what became of the write. Default: nobody asks, and nothing is tracked. */
  outcome?: Pick<Deferred<Outcome>, 'resolve'> | undefined;
}

/** The hub of a channel, as far as it concerns the channel. */
export interface Station {
  readonly settings: Settings;
  readonly sequence: Sequence;
  readonly relay: Relay;
  /** A log holds frames, which grow old. */
  wrote(): void;
  /** The channel has ended: its name is free. */
  ended(channel: Channel<never>): void;
  /** Nobody listens to it any more. */
  left(channel: Channel<never>): void;
}

const NO_OPTIONS: WriteOptions = Object.freeze({});
const SEND_OPTIONS = ['event', 'perNode'];
const WRITE_OPTIONS = [...SEND_OPTIONS, 'outcome'];

/** A named line from the server to its listeners. `Data` is what is written on it. */
export class Channel<Data = unknown> {
  /** Its `chan_id`: what a client registers with. */
  readonly id: string;
  readonly #station: Station;
  readonly #encode: (data: Data) => unknown;
  readonly #member: Member;
  #ended = false;
  #writes = 0;
  #lastWrite: number | undefined;

  /** @internal Channels are made by `channels.create()` and `channels.open()`. */
  constructor(id: string, settings: ChannelSettings, station: Station) {
    this.id = id;
    this.#station = station;
    this.#encode = settings.encode as (data: Data) => unknown;
    const { log, lag, rewind } = settings;
    this.#member = {
      id,
      // Percent-encoded, an id of any name stands in the id of an event: no CR, LF or NUL, and no space.
      label: encodeURIComponent(id),
      feed: new Feed(id, settings, station.sequence.head),
      terms: { log, lag, rewind },
      ended: () => this.#end(),
      left: () => station.left(this),
    };
    station.relay.hold(this.#member);
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
      lastWrite: this.#lastWrite === undefined ? null : new Date(this.#lastWrite),
      frames,
      bytes,
      lagging,
      lag,
    };
  }

  /**
   * Sends an event to all listeners, at the end of this turn of the event loop.
   * @throws ChannelEndedError
   * @throws InvalidDataError for data that can't be encoded, or has lone surrogates; nothing of it is sent
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
   * hub's `stall`; and never inside this call.
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
   * Ends the channel, on every node. Its listeners get what was written and then `comet:end`; a stream that carries no
   * other channel is ended. Its name is free at once, and a write on it throws.
   */
  end(): void {
    if (this.#ended) return;
    this.#end();
    this.#station.relay.end(this.#member);
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#station.ended(this);
  }

  #append(data: Data, event: string | undefined, outcome: WriteOptions['outcome'], perNode: boolean): void {
    if (event !== undefined) checkEventName(event);
    checkFlag(perNode, 'perNode');
    this.#appendText(this.#encoded(data), event, outcome, perNode);
  }

  #appendText(
    text: string,
    event: string | undefined,
    outcome: WriteOptions['outcome'],
    perNode: boolean,
  ): void {
    const { sequence, settings, relay } = this.#station;
    // After the encoder, which is code of the user's and may have done anything, even ended this channel.
    if (this.#ended) throw new ChannelEndedError(this.id);
    const body = encodeBody(text, event);
    const position = { epoch: sequence.epoch, seq: sequence.head + 1 };
    checkSize(body, position, this.#member.label, settings.maxFrame);

    this.#writes += 1;
    this.#lastWrite = Date.now();
    relay.write({ member: this.#member, body, event, outcome, perNode });
    this.#station.wrote();
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

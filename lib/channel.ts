import { ChannelEndedError, CometError, InvalidDataError, InvalidOptionError } from './errors.js';
import type { Events } from './events.js';
import { Feed } from './feed.js';
import type { Flush } from './flush.js';
import { checkEventName, encodeEnd, encodeEvent } from './frame.js';
import { type ChannelSettings, checkKnown, type Settings } from './options.js';
import { Deferred, type Outcome, Tally } from './outcome.js';
import { formatPosition, type Sequence } from './position.js';

/** How an event is sent. */
export interface SendOptions {
  /** The event's name. Default: none, which `EventSource` calls `message`. */
  event?: string | undefined;
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
  readonly flush: Flush;
  readonly events: Events;
  /** A log holds frames, which grow old. */
  wrote(): void;
  /** The channel has ended: its name is free. */
  ended(chanId: string): void;
}

const NO_OPTIONS: WriteOptions = Object.freeze({});
const WRITE_OPTIONS = ['event', 'outcome'];

/** A named line from the server to its listeners. `Data` is what is written on it. */
export class Channel<Data = unknown> {
  /** Its `chan_id`: what a client registers with. */
  readonly id: string;
  readonly #station: Station;
  readonly #encode: (data: Data) => unknown;
  readonly #label: string;
  readonly #feed: Feed;
  #writes = 0;
  #lastWrite: number | undefined;

  /** @internal Channels are made by `channels.create()` and `channels.open()`. */
  constructor(id: string, settings: ChannelSettings, station: Station) {
    this.id = id;
    this.#station = station;
    this.#encode = settings.encode as (data: Data) => unknown;
    // Percent-encoded, an id of any name stands in the id of an event: no CR, LF or NUL, and no space.
    this.#label = encodeURIComponent(id);
    this.#feed = new Feed(id, settings, station.sequence.head);
  }

  /**
   * The streams open now. A client that has gone, but is not yet known to be gone, still counts; the outcome of
   * a write tells the truth about it.
   */
  get listeners(): number {
    return this.#feed.listeners;
  }

  /** @internal */
  get feed(): Feed {
    return this.#feed;
  }

  /** What `push.inspect()` says of it. */
  inspect(): ChannelSnapshot {
    const { log, listeners } = this.#feed;
    return {
      id: this.id,
      listeners,
      writes: this.#writes,
      lastWrite: this.#lastWrite === undefined ? null : new Date(this.#lastWrite),
      frames: log.size,
      bytes: log.bytes,
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
    const { event, outcome } = options;
    if (outcome !== undefined && typeof outcome?.resolve !== 'function') {
      throw new InvalidOptionError(
        'The option outcome must have a function resolve: pass a Deferred<Outcome>.',
      );
    }
    this.#append(data, event, outcome);
  }

  /**
   * Sends an event as `write` does, and tells what became of it. Rejects with what `write` throws.
   *
   * The outcome settles once, when each listener has taken the event, or fallen off the log, or stayed blocked for the
   * hub's `stall`; and never inside this call.
   */
  async send(data: Data, options: SendOptions = {}): Promise<Outcome> {
    checkKnown(options, ['event']);
    const outcome = new Deferred<Outcome>();
    this.#append(data, options.event, outcome);
    return outcome.promise;
  }

  /**
   * Ends the channel. Its listeners get what was written and then `comet:end`; a stream that carries no other
   * channel is ended. Its name is free at once, and a write on it throws.
   */
  end(): void {
    const { sequence, flush, events } = this.#station;
    if (this.#feed.endedAt !== undefined) return;
    this.#station.ended(this.id);
    sequence.head += 1;
    this.#feed.end(sequence.head);
    flush.append(this.#feed, encodeEnd(this.id, sequence.head));
    events.emit('end', { channel: this.id });
  }

  #append(data: Data, event: string | undefined, outcome: WriteOptions['outcome']): void {
    const { sequence, settings, flush, events } = this.#station;
    if (event !== undefined) checkEventName(event);
    const text = this.#encoded(data);
    // After the encoder, which is code of the user's and may have done anything, even ended this channel.
    if (this.#feed.endedAt !== undefined) throw new ChannelEndedError(this.id);
    const position = { epoch: sequence.epoch, seq: sequence.head + 1 };
    const frame = encodeEvent(text, event, position, this.#label, settings.maxFrame);

    sequence.head = frame.seq;
    this.#writes += 1;
    this.#lastWrite = Date.now();
    const { listeners } = this.#feed;
    if (outcome !== undefined) this.#feed.track(this.#tally(frame.seq, frame.at, listeners, outcome));
    flush.append(this.#feed, frame);
    this.#station.wrote();
    if (events.has('write')) {
      const bytes = frame.bytes.length;
      events.emit('write', {
        channel: this.id,
        position: formatPosition(position),
        event: event ?? 'message',
        bytes,
        listeners,
      });
    }
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

  // Takes what it needs of the frame, not the frame: this is what waits for as long as the slowest listener does.
  #tally(seq: number, at: number, listeners: number, deferred: Pick<Deferred<Outcome>, 'resolve'>): Tally {
    const { sequence, events } = this.#station;
    return new Tally(seq, listeners, (outcome) => {
      events.guard(() => deferred.resolve(outcome));
      if (!events.has('outcome')) return;
      const position = formatPosition({ epoch: sequence.epoch, seq });
      events.emit('outcome', { channel: this.id, position, elapsed: performance.now() - at, outcome });
    });
  }
}

/** A channel at one moment. */
export interface ChannelSnapshot {
  readonly id: string;
  readonly listeners: number;
  /** Events written since it was made. */
  readonly writes: number;
  readonly lastWrite: Date | null;
  /** Frames that its log retains. */
  readonly frames: number;
  /** Bytes of them. */
  readonly bytes: number;
}

/**
 * Every error that this package throws: a class to catch, a stable `code` to compare, and a message that ends
 * with the remedy.
 */
export abstract class CometError extends Error {
  /** Stable across versions; the message is not. */
  abstract readonly code: string;

  /** The name of its class. */
  override get name(): string {
    return this.constructor.name;
  }
}

/** An option is unknown, or of the wrong type or range. */
export class InvalidOptionError extends CometError {
  readonly code = 'INVALID_OPTION';
}

/** A channel's name is not a well-formed string of 1 to 256 UTF-16 units without control characters. */
export class InvalidChannelNameError extends CometError {
  readonly code = 'INVALID_CHANNEL_NAME';
}

/** A channel of that name exists: no two channels share one (Ocsigen's `Non_unique_channel_name`). */
export class NonUniqueChannelNameError extends CometError {
  readonly code = 'NON_UNIQUE_CHANNEL_NAME';

  constructor(
    /** The name that is in use. */
    readonly chanId: string,
  ) {
    super(
      `A channel named ${JSON.stringify(chanId)} exists: use channels.open() to share it, or another name.`,
    );
  }
}

/** The channels have reached `maxVirtualChannels` (Ocsigen's `Too_many_virtual_channels`). */
export class TooManyVirtualChannelsError extends CometError {
  readonly code = 'TOO_MANY_VIRTUAL_CHANNELS';

  constructor(
    /** What `maxVirtualChannels` is. */
    readonly limit: number,
  ) {
    super(
      `There are ${limit} channels already: end one that is no longer needed, or raise maxVirtualChannels.`,
    );
  }
}

/**
 * The channel has ended, here or on another node. `pipe` rejects with it; for `write` and `send` it is the `cause` of the
 * event `drop`.
 */
export class ChannelEndedError extends CometError {
  readonly code = 'CHANNEL_ENDED';

  constructor(
    /** The id of the channel. */
    readonly chanId: string,
  ) {
    super(
      `The channel ${JSON.stringify(chanId)} has ended: write to one that channels.find() still returns.`,
    );
  }
}

/** A call that needs a living hub, after its `close()`. */
export class HubClosedError extends CometError {
  readonly code = 'HUB_CLOSED';

  constructor() {
    super(
      'This hub was closed, which is final: make a new one with comet(), or use deactivate() for a pause.',
    );
  }
}

/** Data that can't be encoded, or bytes on a channel that has no `encode`; `cause` is what the encoder threw, if it threw. */
export class InvalidDataError extends CometError {
  readonly code = 'INVALID_DATA';
}

/** An event name that can't stand in an event stream, is reserved, or is one that an `EventSource` fires itself. */
export class InvalidEventNameError extends CometError {
  readonly code = 'INVALID_EVENT_NAME';
}

/** The source to pipe is no iterable, Readable or ReadableStream, or another reader has locked it. */
export class InvalidSourceError extends CometError {
  readonly code = 'INVALID_SOURCE';
}

/** One encoded event is larger than `maxFrame`. */
export class FrameTooLargeError extends CometError {
  readonly code = 'FRAME_TOO_LARGE';

  constructor(
    /** What the event takes. */
    readonly bytes: number,
    /** What `maxFrame` is. */
    readonly limit: number,
  ) {
    super(
      `The event takes ${bytes} bytes and maxFrame is ${limit}: send a reference to what is large, or raise maxFrame.`,
    );
  }
}

/** What `client` returned is no string, so that a limit on each client could not be kept; the request was refused. */
export class InvalidClientError extends CometError {
  readonly code = 'INVALID_CLIENT';

  constructor() {
    super('client must return a string, and no promise: give those who have no name one of their own.');
  }
}

/** What `authorize` returned is neither a boolean nor `{ expires: Date }`; the request was refused. */
export class InvalidAuthorizationError extends CometError {
  readonly code = 'INVALID_AUTHORIZATION';

  constructor() {
    super(
      'authorize must return true, false or { expires: Date } (a valid date), or a promise of one of them.',
    );
  }
}

/** A handler stands at a route of Express from which it can't read a path. `next` gets this error with the first request. */
export class InvalidMountError extends CometError {
  readonly code = 'INVALID_MOUNT';
}

/**
 * What came by a backplane is malformed, and was ignored: another program writes on its keys or topics, or a key was
 * damaged. The event `error` tells it, once for each message of this error.
 */
export class MalformedMessageError extends CometError {
  readonly code = 'MALFORMED_MESSAGE';

  /** For an engine. */
  constructor(
    /** What is malformed. */
    what: string,
    /** Why. */
    why: string,
  ) {
    super(
      `${what} is malformed and was ignored (${why}): give no other program rights on keys and topics of this prefix.`,
    );
  }
}

/** Whether what a backplane rejected has happened: it never will, it has not and may be tried again, or nobody knows. */
export type Happened = 'never' | 'no' | 'unknown';

/** The backplane did not do what it was asked to; `cause` is what its client threw. */
export class BackplaneError extends CometError {
  readonly code = 'BACKPLANE';

  /** For an engine: the message ends with the remedy. */
  constructor(
    message: string,
    /** Whether it may have happened all the same. */
    readonly happened: Happened,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

import type { IncomingMessage } from 'node:http';
import { hostname } from 'node:os';
import { inspect } from 'node:util';
import { isAnyArrayBuffer } from 'node:util/types';
import type { Backplane } from './backplane.js';
import { InvalidDataError, InvalidOptionError } from './errors.js';

/**
 * What a channel retains, for clients that return and readers that are slow. The newest frame is kept whatever its
 * size, until it is too old.
 */
export interface LogOptions {
  /** Frames at most; 1 or more. Default 1000. */
  frames?: number | undefined;
  /** Bytes of encoded frames at most. Default 1 MiB. */
  bytes?: number | undefined;
  /** Milliseconds at most, give or take a second, or `null` for no bound by age. Default 5 minutes. */
  age?: number | null | undefined;
}

/**
 * What becomes of a listener that fell off the log: its stream is closed, so that it comes back and is told of
 * the gap (`'close'`), or it jumps to the newest frame (`'latest'`: prices, positions, progress).
 */
export type Lag = 'close' | 'latest';

/** Turns data into the text of an event. What it throws, and what is not a well-formed string, is refused. */
export type Encode = (data: never) => string;

/** The options that a hub gives to its channels, and that a channel may have of its own. */
export interface ChannelOptions<T = unknown> {
  /** What the channel retains. Default `{ frames: 1000, bytes: 1 MiB, age: 5 min }`. */
  log?: LogOptions | undefined;
  /** What becomes of a listener that fell off the log. Default `'close'`. */
  lag?: Lag | undefined;
  /** Retained frames that a newcomer gets at once. Default 0. */
  rewind?: number | undefined;
  /** Data to text. Default: a string as it is, anything else by `JSON.stringify`; bytes are refused. */
  encode?: ((data: T) => string) | undefined;
}

/**
 * `true` lets a client in, `false` refuses it, `{ expires }` lets it in and closes its stream then: within 50 ms, unless the
 * event loop is blocked.
 */
export type Authorization = boolean | { expires: Date };

/** The options of `comet()`. Times are in milliseconds, sizes in bytes. */
export interface CometOptions<Request extends IncomingMessage = IncomingMessage> extends ChannelOptions {
  /** Channels in all; at the limit `create` and `open` throw. Default `null`: no limit. */
  maxVirtualChannels?: number | null | undefined;
  /**
   * May this request listen to these channels, all of them? Asked before it is known to the client whether any
   * of them exists. `false` is answered by 403, an error by its `status` (400 to 599) and its `headers`. An error
   * without a status goes to Express's error handler. Default: everyone may.
   */
  authorize?:
    | ((request: Request, channelIds: readonly string[]) => Authorization | Promise<Authorization>)
    | undefined;
  /** A comment is sent on a stream that was quiet for so long; `null` for none. Default 15 s. */
  heartbeat?: number | null | undefined;
  /** Each stream is told to wait a time drawn from this range before it reconnects. Default `[2000, 4000]`. */
  retry?: readonly [min: number, max: number] | undefined;
  /**
   * A stream that stays blocked for so long, with one batch or 64 KiB of what it catches up with, is closed. Default 30 s.
   */
  stall?: number | undefined;
  /**
   * A client that acknowledged nothing for so long, although bytes wait for it, has vanished without a word; its stream
   * is closed. Told by Linux only: elsewhere bound a stream's `lifetime`. `null` for never. Default 60 s.
   */
  vanish?: number | null | undefined;
  /** A stream on which no event was written for so long is closed; `null` for never. Default `null`. */
  timeout?: number | null | undefined;
  /** The oldest that a stream may get; each ends in the last fifth of it. `null` for no bound. Default `null`. */
  lifetime?: number | null | undefined;
  /** Channels that one stream may carry; a request for more gets 400. Default 100. */
  channelsPerStream?: number | undefined;
  /**
   * Names that may wait for a channel that does not exist yet, each counted once for each stream. Beyond that a name is
   * told to have ended. Default 50 000.
   */
  maxWaitingNames?: number | undefined;
  /** What is kept of channels that have ended and linger. Default `{ channels: 10 000, bytes: 16 MiB }`. */
  maxLingering?: LingeringOptions | undefined;
  /** Streams in all; one more gets 503. Default `null`: no limit. */
  maxListeners?: number | null | undefined;
  /** Streams of one channel; one more gets 503. Default `null`: no limit. */
  maxListenersPerChannel?: number | null | undefined;
  /** Streams of one client, as `client` tells them apart; one more gets 429. Default `null`: no limit. */
  maxListenersPerClient?: number | null | undefined;
  /** Who a client is, for `maxListenersPerClient`: a string. Default: Express's `request.ip`, else the socket's address. */
  client?: ((request: Request) => string) | undefined;
  /** Bytes of one encoded event; a write of more throws. Default 1 MiB. */
  maxFrame?: number | undefined;
  /** What carries writes between nodes, such as `redis({ client })`. Default: this process alone. */
  backplane?: Backplane | undefined;
  /** What this hub is called among the nodes; something random is added. Default: the name of the machine. */
  node?: string | undefined;
  /**
   * How long other nodes may take to tell what became of a write, and a client waits for a backplane that is away. A node
   * that is silent for longer counts as `unknown`. Default 5 s.
   */
  deadline?: number | undefined;
  /** What waits while the backplane is away. Default `{ writes: 50 000, bytes: 64 MiB, wait: 5 s }`. */
  queue?: QueueOptions | undefined;
}

/** The bounds of what lingers after `channel.end()`. What ended first goes first. */
export interface LingeringOptions {
  /** Channels at most. As many ends are remembered. Default 10 000. */
  channels?: number | undefined;
  /** Bytes of their histories at most. Default 16 MiB. */
  bytes?: number | undefined;
}

/**
 * Writes that a backplane has yet to accept. What is more, or waits longer, fails with the reason `backplane`. While the
 * backplane is there, one turn of the event loop may write more than these bounds: it goes out in portions.
 */
export interface QueueOptions {
  /** Writes at most. Default 50 000. */
  writes?: number | undefined;
  /** Bytes that they hold at most: of a write its event, and 1.1 KB, or 2.2 KB if its outcome is awaited. Default 64 MiB. */
  bytes?: number | undefined;
  /** Milliseconds that each waits, give or take an eighth; with 0 a write fails at once while the backplane is away. Default 5 s. */
  wait?: number | undefined;
}

/** The options of `push.publisher()`. */
export interface PublisherOptions<Request extends IncomingMessage = IncomingMessage> {
  /**
   * May this request publish on this channel? Asked before it is known to the client whether that exists, and before its
   * body is read. Answers and errors are those of the hub's `authorize`. There is no default.
   */
  authorize: (request: Request, chanId: string) => Authorization | Promise<Authorization>;
  /**
   * Who publishes: a string. The idempotency keys of one are not those of another. Default: the `Authorization` header,
   * else everyone is one. Where that header changes between a request and its repetition, name the publisher otherwise.
   */
  client?: ((request: Request) => string) | undefined;
  /** How long an idempotency key is remembered. Default `{ keys: 10 000, age: 10 min }`. */
  idempotency?: IdempotencyOptions | undefined;
}

/** What is remembered of the requests that had an `Idempotency-Key`: some 500 bytes of each. The oldest go first. */
export interface IdempotencyOptions {
  /** Keys at most; 1 or more. Default 10 000. */
  keys?: number | undefined;
  /** Milliseconds at most. Default 10 minutes. */
  age?: number | undefined;
}

/** What a publisher was set to, every value there. */
export interface PublisherSettings {
  readonly authorize: (request: never, chanId: string) => Authorization | Promise<Authorization>;
  readonly client: (request: never) => string;
  readonly idempotency: { readonly keys: number; readonly age: number };
}

/** What a channel was set to, every value there. */
export interface ChannelSettings {
  readonly log: { readonly frames: number; readonly bytes: number; readonly age: number | null };
  readonly lag: Lag;
  readonly rewind: number;
  readonly encode: Encode;
}

/** What a hub was set to, every value there. */
export interface Settings extends ChannelSettings {
  readonly maxVirtualChannels: number | null;
  readonly authorize: (
    request: never,
    channelIds: readonly string[],
  ) => Authorization | Promise<Authorization>;
  readonly heartbeat: number | null;
  readonly retry: readonly [min: number, max: number];
  readonly stall: number;
  readonly vanish: number | null;
  readonly timeout: number | null;
  readonly lifetime: number | null;
  readonly channelsPerStream: number;
  readonly maxWaitingNames: number;
  readonly maxLingering: { readonly channels: number; readonly bytes: number };
  readonly maxListeners: number | null;
  readonly maxListenersPerChannel: number | null;
  readonly maxListenersPerClient: number | null;
  readonly client: (request: never) => string;
  readonly maxFrame: number;
  readonly backplane: Backplane | undefined;
  readonly node: string;
  readonly deadline: number;
  readonly queue: { readonly writes: number; readonly bytes: number; readonly wait: number };
}

type Check<T> = (value: unknown, name: string, inherited: T) => T;
type Checks<T> = { readonly [Key in keyof T]: Check<T[Key]> };

// Above this a Node timer fires at once, and no sum of ours may get there.
const LONGEST_MS = 2 ** 31 - 1;
const MiB = 2 ** 20;

const number =
  (min: number, max: number, unit: string): Check<number> =>
  (value, name) => {
    if (!Number.isSafeInteger(value) || (value as number) < min || (value as number) > max) {
      refuse(name, value, `a whole number of ${unit} from ${min} to ${max}`);
    }
    return value as number;
  };

const orNull =
  <T>(check: Check<T>): Check<T | null> =>
  (value, name, inherited) =>
    value === null ? null : check(value, `${name} (or null)`, inherited as T);

const callable =
  <T>(): Check<T> =>
  (value, name) => {
    if (typeof value !== 'function') refuse(name, value, 'a function');
    return value as T;
  };

const count = (unit: string): Check<number> => number(1, Number.MAX_SAFE_INTEGER, unit);
const milliseconds = number(1, LONGEST_MS, 'milliseconds');
const wait = number(0, LONGEST_MS, 'milliseconds');

const lag: Check<Lag> = (value, name) => {
  if (value !== 'close' && value !== 'latest') refuse(name, value, "'close' or 'latest'");
  return value as Lag;
};

const range: Check<readonly [number, number]> = (value, name) => {
  const [min, max] = Array.isArray(value) && value.length === 2 ? value : [];
  const inRange = [min, max].every(
    (bound) => Number.isSafeInteger(bound) && bound >= 0 && bound <= LONGEST_MS,
  );
  if (!inRange || min > max) refuse(name, value, 'a pair of whole milliseconds, [min, max], with min <= max');
  return Object.freeze([min, max]) as readonly [number, number];
};

const retention: Check<ChannelSettings['log']> = (value, name, inherited) =>
  settle(
    value,
    { frames: count('frames'), bytes: count('bytes'), age: orNull(milliseconds) },
    inherited,
    `${name}.`,
  );

const queue: Check<Settings['queue']> = (value, name, inherited) =>
  settle(value, { writes: count('writes'), bytes: count('bytes'), wait }, inherited, `${name}.`);

const lingering: Check<Settings['maxLingering']> = (value, name, inherited) =>
  settle(value, { channels: count('channels'), bytes: count('bytes') }, inherited, `${name}.`);

const idempotency: Check<PublisherSettings['idempotency']> = (value, name, inherited) =>
  settle(value, { keys: count('keys'), age: milliseconds }, inherited, `${name}.`);

const engine: Check<Backplane | undefined> = (value, name) => {
  const { connect, name: label } = (value ?? {}) as Partial<Backplane>;
  if (typeof connect !== 'function' || typeof label !== 'string') {
    refuse(name, value, 'a backplane, such as redis({ client }) of express-comet/redis');
  }
  return value as Backplane;
};

const label: Check<string> = (value, name) => {
  if (typeof value !== 'string' || !/^[\w.-]{1,64}$/.test(value)) {
    refuse(name, value, '1 to 64 letters, digits, dots, underlines or hyphens');
  }
  return value as string;
};

const channelChecks: Checks<ChannelSettings> = {
  log: retention,
  lag,
  rewind: number(0, Number.MAX_SAFE_INTEGER, 'frames'),
  encode: callable(),
};

const hubChecks: Checks<Settings> = {
  ...channelChecks,
  maxVirtualChannels: orNull(number(0, Number.MAX_SAFE_INTEGER, 'channels')),
  authorize: callable(),
  heartbeat: orNull(milliseconds),
  retry: range,
  stall: milliseconds,
  vanish: orNull(milliseconds),
  timeout: orNull(milliseconds),
  lifetime: orNull(milliseconds),
  channelsPerStream: count('channels'),
  maxWaitingNames: number(0, Number.MAX_SAFE_INTEGER, 'names'),
  maxLingering: lingering,
  maxListeners: orNull(count('listeners')),
  maxListenersPerChannel: orNull(count('listeners')),
  maxListenersPerClient: orNull(count('listeners')),
  client: callable(),
  maxFrame: count('bytes'),
  backplane: engine,
  node: label,
  deadline: milliseconds,
  queue,
};

const publisherChecks: Checks<PublisherSettings> = {
  authorize: callable(),
  client: callable(),
  idempotency,
};
function encodeText(data: unknown): string {
  if (typeof data === 'string') return data;
  // JSON would write a list of numbers, or `{}`; and text that is cut anywhere between two bytes is not UTF-8.
  if (ArrayBuffer.isView(data) || isAnyArrayBuffer(data)) {
    throw new InvalidDataError(
      'The data is bytes, which have no text: write a string, such as buffer.toString(), or pipe a source of text ' +
        '(setEncoding() of a Readable, a TextDecoderStream), or give the channel an encode.',
    );
  }
  return JSON.stringify(data);
}

const defaults: Settings = {
  log: { frames: 1000, bytes: MiB, age: 5 * 60_000 },
  lag: 'close',
  rewind: 0,
  encode: encodeText,
  maxVirtualChannels: null,
  authorize: () => true,
  heartbeat: 15_000,
  retry: [2000, 4000],
  stall: 30_000,
  vanish: 60_000,
  timeout: null,
  lifetime: null,
  channelsPerStream: 100,
  maxWaitingNames: 50_000,
  maxLingering: { channels: 10_000, bytes: 16 * MiB },
  maxListeners: null,
  maxListenersPerChannel: null,
  maxListenersPerClient: null,
  client: (request: IncomingMessage & { ip?: string }) => request.ip ?? request.socket.remoteAddress ?? '',
  maxFrame: MiB,
  backplane: undefined,
  node:
    hostname()
      .replace(/[^\w.-]/g, '-')
      .slice(0, 64) || 'node',
  deadline: 5000,
  queue: { writes: 50_000, bytes: 64 * MiB, wait: 5000 },
};

/**
 * The settings of a hub: its defaults under what was given. The caller's object is neither kept nor changed.
 * @throws InvalidOptionError for an unknown option, or one of the wrong type or range
 */
export function hubSettings(given: unknown): Settings {
  return settle(given, hubChecks, defaults, '');
}

/**
 * The settings of a channel: its hub's under what was given.
 * @param others the options that are not settings, such as a name: the caller checks them
 * @throws InvalidOptionError as `hubSettings`
 */
export function channelSettings(given: unknown, hub: Settings, ...others: string[]): ChannelSettings {
  const { log, lag, rewind, encode } = hub;
  return settle(given, channelChecks, { log, lag, rewind, encode }, '', others);
}

/** What of the options differs from what a channel is set to, as text: `rewind 5 instead of 1`. */
export function differencesOf(given: object, settings: object, prefix = ''): string[] {
  return Object.entries(settings).flatMap(([key, set]) => {
    const value = (given as Record<string, unknown>)[key];
    if (value === undefined || isSame(value, set)) return [];
    if (isObject(value) && isObject(set)) return differencesOf(value, set, `${prefix}${key}.`);
    return [`${prefix}${key} ${show(value)} instead of ${show(set)}`];
  });
}

/** Two functions of the same text are the same: where a channel is opened in a handler, each request makes one of its own. */
function isSame(one: unknown, other: unknown): boolean {
  if (typeof one === 'function' && typeof other === 'function') return String(one) === String(other);
  return one === other;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/**
 * The settings of a publisher.
 * @throws InvalidOptionError as `hubSettings`, and without an `authorize`
 */
export function publisherSettings(given: unknown): PublisherSettings {
  const inherited = {
    authorize: nobody,
    client: ({ headers }: IncomingMessage) => headers.authorization ?? '',
    idempotency: { keys: 10_000, age: 10 * 60_000 },
  };
  const settings = settle(given, publisherChecks, inherited, '');
  if (settings.authorize !== nobody) return settings;
  throw new InvalidOptionError(
    'A publisher has no default for authorize, since whoever reaches it could write on every channel: pass a function ' +
      'of the request and the chan_id that says who may.',
  );
}

const nobody = (): boolean => false;

/**
 * Checks a time in milliseconds.
 * @throws InvalidOptionError
 */
export function checkDuration(value: unknown, name: string): number {
  return milliseconds(value, name, 0);
}

/**
 * Checks a flag.
 * @throws InvalidOptionError
 */
export function checkFlag(value: unknown, name: string): boolean {
  if (typeof value !== 'boolean') refuse(name, value, 'true or false');
  return value as boolean;
}

/**
 * Checks a time in milliseconds that may be none.
 * @throws InvalidOptionError
 */
export function checkWait(value: unknown, name: string): number {
  return wait(value, name, 0);
}

/**
 * Checks a time in milliseconds, or a range of such times.
 * @throws InvalidOptionError
 */
export function checkRange(value: unknown, name: string): readonly [min: number, max: number] {
  return typeof value === 'number' ? range([value, value], name, [0, 0]) : range(value, name, [0, 0]);
}

/**
 * Checks that options are an object, and hold only what is known.
 * @throws InvalidOptionError
 */
export function checkKnown(given: unknown, known: readonly string[], name = 'options'): void {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new InvalidOptionError(`The ${name} must be an object of ${known.join(', ')}, not ${show(given)}.`);
  }
  for (const key in given) {
    if (known.includes(key)) continue;
    throw new InvalidOptionError(`There is no option ${show(key)}: the options are ${known.join(', ')}.`);
  }
}

function settle<T extends object>(
  given: unknown,
  checks: Checks<T>,
  inherited: T,
  prefix: string,
  others: readonly string[] = [],
): T {
  if (given === undefined) return inherited;
  checkKnown(
    given,
    [...others, ...Object.keys(checks)],
    prefix === '' ? 'options' : `option ${prefix.slice(0, -1)}`,
  );

  const settled = { ...inherited };
  for (const key of Object.keys(checks) as (keyof T & string)[]) {
    const value = (given as T)[key];
    if (value !== undefined) settled[key] = checks[key](value, prefix + key, inherited[key]);
  }
  return Object.freeze(settled);
}

function refuse(name: string, value: unknown, remedy: string): never {
  throw new InvalidOptionError(`The option ${name} must be ${remedy}, not ${show(value)}.`);
}

function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 80));
  return inspect(value, { depth: 0, maxArrayLength: 4, breakLength: Infinity });
}

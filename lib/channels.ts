import { v4 as uuid } from 'uuid';
import { Channel, type Station } from './channel.js';
import {
  HubClosedError,
  InvalidChannelNameError,
  NonUniqueChannelNameError,
  TooManyVirtualChannelsError,
} from './errors.js';
import { type ChannelOptions, type ChannelSettings, channelSettings } from './options.js';

/** The options of a new channel. */
export interface CreateOptions<Data = unknown> extends ChannelOptions<Data> {
  /** Its id. Default: a fresh one that nobody can guess (UUID v4). */
  name?: string | undefined;
}

/** The channels of a hub, by their ids. */
export class Channels implements Iterable<Channel> {
  // A map, for which `__proto__` and `constructor` are names like any other.
  readonly #channels = new Map<string, Channel<never>>();
  readonly #station: Station;
  #closed = false;

  /** @internal There is one for each hub: `push.channels`. */
  constructor(hub: Omit<Station, 'ended'>) {
    this.#station = { ...hub, wrote: () => hub.wrote(), ended: (chanId) => this.#channels.delete(chanId) };
  }

  /** Channels in all. */
  get size(): number {
    return this.#channels.size;
  }

  /**
   * Makes a channel.
   * @throws NonUniqueChannelNameError where one of that name exists
   * @throws InvalidChannelNameError for a name that is not a well-formed string of 1 to 256 UTF-16 units without
   *   control characters
   * @throws TooManyVirtualChannelsError at `maxVirtualChannels`
   * @throws InvalidOptionError
   * @throws HubClosedError
   */
  create<Data = unknown>(options: CreateOptions<Data> = {}): Channel<Data> {
    const own = channelSettings(options, this.#station.settings, 'name');
    const { name = uuid() } = options;
    checkChannelName(name);
    if (this.#channels.has(name)) throw new NonUniqueChannelNameError(name);
    return this.#make(name, own);
  }

  /**
   * Finds the channel of that name, or makes it. The options are for a channel that is made: one that is found
   * keeps its own.
   * @throws as `create`, but for the name in use
   */
  open<Data = unknown>(name: string, options: ChannelOptions<Data> = {}): Channel<Data> {
    const own = channelSettings(options, this.#station.settings);
    checkChannelName(name);
    return this.find<Data>(name) ?? this.#make(name, own);
  }

  /** The channel of that id, if there is one. */
  find<Data = unknown>(id: string): Channel<Data> | undefined {
    return this.#channels.get(id) as Channel<Data> | undefined;
  }

  /** The channels, in the order in which they were made. */
  [Symbol.iterator](): IterableIterator<Channel> {
    return this.#channels.values() as IterableIterator<Channel>;
  }

  /** @internal No channel is made any more. */
  close(): void {
    this.#closed = true;
  }

  #make<Data>(name: string, own: ChannelSettings): Channel<Data> {
    const { settings, events } = this.#station;
    const { maxVirtualChannels } = settings;
    if (this.#closed) throw new HubClosedError();
    if (maxVirtualChannels !== null && this.size >= maxVirtualChannels) {
      throw new TooManyVirtualChannelsError(maxVirtualChannels);
    }
    const channel = new Channel<Data>(name, own, this.#station);
    this.#channels.set(name, channel);
    events.emit('create', { channel: name });
    return channel;
  }
}

/** Whether a string can be a channel's id. */
export function isChannelName(name: unknown): name is string {
  return (
    typeof name === 'string' &&
    name.length >= 1 &&
    name.length <= 256 &&
    name.isWellFormed() &&
    !/\p{Cc}/u.test(name)
  );
}

function checkChannelName(name: unknown): void {
  if (isChannelName(name)) return;
  throw new InvalidChannelNameError(
    'A channel name must be a well-formed string of 1 to 256 UTF-16 units without control characters: choose another.',
  );
}

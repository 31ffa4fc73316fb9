import { v4 as uuid } from 'uuid';
import type { Terms } from '../core/backplane.js';
import { AsyncContext } from '../core/context.js';
import {
  HubClosedError,
  InvalidChannelNameError,
  InvalidOptionError,
  NonUniqueChannelNameError,
  TooManyVirtualChannelsError,
} from '../core/errors.js';
import type { Events } from '../core/events.js';
import {
  type ChannelOptions,
  type ChannelSettings,
  channelSettings,
  differencesOf,
} from '../core/options.js';
import type { EndedChannels } from '../delivery/ended.js';
import { Channel, type Station } from './channel.js';

/** The options of a new channel. */
export interface CreateOptions<Data = unknown> extends ChannelOptions<Data> {
  /** Its id. Default: a fresh one that nobody can guess (UUID v4). */
  name?: string | undefined;
}

/** The channels of a hub, by their ids. */
export class Channels implements Iterable<Channel> {
  // A map, for which `__proto__` and `constructor` are names like any other.
  readonly #channels = new Map<string, Channel<never>>();
  // Those that other nodes have made, and that are here for their listeners' sake.
  readonly #guests = new Set<Channel<never>>();
  // Those that were opened with options which they do not have.
  readonly #differing = new WeakSet<Channel<never>>();
  readonly #station: Station;
  readonly #events: Events;
  readonly #ended: EndedChannels;
  #closed = false;

  /** @internal There is one for each hub: `push.channels`. */
  constructor(
    hub: Omit<Station, 'events' | 'context' | 'lastEnd' | 'ended' | 'lingers' | 'left'>,
    events: Events,
    ended: EndedChannels,
  ) {
    this.#events = events;
    this.#ended = ended;
    this.#station = {
      ...hub,
      events,
      context: new AsyncContext(),
      wrote: () => hub.wrote(),
      lastEnd: (name) => ended.lastEnd(name),
      ended: (channel) => this.#free(channel),
      lingers: ({ id, feed }, seq, linger) => {
        // Its name may be another's by now.
        ended.add(feed, seq, this.#channels.has(id) ? 0 : linger, performance.now());
      },
      left: (channel) => this.#left(channel),
    };
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
   * keeps its own, and `on('error')` tells once which of the options it does not have.
   * @throws as `create`, but for the name in use
   */
  open<Data = unknown>(name: string, options: ChannelOptions<Data> = {}): Channel<Data> {
    const own = channelSettings(options, this.#station.settings);
    checkChannelName(name);
    const channel = this.#channels.get(name);
    if (channel === undefined) return this.#make(name, own);
    if (this.#guests.delete(channel)) channel.encodeBy(own.encode);
    this.#tellDifferences(channel, options);
    return channel as Channel<Data>;
  }

  /** The channel of that id, if there is one here. */
  find<Data = unknown>(id: string): Channel<Data> | undefined {
    const channel = this.#channels.get(id);
    // Somebody has an interest in it: it stays until it ends.
    if (channel !== undefined) this.#guests.delete(channel);
    return channel as Channel<Data> | undefined;
  }

  /** @internal The channel of that id, for a listener. */
  peek(id: string): Channel | undefined {
    return this.#channels.get(id) as Channel | undefined;
  }

  /**
   * @internal Makes a channel that another node has made, for as long as it has listeners here.
   * @throws as `open`
   */
  adopt(id: string, terms: Terms): void {
    if (this.#channels.has(id)) return;
    this.#guests.add(this.#make(id, channelSettings(terms, this.#station.settings), true) as Channel<never>);
  }

  /** The channels, in the order in which they were made. */
  [Symbol.iterator](): IterableIterator<Channel> {
    return this.#channels.values() as IterableIterator<Channel>;
  }

  /** @internal No channel is made any more, and nothing is piped. */
  close(): void {
    this.#closed = true;
    for (const channel of this.#channels.values()) channel.close();
  }

  #make<Data>(name: string, own: ChannelSettings, isAdopted = false): Channel<Data> {
    const { maxVirtualChannels } = this.#station.settings;
    if (this.#closed) throw new HubClosedError();
    if (maxVirtualChannels !== null && this.size >= maxVirtualChannels) {
      throw new TooManyVirtualChannelsError(maxVirtualChannels);
    }
    const channel = new Channel<Data>(name, own, this.#station, isAdopted);
    this.#channels.set(name, channel);
    this.#ended.release(name);
    if (this.#events.has('create')) this.#events.emit('create', { channel: name });
    return channel;
  }

  /** Once for a channel: it may be opened for every request. */
  #tellDifferences(channel: Channel<never>, options: ChannelOptions<never>): void {
    if (this.#differing.has(channel)) return;
    const differences = differencesOf(options, channel.settings);
    if (differences.length === 0) return;
    this.#differing.add(channel);
    this.#events.fail(
      new InvalidOptionError(
        `The channel ${JSON.stringify(channel.id)} keeps its options, from which those of open() differ ` +
          `(${differences.join(', ')}): open it with the same options everywhere, or end() it first.`,
      ),
    );
  }

  #free(channel: Channel<never>): void {
    // The name may be another's by now.
    if (this.#channels.get(channel.id) === channel) this.#channels.delete(channel.id);
    this.#guests.delete(channel);
    if (this.#events.has('end')) this.#events.emit('end', { channel: channel.id });
  }

  #left(channel: Channel<never>): void {
    if (!this.#guests.delete(channel)) return;
    this.#channels.delete(channel.id);
    this.#station.relay.forget(channel.id);
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

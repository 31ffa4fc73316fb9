import type { Channel } from '../channels/channel.js';
import type { Channels } from '../channels/channels.js';
import type { Relay } from '../cluster/relay.js';
import { BackplaneError, TooManyVirtualChannelsError } from '../core/errors.js';
import type { Position } from '../core/position.js';

/** Where channels are looked for: here, and on the other nodes. */
export interface Realm {
  readonly channels: Channels;
  readonly relay: Relay;
}

/**
 * Has channels that other nodes have made, and what was written on them up to the cursor, arrive here. `true` where all of
 * it is here already; resolves with false where it can't be.
 */
export function locate(
  realm: Realm,
  channelIds: readonly string[],
  cursor: Position | null | undefined,
): Promise<boolean> | true {
  const { channels, relay } = realm;
  if (channelIds.some((id) => channels.peek(id) === undefined)) return arrival(realm, channelIds, cursor);
  const readiness = relay.ready(channelIds, cursor);
  return readiness === undefined || arrival(realm, channelIds, undefined, readiness);
}

async function arrival(
  { channels, relay }: Realm,
  channelIds: readonly string[],
  cursor: Position | null | undefined,
  first?: Promise<void>,
): Promise<boolean> {
  try {
    await first;
    const unknown = new Set<string>();
    let seen = cursor;
    // Until nothing is left to wait for: while one thing is, a channel may be made here, or be let go again.
    while (true) {
      const missing = channelIds.filter((id) => channels.peek(id) === undefined && !unknown.has(id));
      if (missing.length > 0) {
        const found = await relay.find(missing);
        for (const id of missing) if (!found.has(id)) unknown.add(id);
        for (const [id, terms] of found) channels.adopt(id, terms);
        continue;
      }
      const present = channelIds.filter((id) => channels.peek(id) !== undefined);
      const readiness = relay.ready(present, seen);
      if (readiness === undefined) return true;
      await readiness;
      // That of another epoch, or of none, is no further off after a second look.
      seen = undefined;
    }
  } catch (error) {
    if (error instanceof BackplaneError || error instanceof TooManyVirtualChannelsError) return false;
    throw error;
  }
}

/**
 * The channel of that id, on whichever node it was made; `null` where that can't be told now. One that is here need not
 * wait for a backplane that is away.
 */
export async function find(realm: Realm, chanId: string): Promise<Channel | undefined | null> {
  const channel = realm.channels.peek(chanId);
  if (channel !== undefined) return channel;
  return (await locate(realm, [chanId], undefined)) ? realm.channels.peek(chanId) : null;
}

import type { Channel } from './channel.js';
import type { Channels } from './channels.js';
import { BackplaneError, TooManyVirtualChannelsError } from './errors.js';
import type { Position } from './position.js';
import type { Relay } from './relay.js';

/** Where channels are looked for: here, and on the other nodes. */
export interface Realm {
  readonly channels: Channels;
  readonly relay: Relay;
}

/**
 * Has channels that other nodes have made, and what was written on them up to the cursor, arrive here. Returns false where
 * it can't.
 */
export async function locate(
  { channels, relay }: Realm,
  channelIds: readonly string[],
  cursor: Position | null | undefined,
): Promise<boolean> {
  try {
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

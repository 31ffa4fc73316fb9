import type { Channel } from '../channels/channel.js';
import type { Channels } from '../channels/channels.js';
import type { Relay } from '../cluster/relay.js';
import type { Findings } from '../core/backplane.js';
import { BackplaneError } from '../core/errors.js';
import type { Position } from '../core/position.js';
import type { Ends } from '../delivery/ended.js';

/** Where channels are looked for: here, and on the other nodes. */
export interface Realm {
  readonly channels: Channels;
  readonly relay: Relay;
}

/** What other nodes know of the ends of names of which there is no channel here. */
class FoundEnds implements Ends {
  readonly #ends = new Map<string, number>();
  #forgotten = 0;

  add({ forgotten, names }: Findings): void {
    this.#forgotten = Math.max(this.#forgotten, forgotten);
    for (const [name, { lastEnd }] of names) this.#ends.set(name, lastEnd);
  }

  has(name: string): boolean {
    return (this.#ends.get(name) ?? 0) > 0;
  }

  lastEnd(name: string): number {
    return Math.max(this.#forgotten, this.#ends.get(name) ?? 0);
  }
}

const NO_ENDS = new FoundEnds();
const NO_NAMES = (): readonly string[] => [];

/**
 * Has channels that other nodes have made, alive or lingering, and what was written on them up to the cursor, arrive here.
 * Returns what is known of the ends of the others: at once where all channels are here already. Resolves with `undefined`
 * where they can't arrive.
 * @param awaited returns the names that the stream would wait for; `locate` calls it again after each wait
 */
export function locate(
  realm: Realm,
  channelIds: readonly string[],
  cursor: Position | null | undefined,
  awaited: () => readonly string[] = NO_NAMES,
): Promise<Ends | undefined> | Ends {
  const { channels, relay } = realm;
  if (channelIds.some((id) => channels.peek(id) === undefined))
    return arrival(realm, channelIds, cursor, awaited);
  const readiness = relay.ready(channelIds, cursor);
  return readiness === undefined ? NO_ENDS : arrival(realm, channelIds, undefined, awaited, readiness);
}

async function arrival(
  { channels, relay }: Realm,
  channelIds: readonly string[],
  cursor: Position | null | undefined,
  awaited: () => readonly string[],
  first?: Promise<void>,
): Promise<Ends | undefined> {
  const ends = new FoundEnds();
  const { names: asked, awaits, close } = relay.inquire();
  try {
    await first;
    let seen = cursor;
    // Until nothing is left to wait for: while one thing is, a channel may be made, or end, or be let go again.
    while (true) {
      const absent = channelIds.filter((id) => channels.peek(id) === undefined);
      // Until its end is appended, `find` reports a channel that was ended here as alive.
      await relay.endings(absent);
      const missing = absent.filter((id) => channels.peek(id) === undefined && !asked.has(id));
      if (missing.length > 0) {
        for (const id of missing) asked.add(id);
        const findings = await relay.find(missing);
        ends.add(findings);
        for (const id of missing) {
          const found = findings.names.get(id);
          if (asked.has(id) && found !== undefined && !relay.adopt(id, found)) return undefined;
        }
        continue;
      }
      const readiness = relay.ready(channelIds, seen) ?? awaits(awaited());
      if (readiness === undefined) return ends;
      await readiness;
      // That of another epoch, or of none, is no further off after a second look.
      seen = undefined;
    }
  } catch (error) {
    if (error instanceof BackplaneError) return undefined;
    throw error;
  } finally {
    close();
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

import type { Events } from '../core/events.js';
import { canTell, retransmissions, unacknowledged } from '../transport/kernel.js';
import type { Listener } from './listener.js';

interface Suspicion {
  /** Since when, in milliseconds of `performance.now()`. */
  readonly since: number;
  readonly retransmits: number;
}

/**
 * Looks out for clients that vanished without a word, and evicts them. It looks four times within the time that it grants,
 * reads what takes long only when something was sent again, and keeps something only of those it suspects.
 */
export class Lookout {
  readonly #grace: number | null;
  readonly #listeners: Iterable<Listener>;
  readonly #events: Events;
  #suspicions = new Map<string, Suspicion>();
  // As it was when the table of connections was last read.
  #retransmissions = Number.NaN;
  #sinceLook = 0;
  #looking = false;

  /** @param grace milliseconds that a client may leave bytes unacknowledged; `null` for ever */
  constructor(grace: number | null, listeners: Iterable<Listener>, events: Events) {
    this.#grace = canTell ? grace : null;
    this.#listeners = listeners;
    this.#events = events;
  }

  /** `elapsed` milliseconds have passed. */
  tick(elapsed: number): void {
    this.#sinceLook += elapsed;
    if (this.#grace === null || this.#looking || this.#sinceLook < this.#grace / 4) return;
    this.#sinceLook = 0;
    this.#looking = true;
    this.#look(this.#grace)
      .catch((error: unknown) => this.#events.fail(error))
      .finally(() => {
        this.#looking = false;
      });
  }

  async #look(grace: number): Promise<void> {
    // Counted before the table is read, so that what is sent again meanwhile is looked for next time.
    const count = await retransmissions();
    if (count === this.#retransmissions && this.#suspicions.size === 0) return;
    const retransmitting = await unacknowledged();
    this.#retransmissions = count;
    const now = performance.now();
    const before = this.#suspicions;
    this.#suspicions = new Map();
    if (retransmitting.size === 0) return;
    for (const listener of [...this.#listeners]) {
      const { connection } = listener;
      const retransmits = retransmitting.get(connection);
      if (retransmits === undefined) continue;
      // A count that went down is of another loss: there was an acknowledgement in between.
      const suspicion = before.get(connection);
      const since = suspicion !== undefined && retransmits >= suspicion.retransmits ? suspicion.since : now;
      if (now - since >= grace) listener.evict('vanished');
      else this.#suspicions.set(connection, { since, retransmits });
    }
  }
}

import { type RedisClient, redis } from '../../lib/engines/redis/redis.js';
import { type Comet, comet } from '../../lib/index.js';
import type { Random } from '../support/random.js';

/** Another environment: a hub with the same prefix and the same names, on another database number of the same Redis. */
export class Foreign {
  /** What it saw of the other environment; undefined for nothing. */
  strange: string | undefined;
  readonly #push: Comet;
  readonly #names: readonly string[];
  // Channels that it has ended itself, as often as that was.
  readonly #ended: string[] = [];

  constructor(client: RedisClient, prefix: string, names: readonly string[]) {
    this.#names = names;
    this.#push = comet({ backplane: redis({ client, prefix }), node: 'foreign', heartbeat: null });
    this.#push.on('end', ({ channel }) => {
      const index = this.#ended.indexOf(channel);
      if (index === -1) this.strange = `${channel} has ended in another environment, which did not end it.`;
      else this.#ended.splice(index, 1);
    });
    this.#push.on('error', (error) => {
      this.strange = `Another environment told of an error: ${error}`;
    });
    for (const name of names) this.#push.channels.open(name);
  }

  /** It writes, or ends a channel and makes it anew. */
  step(random: Random): void {
    const name = random.pick(this.#names);
    if (random.below(3) === 0) {
      this.#ended.push(name);
      this.#push.channels.open(name).end({ linger: random.pick([0, 60_000]) });
    }
    this.#push.channels.open(name).write('foreign');
  }

  async close(): Promise<void> {
    await this.#push.close({ drain: 1 });
  }
}

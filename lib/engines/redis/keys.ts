import { InvalidOptionError } from '../../core/errors.js';

// At most one pair of braces: the text in it decides on the slot of a Redis Cluster.
const PREFIX = /^(?:[^{}\s]+|[^{}\s]*\{[^{}\s]+\}[^{}\s]*)$/;
const MAX_PREFIX = 64;

/** Checks the option `prefix`. @throws InvalidOptionError */
export function checkPrefix(prefix: unknown): string {
  if (typeof prefix === 'string' && prefix.length <= MAX_PREFIX && PREFIX.test(prefix)) return prefix;
  throw new InvalidOptionError(
    `The option prefix must be 1 to ${MAX_PREFIX} units without spaces, and with one pair of braces at the most: ` +
      "pass 'app' or 'app:{comet}'.",
  );
}

/** The names of the keys in Redis. All share a hash tag, so that a cluster keeps them in one slot. */
export class Keys {
  readonly start: string;

  constructor(prefix: string) {
    this.start = prefix.includes('{') ? `${prefix}:` : `{${prefix}}:`;
  }

  get hub(): string {
    return `${this.start}hub`;
  }

  /** A key that the check of rights makes and deletes. */
  get check(): string {
    return `${this.start}check`;
  }

  /** The ends that are remembered. */
  get ended(): string {
    return `${this.start}ended`;
  }

  /** The keys of a node: `hub`, `nodes` and `accepted`. */
  ofNode(node: string): readonly [hub: string, nodes: string, accepted: string] {
    return [this.hub, `${this.start}nodes`, `${this.start}accepted:${node}`];
  }

  /** The keys of a channel: `channel`, `log` and `audience`. */
  ofChannel(chanId: string): readonly [channel: string, log: string, audience: string] {
    const { start } = this;
    return [`${start}channel:${chanId}`, `${start}log:${chanId}`, `${start}audience:${chanId}`];
  }
}

/**
 * The names of the topics. They carry the number of the database and the key prefix of the client, because publish and
 * subscribe ignore both.
 */
export class Topics {
  /** The topic of all nodes. */
  readonly all: string;
  readonly #start: string;
  readonly #channel: string;

  constructor(keys: Keys, keyPrefix: string, database: number) {
    this.#start = `${keyPrefix}${keys.start}${database}:`;
    this.#channel = `${this.#start}topic:`;
    this.all = `${this.#start}all`;
  }

  /** A topic that no node listens to, for the check of rights. */
  get check(): string {
    return `${this.#start}check`;
  }

  ofNode(node: string): string {
    return `${this.#start}node:${node}`;
  }

  ofChannel(chanId: string): string {
    return this.#channel + chanId;
  }

  /** The id of the channel that a topic is of. */
  chanIdOf(topic: string): string {
    return topic.slice(this.#channel.length);
  }
}

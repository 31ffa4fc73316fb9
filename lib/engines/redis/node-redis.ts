import { type Connection, type ConnectionListener, type Connector, missingFrom } from './connection.js';

/** The part of a client of the package `redis` that is used: `createClient()`, `createCluster()` or `createSentinel()`. */
export interface RedisClient {
  /** A client of the same options: one for commands and one for subscriptions are made of it. */
  duplicate(overrides?: object): RedisConnection;
  /** What it was made with. A cluster and a Sentinel client have none to look at. */
  readonly options?:
    | { readonly socket?: object | undefined; readonly database?: number | undefined }
    | undefined;
}

/** A client that such a client makes: what is used of it, as node-redis says it. */
export interface RedisConnection {
  /** Connects, and connects again by itself. */
  connect(): Promise<unknown>;
  /** Closes the connection at once. */
  destroy(): unknown;
  /** Hears of what breaks; a cluster tells of one of its nodes as `node-error`. */
  on(event: 'error' | 'node-error', handler: (error: Error) => void): unknown;
  /** Runs a script. */
  eval(script: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>;
  /** Runs a script that the server knows. */
  evalSha(sha: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>;
  /** Sends a message to those who are subscribed to the topic. */
  publish(topic: string, message: string): Promise<unknown>;
  /** Has messages on these topics arrive. */
  subscribe(topics: string[], listener: (message: string, topic: string) => void): Promise<unknown>;
  /** Has them arrive no more. */
  unsubscribe(topics: string[]): Promise<unknown>;
}

/** Members that the types of a client do not show, or that only one kind of client has. */
interface Hidden {
  readonly _keyPrefix?: string | undefined;
  /** A Sentinel client alone has it. */
  readonly acquire?: unknown;
  readonly clientInfo?: () => Promise<{ readonly db: number }>;
}

/** The methods by which a client of node-redis 5 or later is known. */
const METHODS = [
  ...['duplicate', 'connect', 'destroy', 'on'],
  ...['eval', 'evalSha', 'publish', 'subscribe', 'unsubscribe'],
];

/** The methods that a client lacks to be one of node-redis. */
export const missingFromNodeRedis = (client: unknown) => missingFrom(client, METHODS);

/** Makes connections as node-redis does. */
export function nodeRedis(client: RedisClient): Connector {
  const { options } = client;
  // A connection that comes back by itself would hide what was missed meanwhile; and a command that waits for one would be
  // sent at a time that nobody knows of. A cluster and a Sentinel client show no options, and have none for that.
  const overrides = {
    disableOfflineQueue: true,
    // The hub has a queue with bounds of its own.
    commandsQueueMaxLength: undefined,
    // Replies as strings, whatever the client's own calls are to return.
    commandOptions: {},
    // A Sentinel client is silent about broken connections otherwise, and sends again what may have been carried out.
    passthroughClientErrorEvents: true,
    maxCommandRediscovers: 0,
    ...(options !== undefined && { socket: { ...options.socket, reconnectStrategy: false } }),
  };
  return {
    make: (listener) => new NodeRedisConnection(client.duplicate(overrides), options?.database, listener),
    isUnsent: ({ name, message }) =>
      name === 'ClientOfflineError' || name === 'ClientClosedError' || message === 'The queue is full',
  };
}

class NodeRedisConnection implements Connection {
  readonly keyPrefix: string;
  readonly #client: RedisConnection & Hidden;
  readonly #database: number;
  readonly #listener: ConnectionListener;

  constructor(client: RedisConnection & Hidden, database = 0, listener: ConnectionListener) {
    this.#client = client;
    this.#database = database;
    this.#listener = listener;
    this.keyPrefix = client._keyPrefix ?? '';
    const failed = (cause: Error) => {
      // At once, because a cluster and a Sentinel client connect again right after this event. A connection that is destroyed
      // while it is being made stays open for ever.
      this.destroy();
      listener.failed(cause);
    };
    client.on('error', failed);
    // A cluster's client mends its connections by itself, and loses what came meanwhile.
    client.on('node-error', failed);
  }

  connect(): Promise<unknown> {
    return this.#client.connect();
  }

  destroy(): void {
    const ignore = () => {
      // It was never open.
    };
    try {
      // That of a Sentinel client is a promise.
      Promise.resolve(this.#client.destroy()).catch(ignore);
    } catch {
      ignore();
    }
  }

  async database(): Promise<number> {
    const { acquire, clientInfo } = this.#client;
    // A Sentinel client does not show its options, so the server has to tell.
    if (acquire === undefined || clientInfo === undefined) return this.#database;
    const { db } = await clientInfo.call(this.#client);
    return db;
  }

  eval(script: string, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    return this.#client.eval(script, { keys: [...keys], arguments: [...args] });
  }

  evalSha(sha: string, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    return this.#client.evalSha(sha, { keys: [...keys], arguments: [...args] });
  }

  publish(topic: string, text: string): Promise<unknown> {
    return this.#client.publish(topic, text);
  }

  subscribe(topics: readonly string[]): Promise<unknown> {
    return this.#client.subscribe([...topics], this.#listener.message);
  }

  unsubscribe(topics: readonly string[]): Promise<unknown> {
    return this.#client.unsubscribe([...topics]);
  }
}

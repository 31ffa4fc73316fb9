import { type Connection, type ConnectionListener, type Connector, missingFrom } from './connection.js';

/** The part of a client of the package `ioredis` that is used: `new Redis()`. */
export interface IoredisClient {
  /** A client of the same options: one for commands and one for subscriptions are made of it. */
  duplicate(overrides?: object): IoredisConnection;
  /** What it was made with. */
  readonly options: { readonly db?: number | undefined; readonly keyPrefix?: string | undefined };
}

/** A client that such a client makes: what is used of it, as ioredis says it. */
export interface IoredisConnection {
  /** Connects. */
  connect(): Promise<unknown>;
  /** Closes the connection at once. */
  disconnect(): unknown;
  /** Hears of what breaks (`error`), of the end of the connection (`end`), and of messages. */
  on(event: string, handler: (...args: never[]) => void): unknown;
  /** Runs a script. */
  eval(script: string, numberOfKeys: number, ...keysAndArguments: string[]): Promise<unknown>;
  /** Runs a script that the server knows. */
  evalsha(sha: string, numberOfKeys: number, ...keysAndArguments: string[]): Promise<unknown>;
  /** Sends a message to those who are subscribed to the topic. */
  publish(topic: string, message: string): Promise<unknown>;
  /** Has messages on these topics arrive. */
  subscribe(...topics: string[]): Promise<unknown>;
  /** Has them arrive no more. */
  unsubscribe(...topics: string[]): Promise<unknown>;
}

/** The methods by which a client of ioredis is known. */
const METHODS = [
  ...['duplicate', 'connect', 'disconnect', 'on'],
  ...['eval', 'evalsha', 'publish', 'subscribe', 'unsubscribe'],
];

// As in `nodeRedis`: a connection that comes back by itself would hide what was missed meanwhile.
const OVERRIDES = {
  lazyConnect: true,
  retryStrategy: null,
  reconnectOnError: null,
  enableOfflineQueue: false,
  autoResubscribe: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: null,
  // It sends the commands of a turn later than they were called.
  enableAutoPipelining: false,
};

/** Whether a client is one of ioredis. */
export function isIoredis(client: unknown): client is IoredisClient {
  return missingFrom(client, METHODS).length === 0 && !isIoredisCluster(client);
}

/** Whether a client is a cluster of ioredis. It connects its subscriptions anew without a word. */
export function isIoredisCluster(client: unknown): boolean {
  return (client as { isCluster?: unknown } | null | undefined)?.isCluster === true;
}

/** Makes connections as ioredis does. */
export function ioredis(client: IoredisClient): Connector {
  const { db = 0, keyPrefix = '' } = client.options;
  return {
    make: (listener) => new IoredisAdapter(client.duplicate(OVERRIDES), db, keyPrefix, listener),
    isUnsent: ({ message }) => message.startsWith("Stream isn't writeable"),
  };
}

class IoredisAdapter implements Connection {
  readonly keyPrefix: string;
  readonly #client: IoredisConnection;
  readonly #database: number;

  constructor(client: IoredisConnection, database: number, keyPrefix: string, listener: ConnectionListener) {
    this.#client = client;
    this.#database = database;
    this.keyPrefix = keyPrefix;
    client.on('error', listener.failed);
    // A connection that the server closes in order is no error.
    client.on('end', () => listener.failed(new Error('The connection was closed.')));
    client.on('message', (topic: string, text: string) => listener.message(text, topic));
  }

  connect(): Promise<unknown> {
    return this.#client.connect();
  }

  destroy(): void {
    this.#client.disconnect();
  }

  async database(): Promise<number> {
    return this.#database;
  }

  eval(script: string, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    return this.#client.eval(script, keys.length, ...keys, ...args);
  }

  evalSha(sha: string, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    return this.#client.evalsha(sha, keys.length, ...keys, ...args);
  }

  publish(topic: string, text: string): Promise<unknown> {
    return this.#client.publish(topic, text);
  }

  subscribe(topics: readonly string[]): Promise<unknown> {
    return this.#client.subscribe(...topics);
  }

  unsubscribe(topics: readonly string[]): Promise<unknown> {
    return this.#client.unsubscribe(...topics);
  }
}

/** What a connection tells its owner. */
export interface ConnectionListener {
  /** A message has come on a topic. */
  readonly message: (text: string, topic: string) => void;
  /** The connection broke, or it can't be made. */
  readonly failed: (cause: Error) => void;
}

/** One connection to Redis, of whichever package. It never connects again by itself, where its package allows that. */
export interface Connection {
  /** The prefix that the client puts before keys. Topics get none from it. */
  readonly keyPrefix: string;
  /** Connects. */
  connect(): Promise<unknown>;
  /** Closes the connection at once, also one that is being made. */
  destroy(): void;
  /** The number of the database that the connection has selected, once it is connected. */
  database(): Promise<number>;
  /** Runs a script. */
  eval(script: string, keys: readonly string[], args: readonly string[]): Promise<unknown>;
  /** Runs a script that the server knows. */
  evalSha(sha: string, keys: readonly string[], args: readonly string[]): Promise<unknown>;
  /** Sends a message to the subscribers of a topic. */
  publish(topic: string, text: string): Promise<unknown>;
  /** Has the messages on these topics arrive. */
  subscribe(topics: readonly string[]): Promise<unknown>;
  /** Has them arrive no more. */
  unsubscribe(topics: readonly string[]): Promise<unknown>;
}

/** Makes connections with the options of the user's client. */
export interface Connector {
  /** Makes a connection, which is not connected yet. */
  make(listener: ConnectionListener): Connection;
  /** Whether the client refused a command by this error, and never sent it. */
  isUnsent(error: Error): boolean;
}

/** The methods that an object lacks. */
export function missingFrom(client: unknown, methods: readonly string[]): readonly string[] {
  return methods.filter(
    (method) => typeof (client as Record<string, unknown> | null)?.[method] !== 'function',
  );
}

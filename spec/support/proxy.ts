import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { somePort } from './redis.js';
import { cleanup } from './server.js';

/** A network between a client and a server, which fails when it is told to. Closed after the test. */
export class TcpProxy {
  /** Of each connection, the client's half and the server's. */
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  #listening: Server | undefined;
  #stalled = false;

  private constructor(
    /** The port that new connections go to. */
    public target: number,
    readonly port: number,
  ) {}

  static async before(target: number): Promise<TcpProxy> {
    const proxy = new TcpProxy(target, somePort());
    try {
      await proxy.refuse(false);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
      return TcpProxy.before(target);
    }
    cleanup(async () => {
      await proxy.refuse(true);
      proxy.cut();
    });
    return proxy;
  }

  /** How many connections there are. */
  get connections(): number {
    return this.#pairs.size;
  }

  /** Resets all connections, on both sides. */
  cut(): void {
    for (const pair of this.#pairs) this.#reset(pair);
  }

  /** Whether new connections are refused; those that stand are not touched. */
  async refuse(refused: boolean): Promise<void> {
    if (refused) {
      this.#listening?.close();
      this.#listening = undefined;
    } else if (this.#listening === undefined) {
      const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => this.#accept(client));
      server.listen(this.port, '127.0.0.1');
      await once(server, 'listening');
      this.#listening = server;
    }
  }

  /** Whether nothing passes, in either direction: no byte, and not the news that the other side is gone. */
  stall(stalled: boolean): void {
    if (stalled === this.#stalled) return;
    this.#stalled = stalled;
    for (const pair of this.#pairs) {
      if (stalled) unjoin(pair);
      else this.#join(pair);
    }
  }

  #accept(client: Socket): void {
    const server = connect({ port: this.target, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    const pair = [client, server] as const;
    this.#pairs.add(pair);
    for (const half of pair) {
      half.on('error', () => {});
      half.on('close', () => this.#closed(pair));
    }
    if (!this.#stalled) this.#join(pair);
  }

  #join(pair: readonly [Socket, Socket]): void {
    const [client, server] = pair;
    if (client.closed || server.closed) this.#closed(pair);
    else client.pipe(server).pipe(client);
  }

  #closed(pair: readonly [Socket, Socket]): void {
    if (this.#stalled) return;
    const [client, server] = pair;
    if (client.errored || server.errored) this.#reset(pair);
    else if (client.closed && server.closed) this.#pairs.delete(pair);
  }

  #reset(pair: readonly [Socket, Socket]): void {
    this.#pairs.delete(pair);
    for (const half of pair) {
      // While a FIN is under way, Node's resetAndDestroy neither resets nor closes: the handle would stay for ever.
      if (half.writableEnded) half.destroy();
      else half.resetAndDestroy();
    }
  }
}

function unjoin([client, server]: readonly [Socket, Socket]): void {
  client.unpipe(server).pause();
  server.unpipe(client).pause();
}

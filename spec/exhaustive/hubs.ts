import { createServer, type IncomingMessage } from 'node:http';
import { type Comet, comet } from '../../lib/index.js';
import type { Clock } from './clock.js';
import { Connection } from './connection.js';

// A hub costs as much as a sequence.
const SEQUENCES = 500;

/** The hubs on which sequences are played: each of them serves many, which have names of their own. */
export class Hubs {
  readonly clock: Clock;
  #hub: Comet | undefined;
  #serial = 0;
  readonly #server = createServer((request, response) => {
    this.#spoil(request);
    this.#hub?.(request, response);
  });
  readonly #spoil: (request: IncomingMessage) => void;

  /** @param spoil what a fault does to each request, to see that it is found */
  constructor(clock: Clock, spoil: (request: IncomingMessage) => void = () => {}) {
    this.clock = clock;
    this.#spoil = spoil;
  }

  /** The hub for the next sequence, and what its names end with. */
  next(): { hub: Comet; serial: number } {
    this.#serial += 1;
    if (this.#hub === undefined || this.#serial > SEQUENCES) {
      this.clock.reset();
      this.#serial = 1;
      this.#hub = comet({ heartbeat: null, vanish: null, stall: 2 ** 31 - 1 });
    }
    return { hub: this.#hub, serial: this.#serial };
  }

  /** The hub may have come to harm. */
  discard(): void {
    this.#hub = undefined;
  }

  /** Sends a request on a connection of its own. */
  request(text: string, isBlocked: boolean): Connection {
    const connection = new Connection(isBlocked);
    connection.on('error', () => {});
    this.#server.emit('connection', connection);
    connection.push(text, 'latin1');
    return connection;
  }
}

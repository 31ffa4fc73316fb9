import { connect, type Socket } from 'node:net';
import { Reading } from './reading.js';

/** How a client reads: all that comes, a piece now and then, or nothing. */
export type Appetite = 'all' | 'slow' | 'none';

/** A client that does as it is told, and keeps what it read. */
export class Peer {
  readonly reading = new Reading();
  /** What was done to it that a stream may end by. */
  readonly provoked = new Set<'reset' | 'close' | 'finish' | 'destroy' | 'end' | 'appetite'>();
  /** The server has closed its side in order, and all of it was read. */
  readToEnd = false;
  /** Resolves when it is connected, or never will be. */
  readonly connected: Promise<void>;
  readonly closed: Promise<void>;
  /** Resolves when it has read anything. */
  readonly answered: Promise<void>;
  #tellAnswered!: () => void;
  readonly #socket: Socket;
  readonly #canReset: boolean;
  #appetite: Appetite = 'all';
  #pause = 0;

  constructor(where: { port: number } | { path: string }, appetite: Appetite) {
    const socket = connect(
      'port' in where
        ? { ...where, host: '127.0.0.1', allowHalfOpen: true }
        : { ...where, allowHalfOpen: true },
    );
    this.#socket = socket;
    this.answered = new Promise((resolve) => {
      this.#tellAnswered = resolve;
    });
    this.#canReset = 'port' in where;
    // Before it is connected: one that does not read is not to read a first piece.
    socket.pause();
    this.appetite = appetite;
    socket.on('error', () => {});
    socket.on('data', (piece: Buffer) => {
      this.reading.feed(piece);
      this.#tellAnswered();
      if (this.#appetite !== 'slow') return;
      socket.pause();
      this.#pause = (this.#pause + 1) % 3;
      setTimeout(() => {
        if (this.#appetite !== 'none') socket.resume();
      }, this.#pause);
    });
    socket.on('end', () => {
      this.readToEnd = true;
      this.reading.end();
      socket.end();
    });
    this.closed = new Promise((resolve) => socket.on('close', () => resolve()));
    const isConnected = new Promise<void>((resolve) => socket.on('connect', () => resolve()));
    this.connected = Promise.race([isConnected, this.closed]);
  }

  set appetite(appetite: Appetite) {
    this.#appetite = appetite;
    if (appetite === 'none') this.#socket.pause();
    else this.#socket.resume();
    if (appetite !== 'all') this.provoked.add('appetite');
  }

  send(text: string): void {
    this.#socket.write(text);
  }

  /** RST; where a connection has none, a close with bytes unread, which does the same. */
  reset(): void {
    this.provoked.add('reset');
    // While a FIN is under way, Node's resetAndDestroy neither resets nor closes (uv_tcp_close_reset: EINVAL).
    if (this.#canReset && !this.#socket.writableEnded) this.#socket.resetAndDestroy();
    else this.#socket.destroy();
  }

  /** FIN: it goes on reading. */
  finish(): void {
    this.provoked.add('finish');
    // One that is yet to connect has its reset before it; see there.
    if (!this.provoked.has('reset')) this.#socket.end();
  }

  /** Closes both directions. */
  close(): void {
    this.provoked.add('close');
    this.#socket.destroy();
  }

  /** The schedule is over: its socket is let go, however it stands. */
  discard(): void {
    this.#socket.destroy();
  }
}

import { connect, type Socket } from 'node:net';
import { connect as connectTls, type SecureVersion } from 'node:tls';
import type { Handle } from './handle.js';
import { cancelOf, Http2Reading, preface, requestOf } from './http2.js';
import { Http1Reading, type Reading } from './reading.js';

/** How a client reads: all that comes, a piece now and then, or nothing. */
export type Appetite = 'all' | 'slow' | 'none';

/** Where a server is, and what it speaks. */
export interface Place {
  readonly where: { port: number } | { path: string };
  /** With the key that both sides know. */
  readonly tls: { readonly version: SecureVersion; readonly psk: Buffer } | undefined;
  readonly protocol: 'HTTP/1' | 'HTTP/2';
}

// The same for both sides: it needs no certificate, and the size of its records is known.
export const CIPHERS = 'TLS_AES_128_GCM_SHA256:PSK-AES128-GCM-SHA256';

/** What a client asks for. */
export interface Request {
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly version?: '1.0' | '1.1';
}

/** A client that does as it is told, and keeps what it read. */
export class Peer {
  readonly reading: Reading;
  /** What was done to it that a stream may end by. */
  readonly provoked = new Set<'reset' | 'close' | 'finish' | 'cancel' | 'destroy' | 'end' | 'appetite'>();
  /** The server has closed its side in order, and all of it was read. */
  readToEnd = false;
  /** Bytes that came over the wire. */
  wireBytes = 0;
  /** Resolves when it is connected, or never will be. */
  readonly connected: Promise<void>;
  readonly closed: Promise<void>;
  /** Resolves when it was answered anything. */
  readonly answered: Promise<void>;
  /** Called when it has cut its connection, and for what it is reset. */
  onCut: (isReset: boolean) => void = () => {};
  #tellAnswered!: () => void;
  // What it reads from and writes to, and the connection below that.
  readonly #socket: Socket;
  readonly #wire: Socket;
  readonly #canReset: boolean;
  readonly #http2: Http2Reading | undefined;
  #nextStream = 1;
  #appetite: Appetite = 'all';
  #pause = 0;

  constructor({ where, tls, protocol }: Place, appetite: Appetite, isWide: boolean) {
    const wire = connect(
      'port' in where
        ? { ...where, host: '127.0.0.1', allowHalfOpen: true }
        : { ...where, allowHalfOpen: true },
    );
    this.#wire = wire;
    const socket = tls === undefined ? wire : secured(wire, tls, protocol);
    this.#socket = socket;
    if (protocol === 'HTTP/2') {
      this.#http2 = new Http2Reading((frame) => this.#reply(frame), isWide);
      socket.write(preface(isWide));
    }
    this.reading = this.#http2 ?? new Http1Reading();
    this.answered = new Promise((resolve) => {
      this.#tellAnswered = resolve;
    });
    this.#canReset = 'port' in where;
    // Before it is connected: one that does not read is not to read a first piece.
    socket.pause();
    this.appetite = appetite;
    socket.on('error', () => {});
    wire.on('error', () => {});
    socket.on('data', (piece: Buffer) => this.#read(piece));
    socket.on('end', () => {
      this.#count();
      this.readToEnd = true;
      this.reading.end();
      socket.end();
    });
    this.closed = new Promise((resolve) => wire.on('close', () => resolve()));
    const isConnected = new Promise<void>((resolve) => {
      socket.on(tls === undefined ? 'connect' : 'secureConnect', () => resolve());
    });
    this.connected = Promise.race([isConnected, this.closed]);
  }

  set appetite(appetite: Appetite) {
    this.#appetite = appetite;
    if (appetite === 'none') this.#socket.pause();
    else this.#socket.resume();
    if (appetite !== 'all') this.provoked.add('appetite');
  }

  /** Asks for something; `length` cuts off what it sends. */
  request(request: Request, length?: number): void {
    const bytes = this.#http2 === undefined ? textOf(request) : this.#frameOf(request, length === undefined);
    this.#socket.write(bytes.subarray(0, length));
  }

  /** RST; where a connection has none, a close with bytes unread, which does the same. */
  reset(): void {
    this.provoked.add('reset');
    // While a FIN is under way, Node's resetAndDestroy neither resets nor closes (uv_tcp_close_reset: EINVAL).
    const isEnded = this.#socket.writableEnded || this.#wire.writableEnded || this.#wire.destroyed;
    const canReset = this.#canReset && !isEnded;
    if (canReset) this.#wire.resetAndDestroy();
    else this.#wire.destroy();
    this.#socket.destroy();
    this.onCut(canReset);
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
    this.onCut(false);
  }

  /** Takes its latest request back, where there is a way to. */
  cancel(): void {
    this.provoked.add('cancel');
    const stream = this.#nextStream - 2;
    if (this.#http2 === undefined || stream < 1 || this.#socket.writableEnded) return;
    this.#socket.write(cancelOf(stream));
    this.#http2.forget(stream);
  }

  /** The schedule is over: its socket is let go, however it stands. */
  discard(): void {
    this.#socket.destroy();
  }

  #frameOf({ path, headers }: Request, isWhole: boolean): Buffer {
    const stream = this.#nextStream;
    this.#nextStream += 2;
    if (isWhole) this.#http2?.expect(stream);
    return requestOf(stream, path, headers);
  }

  #reply(frame: Buffer): void {
    if (this.#socket.writable) this.#socket.write(frame);
  }

  #read(piece: Buffer): void {
    this.#count();
    this.reading.feed(piece);
    if (this.reading.isAnswered) this.#tellAnswered();
    // As a browser does sooner or later.
    if (this.reading.isDone && this.#socket.writable) this.#socket.end();
    if (this.#appetite !== 'slow') return;
    this.#socket.pause();
    this.#pause = (this.#pause + 1) % 3;
    setTimeout(() => {
      if (this.#appetite !== 'none') this.#socket.resume();
    }, this.#pause);
  }

  #count(): void {
    const handle = (this.#wire as unknown as { _handle: Handle | null })._handle;
    this.wireBytes = handle?.bytesRead ?? this.wireBytes;
  }
}

function secured(wire: Socket, tls: NonNullable<Place['tls']>, protocol: Place['protocol']): Socket {
  const { version, psk } = tls;
  const options = {
    socket: wire,
    minVersion: version,
    maxVersion: version,
    ciphers: CIPHERS,
    pskCallback: () => ({ psk, identity: 'a client' }),
    checkServerIdentity: () => undefined,
    ALPNProtocols: protocol === 'HTTP/2' ? ['h2'] : ['http/1.1'],
    allowHalfOpen: true,
  };
  return connectTls(options);
}

function textOf({ path, headers, version = '1.1' }: Request): Buffer {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(`GET ${path} HTTP/${version}\r\nHost: localhost\r\n${lines.join('')}\r\n`);
}

import type { ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { type Handle, watch } from './handle.js';
import { type Seen, scan } from './scan.js';

type Destroy = (error: Error | null, callback: (error?: Error | null) => void) => void;
type Watched = Socket & { _handle: Handle; _destroy: Destroy };

// What a record of TLS has beside at most so many bytes of text: AES-GCM and ChaCha20-Poly1305 (RFC 5288, RFC 8446 §5.2).
const RECORD = 16_384;
const OVERHEAD = { 'TLSv1.2': 5 + 8 + 16, 'TLSv1.3': 5 + 1 + 16 } as const;
// What a frame of HTTP/2 has beside at most so many bytes of data (RFC 9113 §4).
const FRAME = 16_384;
const FRAME_HEAD = 9;

/** One event stream on a connection, as it was sent. */
export class Sent {
  /** Where each write's event ends, in bytes of what the stream is part of. */
  readonly #ends = new Map<number, number>();

  constructor(
    readonly connection: Connection,
    readonly listener: string,
    /** How many of those the kernel has taken, at the most. */
    readonly accepted: () => number,
  ) {}

  add({ serial, end }: Seen, offset: number): void {
    if (serial !== undefined) this.#ends.set(serial, offset + end);
  }

  /** Whether the kernel can have taken every byte of that write by now. */
  took(serial: number): boolean {
    const end = this.#ends.get(serial);
    return end !== undefined && end <= this.accepted();
  }
}

// A batch is one buffer for all who get it.
const scanned = new WeakMap<Buffer, Seen[]>();

/**
 * The server's end of a connection, watched below Node's streams: how many bytes the kernel has taken of it, and which
 * events these are. `socket.bytesWritten` counts what was given to libuv, taken or not, and more; the truth is what was
 * given less what libuv still holds, and it can be had only until the handle is closed, or a write fails: Node's `_destroy`.
 *
 * - Of HTTP/1 in clear each write is seen, so the count is exact.
 * - Under TLS the writes of text are seen, and how many bytes of records the kernel took. How much a record adds is known, so
 *   the count is exact again.
 * - Of HTTP/2 the writes of each stream are seen, and how many bytes the kernel took since the stream began. Those include
 *   the heads of its frames and all of other streams: what can't have been taken is found, not each byte.
 */
export abstract class Connection {
  /** Whether the kernel ever refused a byte. */
  wasBlocked = false;
  protected readonly handle: Handle;
  protected isClosed = false;
  #secured: TLSSocket | undefined;
  readonly #onStream: (sent: Sent) => void;

  constructor(
    readonly socket: Socket,
    onStream: (sent: Sent) => void,
  ) {
    this.#onStream = onStream;
    this.handle = (socket as Watched)._handle;
    this.#watchClose(socket);
  }

  /** What the counts count: bytes of the wire, or of what its records hold. */
  abstract readonly unit: 'wire' | 'text';
  /** Bytes that the kernel has taken; once the connection is closed, those that it had taken then. */
  abstract get accepted(): number;
  /** The most that it can be: of a write that failed while it was under way, nobody knows how much was taken. */
  abstract get atMost(): number;

  /** Its client has closed it, or reset it: what libuv holds by now the kernel never takes. */
  cut(isReset: boolean): void {
    if (isReset || this.handle.writeQueueSize > 0) this.close();
  }

  /** TLS was agreed on. */
  secure(socket: TLSSocket): void {
    this.#secured = socket;
    this.#watchClose(socket);
  }

  /** Whether its FIN is under way. */
  get isEnding(): boolean {
    return this.socket.writableEnded || this.#secured?.writableEnded === true;
  }

  /** The counts are from now on as they are, with what can be had now. */
  protected close(): void {
    if (!this.isClosed) void this.accepted;
    this.isClosed = true;
  }

  /** Watches what is written to a handle, of streams whose bytes are counted by `accepted`. */
  protected watch(
    handle: Handle,
    accepted: () => number,
    given: (length: number) => (status: number) => void,
  ): void {
    let offset = 0;
    let sent: Sent | undefined;
    watch(handle, ({ pieces, length }) => {
      const complete = given(length);
      let start = offset;
      for (const piece of pieces) {
        for (const each of seenIn(piece)) {
          if (each.event === 'comet:open') {
            sent = new Sent(this, JSON.parse(each.data).listener, accepted);
            this.#onStream(sent);
          } else sent?.add(each, start);
        }
        start += piece.length;
      }
      offset += length;
      return complete;
    });
  }

  #watchClose(socket: Socket): void {
    const watched = socket as Watched;
    const { _destroy: destroy } = watched;
    watched._destroy = (error, callback) => {
      this.close();
      destroy.call(watched, error, callback);
    };
  }
}

function seenIn(piece: Buffer): readonly Seen[] {
  let seen = scanned.get(piece);
  if (seen === undefined) {
    seen = scan(piece).seen;
    scanned.set(piece, seen);
  }
  return seen;
}

/** HTTP/1 in clear. */
export class PlainConnection extends Connection {
  readonly unit = 'wire';
  #given = 0;
  // Of what was given, what was yet to be taken of a write that then failed.
  #lost = 0;
  // What was yet to be taken of the writes under way, when the last of them was given or one of them ended.
  #waiting = 0;
  #closed = 0;

  constructor(socket: Socket, onStream: (sent: Sent) => void) {
    super(socket, onStream);
    const accepted = () => this.accepted;
    this.watch(this.handle, accepted, (length) => {
      this.#given += length;
      this.#waiting = this.handle.writeQueueSize;
      if (this.#waiting > 0) this.wasBlocked = true;
      return (status) => this.#complete(status);
    });
  }

  get accepted(): number {
    if (!this.isClosed)
      this.#closed = this.#given - this.#lost - (this.#waiting > 0 ? this.handle.writeQueueSize : 0);
    return this.#closed;
  }

  get atMost(): number {
    return this.accepted + this.#lost;
  }

  #complete(status: number): void {
    // By now libuv has forgotten how much of it was left. This is the least that the kernel took: nothing since.
    if (status !== 0 && !this.isClosed) this.#lost += this.#waiting;
    this.#waiting = status === 0 && !this.isClosed ? this.handle.writeQueueSize : 0;
  }
}

/** What was written natively: bytes of the wire that the kernel took, as the handle of the socket counts them. */
abstract class CountedConnection extends Connection {
  #taken = 0;
  #given = 0;

  /** Bytes of the wire. */
  protected get taken(): number {
    if (this.isClosed) return this.#taken;
    const { bytesWritten, writeQueueSize } = this.handle;
    if (writeQueueSize > 0) this.wasBlocked = true;
    this.#given = bytesWritten;
    this.#taken = Math.max(this.#taken, bytesWritten - writeQueueSize);
    return this.#taken;
  }

  /** Bytes of the wire that libuv was given. */
  protected get most(): number {
    void this.taken;
    return this.#given;
  }
}

/** HTTP/1 under TLS. */
export class SecureConnection extends CountedConnection {
  readonly unit = 'text';
  // Writes of text that the kernel has yet to take, in the order in which they were given.
  #writes: { start: number; length: number; wire: number }[] = [];
  #given = 0;
  #accepted = 0;
  // Bytes of records so far, and of the handshake before them, which is known when the first write is complete.
  #records = 0;
  #handshake: number | undefined;
  #overhead: number = OVERHEAD['TLSv1.3'];

  override secure(socket: TLSSocket): void {
    super.secure(socket);
    this.#overhead = OVERHEAD[socket.getProtocol() as keyof typeof OVERHEAD];
    const accepted = () => this.accepted;
    this.watch((socket as unknown as Watched)._handle, accepted, (length) => {
      this.#writes.push({ start: this.#given, length, wire: this.#records });
      this.#given += length;
      this.#records += this.#sizeOf(length);
      return (status) => this.#complete(status);
    });
  }

  get accepted(): number {
    const { taken } = this;
    if (this.#handshake === undefined) return 0;
    const records = taken - this.#handshake;
    for (let [write] = this.#writes; write !== undefined; [write] = this.#writes) {
      const { start, length, wire } = write;
      const isWhole = records >= wire + this.#sizeOf(length);
      const whole = Math.floor(Math.max(0, records - wire) / (RECORD + this.#overhead)) * RECORD;
      this.#accepted = start + (isWhole ? length : Math.min(length, whole));
      if (!isWhole) break;
      this.#writes.shift();
    }
    return this.#accepted;
  }

  get atMost(): number {
    // Of a record that was cut off its client reads nothing.
    return this.#given;
  }

  #sizeOf(length: number): number {
    return length + this.#overhead * Math.ceil(length / RECORD);
  }

  #complete(status: number): void {
    // By now libuv has forgotten how much of it was left.
    if (status !== 0) this.isClosed = true;
    else if (!this.isClosed) this.#handshake ??= this.taken - this.#records;
  }
}

/** HTTP/2, in clear or under TLS. */
export class Http2Connection extends CountedConnection {
  readonly unit = 'wire';
  #overhead = 0;

  override secure(socket: TLSSocket): void {
    super.secure(socket);
    this.#overhead = OVERHEAD[socket.getProtocol() as keyof typeof OVERHEAD];
  }

  get accepted(): number {
    return this.taken;
  }

  get atMost(): number {
    return this.most;
  }

  /** Watches a stream, before it is answered. */
  stream(stream: ServerHttp2Stream): void {
    const key = Object.getOwnPropertySymbols(stream).find(({ description }) => description === 'kHandle');
    const handle = key && (stream as unknown as Record<symbol, Handle>)[key];
    if (handle === undefined) return;
    const before = this.taken;
    this.watch(
      handle,
      () => this.#dataIn(this.taken - before),
      () => () => {},
    );
  }

  /** How many bytes of data there can be in so many of the wire. */
  #dataIn(bytes: number): number {
    const text = this.#overhead === 0 ? bytes : lessOf(bytes, RECORD, this.#overhead);
    return lessOf(text, FRAME, FRAME_HEAD);
  }
}

/** So many bytes without what each whole or begun part of them adds. */
function lessOf(bytes: number, most: number, added: number): number {
  return bytes - added * Math.ceil(bytes / (most + added));
}

import type { Socket } from 'node:net';
import { type Seen, scan } from './scan.js';

// The part of a handle of Node's (the same in 20, 22 and 24) that tells what became of bytes.
interface WriteRequest {
  oncomplete(this: WriteRequest, status: number, ...rest: unknown[]): void;
}
type WriteMethod = (this: Handle, request: WriteRequest, data: unknown, ...rest: unknown[]) => number;
interface Handle {
  /** Bytes that were given to it, whatever became of them. */
  readonly bytesWritten: number;
  /** Bytes of them that libuv still holds, because the kernel did not take them. */
  readonly writeQueueSize: number;
  writeBuffer: WriteMethod;
  writev: WriteMethod;
  writeLatin1String: WriteMethod;
  writeUtf8String: WriteMethod;
  writeAsciiString: WriteMethod;
  writeUcs2String: WriteMethod;
}
type Watched = Socket & {
  _handle: Handle;
  _destroy(error: Error | null, callback: (error?: Error | null) => void): void;
};

const METHODS = [
  'writeBuffer',
  'writev',
  'writeLatin1String',
  'writeUtf8String',
  'writeAsciiString',
  'writeUcs2String',
] as const;

/** One event stream on a connection, as it was sent. */
export class Sent {
  /** Where each frame ends, in bytes of the connection. */
  readonly #ends = new Map<number, number>();

  constructor(
    readonly connection: Connection,
    readonly listener: string,
  ) {}

  add({ seq, end }: Seen, offset: number): void {
    if (seq !== undefined) this.#ends.set(seq, offset + end);
  }

  /** Whether the kernel has taken every byte of the frame by now. */
  took(seq: number): boolean {
    const end = this.#ends.get(seq);
    return end !== undefined && end <= this.connection.accepted;
  }
}

// A batch is one buffer for all who get it.
const scanned = new WeakMap<Buffer, Seen[]>();

/**
 * The server's end of a connection, watched below Node's streams: how many bytes the kernel has taken of it, and which
 * frames these are. `socket.bytesWritten` counts what was given to libuv, taken or not, and more; the truth is what was
 * given less what libuv still holds, and it can be had only until the handle is closed: Node's `_destroy`.
 */
export class Connection {
  /** The streams on it, the latest last. */
  readonly streams: Sent[] = [];
  /** Whether the kernel ever refused a byte. */
  wasBlocked = false;
  #given = 0;
  // Of what was given, what was yet to be taken of a write that then failed.
  #lost = 0;
  // What was yet to be taken of the writes under way, when the last of them was given or one of them ended.
  #waiting = 0;
  #closed: number | undefined;
  readonly #handle: Handle;
  readonly #onStream: (sent: Sent) => void;

  constructor(
    readonly socket: Socket,
    onStream: (sent: Sent) => void,
  ) {
    this.#onStream = onStream;
    const watched = socket as Watched;
    this.#handle = watched._handle;
    for (const name of METHODS) this.#watch(name);
    const { _destroy: destroy } = watched;
    watched._destroy = (error, callback) => {
      this.#closed ??= this.accepted;
      destroy.call(watched, error, callback);
    };
  }

  /** Bytes that the kernel has taken; once the connection is closed, those that it had taken then. */
  get accepted(): number {
    if (this.#closed !== undefined) return this.#closed;
    return this.#given - this.#lost - (this.#waiting > 0 ? this.#handle.writeQueueSize : 0);
  }

  /** The most that it can be: of a write that failed while it was under way, nobody knows how much was taken. */
  get atMost(): number {
    return this.accepted + this.#lost;
  }

  #watch(name: (typeof METHODS)[number]): void {
    const handle = this.#handle;
    const original = handle[name];
    handle[name] = (request, data, ...rest) => {
      const before = handle.bytesWritten;
      const status = original.call(handle, request, data, ...rest);
      // The kernel took nothing of a write that failed at once.
      if (status !== 0) return status;
      const offset = this.#given;
      this.#given += handle.bytesWritten - before;
      this.#waiting = handle.writeQueueSize;
      if (this.#waiting > 0) this.#await(request);
      this.#note(data, rest[0] === true, offset);
      return status;
    };
  }

  #await(request: WriteRequest): void {
    this.wasBlocked = true;
    const { oncomplete } = request;
    request.oncomplete = (status, ...rest) => {
      // By now libuv has forgotten how much of it was left. This is the least that the kernel took: nothing since.
      if (status !== 0 && this.#closed === undefined) this.#lost += this.#waiting;
      this.#waiting = status === 0 ? this.#handle.writeQueueSize : 0;
      oncomplete.call(request, status, ...rest);
    };
  }

  #note(data: unknown, allBuffers: boolean, start: number): void {
    let offset = start;
    for (const piece of piecesOf(data, allBuffers)) {
      this.#noteEvents(Buffer.isBuffer(piece) ? piece : Buffer.from(piece, 'latin1'), offset);
      offset += piece.length;
    }
  }

  #noteEvents(bytes: Buffer, offset: number): void {
    let seen = scanned.get(bytes);
    if (seen === undefined) {
      seen = scan(bytes).seen;
      scanned.set(bytes, seen);
    }
    for (const each of seen) {
      if (each.event === 'comet:open') {
        const sent = new Sent(this, JSON.parse(each.data).listener);
        this.streams.push(sent);
        this.#onStream(sent);
      } else this.streams.at(-1)?.add(each, offset);
    }
  }
}

/** What a write consists of: buffers, and strings, all of them latin1 here. */
function piecesOf(data: unknown, allBuffers: boolean): readonly (Buffer | string)[] {
  if (!Array.isArray(data)) return [data as Buffer | string];
  // Of a writev that is not of buffers alone, every second element names an encoding.
  return allBuffers ? data : data.filter((_, index) => index % 2 === 0);
}

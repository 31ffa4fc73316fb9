const CRLF = '\r\n';
// What stands before the bytes of a chunk, at the most: its size in hexadecimal digits, and the end of that line.
const ROOM = 8 + CRLF.length;

/**
 * Text as bytes, with room around them for what makes them a chunk: so that what goes out alone need not be copied. Not
 * from Node's pool, where one retained frame of 100 bytes would keep 8 KiB alive.
 */
export function bytesOf(text: string): Buffer {
  const length = Buffer.byteLength(text);
  const bytes = Buffer.from(new ArrayBuffer(ROOM + length + CRLF.length), ROOM, length);
  bytes.write(text);
  return bytes;
}

/** Text of ASCII as one chunk of HTTP. */
export function chunkOf(text: string): string {
  return headOf(text.length) + text + CRLF;
}

/** Bytes for any number of streams: made once, as they are and as one chunk of HTTP (RFC 9112 §7.1). */
export class Payload {
  /** The bytes as one chunk, for a socket. */
  readonly chunk: Buffer;
  readonly #start: number;
  #bytes: Buffer | undefined;

  constructor(parts: readonly Buffer[]) {
    let length = 0;
    for (const part of parts) length += part.length;

    const head = headOf(length);
    this.#start = head.length;
    const [first] = parts;
    const isAlone = parts.length === 1 && first !== undefined && hasRoom(first);
    const size = head.length + length + CRLF.length;
    this.chunk = isAlone ? Buffer.from(first.buffer, ROOM - head.length, size) : Buffer.allocUnsafe(size);
    this.chunk.write(head, 0, 'latin1');
    if (!isAlone) {
      let offset = head.length;
      for (const part of parts) {
        this.chunk.set(part, offset);
        offset += part.length;
      }
    }
    this.chunk.write(CRLF, head.length + length, 'latin1');
  }

  /** The bytes as they are, for a response that does its own framing. */
  get bytes(): Buffer {
    this.#bytes ??= this.chunk.subarray(this.#start, -CRLF.length);
    return this.#bytes;
  }
}

function headOf(length: number): string {
  return length.toString(16) + CRLF;
}

function hasRoom({ buffer, byteOffset, length }: Buffer): boolean {
  return byteOffset === ROOM && buffer.byteLength === ROOM + length + CRLF.length;
}

import type { Frame } from './frame.js';

const CRLF = '\r\n';

/** Bytes for any number of streams: made once, as they are and as one chunk of HTTP (RFC 9112 §7.1). */
export class Payload {
  /** The bytes as one chunk, for a socket. */
  readonly chunk: Buffer;
  readonly #start: number;
  #bytes: Buffer | undefined;

  constructor(parts: readonly Buffer[]) {
    let length = 0;
    for (const part of parts) length += part.length;

    const head = length.toString(16) + CRLF;
    this.#start = head.length;
    this.chunk = Buffer.allocUnsafe(head.length + length + CRLF.length);
    this.chunk.write(head, 0, 'latin1');
    let offset = head.length;
    for (const part of parts) {
      this.chunk.set(part, offset);
      offset += part.length;
    }
    this.chunk.write(CRLF, offset, 'latin1');
  }

  /** The bytes as they are, for a response that does its own framing. */
  get bytes(): Buffer {
    this.#bytes ??= this.chunk.subarray(this.#start, -CRLF.length);
    return this.#bytes;
  }
}

/** Frames that go out in one write. */
export class Batch extends Payload {
  /** The `seq` of the first of them. */
  readonly first: number;
  /** The `seq` of the last of them. */
  readonly last: number;

  /** @param frames in order, one or more */
  constructor(frames: readonly Frame[]) {
    super(frames.map((frame) => frame.bytes));
    this.first = frames[0]?.seq ?? 0;
    this.last = frames.at(-1)?.seq ?? 0;
  }
}

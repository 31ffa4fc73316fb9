const CRLF = '\r\n';
// A buffer weighs 0.3 KiB more than a string of the same text, and a collection has more to do with it.
const SMALL = 1024;
// V8 has a slow way only to write a number in base 16.
const HEADS = Array.from({ length: SMALL + 1 }, (_, length) => length.toString(16) + CRLF);

/** Text as bytes, or while they are few, and ASCII, as it is: a string of as many units. */
export type Encoded = string | Block;

/** Encodes text as UTF-8. */
export function encode(text: string): Encoded {
  const length = Buffer.byteLength(text);
  return length === text.length && length <= SMALL ? text : new Block(text, length);
}

/** Bytes that stand in a chunk of HTTP from the start: when they go out alone they are not copied. */
class Block {
  readonly chunk: Buffer;
  readonly length: number;

  constructor(text: string, length: number) {
    this.length = length;
    const head = headOf(length);
    // Not from Node's pool, of which what is retained would keep 8 KiB alive.
    this.chunk = Buffer.allocUnsafeSlow(head.length + length + CRLF.length);
    this.chunk.write(head, 'latin1');
    this.chunk.write(text, head.length);
    this.chunk.write(CRLF, head.length + length, 'latin1');
  }

  /** The bytes themselves. */
  get bytes(): Buffer {
    return insideOf(this.chunk);
  }

  toString(): string {
    return this.bytes.toString();
  }
}

/** Text of ASCII as one chunk of HTTP (RFC 9112 §7.1). */
export function chunkOf(text: string): string {
  return headOf(text.length) + text + CRLF;
}

/** What goes to streams in one write: made once, as one chunk of HTTP and as it is. */
export class Payload {
  /** The chunk, for a socket; of a string each unit is a byte (`latin1`). */
  readonly chunk: string | Buffer;
  #bytes: Buffer | undefined;

  /** @param isShared whether more than one stream gets it: a string would be copied for each of them */
  constructor(parts: readonly Encoded[], isShared: boolean) {
    const text = textOf(parts);
    const [first] = parts;
    if (text !== undefined) this.chunk = isShared ? Buffer.from(chunkOf(text), 'latin1') : chunkOf(text);
    else if (parts.length === 1 && first instanceof Block) this.chunk = first.chunk;
    else this.chunk = concat(parts);
  }

  /** The bytes as they are, for a response that does its own framing. */
  get bytes(): Buffer {
    const { chunk } = this;
    this.#bytes ??= insideOf(typeof chunk === 'string' ? Buffer.from(chunk, 'latin1') : chunk);
    return this.#bytes;
  }
}

function textOf(parts: readonly Encoded[]): string | undefined {
  let text = '';
  for (const part of parts) {
    if (typeof part !== 'string') return undefined;
    text += part;
  }
  return text;
}

function concat(parts: readonly Encoded[]): Buffer {
  let length = 0;
  for (const part of parts) length += part.length;
  return Buffer.concat([headOf(length), ...parts, CRLF].map(bufferOf));
}

function bufferOf(part: Encoded): Buffer {
  return typeof part === 'string' ? Buffer.from(part, 'latin1') : part.bytes;
}

/** What a chunk holds. */
function insideOf(chunk: Buffer): Buffer {
  return chunk.subarray(chunk.indexOf('\n') + 1, -CRLF.length);
}

function headOf(length: number): string {
  return HEADS[length] ?? length.toString(16) + CRLF;
}

const CRLF = '\r\n';
// A buffer weighs 0.3 KiB more than a string of the same text, and a collection has more to do with it.
const SMALL = 1024;
// V8 has a slow way only to write a number in base 16.
const HEADS = Array.from({ length: SMALL + 1 }, (_, length) => length.toString(16) + CRLF);

/** Text as bytes, or while they are few, and ASCII, as it is: a string of as many units. */
export type Encoded = string | Buffer;

/** Encodes text as UTF-8. */
export function encode(text: string): Encoded {
  const length = Buffer.byteLength(text);
  if (length === text.length && length <= SMALL) return text;
  // Not from Node's pool, of which what is retained would keep 8 KiB alive.
  const bytes = Buffer.allocUnsafeSlow(length);
  bytes.write(text);
  return bytes;
}

/** Text of ASCII as one chunk of HTTP (RFC 9112 §7.1). */
export function chunkOf(text: string): string {
  return headOf(text.length) + text + CRLF;
}

/** What goes to streams in one write: made once, as one chunk of HTTP and as it is. */
export class Payload {
  /** The chunk, for a socket; of a string each unit is a byte (`latin1`). */
  readonly chunk: Encoded;
  #bytes: Buffer | undefined;

  /** @param isShared whether more than one stream gets it: a string would be copied for each of them */
  constructor(parts: readonly Encoded[], isShared: boolean) {
    const text = textOf(parts);
    if (text === undefined) this.chunk = concat(parts);
    else this.chunk = isShared ? Buffer.from(chunkOf(text), 'latin1') : chunkOf(text);
  }

  /** The bytes as they are, for a response that does its own framing. */
  get bytes(): Buffer {
    this.#bytes ??= bufferOf(this.chunk).subarray(this.chunk.indexOf('\n') + 1, -CRLF.length);
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
  return typeof part === 'string' ? Buffer.from(part, 'latin1') : part;
}

function headOf(length: number): string {
  return HEADS[length] ?? length.toString(16) + CRLF;
}

import { Heard } from './heard.js';

/** What a client reads off its connection. */
export interface Reading {
  /** Bytes of it. */
  readonly bytes: number;
  /** Whether the server has answered anything. */
  readonly isAnswered: boolean;
  /** Whether the connection is done with: no answer is to come. */
  readonly isDone: boolean;
  /** Its event streams, in the order in which they began. */
  readonly streams: readonly Heard[];
  /** What is wrong in it. */
  readonly faults: string[];
  feed(piece: Buffer): void;
  /** The server has closed its side in order. */
  end(): void;
}

const VERSION = 'HTTP/1.1 ';

/** Reads HTTP/1.x (RFC 9112), and the event streams in it. */
export class Http1Reading implements Reading {
  bytes = 0;
  readonly streams: Heard[] = [];
  readonly faults: string[] = [];
  // The server closes the connection.
  readonly isDone = false;
  #state: 'head' | 'length' | 'size' | 'chunk' | 'chunk end' | 'last end' | 'close' | 'lost' = 'head';
  #rest = Buffer.alloc(0);
  #left = 0;

  get isAnswered(): boolean {
    return this.bytes > 0;
  }

  feed(piece: Buffer): void {
    this.bytes += piece.length;
    let bytes = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    this.#rest = Buffer.alloc(0);
    while (bytes.length > 0) {
      const used = this.#step(bytes);
      if (used === 0) {
        this.#rest = Buffer.from(bytes);
        return;
      }
      bytes = bytes.subarray(used);
    }
  }

  end(): void {
    const stream = this.streams.at(-1);
    if (this.#state === 'close' && stream !== undefined) stream.complete = true;
  }

  /** Returns how many bytes it used; 0 where it needs more. */
  #step(bytes: Buffer): number {
    switch (this.#state) {
      case 'head':
        return this.#head(bytes);
      case 'size':
        return this.#size(bytes);
      case 'chunk end':
        return this.#lineEnd(bytes, 'size');
      case 'last end':
        return this.#lineEnd(bytes, 'head');
      case 'lost':
        return bytes.length;
      case 'close':
        this.streams.at(-1)?.feed(bytes);
        return bytes.length;
      default:
        return this.#body(bytes);
    }
  }

  #head(bytes: Buffer): number {
    const version = bytes.toString('latin1', 0, VERSION.length);
    if (!VERSION.startsWith(version)) {
      this.faults.push(`what is no response: ${JSON.stringify(bytes.toString('latin1', 0, 80))}`);
      this.#state = 'lost';
      return bytes.length;
    }
    const end = bytes.indexOf('\r\n\r\n');
    if (end === -1) return 0;
    const head = bytes.toString('latin1', 0, end);
    const [, length] = /\r\ncontent-length: (\d+)/i.exec(head) ?? [];
    if (length !== undefined) {
      this.#left = Number(length);
      this.#state = this.#left === 0 ? 'head' : 'length';
    } else {
      this.streams.push(new Heard());
      this.#state = /\r\ntransfer-encoding: chunked/i.test(head) ? 'size' : 'close';
    }
    return end + 4;
  }

  #size(bytes: Buffer): number {
    const end = bytes.indexOf('\r\n');
    if (end === -1) return 0;
    const size = bytes.toString('latin1', 0, end);
    if (!/^[\da-f]{1,8}$/i.test(size))
      this.faults.push(`no chunk size: ${JSON.stringify(size.slice(0, 80))}`);
    this.#left = Number.parseInt(size, 16);
    this.#state = this.#left === 0 ? 'last end' : 'chunk';
    return end + 2;
  }

  #lineEnd(bytes: Buffer, next: 'size' | 'head'): number {
    if (bytes.length < 2) return 0;
    if (bytes[0] !== 0x0d || bytes[1] !== 0x0a) this.faults.push('no CRLF behind a chunk');
    const stream = this.streams.at(-1);
    if (next === 'head' && stream !== undefined) stream.complete = true;
    this.#state = next;
    return 2;
  }

  #body(bytes: Buffer): number {
    const piece = bytes.subarray(0, this.#left);
    this.#left -= piece.length;
    if (this.#state === 'chunk') this.streams.at(-1)?.feed(piece);
    if (this.#left === 0) this.#state = this.#state === 'chunk' ? 'chunk end' : 'head';
    return piece.length;
  }
}

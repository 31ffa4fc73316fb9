import { type Seen, scan } from './scan.js';

const VERSION = 'HTTP/1.1 ';

/** One event stream, as its client read it. */
export class Heard {
  opening: { listener: string; channels: readonly string[]; recovered: boolean; seq: number } | undefined;
  readonly frames: Seen[] = [];
  /** The channels of which the end was told. */
  readonly ended: string[] = [];
  /** Whether the response was read to its end, and had one. */
  complete = false;
  #pieces: Buffer[] = [];

  feed(piece: Buffer): void {
    const last = this.#pieces.at(-1);
    const goesOn = last?.at(-1) === 0x0a && piece[0] === 0x0a;
    this.#pieces.push(piece);
    // Not joined for each piece: a frame may have very many.
    if (!goesOn && !piece.includes('\n\n')) return;
    const bytes = Buffer.concat(this.#pieces);
    const { seen, end } = scan(bytes);
    this.#pieces = [bytes.subarray(end)];
    for (const each of seen) this.#note(each);
  }

  /** The position with which its client would come back. */
  get cursor(): number | undefined {
    return this.frames.at(-1)?.seq ?? this.opening?.seq;
  }

  #note(seen: Seen): void {
    if (seen.event === 'comet:open') this.opening = { ...JSON.parse(seen.data), seq: seen.seq };
    else if (seen.event === 'comet:end') this.ended.push(JSON.parse(seen.data).channel);
    else this.frames.push(seen);
  }
}

/** Reads HTTP/1.x off a connection (RFC 9112), and the event streams in it. */
export class Reading {
  bytes = 0;
  readonly statuses: number[] = [];
  readonly streams: Heard[] = [];
  readonly faults: string[] = [];
  #state: 'head' | 'length' | 'size' | 'chunk' | 'chunk end' | 'last end' | 'close' | 'lost' = 'head';
  #rest = Buffer.alloc(0);
  #left = 0;

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

  /** The server has closed its side in order. */
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
    const [, status] = /^\S+ (\d{3}) /.exec(head) ?? [];
    this.statuses.push(Number(status));
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

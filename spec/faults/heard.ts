import { brotliDecompressSync, constants, gunzipSync } from 'node:zlib';
import { type Seen, scan } from './scan.js';

/** What a stream said when it was opened. */
export interface Opening {
  readonly listener: string;
  readonly channels: readonly string[];
  readonly recovered: boolean;
  readonly gaps: readonly string[];
  /** The first position of the stream: that of `comet:ready`, where starts came before. */
  readonly seq: number | undefined;
}

/** One event stream, as its client read it: as it is, or compressed. */
export class Heard {
  /** Whether the response was read to its end, and had one. */
  complete = false;
  #opening: Opening | undefined;
  #cursor: string | undefined;
  #position: number | undefined;
  #frames: Seen[] = [];
  // The channels of which the end was told.
  #ended: string[] = [];
  #pieces: Buffer[] = [];
  // What was read, where it is compressed: a compressor's bytes have no event at their end.
  #packed: Buffer[] | undefined;
  #isUnpacked = true;

  feed(piece: Buffer): void {
    if (this.#packed === undefined && this.#isEmpty && piece[0] !== 0x3a) this.#packed = [];
    if (this.#packed === undefined) {
      this.#read(piece);
      return;
    }
    this.#packed.push(piece);
    this.#isUnpacked = false;
  }

  get opening(): Opening | undefined {
    this.#unpack();
    return this.#opening;
  }

  get frames(): readonly Seen[] {
    this.#unpack();
    return this.#frames;
  }

  get ended(): readonly string[] {
    this.#unpack();
    return this.#ended;
  }

  /** The id with which its client would come back, and the position that it names. */
  get cursor(): { id: string; seq: number | undefined } | undefined {
    this.#unpack();
    return this.#cursor === undefined ? undefined : { id: this.#cursor, seq: this.#position };
  }

  get #isEmpty(): boolean {
    return this.#opening === undefined && this.#pieces.length === 0;
  }

  #unpack(): void {
    if (this.#isUnpacked) return;
    this.#isUnpacked = true;
    this.#opening = this.#cursor = this.#position = undefined;
    this.#frames = [];
    this.#ended = [];
    this.#pieces = [];
    const text = unpacked(Buffer.concat(this.#packed ?? []));
    if (text.length > 0) this.#read(text);
  }

  #read(piece: Buffer): void {
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

  #note(seen: Seen): void {
    const { id, seq, event, data } = seen;
    if (id !== undefined) {
      this.#cursor = id;
      this.#position = seq;
    }
    if (event === 'comet:open') this.#opening = { ...JSON.parse(data), seq };
    else if (event === 'comet:ready' && this.#opening !== undefined)
      this.#opening = { ...this.#opening, seq };
    else if (event === 'comet:end') this.#ended.push(JSON.parse(data).channel);
    else if (!event.startsWith('comet:')) this.#frames.push(seen);
  }
}

/** Of what is complete; a compressor that was cut off has no end. */
function unpacked(bytes: Buffer): Buffer {
  const isGzip = bytes[0] === 0x1f && bytes[1] === 0x8b;
  if (isGzip) return gunzipSync(bytes, { finishFlush: constants.Z_SYNC_FLUSH });
  return brotliDecompressSync(bytes, { finishFlush: constants.BROTLI_OPERATION_FLUSH });
}

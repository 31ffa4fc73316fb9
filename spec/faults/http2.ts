import { Heard } from './heard.js';
import type { Reading } from './reading.js';

// The frames that a client needs (RFC 9113 §6), and their flags.
const DATA = 0;
const HEADERS = 1;
const RST_STREAM = 3;
const SETTINGS = 4;
const PING = 6;
const GOAWAY = 7;
const WINDOW_UPDATE = 8;
const ACK = 1;
const END_STREAM = 1;
const END_HEADERS = 4;
const INITIAL_WINDOW_SIZE = 4;
const CANCEL = 8;
const HEAD = 9;
const WIDE = 2 ** 31 - 1;
const NARROW = 65_535;

/** What a client says first. With wide windows it is for the kernel to say how much it takes, else for HTTP/2. */
export function preface(isWide: boolean): Buffer {
  const setting = Buffer.alloc(6);
  setting.writeUInt16BE(INITIAL_WINDOW_SIZE, 0);
  setting.writeUInt32BE(WIDE, 2);
  return Buffer.concat([
    Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    frame(SETTINGS, 0, 0, isWide ? setting : Buffer.alloc(0)),
    ...(isWide ? [frame(WINDOW_UPDATE, 0, 0, uint32(WIDE - NARROW))] : []),
  ]);
}

/** A GET. */
export function requestOf(stream: number, path: string, headers: Readonly<Record<string, string>>): Buffer {
  // Indexed `:method: GET` and `:scheme: http`, then literals without indexing (RFC 7541 §6).
  const fields = [Buffer.from([0x82, 0x86, 0x04]), text(path), Buffer.from([0x01]), text('localhost')];
  for (const [name, value] of Object.entries(headers)) {
    fields.push(Buffer.from([0x00]), text(name.toLowerCase()), text(value));
  }
  return frame(HEADERS, END_STREAM | END_HEADERS, stream, Buffer.concat(fields));
}

/** Takes back a request. */
export function cancelOf(stream: number): Buffer {
  return frame(RST_STREAM, 0, stream, uint32(CANCEL));
}

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(HEAD);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** A string of HPACK, not compressed. */
function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  const length: number[] = [];
  let rest = bytes.length;
  if (rest < 127) length.push(rest);
  else {
    length.push(127);
    for (rest -= 127; rest >= 128; rest >>= 7) length.push((rest & 127) | 128);
    length.push(rest);
  }
  return Buffer.concat([Buffer.from(length), bytes]);
}

/** Reads HTTP/2 (RFC 9113), and the event streams in it; answers what a server expects to be answered. */
export class Http2Reading implements Reading {
  bytes = 0;
  isAnswered = false;
  readonly streams: Heard[] = [];
  readonly faults: string[] = [];
  readonly #reply: (frame: Buffer) => void;
  readonly #isWide: boolean;
  // Requests that have no end of their answer yet.
  readonly #open = new Set<number>();
  readonly #heard = new Map<number, Heard>();
  #rest: Buffer[] = [];
  #length = 0;

  constructor(reply: (frame: Buffer) => void, isWide: boolean) {
    this.#reply = reply;
    this.#isWide = isWide;
  }

  get isDone(): boolean {
    return this.isAnswered && this.#open.size === 0;
  }

  /** A request was sent. */
  expect(stream: number): void {
    this.#open.add(stream);
  }

  /** A request was taken back. */
  forget(stream: number): void {
    this.#open.delete(stream);
  }

  feed(piece: Buffer): void {
    this.bytes += piece.length;
    this.#rest.push(piece);
    this.#length += piece.length;
    if (this.#length < HEAD) return;
    let bytes = Buffer.concat(this.#rest);
    while (bytes.length >= HEAD) {
      const end = HEAD + bytes.readUIntBE(0, 3);
      if (bytes.length < end) break;
      this.#frame(bytes[3] as number, bytes[4] as number, bytes.readUInt32BE(5), bytes.subarray(HEAD, end));
      bytes = bytes.subarray(end);
    }
    this.#rest = [bytes];
    this.#length = bytes.length;
  }

  end(): void {}

  #frame(type: number, flags: number, stream: number, payload: Buffer): void {
    if (type === HEADERS) this.#headers(stream, payload);
    else if (type === DATA) this.#data(stream, payload);
    else if (type === RST_STREAM) this.#open.delete(stream);
    else if (type === SETTINGS && (flags & ACK) === 0) this.#reply(frame(SETTINGS, ACK, 0, Buffer.alloc(0)));
    else if (type === PING && (flags & ACK) === 0) this.#reply(frame(PING, ACK, 0, payload));
    else if (type > GOAWAY + 2) this.faults.push(`a frame of type ${type}`);
    if ((type !== HEADERS && type !== DATA) || (flags & END_STREAM) === 0) return;
    const heard = this.#heard.get(stream);
    if (heard !== undefined) heard.complete = true;
    this.#open.delete(stream);
  }

  #headers(stream: number, payload: Buffer): void {
    this.isAnswered = true;
    // `:status: 200` comes first, but for an update of the size of a table (RFC 7541 §6.1, §6.3).
    let at = 0;
    while (((payload[at] ?? 0) & 0xe0) === 0x20) at += 1;
    if (payload[at] !== 0x88) return;
    const heard = new Heard();
    this.streams.push(heard);
    this.#heard.set(stream, heard);
  }

  #data(stream: number, payload: Buffer): void {
    if (payload.length === 0) return;
    this.#heard.get(stream)?.feed(payload);
    if (this.#isWide) return;
    const update = uint32(payload.length);
    this.#reply(Buffer.concat([frame(WINDOW_UPDATE, 0, 0, update), frame(WINDOW_UPDATE, 0, stream, update)]));
  }
}

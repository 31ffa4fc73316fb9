import { isUtf8 } from 'node:buffer';

/** An event as `EventSource` would dispatch it. */
export interface ReceivedEvent {
  readonly type: string;
  readonly data: string;
  readonly lastEventId: string;
}

const LF = 0x0a;
const CR = 0x0d;
const BOM = Buffer.from('\uFEFF');

/**
 * A parser of event streams, written from WHATWG HTML §9.2.5 and §9.2.6 and not from any code: it reads what the
 * specification says, and beyond that keeps as `faults` what it tolerates but a well-behaved server never sends.
 */
export class StrictParser {
  readonly events: ReceivedEvent[] = [];
  readonly comments: string[] = [];
  readonly retries: number[] = [];
  readonly faults: string[] = [];

  #rest = Buffer.alloc(0);
  #isFirstLine = true;
  #skipsLf = false;

  #type = '';
  #data = '';
  #id = '';
  // Whether any field but retry, which takes effect with its line, stands since the last blank line.
  #isInside = false;

  /** The last event id that a client would return with. */
  lastEventId = '';

  /** Reads on, and returns the events that are complete with these bytes. */
  feed(piece: Uint8Array): ReceivedEvent[] {
    const before = this.events.length;
    const offset = this.#rest.length;
    const bytes = offset === 0 ? Buffer.from(piece) : Buffer.concat([this.#rest, piece]);
    // Lines are cut in bytes: in UTF-8 no byte of a longer character is CR or LF, so each line decodes alone.
    let start = 0;
    for (let index = offset; index < bytes.length; index += 1) {
      const byte = bytes[index];
      if (byte === LF && this.#skipsLf) start = index + 1;
      else if (byte === LF || byte === CR) {
        this.#line(bytes.subarray(start, index));
        start = index + 1;
      }
      // A CR ends its line at once; the LF that may come with the next piece is part of the same line end.
      this.#skipsLf = byte === CR;
    }
    this.#rest = bytes.subarray(start);
    return this.events.slice(before);
  }

  /** The stream has ended: what was not complete is discarded. */
  end(): void {
    if (this.#rest.length > 0) this.faults.push(`incomplete last line: ${this.#rest}`);
    else if (this.#isInside) this.faults.push('incomplete last event');
    this.#rest = Buffer.alloc(0);
    this.#reset();
  }

  #line(bytes: Buffer): void {
    const hasBom = this.#isFirstLine && bytes.subarray(0, BOM.length).equals(BOM);
    this.#isFirstLine = false;
    if (hasBom) this.faults.push('BOM');
    if (!isUtf8(bytes)) this.faults.push('malformed UTF-8');
    const line = bytes.toString('utf8', hasBom ? BOM.length : 0);

    const colon = line.indexOf(':');
    if (line === '') this.#dispatch();
    else if (colon === 0) this.comments.push(line.slice(1));
    else if (colon === -1) {
      this.faults.push(`field without a value: ${line}`);
      this.#field(line, '');
    } else {
      const space = line[colon + 1] === ' ' ? 1 : 0;
      if (space === 0) this.faults.push(`no space after the colon: ${line}`);
      this.#field(line.slice(0, colon), line.slice(colon + 1 + space));
    }
  }

  #field(name: string, value: string): void {
    if (name === 'event') {
      if (value === '') this.faults.push('event without a name');
      this.#type = value;
    } else if (name === 'data') this.#data += `${value}\n`;
    else if (name === 'id') {
      if (value.includes('\0')) this.faults.push('id with NUL');
      else this.#id = value;
    } else if (name === 'retry') {
      if (/^[0-9]+$/.test(value)) this.retries.push(Number.parseInt(value, 10));
      else this.faults.push(`retry that is no number: ${value}`);
    } else {
      this.faults.push(`unknown field: ${name}`);
      return;
    }
    if (name !== 'retry') this.#isInside = true;
  }

  #dispatch(): void {
    this.lastEventId = this.#id;
    if (this.#data === '') this.faults.push('blank line that ends no event');
    else {
      const { lastEventId } = this;
      this.events.push({ type: this.#type || 'message', data: this.#data.slice(0, -1), lastEventId });
    }
    this.#reset();
  }

  #reset(): void {
    this.#type = '';
    this.#data = '';
    this.#isInside = false;
  }
}

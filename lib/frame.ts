import { FrameTooLargeError, InvalidDataError, InvalidEventNameError } from './errors.js';
import { formatPosition, type Position } from './position.js';

// The grammar of an event stream: WHATWG HTML §9.2.5 (parsing) and §9.2.6 (interpreting). A field is written
// `name: value` with the one space that the parser takes off again, so that a value may begin with a space.

/** One event as `text/event-stream` bytes, encoded once and shared by every listener. */
export interface Frame {
  readonly seq: number;
  readonly bytes: Buffer;
  /** When it was written, in milliseconds of `performance.now()`. */
  readonly at: number;
}

/** A comment of one line and no blank line with it: some clients take a blank line for an empty message. */
export const HEARTBEAT = Buffer.from(':\n');

const LINE_END = /\r\n|\r|\n/g;

/**
 * Encodes one event.
 * @param label the channel's id, percent-encoded: it stands in the event's id
 * @throws InvalidDataError for data with lone surrogates, which UTF-8 would alter
 * @throws FrameTooLargeError
 */
export function encodeEvent(
  data: string,
  event: string | undefined,
  position: Position,
  label: string,
  maxFrame: number,
): Frame {
  if (!data.isWellFormed()) {
    throw new InvalidDataError(
      'The data has a lone surrogate, which UTF-8 would alter: pass it through toWellFormed().',
    );
  }
  const name = event === undefined ? '' : `event: ${event}\n`;
  const lines = data.includes('\n') || data.includes('\r') ? data.replace(LINE_END, '\ndata: ') : data;
  const frame = toFrame(`id: ${formatPosition(position)}@${label}\n${name}data: ${lines}\n\n`, position.seq);
  if (frame.bytes.length > maxFrame) throw new FrameTooLargeError(frame.bytes.length, maxFrame);
  return frame;
}

/** The last event of a channel. It has no id: a client's cursor stays at what the channel said last. */
export function encodeEnd(chanId: string, seq: number): Frame {
  return toFrame(endEvent(chanId), seq);
}

/**
 * The first bytes of a stream: how long to wait before a reconnect, where the stream starts, what it carries,
 * and which of the channels that were asked for do not exist.
 */
export function encodeOpening(opening: {
  retry: number;
  start: Position;
  listener: string;
  channels: readonly string[];
  missing: readonly string[];
  recovered: boolean;
}): Buffer {
  const { retry, start, listener, channels, missing, recovered } = opening;
  const open = `id: ${formatPosition(start)}\nevent: comet:open\ndata: ${JSON.stringify({ listener, channels, recovered })}\n\n`;
  return Buffer.from(`:ok\nretry: ${retry}\n${open}${missing.map(endEvent).join('')}`);
}

/** A new time to wait before a reconnect. A field takes effect with its line: no blank line, so no event. */
export function encodeRetry(milliseconds: number): Buffer {
  return Buffer.from(`retry: ${milliseconds}\n`);
}

/**
 * Checks the name of an event.
 * @throws InvalidEventNameError
 */
export function checkEventName(event: unknown): void {
  if (typeof event !== 'string' || event === '') {
    throw new InvalidEventNameError(
      'An event name must be a string of 1 unit or more: leave it out for "message".',
    );
  }
  if (/[\r\n\0]/.test(event) || !event.isWellFormed()) {
    throw new InvalidEventNameError(
      'An event name must have no CR, LF, NUL or lone surrogate: take them out.',
    );
  }
  if (event.startsWith('comet:')) {
    throw new InvalidEventNameError('Event names that begin with "comet:" are reserved: choose another.');
  }
}

function endEvent(chanId: string): string {
  return `event: comet:end\ndata: ${JSON.stringify({ channel: chanId })}\n\n`;
}

function toFrame(text: string, seq: number): Frame {
  // Not from Node's pool, where one retained frame of 100 bytes would keep 8 KiB alive.
  const bytes = Buffer.allocUnsafeSlow(Buffer.byteLength(text));
  bytes.write(text);
  return { seq, bytes, at: performance.now() };
}

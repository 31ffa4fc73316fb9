import { thisTurn } from '../core/clock.js';
import { FrameTooLargeError, InvalidDataError, InvalidEventNameError } from '../core/errors.js';
import { formatGone, formatPosition, type Position } from '../core/position.js';
import { type Encoded, encode, Payload } from './payload.js';

// The grammar of an event stream: WHATWG HTML §9.2.5 (parsing) and §9.2.6 (interpreting). A field is written
// `name: value` with the one space that the parser takes off again, so that a value may begin with a space.

/** One event as `text/event-stream`, encoded once and shared by every listener. */
export interface Frame {
  readonly seq: number;
  readonly bytes: Encoded;
  /** When the turn in which it was written began to write, in whole milliseconds of `performance.now()`. */
  readonly at: number;
}

/** Frames that go out in one write. */
export class Batch extends Payload {
  /** How many there are. */
  readonly size: number;
  /** The `seq` of the first of them. */
  readonly first: number;
  /** The `seq` of the last of them. */
  readonly last: number;

  /**
   * @param frames in order, one or more
   * @param isShared whether more than one stream gets them
   */
  constructor(frames: readonly Frame[], isShared: boolean) {
    super(
      frames.map((frame) => frame.bytes),
      isShared,
    );
    this.size = frames.length;
    this.first = frames[0]?.seq ?? 0;
    this.last = frames.at(-1)?.seq ?? 0;
  }
}

/** A comment of one line and no blank line with it: some clients take a blank line for an empty message. */
export const HEARTBEAT = encode(':\n');

// EventSource fires events of these names itself (WHATWG HTML §9.2.3). One that comes on the stream calls the same handlers.
const FIRED_BY_EVENT_SOURCE = new Map([
  ['open', 'opened'],
  ['error', 'failed'],
]);

const LINE_END = /\r\n|\r|\n/g;

// What JSON leaves as it is, of ASCII.
const PLAIN = /^[\w.:-]*$/;

/**
 * Encodes an event but for its id, which is known only once it has its place in the order.
 * @throws InvalidDataError for data with lone surrogates, which UTF-8 would alter
 */
export function encodeBody(data: string, event: string | undefined): string {
  if (!data.isWellFormed()) {
    throw new InvalidDataError(
      'The data has a lone surrogate, which UTF-8 would alter: pass it through toWellFormed().',
    );
  }
  const name = event === undefined ? '' : `event: ${event}\n`;
  const lines = data.includes('\n') || data.includes('\r') ? data.replace(LINE_END, '\ndata: ') : data;
  return `${name}data: ${lines}\n\n`;
}

/** Whether a text is one event, as `encodeBody` makes it. */
export function isBody(text: string): boolean {
  return (
    (text.startsWith('data: ') || text.startsWith('event: ')) &&
    text.indexOf('\n\n') === text.length - 2 &&
    !text.includes('\r')
  );
}

/**
 * Checks that an event is not too large.
 * @param position where it would stand, or nearly: its digits count
 * @throws FrameTooLargeError
 */
export function checkSize(body: string, position: Position, label: string, maxFrame: number): void {
  // A unit of UTF-16 takes 3 bytes at the most: what is far from the limit need not be measured.
  if (3 * body.length + label.length + 64 <= maxFrame) return;
  const bytes = sizeOf(body, position, label);
  if (bytes > maxFrame) throw new FrameTooLargeError(bytes, maxFrame);
}

/** Bytes of the event at its place in the order. */
export function sizeOf(body: string, position: Position, label: string): number {
  return Buffer.byteLength(idOf(position, label)) + Buffer.byteLength(body);
}

/**
 * The event at its place in the order.
 * @param label the channel's id, percent-encoded
 * @param age how long ago it was written, in milliseconds
 */
export function toFrame(body: string, position: Position, label: string, age = 0): Frame {
  return frameOf(idOf(position, label) + body, position.seq, age);
}

/** What `encodeBody` made of the event. */
export function bodyOf({ bytes }: Frame): string {
  const text = bytes.toString();
  return text.slice(text.indexOf('\n') + 1);
}

/** The last event of a channel. Its id is the position of the end, so that a client that returns with it has read all. */
export function encodeEnd(chanId: string, position: Position, label: string): Frame {
  return frameOf(idOf(position, label) + endEvent(chanId), position.seq, 0);
}

/**
 * An event of a start: its id keeps the cursor that the client came with, until the start is complete.
 * @param id what `formatStart` gives, in place of the position
 */
export function encodeStartEvent({ bytes }: Frame, id: string): Encoded {
  const text = bytes.toString();
  return encode(`id: ${id}${text.slice(text.indexOf('@'))}`);
}

/** The starts are complete: from here on ids are positions. */
export function encodeReady(position: Position): Encoded {
  return encode(`id: ${formatPosition(position)}\nevent: comet:ready\ndata: {}\n\n`);
}

/** Something of these channels is lost to an open stream; they start anew. */
export function encodeGap(channels: readonly string[], id: string): Encoded {
  return encode(`id: ${id}\nevent: comet:gap\ndata: {"channels":${list(channels)}}\n\n`);
}

/** What an open stream carries now, and the names that it waits for. */
export function encodeChannels(channels: readonly string[], waiting: readonly string[]): Encoded {
  const data = `{"channels":${list(channels)},"waiting":${list(waiting)}}`;
  return encode(`event: comet:channels\ndata: ${data}\n\n`);
}

/** Channels that the stream does not carry and does not wait for. They have no id: the cursor stays. */
export function encodeEnds(chanIds: readonly string[]): Encoded {
  return encode(chanIds.map(endEvent).join(''));
}

/** What `comet:open` tells, and what goes with it. */
export interface Opening {
  /** Milliseconds to wait before a reconnect. */
  readonly retry: number;
  /** The id: a position, or what `formatStart` gives. */
  readonly id: string;
  /** A UUID. */
  readonly listener: string;
  /** The channels that the stream carries. */
  readonly channels: readonly string[];
  /** Names of which no channel exists: the stream carries it once there is one. */
  readonly waiting: readonly string[];
  /** Channels that were carried before and of which something may be lost. */
  readonly gaps: readonly string[];
  /** Names of which no channel exists, and that can't wait. */
  readonly missing: readonly string[];
}

/** The first text of a stream. All of it is ASCII, so that it need not become a buffer of its own. */
export function encodeOpening({ retry, id, listener, channels, waiting, gaps, missing }: Opening): string {
  // Written out: JSON.stringify takes longer than all the rest of it.
  const names = `"channels":${list(channels)},"waiting":${list(waiting)}`;
  const data = `{"protocol":1,"listener":"${listener}",${names},${gapsOf(gaps)}}`;
  return `:ok\nretry: ${retry}\nid: ${id}\nevent: comet:open\ndata: ${data}\n\n${missing.map(endEvent).join('')}`;
}

/** The whole answer to a client that returns to channels of which none exists any more, while it may have missed something. */
export function encodeGone(retry: number, position: Position, gaps: readonly string[]): string {
  const data = `{"protocol":1,"listener":null,"channels":[],"waiting":[],${gapsOf(gaps)}}`;
  const id = formatGone(position);
  return `:ok\nretry: ${retry}\nid: ${id}\nevent: comet:open\ndata: ${data}\n\n${gaps.map(endEvent).join('')}`;
}

/** A new time to wait before a reconnect. A field takes effect with its line: no blank line, so no event. */
export function encodeRetry(milliseconds: number): Encoded {
  return encode(`retry: ${milliseconds}\n`);
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
  const another = FIRED_BY_EVENT_SOURCE.get(event);
  if (another !== undefined) {
    throw new InvalidEventNameError(
      `An event named "${event}" would call the on${event} of an EventSource: choose another, such as "${another}".`,
    );
  }
}

function endEvent(chanId: string): string {
  return `event: comet:end\ndata: ${json({ channel: chanId })}\n\n`;
}

function gapsOf(gaps: readonly string[]): string {
  return `"recovered":${gaps.length === 0},"gaps":${list(gaps)}`;
}

/** An array of strings in JSON. */
function list(texts: readonly string[]): string {
  return `[${texts.map(quoted).join()}]`;
}

function quoted(text: string): string {
  return PLAIN.test(text) ? `"${text}"` : json(text);
}

function json(data: unknown): string {
  const text = JSON.stringify(data);
  if (Buffer.byteLength(text) === text.length) return text;
  const escaped = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return text.replace(/[\u0080-\uffff]/g, escaped);
}

function idOf(position: Position, label: string): string {
  return `id: ${formatPosition(position)}@${label}\n`;
}

function frameOf(text: string, seq: number, age: number): Frame {
  return { seq, bytes: encode(text), at: thisTurn().time - Math.ceil(age) };
}

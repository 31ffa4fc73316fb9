import { type ClientCursor, parseCursor } from '../core/position.js';
import type { Request } from '../transport/stream.js';

/** What a request asks for. */
export interface Target {
  /** The names of the path and of the query, each once, decoded but not yet checked. */
  readonly channelIds: readonly string[];
  /** Those of them that are new beside the cursor: they start as for a newcomer. */
  readonly newIds: ReadonlySet<string>;
  /** Where the client stands. */
  readonly cursor: ClientCursor;
  /** Whether the same URL was open before: an EventSource, or a library that does as one, has come back by itself. */
  readonly isReturn: boolean;
  /** `new_chan_id` without a cursor in the query: a newcomer needs none. */
  readonly lacksCursor: boolean;
  /** Its header `Accept`. */
  readonly accept: string | undefined;
}

/** Not below the mount, or more than one segment below it. */
export const ELSEWHERE = Symbol('elsewhere');
/** A percent-encoding that is none. */
export const MALFORMED = Symbol('malformed');

const NONE: ReadonlySet<string> = new Set();
// A cursor whose percent-encoding is malformed: it is there, and says nothing.
const UNREADABLE = '?';

/** Where a request goes, relative to where the handler is mounted. What is malformed is `undefined`. */
export interface Address {
  readonly segments: readonly (string | undefined)[];
  readonly parameters: readonly (readonly [name: string | undefined, value: string | undefined])[];
}

/** Reads the address of a request. As Express reads a path, a slash at its end makes no difference. */
export function addressOf(request: Request): Address {
  const [resource] = cut(withoutOrigin(request.url ?? ''), '#');
  const [path, query] = cut(resource, '?');
  const below = path.slice(
    path.startsWith('/') ? 1 : 0,
    path.length > 1 && path.endsWith('/') ? -1 : undefined,
  );
  return { segments: split(below, '/').map(decoded), parameters: split(query, '&').map(parameterOf) };
}

/** Removes the origin of a request target. A server must accept the absolute form too (RFC 9112 §3.2.2). */
export function withoutOrigin(target: string): string {
  return target.startsWith('/') ? target : target.replace(/^[a-z][a-z\d+.-]*:\/\/[^/?#]*/i, '');
}

/** Reads the target of a request. */
export function targetOf(request: Request): Target | typeof ELSEWHERE | typeof MALFORMED {
  const { segments, parameters } = addressOf(request);
  if (segments.length > 1) return ELSEWHERE;

  const carried = new Set(segments);
  const added = new Set<string | undefined>();
  let inQuery = '';
  let own = '';
  for (const [name, value] of parameters) {
    if (name === 'chan_id') carried.add(value);
    else if (name === 'new_chan_id') added.add(value);
    else if (name === 'last_event_id') own ||= value ?? UNREADABLE;
    // event-source-polyfill and Mercure's clients put into the query what a browser puts into the header.
    else if (name === 'lastEventId' || name === 'Last-Event-ID') inQuery ||= value ?? UNREADABLE;
  }
  for (const id of carried) added.delete(id);
  const channelIds = [...carried, ...added];
  if (channelIds.includes(undefined)) return MALFORMED;

  const { accept, 'last-event-id': header } = request.headers;
  const returned = (header as string) || inQuery;
  const cursor = parseCursor(returned);
  // A client that lost its very first start comes back as if the URL had never been open.
  const isFirst = cursor.position === undefined;
  return {
    channelIds: channelIds as string[],
    newIds: isFirst || cursor.isFirst ? (added as Set<string>) : NONE,
    cursor: isFirst ? ownCursor(own) : cursor,
    isReturn: returned !== '',
    lacksCursor: added.size > 0 && inQuery === '' && own === '',
    accept,
  };
}

/** The cursor that a page put into its URL. From a start with new channels it can't say which of them were complete. */
function ownCursor(text: string): ClientCursor {
  const cursor = parseCursor(text);
  return cursor.isFirst ? parseCursor(UNREADABLE) : cursor;
}

/** Whether an `Accept` header lets an event stream through (RFC 9110 §12.5.1: the most specific range decides). */
export function acceptsEventStream(accept: string | undefined): boolean {
  // What an EventSource says needs no parsing.
  if (accept === undefined || accept === 'text/event-stream' || accept.trim() === '') return true;
  const qualities = new Map<string, number>();
  for (const range of accept.split(',')) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    const weight = parameters.find((parameter) => parameter.startsWith('q='));
    qualities.set(type, weight === undefined ? 1 : Number(weight.slice(2)));
  }
  const quality = qualities.get('text/event-stream') ?? qualities.get('text/*') ?? qualities.get('*/*') ?? 0;
  return quality > 0;
}

/** A parameter of a query; what is malformed is `undefined`. */
function parameterOf(pair: string): [name: string | undefined, value: string | undefined] {
  const [name, value] = cut(pair.includes('+') ? pair.replaceAll('+', ' ') : pair, '=');
  return [decoded(name), decoded(value)];
}

/** The parts of a text between such marks. Most have one, for which V8's own way is long. */
function split(text: string, mark: string): string[] {
  if (text === '') return [];
  return text.includes(mark) ? text.split(mark) : [text];
}

/** What stands before the first of such a mark, and what behind it. */
export function cut(text: string, mark: string): [before: string, after: string] {
  const at = text.indexOf(mark);
  return at === -1 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

// Not URLSearchParams, which turns what is malformed into U+FFFD: two names that differ would be one.
export function decoded(text: string): string | undefined {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

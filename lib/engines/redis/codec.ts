import type { Entry, Made, Retained, Terms } from '../../core/backplane.js';
import { MalformedMessageError } from '../../core/errors.js';

/** A message of a topic, as a node understands it. */
export type Message =
  | { readonly kind: 'entry'; readonly entry: Entry }
  | { readonly kind: 'made'; readonly made: Made }
  | { readonly kind: 'mark' | 'word'; readonly text: string };

/** What `sync` answers of one channel. */
export type Line = readonly [
  index: string,
  last: string,
  begun: string,
  made: string,
  after: string,
  entries: readonly (readonly [id: string, fields: readonly string[]])[],
];

/**
 * The version of messages and keys. A change that nodes of this version can ignore keeps it: another kind of message,
 * another field at the end of one, another member of terms or field of a hash.
 */
export const VERSION = 1;

// Without the flag `s`, `.` matches neither U+2028 nor U+2029, which JSON writes as they are.
const HEAD = /^(\d{1,9})(?: (\S*)(?: (.*))?)?$/s;
const EPOCH = /^[0-9a-z]{1,32}$/;
const NUMBER = /^(?:0|[1-9]\d{0,15})$/;
const ENTRY_ID = /^([1-9]\d{0,15})-(\d{1,15})$/;
const ASKER = /^(\d{1,16}) (\S+)$/;

/**
 * Reads a message: `<version> <kind> <fields>`, and for some kinds a line break and text.
 * @returns `undefined` for a version or a kind that is not known here
 * @throws MalformedMessageError
 */
export function parseMessage(message: string, topic: string, chanId: string): Message | undefined {
  const end = message.indexOf('\n');
  const [, version, kind = '', head = ''] = HEAD.exec(end === -1 ? message : message.slice(0, end)) ?? [];
  const where = `A message on the topic ${topic}`;
  if (version === undefined) throw new MalformedMessageError(where, 'it has no version');
  if (Number(version) !== VERSION) return undefined;
  // The text of a word may have line breaks.
  const text = message.slice(version.length + kind.length + 2);
  if (kind === 'm') return { kind: 'mark', text };
  if (kind === 'w') return { kind: 'word', text };
  if (kind !== 'e' && kind !== 'x' && kind !== 'n') return undefined;
  const [epoch = '', seq = '', previous = '', ...asker] = head.split(' ');
  const rest = end === -1 ? '' : message.slice(end + 1);
  if (end === -1 || (kind !== 'e' && rest === '')) throw new MalformedMessageError(where, 'it has no text');
  if (!EPOCH.test(epoch)) throw new MalformedMessageError(where, 'it is of no epoch');
  if (kind === 'n') return { kind: 'made', made: parseMade(rest, epoch, [seq, previous, ...asker], where) };
  // A later release may add fields: behind the asker, which is two fields or an empty one, or behind the linger.
  const [number = '', node = ''] = asker;
  const isAsked = kind === 'e' && number !== '';
  const fields = {
    previous,
    asker: isAsked ? `${number} ${node}` : number,
    body: kind === 'e' ? rest : null,
  };
  const place = { chanId: kind === 'e' ? chanId : rest, epoch, age: 0 };
  return { kind: 'entry', entry: toEntry(place, seq, fields, where) };
}

/** `<name>\n<terms>`, and the numbers `<last> <made> <lastEnd>`. */
function parseMade(text: string, epoch: string, numbers: readonly string[], where: string): Made {
  const [chanId = '', ...terms] = text.split('\n');
  const [last = 0, made = 0, lastEnd = 0] = numbers.slice(0, 3).map((number) => numberOf(number, where));
  return { chanId, epoch, last, made, lastEnd, terms: parseTerms(terms.join('\n'), chanId) };
}

/**
 * Reads what is retained of a channel. Entries that are malformed are left out, and `tell` is told of them.
 * @throws MalformedMessageError
 */
export function parseLine(
  [, last, begun, made, after, entries]: Line,
  { chanId, epoch, now }: { readonly chanId: string; readonly epoch: string; readonly now: number },
  tell: (error: MalformedMessageError) => void,
): Retained {
  const where = `The key of the channel ${JSON.stringify(chanId)}`;
  const retained: Entry[] = [];
  for (const line of entries) {
    try {
      const entry = parseEntry(line, chanId, epoch, now);
      if (entry.seq <= (retained.at(-1)?.seq ?? 0))
        throw new MalformedMessageError(where, 'entries are doubled');
      retained.push(entry);
    } catch (error) {
      if (!(error instanceof MalformedMessageError)) throw error;
      tell(error);
    }
  }
  const number = (value: string) => numberOf(value, where);
  return {
    chanId,
    begun: number(begun),
    made: number(made),
    lastEnd: number(after),
    last: number(last),
    entries: retained,
  };
}

/** A retained entry: `<seq>-<milliseconds>`, and its fields, of which those that are unknown are ignored. */
function parseEntry([id, list]: Line[5][number], chanId: string, epoch: string, now: number): Entry {
  const where = `An entry in the log of the channel ${JSON.stringify(chanId)}`;
  const [, seq = '', at] = ENTRY_ID.exec(id) ?? [];
  const field = (name: string) => list.find((_, index) => index % 2 === 1 && list[index - 1] === name);
  const [previous = '', asker = '', body = null] = [field('p'), field('a'), field('b')];
  return toEntry(
    { chanId, epoch, age: Math.max(now - Number(at), 0) },
    seq,
    { previous, asker, body },
    where,
  );
}

function toEntry(
  place: Pick<Entry, 'chanId' | 'epoch' | 'age'>,
  seq: string,
  {
    previous,
    asker,
    body,
  }: { readonly previous: string; readonly asker: string; readonly body: string | null },
  where: string,
): Entry {
  const numbers = { seq: numberOf(seq, where), previous: numberOf(previous, where) };
  if (numbers.previous >= numbers.seq)
    throw new MalformedMessageError(where, 'it stands before the one before it');
  if (body === null)
    return { ...place, ...numbers, body, asker: undefined, linger: numberOf(asker || '0', where) };
  return { ...place, ...numbers, body, asker: parseAsker(asker, where) };
}

function parseAsker(text: string, where: string): Entry['asker'] {
  if (text === '') return undefined;
  const [, number, node] = ASKER.exec(text) ?? [];
  if (number === undefined || node === undefined)
    throw new MalformedMessageError(where, 'its asker is no node');
  return { number: numberOf(number, where), node };
}

/** Reads the terms of a channel. @throws MalformedMessageError */
export function parseTerms(text: string, chanId: string): Terms {
  const where = `The terms of the channel ${JSON.stringify(chanId)}`;
  let terms: unknown;
  try {
    terms = JSON.parse(text);
  } catch {
    throw new MalformedMessageError(where, 'they are no JSON');
  }
  const { log, lag, rewind } = (terms ?? {}) as Record<string, unknown>;
  const { frames, bytes, age } = (log ?? {}) as Record<string, unknown>;
  const isTerms =
    isCount(frames) && isCount(bytes) && (age === null || isCount(age)) && isCount(rewind) && isLag(lag);
  if (!isTerms) throw new MalformedMessageError(where, 'they are no terms');
  return { log: { frames, bytes, age }, lag, rewind };
}

function isLag(value: unknown): value is Terms['lag'] {
  return value === 'close' || value === 'latest';
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function numberOf(text: string, where: string): number {
  const number = Number(text);
  if (!NUMBER.test(text) || !Number.isSafeInteger(number)) {
    throw new MalformedMessageError(where, `${JSON.stringify(text.slice(0, 40))} is no number`);
  }
  return number;
}

import { answerOf } from '../support/wire.js';
import { channelsItem, gapItem, type Item, openItem } from './items.js';

/** Names and positions of one sequence, and what they are on the wire of a hub that serves many sequences. */
export class Wire {
  readonly #epoch: string;
  readonly #base: number;
  readonly #suffix: string;
  readonly #prefix: string;

  /**
   * @param base where the order of the hub stands as the sequence begins
   * @param serial the number of the sequence
   */
  constructor(epoch: string, base: number, serial: number) {
    this.#epoch = epoch;
    this.#base = base;
    this.#suffix = `.${serial}`;
    this.#prefix = `${epoch}-`;
  }

  name(name: string): string {
    return name + this.#suffix;
  }

  id(id: string): string {
    if (id.startsWith(GONE)) return GONE + this.id(id.slice(GONE.length));
    const positioned = id.replace(/^\d+/, (position) => `${this.#epoch}-${Number(position) + this.#base}`);
    return positioned.includes('@') ? this.name(positioned) : positioned;
  }

  /** An id that came over the wire. */
  localId(id: string): string {
    if (id.startsWith(GONE)) return GONE + this.localId(id.slice(GONE.length));
    const [, digits = '', rest] = id.startsWith(this.#prefix) ? (POSITION.exec(id) ?? []) : [];
    return this.local(digits === '' ? id : `${Number(digits) - this.#base}${rest}`);
  }

  /** A text with names that came over the wire. */
  local(text: string): string {
    return text.replaceAll(this.#suffix, '');
  }
}

const GONE = 'gone-';
const POSITION = /^[^-]+-(\d+)(.*)$/;

/** What has come of an answer. */
export interface Reading {
  /** Undefined before the head has come. */
  readonly status: number | undefined;
  readonly items: readonly Item[];
  readonly isComplete: boolean;
  /** The code before protocol 1 says less. Of that only what both say is compared. */
  readonly isOld: boolean;
}

export const NOTHING: Reading = { status: undefined, items: [], isComplete: false, isOld: false };

/**
 * Reads an answer.
 * @param names the names of the request
 */
export function readAnswer(text: string, wire: Wire, names: readonly string[]): Reading {
  if (!text.includes('\r\n\r\n')) return NOTHING;
  const { status, headers, chunks, rest } = answerOf(text);
  const isComplete = headers['content-length'] !== undefined || chunks.at(-1) === '';
  if (status !== 200) return { status, items: [], isComplete, isOld: false };

  const items: Item[] = [];
  let isOld = false;
  let carried: readonly string[] = [];
  const body = headers['content-length'] === undefined ? chunks.join('') : rest;
  for (const block of body.split('\n\n').slice(0, -1)) {
    const [event, data = '', id] = ['event', 'data', 'id'].map((name) => fieldOf(block, name));
    const told = event === undefined ? {} : JSON.parse(wire.local(data));
    if (event === 'comet:open') isOld = told.protocol === undefined;
    if (event === 'comet:open' || event === 'comet:channels') carried = told.channels;
    // What is not carried has no end: that there is no channel of a name, `waiting` says too.
    if (event === 'comet:end' && !carried.includes(told.channel)) continue;
    items.push({
      ...(id !== undefined && { id: wire.localId(id) }),
      what: describe(event, told, names) ?? data,
    });
  }
  return { status, items, isComplete, isOld };
}

/** The value of a field of an event, which has one line for each. */
function fieldOf(event: string, name: string): string | undefined {
  const start = event.startsWith(`${name}: `) ? 0 : event.indexOf(`\n${name}: `) + 1;
  if (start === 0 && !event.startsWith(`${name}: `)) return undefined;
  const end = event.indexOf('\n', start);
  return event.slice(start + name.length + 2, end === -1 ? undefined : end);
}

/** Whether an item is as it must be. */
export function isSame(got: Item, expected: Item, isOld: boolean): boolean {
  if (isOld) return coarse(got) === coarse(expected);
  // Of a gap without a start the id may be any position from which the same is read.
  return got.what === expected.what && (got.id === expected.id || got.what.startsWith('gap'));
}

/** Whether the code before protocol 1 does not say that. */
export function isNew({ what }: Item): boolean {
  return what === 'ready' || what.startsWith('channels');
}

interface Told {
  readonly channel: string;
  readonly channels?: readonly string[];
  readonly waiting?: readonly string[];
  readonly recovered: boolean;
  readonly gaps?: readonly string[];
}

function describe(event: string | undefined, told: Told, names: readonly string[]): string | undefined {
  const { channel, channels = [], waiting = [], recovered, gaps = recovered ? [] : names } = told;
  switch (event) {
    case 'comet:open':
      return recovered === (gaps.length === 0)
        ? openItem('', [...channels, ...waiting], channels, gaps).what
        : event;
    case 'comet:channels':
      return channelsItem([...channels, ...waiting], channels).what;
    case 'comet:gap':
      return gapItem('', channels).what;
    case 'comet:end':
      return `end ${channel}`;
    case 'comet:ready':
      return 'ready';
    default:
      return event;
  }
}

function coarse({ what }: Item): string {
  return what.replace(/^open .* gaps/, 'open gaps');
}

import { EventEmitter, once } from 'node:events';
import { type ClientRequest, get, type IncomingMessage } from 'node:http';
import { createParser } from 'eventsource-parser';
import type { Random } from '../support/random.js';

/** What a client asks for. */
export interface Wish {
  /** The path of a Unix socket: ten thousand interleavings are more connections than there are ports. */
  readonly server: string;
  readonly path: string;
  readonly hub: number;
  /** In `chan_id`. */
  readonly names: readonly string[];
  /** In `new_chan_id`. */
  readonly added: readonly string[];
  /** In the header `Last-Event-ID`, or in the query as `lastEventId`: the client came back by itself. */
  readonly returned?: { readonly id: string; readonly by: 'header' | 'query' } | undefined;
  /** In the query as `last_event_id`: the page has put it there. */
  readonly own?: string | undefined;
}

export interface Opening {
  readonly listener: string | null;
  readonly channels: readonly string[];
  readonly waiting: readonly string[];
  readonly recovered: boolean;
  readonly gaps: readonly string[];
}

/** One event of a stream, in the order in which they came. */
export interface Told {
  readonly id: string | undefined;
  readonly event: string | undefined;
  readonly data: string;
  /** Where the order stood when it was read, where that is known. */
  readonly head: number;
}

/** A client that keeps all that it reads. */
export class Stream {
  status: number | undefined;
  opening: Opening | undefined;
  readonly told: Told[] = [];
  /** It closed the stream itself. */
  left = false;
  /** Its connection is gone. */
  over = false;
  /** It has let bytes wait. */
  hasPaused = false;
  readonly #news = new EventEmitter().setMaxListeners(0);
  readonly #head: () => number;
  #request: ClientRequest | undefined;
  #response: IncomingMessage | undefined;
  #isPaused = false;

  /** @param head where the order stands now, where that is known */
  constructor(
    readonly wish: Wish,
    readonly number: number,
    head: () => number,
  ) {
    this.#head = head;
  }

  /** Resolves when it is open, refused or over. */
  async open(): Promise<void> {
    const { server, path, names, added, returned, own } = this.wish;
    const query = [
      ...names.map((name) => `chan_id=${name}`),
      ...added.map((name) => `new_chan_id=${name}`),
      ...(own === undefined ? [] : [`last_event_id=${encodeURIComponent(own)}`]),
      ...(returned?.by === 'query' ? [`lastEventId=${encodeURIComponent(returned.id)}`] : []),
    ];
    const headers = {
      'X-Stream': String(this.number),
      ...(returned?.by === 'header' && { 'Last-Event-ID': returned.id }),
    };
    this.#request = get({ socketPath: server, path: `${path}?${query.join('&')}`, headers, agent: false });
    this.#request.on('response', (response) => this.#read(response));
    this.#request.on('error', () => {});
    // With a response, the stream is over when that was read to its end: the request closes with its socket.
    this.#request.on('close', () => {
      if (this.#response === undefined) this.#end();
    });
    await this.until(() => this.opening !== undefined);
  }

  /** Waits until that is so, or the stream is over. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds() && !this.over) await once(this.#news, 'change');
  }

  /** Reads nothing until `resume()`. */
  pause(): void {
    this.#isPaused = this.hasPaused = true;
    this.#response?.pause();
  }

  resume(): void {
    this.#isPaused = false;
    this.#response?.resume();
  }

  leave(): void {
    this.left = true;
    this.#request?.destroy();
  }

  #read(response: IncomingMessage): void {
    this.status = response.statusCode;
    this.#response = response;
    response.on('error', () => {});
    response.on('close', () => this.#end());
    if (response.statusCode !== 200) {
      response.resume();
      return;
    }
    const parser = createParser({
      onEvent: ({ id, event, data }) => {
        this.told.push({ id, event, data, head: this.#head() });
        if (event === 'comet:open') this.opening = JSON.parse(data);
      },
    });
    response.setEncoding('utf8');
    response.on('data', (piece: string) => {
      if (this.left) return;
      parser.feed(piece);
      this.#news.emit('change');
    });
    if (this.#isPaused) response.pause();
  }

  #end(): void {
    this.over = true;
    this.#news.emit('change');
  }
}

/** The cursor of a client, as the protocol has it. */
export interface Cursor {
  /** `undefined` for none, `null` for one that says nothing. */
  readonly position: { readonly epoch: string; readonly seq: number } | null | undefined;
  /** The channel that starts anew. */
  readonly restarts: string | undefined;
  /** What is in `new_chan_id` is new again. */
  readonly isFirst: boolean;
  /** It was told, at this position, that all is gone. */
  readonly goneAt: { readonly epoch: string; readonly seq: number } | undefined;
}

export function cursorOf(id: string | undefined): Cursor {
  const none = { position: undefined, restarts: undefined, isFirst: false, goneAt: undefined };
  if (id === undefined || id === '' || id.startsWith('new!')) return none;
  const [, epoch = '', seq, plus, bang, label] = /^([0-9a-z]+)-(\d+)(?:(\+?)(!))?(?:@(.*))?$/.exec(id) ?? [];
  if (id.startsWith('gone-'))
    return { ...none, position: null, goneAt: cursorOf(id.slice(5)).position ?? undefined };
  if (seq === undefined) return { ...none, position: null };
  const restarts = bang === undefined ? undefined : label;
  return { position: { epoch, seq: Number(seq) }, restarts, isFirst: plus === '+', goneAt: undefined };
}

/** What a request says: where it stands, and which of its names are new. */
export function standingOf({ names, added, returned, own }: Wish): Cursor & { fresh: readonly string[] } {
  const cursor = cursorOf(returned?.id);
  const fresh = added.filter((name) => !names.includes(name));
  if (cursor.position === undefined) {
    const first = cursorOf(own);
    // Of a start with new channels it does not say which of them were complete.
    return first.isFirst ? { ...first, position: null, restarts: undefined, fresh } : { ...first, fresh };
  }
  return { ...cursor, fresh: cursor.isFirst ? fresh : [] };
}

export function seqOf(id: string | undefined): number {
  return Number(/-(\d+)/.exec(id ?? '')?.[1]);
}

/** An id that the page of a stream may have heard last: not all that was read here need have come to it. */
export function drawId({ told }: Stream, random: Random): string | undefined {
  const ids = told.map(({ id }) => id).filter((id) => id !== undefined);
  const starting = ids.filter((id) => id.includes('!'));
  const draw = random.below(8);
  if (draw < 4) return ids.at(-1);
  return draw < 6 && starting.length > 0 ? random.pick(starting) : random.pick(ids);
}

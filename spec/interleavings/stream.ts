import { EventEmitter, once } from 'node:events';
import { type ClientRequest, get, type IncomingMessage } from 'node:http';
import { createParser } from 'eventsource-parser';

/** What a client asks for. */
export interface Wish {
  /** The path of a Unix socket: ten thousand interleavings are more connections than there are ports. */
  readonly server: string;
  readonly path: string;
  readonly hub: number;
  readonly names: readonly string[];
  readonly cursor: string | undefined;
}

/** An event of a channel, or (without `seq`) the end of one. */
export interface Heard {
  readonly name: string;
  readonly seq: number | undefined;
  readonly data: string;
}

/** A client that reads all that it is given, and keeps it. */
export class Stream {
  status: number | undefined;
  opening: { listener: string; channels: string[]; recovered: boolean } | undefined;
  /** Where it said that it starts. */
  start = 0;
  readonly heard: Heard[] = [];
  /** The channels of which it was told that something is lost. */
  gap: string[] | undefined;
  readonly ids: string[] = [];
  /** It closed the stream itself. */
  left = false;
  /** Its connection is gone. */
  over = false;
  readonly #told = new EventEmitter().setMaxListeners(0);
  #request: ClientRequest | undefined;

  constructor(readonly wish: Wish) {}

  /** Resolves when it is open, refused or over. */
  async open(): Promise<void> {
    const { server, path, names, cursor } = this.wish;
    const query = names.map((name) => `chan_id=${name}`).join('&');
    const headers = cursor === undefined ? {} : { 'Last-Event-ID': cursor };
    this.#request = get({ socketPath: server, path: `${path}?${query}`, headers, agent: false });
    this.#request.on('response', (response) => this.#read(response));
    this.#request.on('error', () => {});
    this.#request.on('close', () => this.#end());
    await this.until(() => this.opening !== undefined);
  }

  /** Waits until that is so, or the stream is over. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds() && !this.over) await once(this.#told, 'change');
  }

  leave(): void {
    this.left = true;
    this.#request?.destroy();
  }

  #read(response: IncomingMessage): void {
    this.status = response.statusCode;
    response.on('error', () => {});
    response.on('close', () => this.#end());
    if (response.statusCode !== 200) {
      response.resume();
      return;
    }
    const parser = createParser({
      onEvent: ({ id, event, data }) => {
        if (id !== undefined) this.ids.push(id);
        if (event === 'comet:open') {
          this.opening = JSON.parse(data);
          this.start = seqOf(id);
        } else if (event === 'comet:gap') this.gap = JSON.parse(data).channels;
        else if (event === 'comet:end') this.#hearEnd(JSON.parse(data).channel);
        else this.heard.push({ name: id?.split('@')[1] ?? '', seq: seqOf(id), data });
      },
    });
    response.setEncoding('utf8');
    response.on('data', (piece: string) => {
      parser.feed(piece);
      this.#told.emit('change');
    });
  }

  /** That of a channel which it was never on says nothing of what it should hear. */
  #hearEnd(name: string): void {
    if (this.opening?.channels.includes(name)) this.heard.push({ name, seq: undefined, data: '' });
  }

  #end(): void {
    this.over = true;
    this.#told.emit('change');
  }
}

export function seqOf(id: string | undefined): number {
  return Number(/-(\d+)/.exec(id ?? '')?.[1]);
}

import { EventEmitter, once } from 'node:events';
import { get, type IncomingMessage, type RequestOptions } from 'node:http';
import type { ClientHttp2Session } from 'node:http2';
import { get as getHttps } from 'node:https';
import { connect, type Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { cleanup, witness } from './server.js';

/** What an EventSource asks for. */
export const EVENT_STREAM = { Accept: 'text/event-stream' };

/** A TCP client that does as it is told: it stalls, resets, closes half, sends what no browser would. */
export class RawClient {
  /** All that was read, as one byte a character. */
  text = '';
  readonly #told = new EventEmitter();

  private constructor(readonly socket: Socket) {
    socket.setEncoding('latin1');
    // A reset is what many tests are about; those that are not see it as text that never comes.
    socket.on('error', () => {});
    const forget = cleanup(() => {
      socket.destroy();
    });
    socket.on('close', () => {
      forget();
      this.#told.emit('change');
    });
  }

  static async connect(port: number): Promise<RawClient> {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    // Before it is connected: a client that is to stall must not have read a first piece.
    socket.pause();
    const client = new RawClient(socket);
    await once(socket, 'connect');
    return client;
  }

  /** Connects, and sends a GET; reads nothing until told to. */
  static async get(port: number, path: string, headers: Record<string, string> = {}): Promise<RawClient> {
    const client = await RawClient.connect(port);
    client.send(request(path, headers));
    return client;
  }

  send(text: string): void {
    this.socket.write(text);
  }

  read(): this {
    if (this.socket.listenerCount('data') === 0) {
      this.socket.on('data', (piece) => {
        this.text += piece;
        this.#told.emit('change');
      });
    }
    this.socket.resume();
    return this;
  }

  stall(): void {
    this.socket.pause();
  }

  /** Reads until the text holds this, or the connection is closed; returns whether it does. */
  async until(part: string | RegExp): Promise<boolean> {
    const holds = () => (typeof part === 'string' ? this.text.includes(part) : part.test(this.text));
    this.read();
    while (!holds() && !this.socket.closed) await once(this.#told, 'change');
    return holds();
  }

  /** RST: what is in flight is lost. */
  async reset(): Promise<void> {
    this.socket.resetAndDestroy();
    await this.#gone();
  }

  /** FIN: the client goes on reading. */
  finish(): void {
    this.socket.end();
  }

  async closed(): Promise<void> {
    this.read();
    await this.#gone();
  }

  async #gone(): Promise<void> {
    while (!this.socket.closed) await once(this.#told, 'change');
  }
}

/** The text of a GET for an event stream. */
export function request(path: string, headers: Record<string, string> = {}, method = 'GET'): string {
  const lines = Object.entries({ ...EVENT_STREAM, ...headers }).map(
    ([name, value]) => `${name}: ${value}\r\n`,
  );
  return `${method} ${path} HTTP/1.1\r\nHost: localhost\r\n${lines.join('')}\r\n`;
}

/** A well-behaved client, that keeps what it hears. */
export class EventClient {
  readonly events: EventSourceMessage[] = [];
  readonly comments: string[] = [];
  readonly #told = new EventEmitter();
  #ended = false;

  private constructor(readonly response: Readable & Pick<IncomingMessage, 'headers'>) {
    const parser = createParser({
      onEvent: (event) => {
        this.events.push(event);
      },
      onComment: (comment) => {
        this.comments.push(comment);
      },
    });
    response.setEncoding('utf8');
    response.on('data', (piece: string) => {
      parser.feed(piece);
      this.#told.emit('change');
    });
    response.on('error', () => {});
    witness('client', () => ({ ended: this.#ended, latest: this.events.slice(-3) }));
    const forget = cleanup(() => {
      response.destroy();
    });
    response.on('close', () => {
      forget();
      this.#ended = true;
      this.#told.emit('change');
    });
  }

  /** Resolves when it has the head, and the open event; rejects where the status is not 200. */
  static async open(
    url: string,
    headers: Record<string, string> = {},
    options: RequestOptions & { ca?: string } = {},
  ): Promise<EventClient> {
    const send = url.startsWith('https:') ? getHttps : get;
    const sent = send(url, { headers: { ...EVENT_STREAM, ...headers }, agent: false, ...options });
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    return EventClient.#of(response, response.statusCode);
  }

  /** The same over HTTP/2, on a session that may carry others. */
  static async openOn(
    session: ClientHttp2Session,
    path: string,
    headers: Record<string, string> = {},
  ): Promise<EventClient> {
    const stream = session.request({ ':path': path, ...headers });
    const [head] = (await once(stream, 'response')) as [IncomingMessage['headers']];
    return EventClient.#of(Object.assign(stream, { headers: head }), Number(head[':status']));
  }

  static async #of(response: EventClient['response'], status: number | undefined): Promise<EventClient> {
    if (status !== 200) {
      response.resume();
      throw new Error(`The server answered ${status}.`);
    }
    const client = new EventClient(response);
    await client.until(() => client.events.length > 0);
    return client;
  }

  /** What the open event said. */
  get opening(): {
    protocol: number;
    listener: string;
    channels: string[];
    waiting: string[];
    recovered: boolean;
    gaps: string[];
  } {
    return JSON.parse(this.events[0]?.data ?? '');
  }

  /** The data of what came on channels. */
  get messages(): string[] {
    return this.events.filter((event) => !event.event?.startsWith('comet:')).map((event) => event.data);
  }

  /** The cursor with which it would come back. */
  get lastEventId(): string {
    return this.events.findLast((event) => event.id !== undefined)?.id ?? '';
  }

  /** Waits until it has heard so many messages, or the stream has ended; returns them. */
  async heard(count: number): Promise<string[]> {
    await this.until(() => this.messages.length >= count);
    return this.messages;
  }

  async until(holds: () => boolean): Promise<void> {
    while (!holds() && !this.#ended) await once(this.#told, 'change');
  }

  /** Waits for the end of the stream. */
  async ended(): Promise<void> {
    await this.until(() => false);
  }

  close(): void {
    this.response.destroy();
  }
}

/** Waits for an event of a hub. */
export function told<Event>(on: (handler: (event: Event) => void) => () => void): Promise<Event> {
  return new Promise((resolve) => {
    const off = on((event) => {
      off();
      resolve(event);
    });
  });
}

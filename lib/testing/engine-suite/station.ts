import { deepEqual, equal } from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, get, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { SendOptions } from '../../channels/channel.js';
import type { CometOptions } from '../../core/options.js';
import type { Outcome } from '../../core/outcome.js';
import { type Comet, comet } from '../../hub.js';
import type { Watch } from './watch.js';

/** A hub, and a server of its own for it. */
export class Station {
  private constructor(
    readonly push: Comet,
    readonly url: string,
    readonly watch: Watch,
  ) {}

  static async open(options: CometOptions, watch: Watch): Promise<Station> {
    const push = comet({ heartbeat: null, ...options });
    watch.cleanup(() => push.close({ drain: 1 }));
    const server = createServer(push);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    watch.cleanup(async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    });
    const { healthy, reason } = await watch.during('a hub to be healthy', () => push.health());
    equal(healthy, true, `the hub is not healthy: ${reason}`);
    return new Station(push, `http://127.0.0.1:${(server.address() as AddressInfo).port}`, watch);
  }

  /** The name of this node in outcomes and counts. */
  async name(): Promise<string> {
    return (await this.push.health()).node;
  }

  /** Sends on a channel of that name, and tells what became of it. */
  send(chanId: string, data: string, options: SendOptions = {}): Promise<Outcome> {
    return this.watch.during(`the outcome of ${data}`, () =>
      this.push.channels.open(chanId).send(data, options),
    );
  }

  /** The status of a request for channels. */
  async status(...chanIds: string[]): Promise<number | undefined> {
    const response = await this.#get(chanIds);
    response.destroy();
    return response.statusCode;
  }

  /**
   * Opens a stream, at a cursor where there is one. What another node has made is known here some time after that:
   * until then it is tried again.
   */
  async listen(chanIds: string | readonly string[], cursor?: string): Promise<Stream> {
    let response = await this.#get([chanIds].flat(), cursor);
    await this.watch.eventually(`${chanIds} to be found`, async () => {
      if (response.statusCode !== 404) return true;
      response.destroy();
      response = await this.#get([chanIds].flat(), cursor);
      return false;
    });
    equal(response.statusCode, 200, `a request for ${chanIds}`);
    const stream = new Stream(response, this.watch);
    await this.watch.until('a stream to open', () => stream.events.length > 0);
    return stream;
  }

  async #get(chanIds: readonly string[], cursor?: string): Promise<IncomingMessage> {
    const query = new URLSearchParams(chanIds.map((chanId): [string, string] => ['chan_id', chanId]));
    const headers = cursor === undefined ? {} : { 'Last-Event-ID': cursor };
    // Each on a connection of its own: one that is kept alive may be closed just as it is used again.
    const request = get(`${this.url}?${query}`, { headers, agent: false });
    this.watch.cleanup(() => request.destroy());
    const [response] = await this.watch.during(`a stream of ${chanIds}`, () => once(request, 'response'));
    return response;
  }
}

interface Heard {
  readonly id: string | undefined;
  readonly event: string | undefined;
  readonly data: string;
}

/** A client that listens. */
export class Stream {
  readonly events: Heard[] = [];
  readonly #response: IncomingMessage;
  readonly #watch: Watch;
  readonly #done: Promise<void>;
  #ended = false;

  constructor(response: IncomingMessage, watch: Watch) {
    this.#response = response;
    this.#watch = watch;
    this.#done = this.#read();
  }

  /** What the first event said. */
  get opening(): { readonly channels: readonly string[]; readonly recovered: boolean } {
    return JSON.parse(this.events[0]?.data ?? '{}');
  }

  /** The id and the data of what was written. */
  get messages(): readonly (readonly [id: string | undefined, data: string])[] {
    return this.events.filter(({ event }) => !event?.startsWith('comet:')).map(({ id, data }) => [id, data]);
  }

  get data(): readonly string[] {
    return this.messages.map(([, data]) => data);
  }

  /** Where it would read on. */
  get cursor(): string {
    return this.events.findLast(({ id }) => id !== undefined)?.id ?? '';
  }

  /** Resolves when so many messages have come. */
  async heard(count: number): Promise<void> {
    await this.#watch.until(`message ${count} on a stream`, () => this.data.length >= count);
  }

  /** Resolves when these, and no others, have come. */
  async hears(...data: string[]): Promise<void> {
    await this.heard(data.length);
    deepEqual(this.data, data);
  }

  /** Resolves when the server has ended it; returns its last event. */
  async end(): Promise<string | undefined> {
    await this.#watch.until('a stream to end', () => this.#ended);
    return this.events.at(-1)?.event;
  }

  async close(): Promise<void> {
    this.#response.destroy();
    await this.#done;
  }

  async #read(): Promise<void> {
    let text = '';
    try {
      for await (const piece of this.#response.setEncoding('utf8')) {
        text += piece;
        const blocks = text.split('\n\n');
        text = blocks.pop() ?? '';
        this.events.push(...blocks.map(parse));
        this.#watch.told();
      }
    } catch {
      // It was closed, by this client or in the middle of a piece: what has come has come.
    }
    this.#ended = true;
    this.#watch.told();
  }
}

function parse(block: string): Heard {
  const fields = block.split('\n').map((line) => line.split(/: (.*)/s));
  const all = (name: string) => fields.filter(([field]) => field === name).map(([, value = '']) => value);
  return { id: all('id').at(-1), event: all('event').at(-1), data: all('data').join('\n') };
}

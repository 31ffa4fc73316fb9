import { type ClientRequest, get, type IncomingMessage } from 'node:http';
import type { Random } from '../support/random.js';
import { now } from './messages.js';
import { Stream } from './stream.js';

const OPEN = /^id: (([0-9a-f]{12}|gap|new)(?:-(\d+))?(!?))\nevent: comet:open\ndata: (\{.*\})$/;
const EVENT =
  /^id: (([0-9a-f]{12}|gap|new)(?:-(\d+))?(!?)@([\w%.-]+))\nevent: ([\w.-]+:\d+)\ndata: (\S+) x*$/;
const GAP =
  /^id: (([0-9a-f]{12}|gap)-(\d+)(!?)(?:@[\w%.-]+)?)\nevent: comet:gap\ndata: (\{"channels":\[.*\]\})$/;
const READY = /^id: ([0-9a-f]{12})-(\d+)\nevent: comet:ready\ndata: \{\}$/;
const END =
  /^id: (([0-9a-f]{12}|gap|new)(?:-(\d+))?(!?)@[\w%.-]+)\nevent: comet:end\ndata: \{"channel":"([\w.-]+)"\}$/;
// The end of a channel whose history was lost stands nowhere.
const LOST_END = /^event: comet:end\ndata: \{"channel":"([\w.-]+)"\}$/;
const CHANNELS = /^event: comet:channels\ndata: (\{.*\})$/;

/** Where a client may go. */
export interface Address {
  readonly name: string;
  readonly port: number;
}

/**
 * Does as a browser's EventSource: it reads, and comes back with the id that it heard last when its stream ends, each
 * time to any of the nodes. It notes everything that it hears.
 */
export class Client {
  readonly streams: Stream[] = [];
  /** What no server may say. */
  readonly faults: string[] = [];
  /** The tokens that it has heard. */
  readonly tokens = new Set<string>();
  /** How often it was told of a gap, and started again behind it. */
  restarts = 0;
  #cursor: string | undefined;
  #retry = 20;
  #request: ClientRequest | undefined;
  #over = false;
  #rest = '';
  readonly #random: Random;
  readonly #nodes: () => readonly Address[];
  readonly #changed: () => void;

  constructor(
    readonly name: string,
    readonly channels: readonly string[],
    { random, nodes, changed }: { random: Random; nodes: () => readonly Address[]; changed: () => void },
  ) {
    this.#random = random;
    this.#nodes = nodes;
    this.#changed = changed;
    this.#connect();
  }

  /** The stream that is open now. */
  get stream(): Stream | undefined {
    const last = this.streams.at(-1);
    return last?.opening !== undefined && last.endedAt === undefined ? last : undefined;
  }

  /** Drops its stream, and comes back. */
  hop(): void {
    this.#request?.destroy();
  }

  /** Leaves for good. */
  close(): void {
    this.#over = true;
    this.#request?.destroy();
  }

  #connect(): void {
    if (this.#over) return;
    const node = this.#random.pick(this.#nodes());
    if (node === undefined) {
      this.#comeBack(undefined);
      return;
    }
    const stream = new Stream(node.name, this.channels, this.#cursor);
    this.streams.push(stream);
    this.#rest = '';
    const query = this.channels.map((id) => `chan_id=${id}`).join('&');
    const headers = this.#cursor === undefined ? {} : { 'Last-Event-ID': this.#cursor };
    const request = get({ port: node.port, host: '127.0.0.1', path: `/?${query}`, headers, agent: false });
    this.#request = request;
    request.on('response', (response) => this.#read(stream, response));
    request.on('error', () => {});
    request.on('close', () => this.#comeBack(stream));
  }

  #comeBack(stream: Stream | undefined): void {
    if (stream !== undefined) {
      stream.endedAt ??= now();
      this.#changed();
    }
    if (!this.#over) setTimeout(() => this.#connect(), this.#retry);
  }

  #read(stream: Stream, response: IncomingMessage): void {
    response.setEncoding('utf8').on('error', () => {});
    if (response.statusCode === 503) {
      response.resume();
      return;
    }
    if (response.statusCode !== 200) this.#fault(`it was answered ${response.statusCode}`);
    response.on('data', (piece: string) => {
      this.#feed(stream, piece);
      this.#changed();
    });
    response.on('close', () => {
      stream.isWhole = response.complete;
    });
  }

  #feed(stream: Stream, piece: string): void {
    const blocks = (this.#rest + piece).split('\n\n');
    this.#rest = blocks.pop() as string;
    for (const block of blocks) this.#hear(stream, block);
  }

  #hear(stream: Stream, block: string): void {
    const lines = block.split('\n').filter((line) => !line.startsWith(':'));
    while (/^retry: \d+$/.test(lines[0] ?? '')) this.#retry = Number(lines.shift()?.slice('retry: '.length));
    const text = lines.join('\n');
    const event = EVENT.exec(text);
    const open = OPEN.exec(text);
    const gap = GAP.exec(text);
    const ready = READY.exec(text);
    const end = END.exec(text);
    const lostEnd = LOST_END.exec(text);
    const channels = CHANNELS.exec(text);
    if (open !== null) this.#opened(stream, open);
    else if (stream.opening === undefined) this.#fault(`it heard ${show(text)} before comet:open`);
    else if (event !== null) this.#take(stream, event);
    else if (gap !== null) this.#lose(stream, gap);
    else if (ready !== null) this.#stand(stream, ready[1] as string, Number(ready[2]));
    else if (end !== null) this.#ended(stream, end);
    else if (lostEnd !== null) stream.drops(lostEnd[1] as string);
    else if (channels !== null) this.#change(stream, channels[1] as string);
    else this.#fault(`it heard ${show(text)}`);
  }

  #take(
    stream: Stream,
    [, id, epoch = '', seq, bang, label = '', name = '', token = '']: RegExpExecArray,
  ): void {
    if (token !== name) this.#fault(`it heard ${name} with the data of ${token}`);
    const place = bang === '' ? { epoch, seq: Number(seq) } : undefined;
    stream.steps.push({ is: 'event', place, channel: decodeURIComponent(label), token, at: now() });
    this.tokens.add(token);
    this.#cursor = id;
  }

  #lose(stream: Stream, [, id, epoch = '', seq, bang, data = '']: RegExpExecArray): void {
    const { channels } = JSON.parse(data) as { channels: string[] };
    for (const channel of channels) stream.restarts(channel);
    stream.steps.push({ is: 'gap', channels });
    this.restarts += 1;
    this.#cursor = id;
    if (bang === '') this.#stand(stream, epoch, Number(seq));
  }

  #ended(stream: Stream, [, id, epoch = '', seq, bang, channel = '']: RegExpExecArray): void {
    this.#cursor = id;
    stream.drops(channel);
    if (bang === '') stream.steps.push({ is: 'at', place: { epoch, seq: Number(seq) } });
  }

  #change(stream: Stream, data: string): void {
    const { channels, waiting } = JSON.parse(data) as { channels: string[]; waiting: string[] };
    this.#checkNames(channels, waiting);
    stream.carries(channels);
  }

  #stand(stream: Stream, epoch: string, seq: number): void {
    stream.steps.push({ is: 'at', place: { epoch, seq } });
    this.#cursor = `${epoch}-${seq}`;
  }

  #opened(stream: Stream, [, id, epoch = '', seq, bang, data = '']: RegExpExecArray): void {
    if (stream.opening !== undefined) this.#fault('it heard comet:open twice');
    const { listener, channels, waiting, gaps } = JSON.parse(data) as Record<
      'channels' | 'waiting' | 'gaps',
      string[]
    > & { listener: string };
    this.#checkNames(channels, waiting);
    if (gaps.length > 0) this.restarts += 1;
    const place = bang === '' ? { epoch, seq: Number(seq) } : undefined;
    stream.opening = { listener, channels, place, gaps, at: now() };
    stream.carries(channels);
    this.#cursor = id;
  }

  /** A name that it asked for is carried, or waits. */
  #checkNames(channels: readonly string[], waiting: readonly string[]): void {
    if ([...channels, ...waiting].sort().join() === this.channels.toSorted().join()) return;
    this.#fault(`it asked for ${this.channels}, was given ${channels}, and waits for ${waiting}`);
  }

  #fault(text: string): void {
    this.faults.push(`${this.name}: ${text}`);
  }
}

const show = (text: string): string => JSON.stringify(text.slice(0, 200));

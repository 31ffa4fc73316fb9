import { get, type IncomingMessage } from 'node:http';
import type { AddressInfo, Server } from 'node:net';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import type { ListenerSnapshot, Outcome } from 'express-comet';
import type { Stage } from './stage.js';

/** One that listens as it should, one that stops reading, one that vanishes. */
type Kind = 'listen' | 'stall' | 'reset';

/** Where a client is: on its way, reading, no longer reading, about to come back, or gone for good. */
type Condition = 'connecting' | 'reading' | 'stopped' | 'away' | 'gone';

/** A client that makes trouble, at one moment. */
export interface ClientSnapshot {
  readonly name: string;
  readonly channel: string;
  readonly condition: Condition;
  /** Its listener's id, while it is one. */
  readonly listener: string | null;
  /** Frames that it has yet to be written. */
  readonly lag: number;
  /** Events that it has read. */
  readonly heard: number;
  /** What the server said when it came back; `null` for one that has not. */
  readonly recovered: boolean | null;
  readonly steps: readonly Step[];
}

interface Step {
  readonly at: number;
  readonly text: string;
}

export interface ClientsSnapshot {
  /** Those that listen as they should: on a stream now, and on their way to one. */
  readonly listening: number;
  readonly coming: number;
  /** Those that make trouble, the latest first. */
  readonly trouble: readonly ClientSnapshot[];
}

/** What came of a reset: how many listeners the channel counted right after it, and the outcome of a write then. */
export interface Reset {
  readonly counted: number;
  readonly outcome: Outcome;
}

const MOST = 1000;
/** Clients that make trouble, of which the page tells. */
const SHOWN = 6;
/** What a client went through lately, which would else grow for as long as it comes back. */
const STEPS = 20;
const EVENTS = 128;
const EVENT_SIZE = 64 * 1024;
const AT_ONCE = 8;
// Milliseconds: the flood takes about a second, so that one can watch it rise.
const PAUSE = 40;
const FIRST_RETRY = 1000;

/** The clients that the server keeps of its own, on real sockets: each a connection through the network stack. */
export class Clients {
  readonly #stage: Stage;
  readonly #server: Server;
  readonly #changed: () => void;
  readonly #clients = new Set<Client>();
  #named = 0;

  constructor(stage: Stage, server: Server, changed: () => void) {
    this.#stage = stage;
    this.#server = server;
    this.#changed = changed;
    stage.watch((push) => {
      push.on('leave', ({ listener, reason }) => {
        for (const client of this.#clients) if (client.listener === listener) client.left(reason);
      });
    });
  }

  /** How many more there may be. */
  get room(): number {
    return MOST - this.#clients.size;
  }

  listen(channel: string, count: number): void {
    for (let index = 0; index < Math.min(count, this.room); index += 1) this.#add('listen', channel);
  }

  /** Adds one that listens and then stops to read: its connection stays open. */
  async stall(channel: string): Promise<void> {
    const client = this.#add('stall', channel);
    await client.opened;
    client.stop();
  }

  /**
   * Adds one that listens and then resets its connection, and writes in the same turn of the event loop: the server
   * can't know yet. The count still holds the client; the outcome does not.
   */
  async reset(channelId: string): Promise<Reset | undefined> {
    const client = this.#add('reset', channelId);
    await client.opened;
    const channel = this.#stage.push.channels.find(channelId);
    if (channel === undefined || client.listener === null) return undefined;
    client.vanish();
    const counted = channel.listeners;
    client.say(`reset; the channel still counts ${counted}`);
    const outcome = await channel.send(`${client.name} was reset just before this was written`);
    const { delivered, failed, listeners, reasons } = outcome;
    const why = Object.entries(reasons).map(([reason, count]) => `${count} ${reason}`);
    // None, where the write was on its way through a backplane while the reset came to be known.
    const lost = failed === 0 ? '' : `, ${failed} failed (${why.join(', ')})`;
    client.say(`outcome of the next write: ${delivered} of ${listeners} delivered${lost}`);
    return { counted, outcome };
  }

  /** Writes 8 MiB in events of 64 KiB. */
  async flood(channelId: string): Promise<void> {
    const text = 'x'.repeat(EVENT_SIZE);
    for (let sent = 0; sent < EVENTS; sent += AT_ONCE) {
      for (let index = 0; index < AT_ONCE; index += 1) this.#stage.tell(channelId, text, { event: 'flood' });
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  }

  sendAway(): void {
    for (const client of this.#clients) client.goAway();
    this.#clients.clear();
    this.#changed();
  }

  inspect(streams: readonly ListenerSnapshot[]): ClientsSnapshot {
    const all = [...this.#clients];
    const listening = all.filter(({ kind, condition }) => kind === 'listen' && condition !== 'gone');
    const lags = new Map(streams.map(({ id, lag }) => [id, lag]));
    const open = listening.filter(({ condition }) => condition === 'reading').length;
    return {
      listening: open,
      coming: listening.length - open,
      trouble: all
        .filter(({ kind }) => kind !== 'listen')
        .slice(-SHOWN)
        .reverse()
        .map((client) => client.inspect(lags.get(client.listener ?? '') ?? 0)),
    };
  }

  #add(kind: Kind, channel: string): Client {
    this.#named += 1;
    const gone = [...this.#clients].filter(({ condition }) => condition === 'gone');
    for (const client of gone.slice(0, -SHOWN)) this.#clients.delete(client);
    const { port } = this.#server.address() as AddressInfo;
    const client = new Client(kind, `${kind}-${this.#named}`, channel, port, this.#changed);
    this.#clients.add(client);
    client.connect();
    return client;
  }
}

class Client {
  listener: string | null = null;
  condition: Condition = 'connecting';
  /** Resolves when it has read the open event for the first time, or is gone. */
  readonly opened: Promise<void>;
  #open!: () => void;
  #response: IncomingMessage | undefined;
  #lastEventId = '';
  #retry = FIRST_RETRY;
  #heard = 0;
  #recovered: boolean | null = null;
  #steps: Step[] = [];
  #comingBack: NodeJS.Timeout | undefined;

  constructor(
    readonly kind: Kind,
    readonly name: string,
    readonly channel: string,
    readonly port: number,
    readonly changed: () => void,
  ) {
    this.opened = new Promise((resolve) => {
      this.#open = resolve;
    });
  }

  connect(): void {
    this.condition = 'connecting';
    const request = get({
      port: this.port,
      path: `/channels?chan_id=${encodeURIComponent(this.channel)}`,
      // A connection of its own, and not one that somebody else has used.
      agent: false,
      headers: {
        accept: 'text/event-stream',
        ...(this.#lastEventId !== '' && { 'last-event-id': this.#lastEventId }),
      },
    });
    request.on('response', (response) => this.#read(response));
    request.on('error', () => this.#lost());
  }

  say(text: string): void {
    this.#steps = [...this.#steps.slice(1 - STEPS), { at: Date.now(), text }];
    this.changed();
  }

  /** Stops reading, and keeps the connection. */
  stop(): void {
    if (this.condition !== 'reading') return;
    this.condition = 'stopped';
    this.#response?.pause();
    this.say('stopped reading');
  }

  /** Resets the connection: nothing is said to the server but the RST. */
  vanish(): void {
    this.condition = 'gone';
    this.#response?.socket.resetAndDestroy();
  }

  /** The server has let go of its listener. One that does not read would never notice. */
  left(reason: string): void {
    this.listener = null;
    if (this.kind === 'listen') return;
    this.say(`the server closed it: ${reason}`);
    this.#response?.destroy();
  }

  goAway(): void {
    this.condition = 'gone';
    clearTimeout(this.#comingBack);
    this.#response?.destroy();
    this.#open();
  }

  inspect(lag: number): ClientSnapshot {
    return {
      name: this.name,
      channel: this.channel,
      condition: this.condition,
      listener: this.listener,
      lag,
      heard: this.#heard,
      recovered: this.#recovered,
      steps: this.#steps,
    };
  }

  #read(response: IncomingMessage): void {
    response.on('error', () => {});
    if (this.condition === 'gone') {
      response.destroy();
      return;
    }
    if (response.statusCode !== 200) {
      response.resume();
      // It was asked to come back later, or there is no such channel any more.
      if (response.statusCode === 503) this.#lost();
      else this.goAway();
      return;
    }
    this.#response = response;
    const parser = createParser({
      onEvent: (event) => this.#hear(event),
      onRetry: (retry) => {
        this.#retry = retry;
      },
    });
    response.setEncoding('utf8');
    response.on('data', (piece: string) => parser.feed(piece));
    response.on('close', () => this.#lost());
  }

  #hear({ id = '', event, data }: EventSourceMessage): void {
    if (id !== '') this.#lastEventId = id;
    if (event === 'comet:open') {
      const { listener, recovered } = JSON.parse(data) as { listener: string; recovered: boolean };
      if (this.kind !== 'listen') {
        if (this.listener === null && this.#steps.length > 0) {
          this.#recovered = recovered;
          this.say(`came back with Last-Event-ID; recovered: ${recovered}`);
        } else this.say('listens');
      }
      this.listener = listener;
      this.condition = 'reading';
      this.#open();
      this.changed();
    } else if (event === 'comet:end') this.goAway();
    else this.#heard += 1;
  }

  #lost(): void {
    if (this.condition === 'gone' || this.condition === 'away') {
      this.#open();
      return;
    }
    this.condition = 'away';
    this.#comingBack = setTimeout(() => this.connect(), this.#retry);
  }
}

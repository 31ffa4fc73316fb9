import {
  type ChannelSnapshot,
  type Comet,
  type CometEvents,
  comet,
  type ListenerSnapshot,
} from 'express-comet';
import { bytesOf, firstOf } from './bounds.js';
import type { Clients, ClientsSnapshot } from './clients.js';
import type { Gauge, Totals } from './gauge.js';
import type { Nodes, NodesSnapshot } from './nodes.js';
import type { Sample } from './sources/machine.js';
import type { Stage } from './stage.js';

/** What the page shows as it is now. */
export interface State {
  readonly hub: {
    readonly activated: boolean;
    readonly closed: boolean;
    readonly epoch: string;
    readonly seq: number;
    /** Milliseconds, as everywhere. */
    readonly timeout: number | null;
    readonly stall: number;
    readonly refusals: Readonly<Record<string, number>>;
  };
  readonly listeners: number;
  readonly behind: number;
  /** Frames, of the listener that is furthest behind. */
  readonly lag: number;
  readonly totals: Totals;
  readonly channels: readonly (ChannelSnapshot & { readonly names: readonly string[] })[];
  /** Those furthest behind first, so many of each channel. */
  readonly streams: readonly ListenerSnapshot[];
  readonly clients: ClientsSnapshot;
  /** Where there is a backplane, once they have been asked. */
  readonly cluster: NodesSnapshot | null;
}

/** One thing that the observed hub told, and when. */
export type Happening = {
  [Name in keyof CometEvents]: { readonly type: Name; readonly at: number } & Told<CometEvents[Name]>;
}[Exclude<keyof CometEvents, 'error'>];

/** An error as its text. */
type Told<Event> = Event extends { cause: unknown } ? Omit<Event, 'cause'> & { cause: string | null } : Event;

/** What happened since the last time; `dropped` counts what did not fit. */
export interface Happenings {
  readonly list: readonly Happening[];
  readonly dropped: number;
}

// Milliseconds between two states, and between a change of what may be done and its state.
const PERIOD = 500;
const SOON = 40;
const BATCH = 100;
/** Seconds of the charts. */
const HISTORY = 300;
/** Listeners of one channel, and event names of one, that a state tells of. */
const STREAMS = 40;
const NAMES = 20;
// Bytes, as JSON. A stranger decides how long names are, and how many of them a stream has. An event larger than `maxFrame`
// throws out of a timer, which ends the process: so each part of an event is bounded whose size others decide.
const BATCH_BYTES = 64 * 1024;
const NAME_BYTES = 512;
const STREAMS_BYTES = 256 * 1024;

const CHANGES = ['create', 'end', 'join', 'leave', 'activate', 'deactivate', 'close'] as const;
const TOLD = [...CHANGES, 'write', 'outcome', 'overrun', 'refuse', 'drop', 'backplane'] as const;

/**
 * A hub of its own, which tells of the observed one: to deactivate that one must not blind whoever did it.
 * A newcomer gets the state, the last minutes of the charts and what happened last at once (`rewind`).
 */
export class Monitor {
  readonly hub: Comet = comet({ retry: [400, 800], heartbeat: 5000 });
  readonly #state = this.hub.channels.create<State>({
    name: 'state',
    rewind: 1,
    lag: 'latest',
    log: { frames: 8 },
  });
  readonly #seconds = this.hub.channels.create({
    name: 'seconds',
    rewind: HISTORY,
    log: { frames: HISTORY, age: null },
  });
  readonly #happenings = this.hub.channels.create<Happenings>({
    name: 'happenings',
    rewind: 100,
    log: { frames: 600, bytes: 4 * 2 ** 20, age: null },
  });
  readonly #stage: Stage;
  readonly #gauge: Gauge;
  readonly #clients: Clients;
  readonly #nodes: Nodes | undefined;
  readonly #stall: number;
  readonly #names = new Map<string, Set<string>>();
  readonly #timer: NodeJS.Timeout;
  #happened: Happening[] = [];
  #room = BATCH_BYTES;
  #dropped = 0;
  #stateDue: NodeJS.Timeout | undefined;
  #batchDue: NodeJS.Timeout | undefined;

  constructor(stage: Stage, gauge: Gauge, clients: Clients, nodes: Nodes | undefined, stall: number) {
    this.#stage = stage;
    this.#gauge = gauge;
    this.#clients = clients;
    this.#nodes = nodes;
    this.#stall = stall;
    stage.watch((push) => this.#watch(push));
    this.#timer = setInterval(() => this.#tellState(), PERIOD);
  }

  /** A second has passed. */
  tick({ time, delay }: Sample): void {
    const { streams = [], listeners } = this.#stage.push.inspect({ streams: true });
    const behind = streams.filter(({ state }) => state === 'behind').length;
    this.#seconds.write({
      time,
      ...this.#gauge.second(),
      listeners,
      behind,
      memory: process.memoryUsage.rss(),
      delay,
    });
  }

  /** Something was changed that the hub has no event for. */
  readonly changed = (): void => {
    this.#stateDue ??= setTimeout(() => this.#tellState(), SOON);
  };

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    clearTimeout(this.#stateDue);
    clearTimeout(this.#batchDue);
    await this.hub.close();
  }

  #watch(push: Comet): void {
    this.#names.clear();
    for (const type of TOLD) {
      push.on(type, (event) => this.#tell({ type, at: Date.now(), ...told(event) } as Happening));
    }
    for (const name of CHANGES) push.on(name, this.changed);
    push.on('write', ({ channel, event }) => this.#named(channel, event));
    push.on('end', ({ channel }) => this.#names.delete(channel));
    this.changed();
  }

  /** An `EventSource` hears only the names that it was told of. */
  #named(channel: string, event: string): void {
    const names = this.#names.get(channel) ?? new Set();
    this.#names.set(channel, names);
    if (names.size >= NAMES || names.has(event) || bytesOf(event) > NAME_BYTES) return;
    names.add(event);
    this.changed();
  }

  #tell(happening: Happening): void {
    if (this.#room > 0) this.#room -= bytesOf(happening);
    if (this.#room > 0) this.#happened.push(happening);
    else this.#dropped += 1;
    this.#batchDue ??= setTimeout(() => {
      this.#batchDue = undefined;
      this.#happenings.write({ list: this.#happened, dropped: this.#dropped });
      this.#happened = [];
      this.#room = BATCH_BYTES;
      this.#dropped = 0;
    }, BATCH);
  }

  #tellState(): void {
    clearTimeout(this.#stateDue);
    this.#stateDue = undefined;
    // Nobody is asked for what nobody sees.
    if (this.#state.listeners > 0) this.#nodes?.look();
    const { push, timeout } = this.#stage;
    const {
      activated,
      closed,
      epoch,
      seq,
      listeners,
      streams = [],
      channels,
      refusals,
    } = push.inspect({
      streams: true,
    });
    const worst = streams.toSorted((a, b) => b.lag - a.lag || a.since.getTime() - b.since.getTime());
    this.#state.write({
      hub: { activated, closed, epoch, seq, timeout, stall: this.#stall, refusals },
      listeners,
      behind: streams.filter(({ state }) => state === 'behind').length,
      lag: worst[0]?.lag ?? 0,
      totals: this.#gauge.totals,
      channels: channels.map((channel) => ({ ...channel, names: [...(this.#names.get(channel.id) ?? [])] })),
      streams: firstOf(someOfEach(worst), STREAMS_BYTES),
      clients: this.#clients.inspect(worst),
      cluster: this.#nodes?.inspect() ?? null,
    });
  }
}

/** An event of the hub's as JSON can say it. */
function told<Event extends object>(event: Event): Told<Event> {
  if (!('cause' in event)) return event as Told<Event>;
  const { cause } = event;
  return { ...event, cause: cause instanceof Error ? messageOf(cause) : null } as unknown as Told<Event>;
}

/** What an error says, and what was behind it where it does not say that itself. */
function messageOf({ message, cause }: Error): string {
  if (!(cause instanceof Error) || message.includes(cause.message)) return message;
  return `${message} ${messageOf(cause)}`;
}

function someOfEach(streams: readonly ListenerSnapshot[]): ListenerSnapshot[] {
  const taken = new Map<string, number>();
  return streams.filter(({ channels }) => {
    const room = channels.some((id) => (taken.get(id) ?? 0) < STREAMS);
    if (room) for (const id of channels) taken.set(id, (taken.get(id) ?? 0) + 1);
    return room;
  });
}

/** How a channel is made. */
export interface Terms {
  /** Events that a new page starts with. */
  readonly rewind: number;
  /** A page that was too slow, or away for too long, jumps to the newest event. */
  readonly latest: boolean;
}

/** A channel, from when it is made to its end. */
export interface Channel extends Terms {
  readonly name: string;
  /** The positions of the events that can be read. */
  readonly events: number[];
  /** After this position nothing of the name is missing. */
  floor: number;
  /** The position of the end. */
  end: number | undefined;
}

/** The channels of a server. Events and ends have positions in one order, which are numbers from 1 on. */
export class Channels {
  head = 0;
  /** Those that are alive, or linger. */
  readonly byName = new Map<string, Channel>();
  /** Where the last channel of a name ended. */
  readonly ends = new Map<string, number>();
  readonly #appended: (channel: Channel) => void;

  /** @param appended is called for each event and each end */
  constructor(appended: (channel: Channel) => void) {
    this.#appended = appended;
  }

  create(name: string, terms: Terms): void {
    // Between the last end of its name and its own first event nothing of the name was written.
    this.byName.set(name, { ...terms, name, events: [], floor: this.ends.get(name) ?? 0, end: undefined });
  }

  /** Returns the position. */
  write(name: string): number {
    const channel = this.byName.get(name) as Channel;
    channel.events.push(++this.head);
    this.#appended(channel);
    return this.head;
  }

  end(name: string, lingers: boolean): void {
    const channel = this.byName.get(name) as Channel;
    channel.end = ++this.head;
    this.ends.set(name, channel.end);
    this.#appended(channel);
    if (!lingers) this.byName.delete(name);
  }

  /** Only the newest events are kept. */
  trim(events: number): void {
    for (const channel of this.byName.values()) {
      for (const seq of channel.events.splice(0, channel.events.length - events)) channel.floor = seq;
    }
  }

  /** Those that have ended linger no more. */
  release(): void {
    for (const { name, end } of this.byName.values()) if (end !== undefined) this.byName.delete(name);
  }
}

/** What can be read of a channel: its newest events, by default all, and its end. */
export function entriesOf(
  { events, end }: Pick<Channel, 'events' | 'end'>,
  newest = events.length,
): number[] {
  const first = Math.max(0, events.length - newest);
  return [...events.slice(first), ...(end === undefined ? [] : [end])];
}

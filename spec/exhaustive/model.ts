import { type Channel, Channels, entriesOf } from './channels.js';
import { type Cursor, parseCursor, parseOwnCursor } from './cursor.js';
import { type Ask, channelsItem, type Item, openItem } from './items.js';

/** A channel that the stream carries. */
interface Carried {
  readonly channel: Channel;
  /** The page was given everything up to here. */
  from: number;
  /** What the page is to be told before that: that the stream carries it, or has lost something of it. */
  notice: 'channels' | 'gap' | undefined;
}

interface Stream {
  /** The names of its request. */
  readonly names: readonly string[];
  /** What the page is told first. */
  opening: Item | undefined;
  /** While starts are under way: what their ids begin with. */
  start: string | undefined;
  position: number;
  carried: Carried[];
}

/** What a page must get: the specification of replay. */
export class Model {
  readonly channels = new Channels((channel) => this.#join(channel));
  stream: Stream | undefined;

  /** Answers a request. Returns the status. */
  open({ names, added, returned, own }: Ask): number {
    const { head, byName, ends } = this.channels;
    // `new!` in a return says: as if this URL had not been open before.
    const isVisit = returned === '' || returned.startsWith('new!');
    const cursor = isVisit ? parseOwnCursor(own, head) : parseCursor(returned, head);
    const isNewcomer = cursor.mark === 'new';
    const all = [...names, ...added];
    const fresh = isNewcomer ? all : isVisit || cursor.isFirst ? added : [];

    const gaps: string[] = [];
    const carried: Carried[] = [];
    const starting: Channel[] = [];
    for (const name of all) {
      const channel = byName.get(name);
      const from = fresh.includes(name) ? 'new' : this.#standing(name, cursor);
      if (from === 'gap') gaps.push(name);
      if (channel === undefined || from === 'done') continue;
      if (typeof from === 'number') carried.push({ channel, from, notice: undefined });
      else starting.push(channel);
    }
    // The position is the cursor, or where nothing is read from there on, the head.
    const position = carried.length > 0 ? (cursor.at as number) : head;
    for (const channel of starting) {
      const [first = head + 1] = entriesOf(channel, channel.rewind);
      carried.push({ channel, from: first - 1, notice: undefined });
    }

    const isGone = carried.length === 0;
    if (isGone && (gaps.length === 0 || (isVisit ? own : returned) === 'gone')) {
      return gaps.length === 0 && !isNewcomer && all.some((name) => ends.has(name)) ? 204 : 404;
    }
    // What a start has before the position comes first, under ids that make a broken one begin again.
    const mark = `${cursor.mark}${fresh.length > 0 && !isNewcomer ? '+' : ''}!`;
    const start = carried.some(({ from }) => from < position) ? mark : undefined;
    const id = isGone ? 'gone' : (start ?? `${position}`);
    const opening = openItem(id, isGone ? [] : all, namesOf(carried), gaps);
    this.stream = { names: all, opening, start, position, carried };
    return 200;
  }

  /** The next item that the stream has for its page, if there is one. */
  next(): Item | undefined {
    const { stream } = this;
    if (stream === undefined) return undefined;
    const { names, opening, start, position, carried } = stream;
    stream.opening = undefined;
    if (opening !== undefined) return opening;
    const gaps = carried.filter(({ notice }) => notice === 'gap');
    if (gaps.length > 0) {
      for (const one of gaps) one.notice = undefined;
      // One id can't say that this channel starts, and others are yet to start: everything is to start again.
      if (start !== undefined) stream.start = 'gap-0!';
      return { id: stream.start ?? `${position}`, what: `gap ${namesOf(gaps)}` };
    }
    const unread = carried.flatMap((one) => entriesOf(one.channel).map((seq) => ({ one, seq })));
    const [first] = unread.filter(({ one, seq }) => seq > one.from).sort((p, q) => p.seq - q.seq);
    if (start !== undefined && (first === undefined || first.seq > position)) {
      stream.start = undefined;
      return { id: `${position}`, what: 'ready' };
    }
    if (first === undefined) {
      if (carried.length === 0) this.stream = undefined;
      return undefined;
    }
    const { one, seq } = first;
    const { name, end } = one.channel;
    if (one.notice !== undefined) {
      one.notice = undefined;
      return channelsItem(names, namesOf(carried));
    }
    one.from = seq;
    if (start === undefined) stream.position = seq;
    // The name of a channel that has ended waits for the next one.
    if (seq === end) stream.carried = carried.filter((other) => other !== one);
    return { id: `${start ?? seq}@${name}`, what: seq === end ? `end ${name}` : `${name}${seq}` };
  }

  /**
   * Histories have let go something. A stream that has yet to give it is cut; or of a channel with `latest`, it goes on from
   * the newest event, and tells a gap if none is left.
   */
  overflow(): void {
    for (const one of this.stream?.carried ?? []) {
      const { floor, latest, events } = one.channel;
      if (one.from >= floor) continue;
      if (!latest) this.stream = undefined;
      const newest = events.at(-1);
      if (newest === undefined) one.notice = 'gap';
      one.from = newest === undefined || one.notice === 'gap' ? floor : newest - 1;
    }
  }

  /** Up to where a page has read a channel. Or it may have missed something, or is done with it. */
  #standing(name: string, { at, restarts }: Cursor): number | 'gap' | 'done' {
    const { byName, ends } = this.channels;
    const channel = byName.get(name);
    if (at === undefined || restarts === name) return 'gap';
    if (channel === undefined) return at < (ends.get(name) ?? 0) ? 'gap' : 'done';
    if (channel.end !== undefined && channel.end <= at) return 'done';
    if (at >= channel.floor) return at;
    const newest = channel.events.at(-1);
    return channel.latest && newest !== undefined ? newest - 1 : 'gap';
  }

  /** A channel of a name that the stream has asked for joins it with its first event. */
  #join(channel: Channel): void {
    const { stream, channels } = this;
    if (!stream?.names.includes(channel.name) || stream.carried.some((one) => one.channel === channel))
      return;
    stream.carried.push({ channel, from: channels.head - 1, notice: 'channels' });
  }
}

function namesOf(carried: readonly Carried[]): string[] {
  return carried.map(({ channel }) => channel.name);
}

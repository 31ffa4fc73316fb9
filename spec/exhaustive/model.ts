import { type Channel, Channels, entriesOf } from './channels.js';
import { type Cursor, parseCursor, parseOwnCursor } from './cursor.js';
import { type Ask, channelsItem, gapItem, type Item, openItem } from './items.js';
import { type Carried, namesOf, type Stream } from './stream.js';

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
      if (typeof from === 'number') carried.push({ channel, from });
      else starting.push(channel);
    }
    // The position is the cursor, or where nothing is read from there on, the head.
    const position = carried.length > 0 ? (cursor.at as number) : head;
    for (const channel of starting) {
      const [first = head + 1] = entriesOf(channel, channel.rewind);
      carried.push({ channel, from: first - 1 });
    }

    const isGone = carried.length === 0;
    const isNews = all.some((name) => (ends.get(name) ?? 0) > (cursor.goneAt ?? -1));
    if (isGone && (gaps.length === 0 || (cursor.goneAt !== undefined && !isNews))) {
      return gaps.length === 0 && !isNewcomer && all.some((name) => ends.has(name)) ? 204 : 404;
    }
    // What a start has before the position comes first, under ids that make a broken one begin again.
    const mark = `${cursor.mark}${fresh.length > 0 && !isNewcomer ? '+' : ''}!`;
    const start = carried.some(({ from }) => from < position) ? mark : undefined;
    const id = isGone ? `gone-${head}` : (start ?? `${position}`);
    const opening = openItem(id, isGone ? [] : all, namesOf(carried), gaps);
    this.stream = { names: all, opening, start, position, carried, hasJoined: false, gaps: [] };
    return 200;
  }

  /** The next item that the stream has for its page, if there is one. */
  next(): Item | undefined {
    const { stream } = this;
    if (stream === undefined) return undefined;
    const { names, opening, start, position, hasJoined, gaps } = stream;
    stream.opening = undefined;
    if (opening !== undefined) return opening;
    stream.hasJoined = false;
    if (hasJoined) return channelsItem(names, namesOf(stream.carried));
    stream.gaps = [];
    // One id can't say that these start, and others have yet to: then everything is to start again.
    if (gaps.length > 0 && start !== undefined) stream.start = 'gap-0!';
    if (gaps.length > 0) return gapItem(stream.start ?? `${position}`, gaps);
    if (start === undefined && this.#drop(stream)) return this.next();

    const { carried } = stream;
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
    one.from = seq;
    if (start === undefined) stream.position = seq;
    return { id: `${start ?? seq}@${name}`, what: seq === end ? `end ${name}` : `${name}${seq}` };
  }

  /** A stream that has yet to give what is let go is cut. With `latest` it jumps to the newest event, or tells a gap. */
  overflow(): void {
    const { stream } = this;
    if (stream === undefined) return;
    for (const one of stream.carried.filter(({ channel, from }) => from < channel.floor)) {
      const { name, floor, latest, events } = one.channel;
      if (!latest) this.stream = undefined;
      const newest = events.at(-1);
      if (newest === undefined) stream.gaps.push(name);
      one.from = newest === undefined || stream.gaps.includes(name) ? floor : newest - 1;
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

  /** A channel has its first event, or its end. It joins the stream if its name waits, unless the stream is about to end. */
  #join(channel: Channel): void {
    const { stream } = this;
    if (stream === undefined || stream.carried.length === 0) return;
    if (!stream.names.includes(channel.name) || namesOf(stream.carried).includes(channel.name)) return;
    stream.carried.push({ channel, from: channel.floor });
    stream.hasJoined = true;
  }

  /**
   * Drops the channels whose end the stream took. If it carries others, their names wait for the next channels.
   * Returns whether the page has to be told something.
   */
  #drop(stream: Stream): boolean {
    const { byName, ends } = this.channels;
    const over = stream.carried.filter(({ channel: { end }, from }) => end !== undefined && end <= from);
    stream.carried = stream.carried.filter((one) => !over.includes(one));
    if (stream.carried.length === 0) return false;
    for (const { channel } of over) {
      const { name, end = 0 } = channel;
      const next = byName.get(name) === channel ? undefined : byName.get(name);
      if ((next?.floor ?? ends.get(name) ?? 0) > end) stream.gaps.push(name);
      if (next !== undefined && (next.events.at(-1) ?? next.end) !== undefined) this.#join(next);
    }
    return stream.hasJoined || stream.gaps.length > 0;
  }
}

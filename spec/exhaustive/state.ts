import type { Item } from './items.js';
import type { Model } from './model.js';
import type { Page } from './page.js';
import type { Moment, Promises } from './promises.js';

/** A sequence after its last step. */
export interface Situation {
  readonly model: Model;
  readonly page: Page;
  readonly promises: Promises;
  readonly isBlocked: boolean;
  /** What was handed over to the connection, and has not reached the page. */
  readonly flight: readonly Item[];
  /** When the request of the stream was answered. */
  readonly moment: Moment;
}

/**
 * Describes everything that decides about what comes: sequences with equal descriptions need not be continued twice. Of
 * positions only that counts which of the positions in histories (`#`) are below them.
 * @param order the names: those of channels that are made alike may be exchanged
 */
export function describe(situation: Situation, order: readonly string[]): string {
  const { isBlocked } = situation;
  const { cursors, text } = ofPage(situation, order);
  const stream = ofStream(situation, order);
  // No page comes with a cursor below that.
  const lowest = Math.min(situation.model.channels.head, ...cursors, ...stream.positions);
  const state = [isBlocked, ...text, ...stream.text, ...ofChannels(situation, order, lowest)].join('|');
  const anchors = [...new Set(state.match(/(?<=#)\d+/g))].map(Number);
  return state.replace(/([#~])(\d+)/g, (_, mark, seq) => {
    return mark + anchors.filter((anchor) => anchor <= Number(seq)).length;
  });
}

function ofPage({ page, model }: Situation, order: readonly string[]): { cursors: number[]; text: string[] } {
  const { address, header, last, isConfirmed } = page;
  const { names = [], added = [], own } = address ?? {};
  // Where a return says all, neither the cursor of the URL counts nor which of its names were new.
  const isVisit = !isConfirmed || /^(new|$)|\+/.test(header.model);
  const ids = [header, last, ...(isVisit && own !== undefined ? [own] : [])].map((cursor) => cursor.model);
  const text = ids.map((id) => {
    const place = id.replace(/^\d+/, '~$&');
    return id.includes('!') ? relabel(place, order) : place.replace(/@.*/, '');
  });
  const asked = isVisit ? [labels(names, order), labels(added, order)] : [labels(page.names, order)];
  const cursors = ids.filter((id) => /^\d/.test(id)).map((id) => Number.parseInt(id, 10));
  // Another write makes a position of a cursor that is further on than the order.
  if (Math.max(...cursors) > model.channels.head) text.push(`~${model.channels.head}`);
  return { cursors, text: [...asked, String(isConfirmed), ...text] };
}

function ofStream(
  { model, isBlocked, flight, moment }: Situation,
  order: readonly string[],
): { positions: number[]; text: string[] } {
  const { stream, channels } = model;
  if (stream === undefined) return { positions: [], text: [] };
  const { names, opening, start, position, carried, hasJoined, gaps } = stream;
  const text = [labels(names, order), `${opening !== undefined} ${hasJoined}`, labels(gaps, order)];
  if (start !== undefined) text.push(`${start} ~${position}`);
  for (const item of flight) {
    text.push(relabel(`${item.id} ${item.what}`.replace(/\d+/g, '~$&'), order));
    if (!item.what.startsWith('open')) continue;
    text.push(
      `~${moment.head}`,
      ...order.map((name) => `${moment.starts.get(name)?.map((seq) => `~${seq}`)}`),
    );
  }
  // One that is not blocked has given everything.
  if (!isBlocked)
    text.push(
      labels(
        carried.map(({ channel }) => channel.name),
        order,
      ),
    );
  const unread = isBlocked ? carried : [];
  for (const { channel, from } of unread) {
    const { name, events, floor, end } = channel;
    text.push(`${relabel(name, order)} ~${from}`);
    if (channels.byName.get(name) !== channel)
      text.push(`${events.map((seq) => `#${seq}`)} #${floor} #${end}`);
  }
  return { positions: unread.map(({ from }) => from), text: text };
}

function ofChannels({ model, promises }: Situation, order: readonly string[], lowest: number): string[] {
  const { byName, ends } = model.channels;
  return order.map((name) => {
    const { events = [], floor = 0, end, rewind = 0 } = byName.get(name) ?? {};
    const first = events.length - Math.max(rewind, 1);
    const places = events.map((seq, index) => (seq > lowest || index >= first ? `#${seq}` : 'old'));
    const after = (seq: number | undefined) =>
      seq === undefined ? 'none' : seq > lowest ? `#${seq}` : 'old';
    const state = `${byName.has(name)} ${places} ${after(floor)} ${end && `#${end}`} ${after(ends.get(name))}`;
    return `${state} ${promises.describe(name, events)}`;
  });
}

function labels(names: readonly string[], order: readonly string[]): string {
  return order.map((name, index) => (names.includes(name) ? index : '')).join('');
}

/** Names as letters that no word has, in their order. */
function relabel(text: string, order: readonly string[]): string {
  return text.replace(/(?<![a-z])[a-z](?![a-z])/g, (name) => 'αβ'[order.indexOf(name)] ?? name);
}

// What the page knows: the state, the events that were written, and what happened. Views draw it when told of a change.

import { parseId } from './format.js';

const MOST_WRITES = 1500;
const MOST_HAPPENINGS = 80;
const TOGETHER = 4;

/** The latest state, as the server's monitor tells it; undefined until then. */
export let state;

/** What the latest second was like. */
export let second;

/** Each event, by its position: as the monitor tells it, and with its data where this page listens. */
export const writes = new Map();

/** What happened, the latest first; what is the same as one just before it adds to its count. */
export const happenings = [];

const watchers = { state: [], writes: [], happenings: [] };
const epochs = [];
let lastOrder = 0;
let unplaced = 0;

export function watch(what, draw) {
  watchers[what].push(draw);
}

function changed(what) {
  for (const draw of watchers[what]) draw();
}

export function setState(next) {
  state = next;
  changed('state');
}

export function setSecond(next) {
  second = next;
}

/** Adds what is known of the event at a position to what was known. One of a start has none: it stands where it came. */
export function addWrite(position, known) {
  const order = position === '' ? nextOrder() : orderOf(position);
  const key = position === '' ? `start-${order}` : position;
  const record = writes.get(key) ?? { key, position, order, at: Date.now() };
  writes.set(key, Object.assign(record, known));
  lastOrder = Math.max(lastOrder, Math.floor(order));
  forget();
  changed('writes');
}

/** Adds a remark of the page's own, which stands where the events had come to. */
export function addNote(kind, text) {
  const order = nextOrder();
  const key = `note-${order}`;
  writes.set(key, { key, kind, text, order, at: Date.now() });
  forget();
  changed('writes');
}

export function forgetWrites() {
  writes.clear();
  changed('writes');
}

/** Those that `wanted` holds for, the latest first. */
export function latestWrites(wanted, most) {
  return [...writes.values()]
    .filter(wanted)
    .sort((a, b) => b.order - a.order)
    .slice(0, most);
}

export function addHappening(happening) {
  // Several kinds of things may happen by turns.
  const index = happenings.slice(0, TOGETHER).findIndex(isSame(happening));
  if (index !== -1) {
    const [known] = happenings.splice(index, 1);
    happenings.unshift(Object.assign(known, happening, { times: known.times + 1 }));
  } else {
    happenings.unshift({ ...happening, key: Symbol(happening.kind), times: 1 });
    happenings.splice(MOST_HAPPENINGS);
  }
  changed('happenings');
}

const isSame = (one) => (other) => one.kind === other.kind && one.same === other.same;

/** Behind all that was written up to now, and behind what stands there already. */
function nextOrder() {
  unplaced += 1;
  return lastOrder + unplaced / 1e6;
}

// Positions of one epoch are ordered by their seq; epochs in the order in which they were first seen.
function orderOf(position) {
  const { epoch, seq } = parseId(position);
  if (!epochs.includes(epoch)) epochs.push(epoch);
  return epochs.indexOf(epoch) * 1e9 + seq;
}

function forget() {
  for (const key of writes.keys()) {
    if (writes.size <= MOST_WRITES) return;
    writes.delete(key);
  }
}

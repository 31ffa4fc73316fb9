// Rows of events, as both views show them.

import { copyOf, element, setData, setText } from './dom.js';
import { bytes, milliseconds, reasonsOf, time } from './format.js';

const LONGEST = 400;
const BEGINNING = 48;

// Each channel has a colour, in the order in which they are first seen.
const tones = new Map();

export function toneOf(id) {
  if (!tones.has(id)) tones.set(id, String(tones.size % 6));
  return tones.get(id);
}

const keyOf = ({ key }) => key;

/** An event that this page heard. */
export const heardRows = {
  keyOf,
  make: (record) => {
    const row = copyOf(record.kind === undefined ? 'heard-row' : 'note-row');
    fillTime(row, record);
    if (record.kind !== undefined) {
      row.dataset.kind = record.kind;
      row.querySelector('.text').textContent = record.text;
      return row;
    }
    row.dataset.tone = toneOf(record.channel);
    fill(row, '.channel', record.channel);
    fill(row, '.event', record.event);
    fillPosition(row, record.position);
    row.querySelector('.data').append(...dataOf(record.data));
    return row;
  },
  update: () => {},
};

/** An event of one channel, with what became of it. */
export const writtenRows = {
  keyOf,
  make: (record) => {
    const row = copyOf('written-row');
    fill(row, '.event', record.event);
    fillPosition(row, record.position);
    return row;
  },
  update: (row, record) => {
    fillTime(row, record);
    setText(row.querySelector('.size'), record.bytes === undefined ? '–' : bytes(record.bytes));
    const data = row.querySelector('.data');
    if (record.data !== undefined && data.childNodes.length === 0) data.append(...dataOf(record.data));
    const [status, text] = outcomeOf(record);
    const cell = row.querySelector('.outcome');
    setData(cell, 'status', status);
    setText(cell, text);
  },
};

function outcomeOf({ outcome, elapsed, bytes }) {
  // Written before this page was here, and known by its replay only.
  if (outcome === undefined) return bytes === undefined ? ['unknown', '–'] : ['waiting', 'not settled yet'];
  const { status, delivered, listeners } = outcome;
  const why = status === 'success' ? '' : ` · ${reasonsOf(outcome)}`;
  return [status, `${delivered} of ${listeners}${why} · ${milliseconds(elapsed)}`];
}

function fill(row, part, text) {
  const cell = row.querySelector(part);
  cell.textContent = text;
  cell.title = text;
}

function fillTime(row, { at }) {
  const cell = row.querySelector('time');
  setText(cell, time(at));
  cell.dateTime = new Date(at).toISOString();
}

export function fillPosition(row, position) {
  const [, epoch = '', seq = ''] = /^(\w+-)(\d+)$/.exec(position) ?? [];
  setText(row.querySelector('.epoch'), epoch);
  setText(row.querySelector('.seq'), seq);
}

/** The text of an event; where it is JSON, its keys and brackets step back behind the values. */
function dataOf(text) {
  if (text === '') return [element('span', 'rest', 'empty')];
  if (text.length > LONGEST) {
    return [text.slice(0, BEGINNING), element('span', 'rest', ` … ${bytes(text.length)} in all`)];
  }
  if (!isObject(text)) return [text];
  // A line may break before a key, which JSON without spaces gives the browser no hint of.
  return text
    .split(/([[{]*"(?:[^"\\]|\\.)*"\s*:)/)
    .flatMap((piece, index) => (index % 2 === 1 ? [element('wbr'), element('span', 'key', piece)] : [piece]));
}

function isObject(text) {
  if (!/^\s*[[{]/.test(text)) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

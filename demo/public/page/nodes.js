// The nodes that share the channels, and the backplane between them. Where there is none, nothing of it is shown.

import { byId, copyOf, drawn, element, reconcile, setData, setText } from './dom.js';
import { count, milliseconds, plural } from './format.js';
import { toneOf } from './rows.js';
import * as store from './store.js';

const STATES = { own: 'this one', answers: 'answers', silent: 'silent', unknown: 'unknown' };

export function showNodes() {
  store.watch('state', drawn(draw));
}

/** Listeners of a channel on all nodes, of which some may be silent; undefined where there is one node only. */
export function listenersOnAll(id) {
  return store.state.cluster?.nodes.reduce((sum, { listeners }) => sum + (listeners[id] ?? 0), 0);
}

/** A node's name; its random end, which tells two lives of a process apart, steps back. */
export function nameOf(name) {
  const [, given = name, random = ''] = /^(.+)(-[0-9a-f]{8})$/.exec(name) ?? [];
  const label = element('span', 'node', element('b', '', given), element('span', 'rest', random));
  label.title = name;
  return label;
}

function draw() {
  const { cluster } = store.state;
  byId('nodes').hidden = cluster === null;
  if (cluster === null) return;
  const { health, nodes } = cluster;
  const { healthy, reason, backplane, roundTrip, queued } = health;
  setData(byId('backplane'), 'healthy', String(healthy));
  setText(byId('backplane-state'), healthy ? 'Healthy' : 'Away');
  setText(byId('backplane-why'), healthy ? backplane : reason);
  setText(byId('backplane-trip'), milliseconds(roundTrip));
  setText(byId('backplane-queued'), count(queued));
  setText(byId('node-count'), plural(nodes.length, 'node'));

  const rows =
    nodes.length > 1 ? [...nodes, { name: 'All nodes', state: 'sum', said: doubtOf(nodes) }] : nodes;
  reconcile(byId('node-list'), rows, { keyOf: ({ name }) => name, make: makeNode, update: drawNode });
}

function makeNode({ name }) {
  const row = copyOf('node-row');
  row.firstElementChild.prepend(nameOf(name));
  return row;
}

/** What a sum leaves open. */
function doubtOf(nodes) {
  if (nodes.some(({ state }) => state === 'unknown')) return 'as last known';
  return nodes.some(({ state }) => state === 'silent') ? 'at least' : '';
}

function drawNode(row, { state, listeners, said = STATES[state] }) {
  setData(row, 'state', state);
  setText(row.querySelector('.state'), said);
  reconcile(row.querySelector('dl'), store.state.channels, {
    keyOf: ({ id }) => id,
    make: makeCount,
    update: (cell, { id }) => {
      const known = state === 'sum' ? listenersOnAll(id) : listeners[id];
      setText(cell.lastElementChild, known === undefined ? '–' : count(known));
      setData(cell, 'none', String(!known));
    },
  });
}

function makeCount({ id }) {
  const cell = element('div', '', element('dt', '', id), element('dd'));
  cell.dataset.tone = toneOf(id);
  cell.title = id;
  return cell;
}

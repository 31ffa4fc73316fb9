// The view of the whole hub.

import { byId, copyOf, drawn, element, reconcile, setData, setText } from './dom.js';
import { bytes, count, milliseconds, plural, tally, time } from './format.js';
import { heardRows, toneOf } from './rows.js';
import { post, Refused } from './server.js';
import * as store from './store.js';

const ROWS = 100;

export function showOverview(stream) {
  store.watch('state', drawn(drawState));
  store.watch('happenings', drawn(drawHappenings));
  const drawHeard = drawn(() => {
    if (isPaused) return;
    const heard = store.latestWrites(({ data, kind }) => data !== undefined || kind !== undefined, ROWS);
    reconcile(byId('heard'), heard, heardRows);
    byId('nothing-heard').hidden = heard.length > 0;
  });
  store.watch('writes', drawHeard);

  let isPaused = false;
  byId('pause').addEventListener('click', ({ currentTarget }) => {
    isPaused = !isPaused;
    currentTarget.setAttribute('aria-pressed', isPaused);
    drawHeard();
  });
  byId('clear').addEventListener('click', () => store.forgetWrites());

  byId('channels').addEventListener('change', ({ target }) => {
    if (target.checked) stream.add(target.value);
    else stream.remove(target.value);
  });

  const form = byId('create');
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const field = form.elements.name;
    const place = byId('create-said');
    try {
      const { id } = await post('create', field.value === '' ? {} : { name: field.value });
      field.removeAttribute('aria-invalid');
      place.dataset.status = 'done';
      place.textContent = `${id} was created, and this page listens to it.`;
      form.reset();
      stream.add(id);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      field.setAttribute('aria-invalid', 'true');
      place.dataset.status = 'refused';
      place.textContent = `${error.code}: ${error.message}`;
    }
  });

  function drawState() {
    const { channels } = store.state;
    drawTotals(store.state);
    setText(byId('channel-count'), plural(channels.length, 'channel'));
    reconcile(byId('channels'), channels, {
      keyOf: ({ id }) => id,
      make: makeChannel,
      update: (row, channel) => updateChannel(row, channel, stream.channels),
    });
  }
}

/** Tells the boxes what the stream listens to; a channel may have ended. */
export function drawTicks(stream) {
  for (const box of byId('channels').querySelectorAll('input')) box.checked = stream.channels.has(box.value);
}

function drawTotals({ listeners, behind, lag, totals, hub }) {
  const { second } = store;
  setText(byId('total-listeners'), count(listeners));
  setText(byId('total-behind'), behind === 0 ? 'none behind' : `${count(behind)} behind`);
  setData(byId('total-behind'), 'tone', behind === 0 ? '' : 'warn');
  setText(byId('total-rate'), count(second?.delivered ?? 0));
  setText(byId('total-delivered'), `${count(totals.delivered)} in all`);
  setText(byId('total-failed'), count(totals.failed));
  setData(byId('total-failed'), 'tone', totals.failed === 0 ? '' : 'bad');
  showTally('total-reasons', totals.reasons);
  const refused = Object.values(hub.refusals).reduce((sum, times) => sum + times, 0);
  setText(byId('total-refused'), count(refused));
  showTally('total-codes', hub.refusals);
  setText(byId('total-lag'), count(lag));
  setText(byId('total-memory'), second === undefined ? '–' : bytes(second.memory));
  setText(byId('total-delay'), milliseconds(second?.delay));
}

/** On one line, whatever it says. */
function showTally(id, counts) {
  const text = tally(counts) || 'none';
  setText(byId(id), text);
  byId(id).title = text;
}

function makeChannel({ id }) {
  const row = copyOf('channel-row');
  row.dataset.tone = toneOf(id);
  const box = row.querySelector('input');
  box.value = id;
  box.setAttribute('aria-label', `Listen to ${id}`);
  const link = row.querySelector('a');
  link.textContent = id;
  link.title = id;
  link.href = `#/channel/${encodeURIComponent(id)}`;
  return row;
}

function updateChannel(row, { id, listeners, writes, lastWrite, frames, bytes: size }, wanted) {
  const box = row.querySelector('input');
  if (box.checked !== wanted.has(id)) box.checked = wanted.has(id);
  setText(row.querySelector('.listeners'), count(listeners));
  setText(row.querySelector('.writes'), count(writes));
  setText(row.querySelector('.last'), lastWrite === null ? '–' : time(lastWrite));
  setText(row.querySelector('.frames'), count(frames));
  setText(row.querySelector('.bytes'), bytes(size));
}

function drawHappenings() {
  reconcile(byId('happened'), store.happenings, {
    keyOf: ({ key }) => key,
    make: () => {
      const row = element('li', '', element('time'), element('span', 'kind'), element('span', 'text'));
      return row;
    },
    update: (row, { at, kind, text, times, bad }) => {
      setText(row.querySelector('time'), time(at));
      setText(row.querySelector('.kind'), kind);
      setText(row.querySelector('.text'), text(times));
      setData(row, 'kind', kind);
      setData(row, 'bad', String(bad));
    },
  });
  byId('nothing-happened').hidden = store.happenings.length > 0;
}

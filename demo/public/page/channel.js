// The view of one channel.

import { confirmed } from './confirm.js';
import { byId, copyOf, drawn, reconcile, setData, setText } from './dom.js';
import { bytes, count, plural, reasonsOf, time } from './format.js';
import { listenersOnAll, nameOf } from './nodes.js';
import { fillPosition, toneOf, writtenRows } from './rows.js';
import { post, Refused, telling } from './server.js';
import * as store from './store.js';

const ROWS = 100;

/** The channel that is shown; undefined while the overview is. */
let shown;
// Only the latest write is told of, whichever is answered first.
let turn = 0;

export function showChannels(stream) {
  store.watch(
    'state',
    drawn(() => draw(stream)),
  );
  store.watch('writes', drawn(drawWrites));

  byId('listen').addEventListener('change', ({ target }) => {
    if (target.checked) stream.add(shown);
    else stream.remove(shown);
  });

  byId('end').addEventListener('click', async () => {
    const id = shown;
    if (
      !(await confirmed(
        `End ${id}?`,
        'Its listeners get what was written and then comet:end. Its name is free.',
      ))
    )
      return;
    await telling(byId('channel-said'), () => post('end', { channel: id }).then(() => `${id} has ended.`));
  });

  byId('create-again').addEventListener('click', async () => {
    const id = shown;
    await telling(byId('channel-said'), async () => {
      await post('create', { name: id });
      stream.add(id);
    });
  });

  const form = byId('write');
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    void write(form, stream);
  });
  form.elements.data.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}

/** Shows the channel of that id, or none. */
export function openChannel(id, stream) {
  if (shown === id) return;
  shown = id;
  if (id === undefined) return;
  turn += 1;
  setText(byId('channel-title'), id);
  byId('channel-title').dataset.tone = toneOf(id);
  setText(byId('channel-said'), '');
  tell('none', 'Outcome', 'What became of your write is told here.');
  for (const field of ['event', 'data']) flag(field, '');
  draw(stream);
  drawWrites();
}

function draw(stream) {
  if (shown === undefined || store.state === undefined) return;
  const channel = store.state.channels.find(({ id }) => id === shown);
  byId('channel').dataset.exists = channel !== undefined;
  byId('missing').hidden = channel !== undefined;
  byId('end').disabled = channel === undefined;
  byId('listen').disabled = channel === undefined;
  byId('listen').checked = stream.channels.has(shown);
  const here = count(channel?.listeners ?? 0);
  const all = listenersOnAll(shown);
  setText(byId('channel-whose'), all === undefined ? 'Listeners' : 'Listeners here');
  setText(byId('channel-listeners'), all === undefined ? here : `${here} of ${count(all)}`);
  setText(byId('channel-writes'), count(channel?.writes ?? 0));
  setText(byId('channel-last'), channel?.lastWrite ? time(channel.lastWrite) : '–');
  setText(byId('channel-frames'), count(channel?.frames ?? 0));
  setText(byId('channel-bytes'), bytes(channel?.bytes ?? 0));

  const listeners = store.state.streams.filter(({ channels }) => channels.includes(shown));
  reconcile(byId('listeners'), listeners, listenerRows);
  byId('no-listeners').hidden = listeners.length > 0;
  const more = (channel?.listeners ?? 0) - listeners.length;
  setText(byId('more-listeners'), more > 0 ? `and ${plural(more, 'more listener')}, no further behind` : '');
}

const listenerRows = {
  keyOf: ({ id }) => id,
  make: ({ id, since, transport }) => {
    const row = copyOf('listener-row');
    setText(row.querySelector('.id'), id.slice(0, 8));
    row.querySelector('.id').title = id;
    setText(row.querySelector('time'), time(since));
    row.querySelector('time').dateTime = since;
    setText(row.querySelector('.transport'), transport);
    return row;
  },
  update: (row, { position, lag, state }) => {
    fillPosition(row, position);
    setText(row.querySelector('.lag'), count(lag));
    setText(row.querySelector('.state'), state);
    setData(row, 'state', state);
  },
};

function drawWrites() {
  if (shown === undefined) return;
  const written = store.latestWrites(({ channel, position }) => channel === shown && position !== '', ROWS);
  reconcile(byId('written'), written, writtenRows);
  byId('nothing-written').hidden = written.length > 0;
}

async function write(form, stream) {
  const { event, data, kind } = Object.fromEntries(new FormData(form));
  const id = shown;
  turn += 1;
  const mine = turn;
  for (const field of ['event', 'data']) flag(field, '');

  let value = data;
  if (kind === 'json') {
    try {
      value = JSON.parse(data);
    } catch (error) {
      flag('data', `Not JSON: ${error.message}. Nothing was sent.`);
      form.elements.data.focus();
      return;
    }
  }
  if (event !== '') stream.hear([event]);
  tell('waiting', 'Waiting', 'It settles when every listener is accounted for.');

  const started = performance.now();
  const path = `write/${encodeURIComponent(id)}`;
  try {
    const outcome = await post(path, { data: value, event: event === '' ? undefined : event });
    if (mine !== turn) return;
    const { status, listeners } = outcome;
    const why = listeners === 0 ? 'Nobody listened.' : reasonsOf(outcome) || 'Every listener got it.';
    tell(status, status === 'success' ? 'Success' : 'Failure', why, outcome, performance.now() - started);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (mine !== turn) return;
    // Where the fault is in a field, it is told there.
    const field = FIELD_OF[error.code];
    if (field !== undefined) {
      flag(field, error.message);
      form.elements[field].focus();
    }
    tell('refused', `${error.status || ''} ${error.code}`, error.message);
  }
}

const FIELD_OF = { INVALID_EVENT_NAME: 'event', INVALID_DATA: 'data', FRAME_TOO_LARGE: 'data' };

function flag(field, message) {
  const input = byId('write').elements[field];
  if (message === '') input.removeAttribute('aria-invalid');
  else input.setAttribute('aria-invalid', 'true');
  setText(byId(`${field}-error`), message);
}

function tell(status, verdict, why, outcome, took) {
  byId('outcome').dataset.status = status;
  setText(byId('verdict'), verdict);
  setText(byId('took'), took === undefined ? '' : `settled in ${Math.round(took)} ms`);
  for (const name of ['listeners', 'delivered', 'failed', 'unknown']) {
    setText(byId(`outcome-${name}`), outcome === undefined ? '–' : count(outcome[name]));
  }
  setText(byId('why'), why);
  const nodes = Object.entries(outcome?.perNode ?? {}).sort();
  byId('outcome-nodes').hidden = nodes.length === 0;
  reconcile(byId('outcome-nodes'), nodes, outcomeNodes);
}

const outcomeNodes = {
  keyOf: ([name]) => name,
  make: ([name]) => {
    const row = copyOf('outcome-node-row');
    row.prepend(nameOf(name));
    return row;
  },
  update: (row, [, outcome]) => {
    setText(row.querySelector('.delivered'), `${count(outcome.delivered)} of ${count(outcome.listeners)}`);
    setText(row.querySelector('.reasons'), reasonsOf(outcome));
    setData(row, 'status', outcome.status);
  },
};

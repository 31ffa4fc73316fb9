// One EventSource carries every channel that is ticked; the list of channels is itself a channel.

const ROWS = 200;
const LONGEST = 600;
const REOPEN_AFTER = 3000;
const LIST = 'channels';

// A map, as a channel may be named __proto__.
const ABOUT = new Map([
  [LIST, 'this list, as it changes'],
  ['machine', 'CPU, memory, delay'],
  ['tail', 'a file, or what is piped in'],
  ['chat', 'what is said on this page'],
]);

const byId = (id) => document.getElementById(id);

// What the page listens to, and for

const wanted = new Set([LIST, 'machine', 'tail', 'chat']);
const names = new Set(['message', 'said', 'sample', 'line']);
let source;
let cursor = '';
let reopening;

/** Opens a stream with the channels that are wanted now, and goes on where the last one stood. */
function open() {
  clearTimeout(reopening);
  source?.close();

  const query = new URLSearchParams([...wanted].map((id) => ['chan_id', id]));
  // The browser sends its cursor by itself when it reconnects, but a new EventSource has none.
  if (cursor !== '') query.set('last_event_id', cursor);
  source = new EventSource(`channels?${query}`);
  source.addEventListener('comet:open', opened);
  source.addEventListener('comet:end', ended);
  source.addEventListener('error', lost);
  for (const name of names) source.addEventListener(name, came);
}

function opened(event) {
  cursor = event.lastEventId;
  const { channels, recovered } = JSON.parse(event.data);
  showConnection(recovered ? 'open' : 'gap');
  const text = recovered
    ? `listening to ${channels.join(', ')}`
    : `listening to ${channels.join(', ')}, after a gap: what was written meanwhile could not be replayed`;
  addRow({ ...read(event), note: text, kind: recovered ? 'open' : 'gap' });
}

function ended(event) {
  const { channel } = JSON.parse(event.data);
  // The server has already let go of it: the stream goes on with the others.
  wanted.delete(channel);
  const row = channelRows.get(channel);
  if (row !== undefined) row.box.checked = false;
  addRow({ channel, event: event.type, note: 'this channel has ended', kind: 'end' });
}

function lost(event) {
  // An event of the server's may be named "error" as well.
  if (event instanceof MessageEvent) return;
  showConnection('reconnecting');
  // After an answer that is no stream, such as 503, the browser does not try again.
  if (source.readyState === EventSource.CLOSED) reopening = setTimeout(open, REOPEN_AFTER);
}

function came(event) {
  if (!(event instanceof MessageEvent)) return;
  cursor = event.lastEventId;
  const item = read(event);
  if (item.channel === LIST) showCensus(event.data);
  addRow(item);
}

/** The id of an event is `<epoch>-<seq>@<chan_id, percent-encoded>`. */
function read({ lastEventId, type, data }) {
  const [, epoch, seq, label] = /^(\w+)-(\d+)(?:@(.*))?$/.exec(lastEventId) ?? [];
  return { channel: label === undefined ? '' : decodeURIComponent(label), event: type, epoch, seq, data };
}

function listenFor(name) {
  if (name === '' || names.has(name)) return;
  names.add(name);
  source.addEventListener(name, came);
  showNames();
}

function showNames() {
  byId('heard').replaceChildren(...[...names].map((name) => element('code', '', name)));
}

// The connection

const STATES = { open: 'Open', gap: 'Open, after a gap', reconnecting: 'Reconnecting' };

function showConnection(state) {
  if (byId('connection').dataset.state === state) return;
  byId('connection').dataset.state = state;
  byId('state').textContent = STATES[state];
}

// The channels

const channelRows = new Map();

function showCensus(text) {
  let census;
  try {
    census = JSON.parse(text);
  } catch {
    return;
  }
  // Everyone may write to this channel, and not only what the server does.
  if (!isCensus(census)) return;

  byId('streams').textContent = `${census.listeners} ${census.listeners === 1 ? 'stream' : 'streams'}`;
  const ids = new Set(census.channels.map(({ id }) => id));
  for (const [id, { item }] of channelRows) {
    if (ids.has(id)) continue;
    item.remove();
    channelRows.delete(id);
  }
  for (const { id, listeners } of census.channels) {
    if (!channelRows.has(id)) channelRows.set(id, makeChannelRow(id));
    const { count, unit } = channelRows.get(id);
    count.textContent = listeners;
    unit.textContent = listeners === 1 ? 'listener' : 'listeners';
  }
  byId('channel-names').replaceChildren(
    ...[...ids].filter((id) => id !== LIST).map((id) => Object.assign(element('option'), { value: id })),
  );
}

function isCensus(census) {
  const { listeners, channels } = census ?? {};
  return (
    Number.isInteger(listeners) &&
    Array.isArray(channels) &&
    channels.every((each) => typeof each?.id === 'string' && Number.isInteger(each.listeners))
  );
}

function makeChannelRow(id) {
  const item = byId('channel').content.firstElementChild.cloneNode(true);
  const box = item.querySelector('input');
  item.dataset.tone = toneOf(id);
  item.querySelector('.name').textContent = id;
  item.querySelector('.name').title = id;
  item.querySelector('.about').textContent = ABOUT.get(id) ?? '';
  box.checked = wanted.has(id);
  box.disabled = id === LIST;
  box.addEventListener('change', () => {
    if (box.checked) wanted.add(id);
    else wanted.delete(id);
    open();
  });
  byId('channels').append(item);
  return { item, box, count: item.querySelector('.number'), unit: item.querySelector('.unit') };
}

// Each channel has a colour, in the order in which they are first seen.
const tones = new Map();

function toneOf(id) {
  if (id === '') return '';
  if (!tones.has(id)) tones.set(id, tones.size % 6);
  return tones.get(id);
}

// The events, newest first. They wait for the next frame of the screen: a burst is one change.

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });
let waiting = [];
let missed = 0;
let paused = false;
let drawing = 0;

function addRow(item) {
  waiting.push({ ...item, time: new Date() });
  if (waiting.length > ROWS) waiting.shift();
  missed += 1;
  if (drawing === 0) drawing = requestAnimationFrame(draw);
}

function draw() {
  drawing = 0;
  byId('held').textContent = paused ? `${missed} held` : '';
  if (paused) return;
  const rows = waiting.reverse().map(makeEventRow);
  waiting = [];
  missed = 0;
  const list = byId('events');
  list.prepend(...rows);
  while (list.childElementCount > ROWS) list.lastElementChild.remove();
  byId('empty').hidden = list.childElementCount > 0;
}

function makeEventRow({ channel, event, epoch, seq, data, note, kind, time }) {
  const item = byId('event').content.firstElementChild.cloneNode(true);
  const part = (name) => item.querySelector(name);
  item.dataset.tone = toneOf(channel);
  if (kind !== undefined) item.dataset.kind = kind;
  part('.channel').textContent = channel;
  part('.channel').title = channel;
  part('.event').textContent = event;
  part('.event').title = event;
  if (seq !== undefined) {
    part('.epoch').textContent = epoch;
    part('.seq').textContent = `-${seq}`;
    part('.position').title = `${epoch}-${seq}`;
  }
  part('time').textContent = clock.format(time);
  part('time').dateTime = time.toISOString();
  part('.data').append(...(note === undefined ? dataOf(data) : [note]));
  return item;
}

/** The text of an event; where it is JSON, its keys and brackets step back behind the values. */
function dataOf(text) {
  if (text === '') return [element('span', 'rest', 'empty')];
  if (text.length > LONGEST) {
    const rest = element('span', 'rest', ` … ${text.length - LONGEST} characters more`);
    return [text.slice(0, LONGEST), rest];
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

function element(tag, className = '', text = '') {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

byId('pause').addEventListener('click', () => {
  paused = !paused;
  byId('pause').setAttribute('aria-pressed', paused);
  draw();
});

byId('clear').addEventListener('click', () => {
  waiting = [];
  missed = 0;
  byId('events').replaceChildren();
  draw();
});

// Writing

/** Posts an event, and tells what became of it: its outcome, or the error by which it was refused. */
async function write(channel, data, event) {
  const started = performance.now();
  const took = () => performance.now() - started;
  try {
    const response = await fetch(`write/${encodeURIComponent(channel)}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ data, event }),
    });
    const answer = await response.json();
    if (response.ok) return { outcome: answer, took: took() };
    return { error: { status: response.status, ...answer.error }, took: took() };
  } catch (error) {
    return { error: { code: 'NO_ANSWER', message: `The server did not answer: ${error.message}.` } };
  }
}

function reasonsOf({ failed, unknown, reasons }) {
  const parts = Object.entries(reasons).map(([reason, count]) => `${count} ${reason}`);
  if (unknown > 0) parts.push(`${unknown} unknown`);
  return failed + unknown === 0 ? '' : parts.join(', ');
}

function showOutcome(status, verdict, { outcome, took, why }) {
  byId('outcome').dataset.status = status;
  byId('verdict').textContent = verdict;
  byId('took').textContent = took === undefined ? '' : `in ${Math.round(took)} ms`;
  for (const name of ['listeners', 'delivered', 'failed', 'unknown']) {
    byId(name).textContent = outcome?.[name] ?? '–';
  }
  byId('why').textContent = why;
}

// Only the latest write is shown, whichever is answered first.
let latest = 0;

byId('write').addEventListener('submit', async (event) => {
  event.preventDefault();
  const form = event.currentTarget;
  const { channel, event: eventName, data, kind } = Object.fromEntries(new FormData(form));
  latest += 1;
  const turn = latest;

  let value = data;
  form.elements.data.removeAttribute('aria-invalid');
  if (kind === 'json') {
    try {
      value = JSON.parse(data);
    } catch (error) {
      form.elements.data.setAttribute('aria-invalid', 'true');
      showOutcome('refused', 'Not JSON', { why: `${error.message}. Nothing was sent.` });
      return;
    }
  }
  listenFor(eventName);
  showOutcome('waiting', 'Waiting', { why: 'The outcome settles when every listener is accounted for.' });

  const { outcome, error, took } = await write(channel, value, eventName === '' ? undefined : eventName);
  if (turn !== latest) return;
  if (error !== undefined) {
    const verdict = error.status === undefined ? error.code : `${error.status} ${error.code}`;
    showOutcome('refused', verdict, { took, why: error.message });
  } else if (outcome.listeners === 0) {
    showOutcome('success', 'Success', { outcome, took, why: 'Nobody listened.' });
  } else {
    const verdict = outcome.status === 'success' ? 'Success' : 'Failure';
    const why = reasonsOf(outcome) || 'Every listener got it.';
    showOutcome(outcome.status, verdict, { outcome, took, why });
  }
});

byId('write').elements.data.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) byId('write').requestSubmit();
});

byId('say').addEventListener('submit', async (event) => {
  event.preventDefault();
  const form = event.currentTarget;
  const author = form.elements.author.value.trim();
  const text = form.elements.text.value;
  const { outcome, error } = await write('chat', author === '' ? { text } : { author, text }, 'said');
  if (error !== undefined) {
    byId('said').textContent = `${error.code}: ${error.message}`;
    return;
  }
  if (form.elements.text.value === text) form.elements.text.value = '';
  const { delivered, listeners } = outcome;
  const reasons = reasonsOf(outcome);
  byId('said').textContent = `Delivered to ${delivered} of ${listeners}${reasons && `: ${reasons}`}`;
});

byId('names').addEventListener('submit', (event) => {
  event.preventDefault();
  listenFor(event.currentTarget.elements.name.value);
  event.currentTarget.reset();
});

byId('origin').textContent = location.origin;
showNames();
open();

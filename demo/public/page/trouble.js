// The clients that the server keeps of its own, and what they are put through.

import { byId, copyOf, drawn, element, reconcile, setData, setText } from './dom.js';
import { count, reasonsOf, time } from './format.js';
import { post, telling } from './server.js';
import * as store from './store.js';

const CONDITIONS = {
  connecting: 'connecting',
  reading: 'reading',
  stopped: 'not reading',
  away: 'coming back',
  gone: 'gone',
};

export function showTrouble() {
  store.watch('state', drawn(draw));
  const said = byId('trouble-said');
  const channel = () => byId('trouble-channel').value;

  const actions = {
    listen10: () =>
      post('trouble/listen', { channel: channel(), count: 10 }).then(() => '10 more are connecting.'),
    listen100: () =>
      post('trouble/listen', { channel: channel(), count: 100 }).then(() => '100 more are connecting.'),
    stall: () =>
      post('trouble/stall', { channel: channel() }).then(
        () => 'It listens, and reads nothing. Write some megabytes, and it falls behind.',
      ),
    reset: async () => {
      const { counted, outcome } = await post('trouble/reset', { channel: channel() });
      const told = [`${outcome.delivered} of ${outcome.listeners} delivered`, reasonsOf(outcome)];
      return `listeners still counted ${counted}; the outcome: ${told.filter(Boolean).join(', ')}.`;
    },
    flood: () => {
      setText(said, 'Writing 128 events of 64 KiB …');
      return post('trouble/flood', { channel: channel() }).then(() => '8 MiB were written.');
    },
    cut: () => post('trouble/cut').then(() => 'Every connection was cut, this page’s too.'),
    away: () => post('trouble/away').then(() => 'They have gone.'),
  };
  byId('trouble-actions').addEventListener('click', ({ target }) => {
    const act = actions[target.closest('button')?.dataset.act];
    if (act !== undefined) void telling(said, act);
  });
}

function draw() {
  const { channels, clients } = store.state;
  reconcile(byId('trouble-channel'), channels, {
    keyOf: ({ id }) => id,
    make: ({ id }) => {
      const option = element('option', '', id);
      option.value = id;
      option.defaultSelected = id === 'chat';
      return option;
    },
    update: () => {},
  });
  const { listening, coming, trouble } = clients;
  setText(byId('clients-count'), `${count(listening)} listening, ${count(coming)} on their way`);
  byId('no-trouble').hidden = trouble.length > 0;
  reconcile(byId('trouble'), trouble, {
    keyOf: ({ name }) => name,
    make: ({ name, channel }) => {
      const row = copyOf('trouble-row');
      setText(row.querySelector('.name'), name);
      setText(row.querySelector('.on'), `on ${channel}`);
      return row;
    },
    update: drawClient,
  });
}

function drawClient(row, { condition, lag, heard, recovered, steps }) {
  setText(row.querySelector('.condition'), CONDITIONS[condition]);
  setData(row, 'condition', condition);
  setText(row.querySelector('.lag'), lag > 0 ? `${count(lag)} behind` : `${count(heard)} read`);
  setData(row, 'behind', String(lag > 0));
  setData(row, 'recovered', String(recovered));
  reconcile(row.querySelector('ol'), steps, {
    keyOf: ({ at, text }) => `${at} ${text}`,
    make: ({ at, text }) => element('li', '', element('time', '', time(at)), element('span', '', text)),
    update: () => {},
  });
}

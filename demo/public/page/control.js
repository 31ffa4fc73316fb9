// What an operator may do to the hub.

import { confirmed } from './confirm.js';
import { byId, drawn, setData, setText } from './dom.js';
import { post, telling } from './server.js';
import * as store from './store.js';

export function showControl() {
  const said = byId('control-said');
  store.watch('state', drawn(draw));

  byId('switch').addEventListener('click', () =>
    telling(said, () =>
      post(store.state.hub.activated ? 'control/deactivate' : 'control/activate').then(() => ''),
    ),
  );

  byId('timeout').addEventListener('submit', (event) => {
    event.preventDefault();
    const { seconds, reset } = event.currentTarget.elements;
    const timeout = seconds.value === '' ? null : Math.round(Number(seconds.value) * 1000);
    void telling(said, async () => {
      await post('control/timeout', { timeout, reset: reset.checked });
      return reset.checked ? 'Set, and every open stream was ended to take it up.' : 'Set, for new streams.';
    });
  });

  byId('close').addEventListener('submit', async (event) => {
    event.preventDefault();
    const drain = Math.round(Number(event.currentTarget.elements.seconds.value) * 1000);
    if (store.state.hub.closed) {
      await telling(said, () => post('control/reopen').then(() => 'A new hub has taken its place.'));
      return;
    }
    const consequence =
      'It delivers what was written, tells each client when to come back, and never opens again.';
    if (!(await confirmed('Close the hub?', consequence))) return;
    await telling(said, async () => {
      setText(said, 'Draining …');
      await post('control/close', { drain });
      return 'Every connection has closed.';
    });
  });
}

function lampOf({ hub: { activated, closed }, cluster }) {
  if (closed) return ['refused', 'Hub closed'];
  if (!activated) return ['refused', 'Hub deactivated'];
  return cluster?.health.healthy === false ? ['gap', 'Backplane away'] : ['open', 'Hub active'];
}

function draw() {
  const { activated, closed, timeout, stall } = store.state.hub;
  const [lamp, text] = lampOf(store.state);
  setText(byId('hub-text'), text);
  setData(byId('hub'), 'state', lamp);
  setText(byId('switch'), activated ? 'Deactivate' : 'Activate');
  byId('switch').disabled = closed;
  setText(byId('switch-note'), activated ? 'Clients may listen.' : 'No streams; every attempt gets 503.');
  setText(byId('timeout-now'), timeout === null ? 'no timeout' : `timeout ${timeout / 1000} s`);
  setText(byId('close-button'), closed ? 'Open a new hub' : 'Close …');
  setText(byId('stall-now'), `A client that stays blocked for ${stall / 1000} s is closed.`);
}

// Puts the parts together: two streams, two views, and which of them is shown.

import { openChannel, showChannels } from './channel.js';
import { makeCharts } from './charts.js';
import { showControl } from './control.js';
import { byId, setData, setText } from './dom.js';
import { describe, listen } from './listen.js';
import { watchMonitor } from './monitor.js';
import { showNodes } from './nodes.js';
import { drawTicks, showOverview } from './overview.js';
import { showTrouble } from './trouble.js';

const MONITOR = {
  idle: 'Monitor closed',
  connecting: 'Monitor connecting',
  open: 'Monitor live',
  lost: 'Monitor retrying',
  refused: 'Monitor refused',
};

makeCharts();
showControl();
showTrouble();
showNodes();
const stream = listen((changed) => {
  setText(byId('stream-text'), describe(changed));
  setData(byId('stream'), 'state', changed.state === 'open' && !changed.recovered ? 'gap' : changed.state);
  drawTicks(changed);
});
showOverview(stream);
showChannels(stream);
watchMonitor((monitor) => {
  setText(byId('monitor-text'), MONITOR[monitor.state]);
  setData(byId('monitor'), 'state', monitor.state);
  // What is shown may be old.
  setData(document.body, 'stale', String(monitor.state !== 'open'));
});

function route() {
  const [, id] = /^#\/channel\/(.+)$/.exec(location.hash) ?? [];
  const channel = id === undefined ? undefined : decoded(id);
  byId('overview').hidden = channel !== undefined;
  byId('channel').hidden = channel === undefined;
  byId('crumb').hidden = channel === undefined;
  setText(byId('crumb-name'), channel ?? '');
  byId('to-overview').toggleAttribute('aria-current', channel === undefined);
  document.title = channel === undefined ? 'express-comet demo' : `${channel} · express-comet demo`;
  openChannel(channel, stream);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

addEventListener('hashchange', () => {
  route();
  scrollTo(0, 0);
  // What was followed by the keyboard leads on to where it went.
  byId(byId('channel').hidden ? 'overview-title' : 'channel-title').focus({ preventScroll: true });
});
route();

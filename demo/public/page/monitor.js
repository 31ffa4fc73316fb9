// The stream of the server's monitor: all that the page knows of the hub comes on it, and the page asks for nothing.

import * as charts from './charts.js';
import { parseId, plural, reasonsOf } from './format.js';
import * as store from './store.js';
import { Stream } from './stream.js';

/** Opens it, and calls `changed(stream)` whenever it stands otherwise. */
export function watchMonitor(changed) {
  const stream = new Stream('monitor', {
    changed: () => changed(stream),
    event: ({ lastEventId, data }) => {
      const { channel } = parseId(lastEventId);
      const told = JSON.parse(data);
      if (channel === 'state') store.setState(told);
      else if (channel === 'seconds') {
        store.setSecond(told);
        charts.add(told);
      } else {
        for (const happening of told.list) take(happening);
        if (told.dropped > 0) {
          store.addHappening({
            kind: 'more',
            at: Date.now(),
            same: '',
            text: () => 'too much to tell all of it',
          });
        }
      }
    },
  });
  stream.channels = new Set(['state', 'seconds', 'happenings']);
  stream.open();
}

function take({ type, at, ...event }) {
  if (type === 'write') store.addWrite(event.position, { ...event, at });
  if (type === 'outcome') store.addWrite(event.position, { outcome: event.outcome, elapsed: event.elapsed });
  const telling = TELL[type]?.(event);
  if (telling === undefined) return;
  const [same, text, bad = false] = telling;
  store.addHappening({ kind: type, at, same, text, bad });
}

const DROPPED = { never: 'given up', unknown: 'may be lost' };

// For each: what makes two the same, and the text for so many of them.
const TELL = {
  create: ({ channel }) => [channel, () => `${channel} was created`],
  end: ({ channel }) => [channel, () => `${channel} has ended`],
  join: ({ channels, recovered }) => [
    `${channels} ${recovered}`,
    (times) => `${plural(times, 'listener')} on ${channels.join(', ')}${recovered ? '' : ', after a gap'}`,
  ],
  leave: ({ channels, reason }) => [
    `${channels} ${reason}`,
    (times) => `${plural(times, 'listener')} of ${channels.join(', ')}: ${reason}`,
    ['stalled', 'overrun', 'error', 'vanished'].includes(reason),
  ],
  overrun: ({ channel, lag }) => [
    `${channel} ${lag}`,
    (times) =>
      `${plural(times, 'listener')} fell off the log of ${channel}: ${lag === 'close' ? 'closed' : 'on to the newest'}`,
    true,
  ],
  refuse: ({ status, code }) => [
    `${status} ${code}`,
    (times) => `${plural(times, 'request')} answered by ${status} ${code}`,
    true,
  ],
  outcome: ({ channel, outcome }) => {
    // What the backplane did not take is told by `drop`.
    if (outcome.status === 'success' || outcome.reasons.backplane > 0) return undefined;
    const { delivered, listeners } = outcome;
    const text = `${channel}: ${delivered} of ${listeners} delivered; ${reasonsOf(outcome)}`;
    return [text, (times) => (times === 1 ? text : `${text} (${plural(times, 'write')})`), true];
  },
  drop: ({ channel, happened, count, cause }) => [
    `${channel} ${happened}`,
    (times) =>
      `${times > 1 ? 'writes' : plural(count, 'write')} on ${channel} ${DROPPED[happened]}: ${cause}`,
    true,
  ],
  backplane: ({ healthy, cause }) => [
    String(healthy),
    () => (healthy ? 'reached; what was missed is filled in, or said' : cause),
    !healthy,
  ],
  activate: () => ['', () => 'the hub takes listeners again'],
  deactivate: () => ['', () => 'every stream was closed; each attempt gets 503', true],
  close: () => ['', () => 'the hub is closing for good', true],
};

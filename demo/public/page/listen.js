// The page as an ordinary listener: one stream of the observed hub for every channel that is ticked.

import { parseId, plural } from './format.js';
import * as store from './store.js';
import { Stream } from './stream.js';

const FIRST = ['machine', 'chat', 'tail'];
const NAMES = ['sample', 'line', 'flood'];
// Where there are other nodes: on it they say what their events are called.
const OTHERS = 'names';

/** Opens it, and calls `changed(stream)` whenever it stands otherwise. */
export function listen(changed) {
  let before = 'idle';
  let hasOthers = false;

  const stream = new Stream('channels', {
    mayRetry: () => store.state?.hub.activated ?? true,
    changed: () => {
      const { state, recovered } = stream;
      if (state === 'lost' && before === 'open')
        store.addNote('lost', 'the stream was lost; it comes back by itself');
      if (state === 'refused' && before !== 'refused') {
        store.addNote('lost', `the server answered ${stream.status}; it comes back as soon as it may`);
      }
      if (state === 'open') {
        if (!recovered)
          store.addNote('gap', 'back after a gap: what was written meanwhile can’t be replayed');
        else if (before === 'lost' || before === 'refused')
          store.addNote('back', 'back, and nothing was missed (recovered)');
      }
      before = state;
      changed(stream);
    },
    event: (event) => {
      const { channel, position } = parseId(event.lastEventId);
      if (channel === OTHERS && hasOthers) {
        // Those of the protocol are heard where they belong.
        if (!event.data.startsWith('comet:')) stream.hear([event.data]);
        return;
      }
      store.addWrite(position, { channel, event: event.type, data: event.data });
    },
    ended: (channel) => {
      store.addNote('end', `${channel} has ended`);
      changed(stream);
    },
  });

  store.watch('state', () => {
    const names = store.state.channels
      .filter(({ id }) => stream.channels.has(id))
      .flatMap((each) => each.names);
    // The first of a name came by unheard; the cursor still stands before it, so that it is replayed.
    if (stream.hear(names) && stream.state === 'open') stream.open();
    if (store.state.hub.activated) stream.hurry();
    if (store.state.cluster === null || hasOthers) return;
    hasOthers = true;
    stream.add(OTHERS);
  });
  stream.channels = new Set(FIRST);
  stream.hear(NAMES);
  stream.open();
  return stream;
}

export function describe({ state, status, recovered, channels }) {
  switch (state) {
    case 'open':
      return recovered ? `Listening to ${plural(channels.size, 'channel')}` : 'Listening, after a gap';
    case 'refused':
      return `Refused: ${status}`;
    case 'lost':
      return 'Reconnecting';
    case 'idle':
      return 'Listening to nothing';
    default:
      return 'Connecting';
  }
}

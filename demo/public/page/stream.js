// One EventSource for any number of channels. It comes back by itself, and always says how it stands.

const REOPEN_AFTER = 2000;
const PROTOCOL = ['comet:open', 'comet:ready', 'comet:gap', 'comet:end'];

/**
 * - `idle`: it has no channels;
 * - `connecting`: for the first time;
 * - `open`; `recovered` says whether nothing was missed;
 * - `lost`: the connection is gone, and it is coming back;
 * - `refused`: the server answered `status`, and it will try again.
 */
export class Stream {
  state = 'idle';
  status = 0;
  recovered = true;
  /** The channels that it asks for. */
  channels = new Set();
  #path;
  #names = new Set(['message']);
  #handlers;
  #source;
  // The id of the last event, whatever its name.
  #cursor = '';
  // Channels that start as for a newcomer beside the cursor.
  #added = new Set();
  // Events of starts. They are told once all are there: a start that is cut off comes again.
  #starting = [];
  #reopening;

  /** @param handlers `event(event)`, `changed()`, `ended(channel)`, and `mayRetry()`: is there hope at all? */
  constructor(path, handlers) {
    this.#path = path;
    this.#handlers = handlers;
  }

  /** Opens it with the channels that are wanted now, from where it stood. */
  open() {
    clearTimeout(this.#reopening);
    this.#source?.close();
    this.#source = undefined;
    if (this.channels.size === 0) {
      this.#be('idle');
      return;
    }
    const source = new EventSource(this.#url());
    this.#source = source;
    if (this.state === 'idle') this.#be('connecting');
    source.addEventListener('error', (event) => this.#failed(event, source));
    for (const name of [...PROTOCOL, ...this.#names]) source.addEventListener(name, this.#came);
  }

  add(channel) {
    this.channels.add(channel);
    this.#added.add(channel);
    this.open();
  }

  remove(channel) {
    this.channels.delete(channel);
    this.#added.delete(channel);
    this.open();
  }

  /** Tries now, where it was refused and would try later. */
  hurry() {
    if (this.state === 'refused') this.open();
  }

  /** An EventSource hears the names that it was told of, and no others. Returns whether any of them is new. */
  hear(names) {
    const before = this.#names.size;
    for (const name of names) {
      if (this.#names.has(name)) continue;
      this.#names.add(name);
      this.#source?.addEventListener(name, this.#came);
    }
    return this.#names.size > before;
  }

  #url() {
    const query = new URLSearchParams();
    const kindOf = (id) => (this.#cursor !== '' && this.#added.has(id) ? 'new_chan_id' : 'chan_id');
    for (const id of this.channels) query.append(kindOf(id), id);
    // The browser sends its cursor by itself when it reconnects, but a new EventSource has none.
    if (this.#cursor !== '') query.set('last_event_id', this.#cursor);
    return `${this.#path}?${query}`;
  }

  #came = (event) => {
    if (event.target !== this.#source) return;
    this.#cursor = event.lastEventId;
    const isStart = this.#cursor.split('@')[0].endsWith('!');
    if (!isStart) this.#added.clear();
    if (isStart && !['comet:open', 'comet:gap'].includes(event.type)) this.#starting.push(event);
    else this.#tell(event);
  };

  #tell(event) {
    const { type } = event;
    if (!PROTOCOL.includes(type)) {
      this.#handlers.event(event);
      return;
    }
    const { gaps, channels, channel } = JSON.parse(event.data);
    if (type === 'comet:open') this.#starting = [];
    if (type === 'comet:open' || type === 'comet:gap') {
      this.recovered = (gaps ?? channels).length === 0;
      this.#be('open');
    }
    if (type === 'comet:ready') for (const each of this.#starting.splice(0)) this.#tell(each);
    if (type === 'comet:end') {
      // The stream goes on with the others, and must not ask for this one again.
      this.channels.delete(channel);
      this.#handlers.ended?.(channel);
    }
  }

  async #failed(event, source) {
    if (event instanceof MessageEvent || source !== this.#source) return;
    if (this.channels.size === 0) {
      this.open();
      return;
    }
    if (source.readyState !== EventSource.CLOSED) {
      this.#be('lost');
      return;
    }
    // After an answer that is no stream the browser gives up, and keeps to itself what the answer was.
    const status = await this.#ask();
    if (source !== this.#source) return;
    this.status = status;
    if (status === 204 || status === 404) {
      // All of its channels have ended.
      this.channels.clear();
      this.open();
      return;
    }
    this.#be(status === 0 || status === 200 ? 'lost' : 'refused');
    const again = () => {
      if (source !== this.#source) return;
      if (this.#handlers.mayRetry?.() ?? true) this.open();
      else this.#reopening = setTimeout(again, REOPEN_AFTER);
    };
    this.#reopening = setTimeout(again, REOPEN_AFTER);
  }

  async #ask() {
    try {
      return (await fetch(this.#url(), { method: 'HEAD' })).status;
    } catch {
      return 0;
    }
  }

  #be(state) {
    this.state = state;
    this.#handlers.changed();
  }
}

// One EventSource for any number of channels. It comes back by itself, and always says how it stands.

const REOPEN_AFTER = 2000;
const OVERLAP = 300;

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
  // Those whose place is being taken, and that still bring what was on its way.
  #leaving = new Set();
  #cursor = '';
  #reopening;

  /** @param handlers `event(event)`, `changed()`, `ended(channel)`, and `mayRetry()`: is there hope at all? */
  constructor(path, handlers) {
    this.#path = path;
    this.#handlers = handlers;
  }

  /** Opens it with the channels that are wanted now, from where it stood. */
  open() {
    this.#source?.close();
    for (const source of this.#leaving) source.close();
    this.#leaving.clear();
    this.#connect(this.#cursor);
  }

  /**
   * Adds a channel. A cursor that is older than a channel is a gap to the server, and would be one on all the others
   * too; so the new stream opens without a cursor, while the one before it is still there. What both bring is the same
   * by its position.
   */
  add(channel) {
    this.channels.add(channel);
    const before = this.#source;
    if (this.state !== 'open' || before === undefined) {
      this.open();
      return;
    }
    this.#leaving.add(before);
    this.#connect('');
    const close = () => {
      before.close();
      this.#leaving.delete(before);
    };
    // What was written just before it opened may still be on its way.
    this.#source.addEventListener('comet:open', () => setTimeout(close, OVERLAP), { once: true });
    this.#source.addEventListener('error', close, { once: true });
  }

  remove(channel) {
    this.channels.delete(channel);
    this.open();
  }

  #connect(cursor) {
    clearTimeout(this.#reopening);
    if (this.channels.size === 0) {
      this.#source = undefined;
      this.#be('idle');
      return;
    }
    const source = new EventSource(this.#url(cursor));
    this.#source = source;
    if (this.state === 'idle') this.#be('connecting');
    source.addEventListener('comet:open', (event) => this.#opened(event, source));
    source.addEventListener('comet:end', (event) => this.#ended(event));
    source.addEventListener('error', (event) => this.#failed(event, source));
    for (const name of this.#names) source.addEventListener(name, this.#came);
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

  #url(cursor) {
    const query = new URLSearchParams([...this.channels].map((id) => ['chan_id', id]));
    // The browser sends its cursor by itself when it reconnects, but a new EventSource has none.
    if (cursor !== '') query.set('last_event_id', cursor);
    return `${this.#path}?${query}`;
  }

  #opened(event, source) {
    if (source !== this.#source) return;
    this.#cursor = event.lastEventId;
    this.recovered = JSON.parse(event.data).recovered;
    this.#be('open');
  }

  #came = (event) => {
    if (event.target === this.#source) this.#cursor = event.lastEventId;
    this.#handlers.event(event);
  };

  #ended(event) {
    const { channel } = JSON.parse(event.data);
    // The stream goes on with the others, and must not ask for this one again.
    this.channels.delete(channel);
    this.#handlers.ended?.(channel);
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
    if (status === 404) {
      // None of its channels exists any more.
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
      return (await fetch(this.#url(this.#cursor), { method: 'HEAD' })).status;
    } catch {
      return 0;
    }
  }

  #be(state) {
    this.state = state;
    this.#handlers.changed();
  }
}

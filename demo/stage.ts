import { type ChannelOptions, type Comet, type CometOptions, comet, type SendOptions } from 'express-comet';

/** On it pages are told the names of events that other nodes write. */
const NAMES = 'names';

/** The hub that the page observes. A hub that was closed stays closed, so a new one may take its place. */
export class Stage {
  /** As it was set last: a hub does not tell. */
  timeout: number | null;
  #push: Comet;
  readonly #options: CometOptions;
  readonly #channels: Readonly<Record<string, ChannelOptions>>;
  readonly #watchers: ((push: Comet) => void)[] = [];

  constructor(options: CometOptions, channels: Readonly<Record<string, ChannelOptions>>) {
    this.#options = options;
    this.#channels = channels;
    this.timeout = options.timeout ?? null;
    this.#push = this.#make();
  }

  get push(): Comet {
    return this.#push;
  }

  /** Calls `watch` with the hub of now, and with each that takes its place. */
  watch(watch: (push: Comet) => void): void {
    this.#watchers.push(watch);
    watch(this.#push);
  }

  /** Puts a new hub in the place of one that was closed. */
  reopen(): void {
    if (!this.#push.inspect().closed) return;
    this.timeout = this.#options.timeout ?? null;
    this.#push = this.#make();
    for (const watch of this.#watchers) watch(this.#push);
  }

  /** Whether it has a backplane. */
  get isShared(): boolean {
    return this.#options.backplane !== undefined;
  }

  /**
   * Says the name of an event that is about to be written: an `EventSource` hears only those that it was told of, and
   * this may be the first of its name on another node. On one stream what is written first arrives first.
   */
  announce(event: unknown): void {
    if (this.isShared && typeof event === 'string') this.#push.channels.find(NAMES)?.write(event);
  }

  setTimeout(timeout: number | null, reset: boolean): void {
    this.#push.setTimeout(timeout, { reset });
    this.timeout = timeout;
  }

  /** Writes on a channel of that name, where there is one: whoever looks at the page may have ended it. */
  tell(name: string, data: unknown, options?: SendOptions): void {
    const channel = this.#push.channels.find(name);
    // Every write here asks for its outcome: the page draws them.
    channel
      ?.send(data, options)
      .catch((error: Error) => console.error(`express-comet demo: ${error.message}`));
  }

  #make(): Comet {
    const push = comet(this.#options);
    // Another node may have made them before.
    for (const [name, options] of Object.entries(this.#channels)) push.channels.open(name, options);
    if (this.isShared) push.channels.open(NAMES, { rewind: 100, log: { frames: 100, age: null } });
    return push;
  }
}

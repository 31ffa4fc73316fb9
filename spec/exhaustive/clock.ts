interface Timer {
  readonly run: () => void;
  readonly every: number | undefined;
  due: number;
}

const real = {
  now: performance.now,
  date: Date.now,
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setInterval: globalThis.setInterval,
  clearInterval: globalThis.clearInterval,
};

/** A clock that stands still until it is told to advance: minutes cost nothing, and no timer outlives a sequence. */
export class Clock {
  #now = 1e6;
  #timers = new Set<Timer>();

  /** Takes the place of the clocks and timers of this process, until the function that it returns is called. */
  install(): () => void {
    performance.now = () => this.#now;
    Date.now = () => this.#now + 1.7e12;
    const add = (run: () => void, wait: number, every?: number) => {
      const timer = { run, every, due: this.#now + wait, unref: () => timer, ref: () => timer };
      this.#timers.add(timer);
      return timer;
    };
    const remove = (timer: unknown) => void this.#timers.delete(timer as Timer);
    globalThis.setTimeout = ((run: () => void, wait = 1) => add(run, wait)) as never;
    globalThis.setInterval = ((run: () => void, wait = 1) => add(run, wait, wait)) as never;
    globalThis.clearTimeout = globalThis.clearInterval = remove as never;
    return () => {
      performance.now = real.now;
      Date.now = real.date;
      Object.assign(globalThis, {
        setTimeout: real.setTimeout,
        clearTimeout: real.clearTimeout,
        setInterval: real.setInterval,
        clearInterval: real.clearInterval,
      });
    };
  }

  /** Forgets every timer. */
  reset(): void {
    this.#timers.clear();
  }

  /** Milliseconds pass. Between two timers the event loop goes round. */
  async advance(milliseconds: number): Promise<void> {
    const until = this.#now + milliseconds;
    for (let timer = this.#next(until); timer !== undefined; timer = this.#next(until)) {
      this.#now = timer.due;
      if (timer.every === undefined) this.#timers.delete(timer);
      else timer.due += timer.every;
      timer.run();
      await turn();
    }
    this.#now = until;
    await turn();
  }

  #next(until: number): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers) {
      if (timer.due <= until && (first === undefined || timer.due < first.due)) first = timer;
    }
    return first;
  }
}

/** One turn of the event loop. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

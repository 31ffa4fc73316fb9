// A test that hangs says nothing: this one says what it was waiting for.
const LIMIT_MS = 10_000;
// What an engine that hangs leaves behind must not keep the next test from its turn.
const CLEANUP_MS = 4000;
// Nobody tells that time has passed: whoever waits for that looks this often.
const LOOK_MS = 10;

interface Awaited {
  readonly what: string;
  readonly holds: () => boolean;
  readonly resolve: () => void;
}

/** Watches over one test: its time, what it waits for, and what is to be cleared away behind it. */
export class Watch {
  readonly #awaited = new Set<Awaited>();
  readonly #calls = new Set<{ readonly what: string }>();
  readonly #cleanups: (() => unknown)[] = [];
  #over = false;

  /** Runs the test, and then, whatever became of it, all that `cleanup` was given, the last first. */
  async run(test: () => Promise<void>): Promise<void> {
    const tooLate = () => `It was not done within ${LIMIT_MS / 1000} s, and waits for ${this.#waitsFor()}.`;
    const [tested] = await Promise.allSettled([within(LIMIT_MS, test(), tooLate)]);
    this.#over = true;
    const open = () => `What the test had opened was not closed within ${CLEANUP_MS / 1000} s.`;
    const [cleared] = await Promise.allSettled([within(CLEANUP_MS, this.#clear(), open)]);
    // What went wrong first says more than what did so afterwards.
    for (const result of [tested, cleared]) if (result.status === 'rejected') throw result.reason;
  }

  /** Runs after the test; at once, for what a test opens that was given up meanwhile. */
  cleanup(run: () => unknown): void {
    if (this.#over) void run();
    else this.#cleanups.push(run);
  }

  /** Resolves once it holds; it is looked at whenever something was told. */
  until(what: string, holds: () => boolean): Promise<void> {
    if (holds()) return Promise.resolve();
    return new Promise((resolve) => this.#awaited.add({ what, holds, resolve }));
  }

  /** Something has happened. */
  told(): void {
    for (const awaited of this.#awaited) {
      if (!awaited.holds()) continue;
      this.#awaited.delete(awaited);
      awaited.resolve();
    }
  }

  /** Resolves once it holds; for what nobody tells. */
  async eventually(what: string, holds: () => Promise<boolean>): Promise<void> {
    await this.during(what, async () => {
      while (!this.#over && !(await holds())) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    });
  }

  /** Makes a call, and names it should it never return. */
  async during<T>(what: string, call: () => T | Promise<T>): Promise<T> {
    const pending = { what };
    this.#calls.add(pending);
    try {
      return await call();
    } finally {
      this.#calls.delete(pending);
    }
  }

  #waitsFor(): string {
    const all = new Set([...this.#awaited, ...this.#calls].map(({ what }) => what));
    return [...all].join(', and for ') || 'nothing that it knows of';
  }

  async #clear(): Promise<void> {
    const errors: unknown[] = [];
    for (const run of this.#cleanups.reverse()) {
      try {
        await run();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}

async function within(limit: number, work: Promise<void>, late: () => string): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeUp = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(late())), limit);
  });
  try {
    await Promise.race([work, timeUp]);
  } finally {
    clearTimeout(timer);
  }
}

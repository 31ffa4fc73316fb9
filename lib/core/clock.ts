/** A moment, by both clocks, in milliseconds. */
export interface Moment {
  /** Of `performance.now()`: whole ones, for which V8 needs no box. */
  readonly time: number;
  /** Of `Date.now()`. */
  readonly date: number;
}

// As it is before a test of a user's replaces it: one that is dropped with that test's timers would stop this clock for good.
const { setImmediate } = globalThis;

let moment: Moment | undefined;

/**
 * When this turn of the event loop first asked. To look at a clock takes longer than most of what a write does, so one look
 * serves all that is written in a turn.
 */
export function thisTurn(): Moment {
  if (moment === undefined) {
    moment = { time: Math.floor(performance.now()), date: Date.now() };
    setImmediate(forget);
  }
  return moment;
}

function forget(): void {
  moment = undefined;
}

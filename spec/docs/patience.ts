import { type EventEmitter, once } from 'node:events';

// For what never comes, so that a test can say what came instead. It is no measure of what does come.
const PATIENCE = 12_000;

/** How many times as quick the timers of blocks are as they say. */
export const HASTE = 50;

/** Waits, event by event, until it holds; says whether it does. */
export async function patiently(
  emitter: EventEmitter,
  event: string,
  holds: () => boolean,
): Promise<boolean> {
  const signal = AbortSignal.timeout(PATIENCE);
  while (!holds()) {
    if (signal.aborted) return false;
    await once(emitter, event, { signal }).catch(() => {});
  }
  return true;
}

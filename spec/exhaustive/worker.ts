import type { IncomingMessage } from 'node:http';
import { Random } from '../support/random.js';
import { Clock } from './clock.js';
import { Hubs } from './hubs.js';
import { explore, type Fault, type Figures } from './machine.js';
import type { Setup } from './run.js';

/** What to play. */
export interface Task {
  readonly setup: Setup;
  readonly steps: number;
  /** In which order steps are tried: so which of the sequences that lead to equal states is continued. */
  readonly seed: number;
  /** Whether the server never sees the cursor of a return. */
  readonly isSpoiled: boolean;
}

/** What came of a task. */
export interface Report extends Figures {
  readonly faults: readonly Fault[];
}

const clock = new Clock();
clock.install();
// Each connection that breaks makes an error.
Error.stackTraceLimit = 0;

process.on('message', async ({ setup, steps, seed, isSpoiled }: Task) => {
  const spoil = ({ headers }: IncomingMessage) => {
    delete headers['last-event-id'];
  };
  const faults: Fault[] = [];
  const hubs = new Hubs(clock, isSpoiled ? spoil : undefined);
  const figures = await explore(setup, steps, hubs, new Random(seed), (fault) => faults.push(fault));
  process.send?.({ ...figures, faults } satisfies Report);
});

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Fault } from './machine.js';
import type { Setup } from './run.js';
import type { Report, Task } from './worker.js';

const WORKER = fileURLToPath(new URL('./worker.ts', import.meta.url));

/**
 * Explores what can follow each setup, in processes of their own: they have another clock.
 * @param told is called when a setup is done
 */
export async function exploreAll(
  setups: readonly Setup[],
  { steps, seed = 0, isSpoiled = false }: Partial<Task> & Pick<Task, 'steps'>,
  told: (setup: Setup, report: Report) => void = () => {},
): Promise<Report[]> {
  const due = [...setups];
  const reports: Report[] = [];
  const work = async () => {
    const worker = fork(WORKER, { execArgv: ['--import', 'tsx'] });
    for (let setup = due.shift(); setup !== undefined; setup = due.shift()) {
      worker.send({ setup, steps, seed, isSpoiled } satisfies Task);
      const [report] = await Promise.race([once(worker, 'message'), once(worker, 'exit')]);
      if (typeof report !== 'object') throw new Error(`The process of ${nameOf(setup)} died with ${report}.`);
      reports.push(report);
      told(setup, report);
    }
    worker.disconnect();
  };
  await Promise.all(Array.from({ length: Math.min(availableParallelism(), setups.length) }, work));
  return reports;
}

/** The faults by kind: those of a kind differ in positions only. The shortest come first. */
export function kindsOf(reports: readonly Report[]): Map<string, Fault[]> {
  const kinds = new Map<string, Fault[]>();
  const faults = reports.flatMap((report) => report.faults);
  for (const fault of faults.toSorted((one, other) => one.steps.length - other.steps.length)) {
    const kind = fault.fault.replace(/(status )?\d+/g, (digits, status) =>
      status === undefined ? 'N' : digits,
    );
    kinds.set(kind, [...(kinds.get(kind) ?? []), fault]);
  }
  return kinds;
}

/** A fault in three lines. */
export function show({ setup, steps, fault }: Fault): string {
  return `${nameOf(setup)}\n  ${steps.join('; ')}\n  the page ${fault}`;
}

/** A setup in one line. */
export function nameOf({ terms, steps }: Setup): string {
  const [a, b] = terms.map(({ rewind, latest }) => `rewind ${rewind}${latest ? ', latest' : ''}`);
  return `a: ${a}; b: ${b}; ${steps.join(', ') || 'nothing'}`;
}

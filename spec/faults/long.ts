import { type ChildProcess, fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type Result, run } from './machine.js';
import { planOf } from './plan.js';
import { addFigures, type Figures, noFigures } from './record.js';

// The long run: npm run test:long [-- --schedules 1000 --outcomes 1000000 --base SEED --workers 2]
// One schedule again: npm run test:long -- --seed SEED

const SHOWN = 10;
const COMPRESSORS = ['compression', '@polka/compression', 'http-compression'];

const { values } = parseArgs({
  options: {
    schedules: { type: 'string', default: '1000' },
    outcomes: { type: 'string', default: '1000000' },
    /** Writes of a schedule, on average; by default as many as these outcomes need. */
    writes: { type: 'string' },
    base: { type: 'string' },
    seed: { type: 'string' },
    workers: { type: 'string', default: String(Math.min(availableParallelism(), 8)) },
  },
});
const schedules = Number(values.schedules);
const outcomes = Number(values.outcomes);
const usual = 1000;
const writes = Number(values.writes ?? Math.ceil(outcomes / schedules));

process.exitCode = values.seed === undefined ? await runAll() : await runOne(Number(values.seed));

async function runOne(seed: number): Promise<number> {
  const plan = planOf(seed, Number(values.writes ?? usual));
  const { steps, ...rest } = plan;
  console.log(JSON.stringify(rest, undefined, 2));
  console.log(`${steps.length} steps`);
  const { figures, faults } = await run(plan);
  for (const fault of faults) console.log(`  ${fault}`);
  console.table(figures);
  return faults.length === 0 ? 0 : 1;
}

async function runAll(): Promise<number> {
  const base = Number(values.base ?? Math.floor(Math.random() * 2 ** 31));
  const workers = Number(values.workers);
  console.log(
    `${schedules} schedules and ${outcomes} outcomes, from seed ${base} on, in ${workers} processes`,
  );
  const started = performance.now();
  const sum = noFigures();
  let failing = 0;
  let next = base;
  let told = 0;
  const isEnough = () => sum.schedules >= schedules && sum.outcomes >= outcomes;

  const work = async () => {
    let worker: ChildProcess | undefined;
    // Those under way when it is enough are finished, and count.
    while (!isEnough()) {
      const seed = next;
      next += 1;
      worker ??= fork(fileURLToPath(new URL('./worker.ts', import.meta.url)));
      const result = await handed(worker, seed);
      if (result.figures === undefined) worker = undefined;
      else addFigures(sum, result.figures);
      if (result.faults.length > 0) {
        failing += 1;
        report(seed, result.faults);
      }
      if (sum.schedules >= told + schedules / 20) {
        told = sum.schedules;
        const seconds = Math.round((performance.now() - started) / 1000);
        console.log(`${seconds} s: ${sum.schedules} schedules, ${sum.outcomes} outcomes, ${failing} failed`);
      }
    }
    worker?.disconnect();
  };
  await Promise.all(Array.from({ length: workers }, work));
  conclude(sum, failing, performance.now() - started);
  return failing === 0 ? 0 : 1;
}

/** Hands a schedule to a worker. One that dies of it has no figures. */
function handed(
  worker: ChildProcess,
  seed: number,
): Promise<{ figures: Figures | undefined; faults: Result['faults'] }> {
  return new Promise((resolve) => {
    const onExit = (code: number | null) =>
      resolve({ figures: undefined, faults: [`the process died of it, with ${code}`] });
    worker.once('exit', onExit);
    worker.once('message', (result: Result) => {
      worker.off('exit', onExit);
      resolve(result);
    });
    worker.send({ seed, writes });
  });
}

function report(seed: number, faults: readonly string[]): void {
  const scale = writes === usual ? '' : ` --writes ${writes}`;
  console.log(`Schedule ${seed} failed; again by: npm run test:long -- --seed ${seed}${scale}`);
  for (const fault of faults.slice(0, SHOWN)) console.log(`  ${fault}`);
  if (faults.length > SHOWN) console.log(`  … and ${faults.length - SHOWN} more`);
}

function conclude(sum: Figures, failing: number, elapsed: number): void {
  const percent = (part: number) => `${((100 * part) / Math.max(1, sum.listeners)).toFixed(1)} %`;
  const rows: [name: string, value: string | number][] = [
    ['schedules', sum.schedules],
    ['  of which failed', failing],
    ['outcomes', sum.outcomes],
    ...sorted(sum.over).map(([over, count]): [string, number] => [`  ${over}`, count]),
    ['their listeners', sum.listeners],
    ['  delivered', `${sum.delivered} (${percent(sum.delivered)})`],
    ...sorted(sum.reasons).map(([reason, count]): [string, string] => [
      `  failed: ${reason}`,
      `${count} (${percent(count)})`,
    ]),
    ['  unknown', `${sum.unknown} (${percent(sum.unknown)})`],
    ['streams', sum.streams],
    ...sorted(sum.vias).map(([via, count]): [string, number] => [`  by ${via}`, count]),
    ['  of which blocked', sum.blocked],
    ['  of which judged by what the client read', sum.judged],
    ['events read by clients', sum.framesRead],
    ['FALSE DELIVERED', sum.falseDelivered],
    ['UNSETTLED', sum.unsettled],
    ['SETTLED TWICE', sum.settledTwice],
    ['time', `${(elapsed / 1000).toFixed(0)} s`],
    ['Node', process.version],
    ['Express', `${versionOf('express')}, ${versionOf('express4')}, none`],
    ['compressors', COMPRESSORS.map((name) => `${name} ${versionOf(name)}`).join(', ')],
  ];
  console.log();
  for (const [name, value] of rows) console.log(`${name.padEnd(42)} ${value}`);
}

function sorted(counts: Readonly<Record<string, number>>): [name: string, count: number][] {
  return Object.entries(counts).toSorted(([a], [b]) => a.localeCompare(b));
}

function versionOf(name: string): string {
  const path = createRequire(import.meta.url).resolve(`${name}/package.json`);
  return JSON.parse(readFileSync(path, 'utf8')).version;
}

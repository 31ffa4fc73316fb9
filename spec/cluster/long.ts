import { parseArgs } from 'node:util';
import { addFigures, noFigures } from './figures.js';
import { afterOne } from './hooks.js';
import type { Result } from './machine.js';
import { type Draws, planOf } from './plan.js';

// The long run: npx tsx spec/cluster/long.ts [--cycles 200 --base SEED]
// One cluster again: npx tsx spec/cluster/long.ts --seed SEED --nodes 2
// Only some faults: --draw 'demote,hop'; with `foreign` there is another environment on the same Redis.

// The machine needs what mocha has, or its stand-in.
const { run } = await import('./machine.js');

const CYCLES_OF_ONE = 10;

const { values } = parseArgs({
  options: {
    cycles: { type: 'string', default: '200' },
    base: { type: 'string' },
    seed: { type: 'string' },
    nodes: { type: 'string', default: '2' },
    length: { type: 'string', default: String(CYCLES_OF_ONE) },
    draw: { type: 'string' },
  },
});
const length = Number(values.length);
const draws = values.draw === undefined ? undefined : (new Set(values.draw.split(',')) as unknown as Draws);

// A server that was started ends with this process, if that ends in order.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

process.exitCode = values.seed === undefined ? await runAll() : await runOne(Number(values.seed));

async function runOne(seed: number): Promise<number> {
  const plan = planOf(seed, Number(values.nodes), length, draws);
  for (const [index, { faults }] of plan.cycles.entries()) console.log(index, JSON.stringify(faults));
  const { figures, faults } = await run(plan);
  await afterOne();
  for (const fault of faults) console.log(`  ${fault}`);
  console.table(figures);
  return faults.length === 0 ? 0 : 1;
}

async function runAll(): Promise<number> {
  const base = Number(values.base ?? Math.floor(Math.random() * 2 ** 31));
  const cycles = Number(values.cycles);
  console.log(`${cycles} cycles of clusters of two and of three nodes, from seed ${base} on`);
  const started = performance.now();
  const sums = { 2: noFigures(), 3: noFigures() };
  let failing = 0;
  const run1 = async (seed: number, nodes: 2 | 3): Promise<void> => {
    const result = await run(planOf(seed, nodes, length, draws));
    addFigures(sums[nodes], result.figures);
    if (result.faults.length === 0) return;
    failing += 1;
    report(seed, nodes, result);
  };
  for (let seed = base; sums[2].cycles + sums[3].cycles < cycles; seed += 1) {
    await Promise.all([run1(seed, 2), run1(seed, 3)]);
    await afterOne();
    const seconds = Math.round((performance.now() - started) / 1000);
    console.log(`${seconds} s: ${sums[2].cycles} + ${sums[3].cycles} cycles, ${failing} clusters failed`);
  }
  console.table({ 'two nodes': sums[2], 'three nodes': sums[3] });
  return failing === 0 ? 0 : 1;
}

function report(seed: number, nodes: number, { faults }: Result): void {
  const draw = values.draw === undefined ? '' : ` --draw '${values.draw}'`;
  const again = `--seed ${seed} --nodes ${nodes} --length ${length}${draw}`;
  console.log(`A cluster failed; again by: npx tsx spec/cluster/long.ts ${again}`);
  for (const fault of faults.slice(0, 10)) console.log(`  ${fault}`);
  if (faults.length > 10) console.log(`  … and ${faults.length - 10} more`);
}

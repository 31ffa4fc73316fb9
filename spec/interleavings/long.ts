import { parseArgs } from 'node:util';
import { afterOne } from '../cluster/hooks.js';

// The long run: npx tsx spec/interleavings/long.ts [--runs 10000 --seed SEED]

// The machine needs what mocha has, or its stand-in.
const { runAlone, runTogether } = await import('./run.js');

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '10000' },
    seed: { type: 'string' },
  },
});
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 28));
const machines = { 'one hub': runAlone, 'several hubs': runTogether };

// A server that was started ends with this process, if that ends in order.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

for (const [name, machine] of Object.entries(machines)) {
  const started = performance.now();
  const { runs, tally, anomalies } = await machine(seed, Number(values.runs));
  await afterOne();
  const seconds = Math.round((performance.now() - started) / 1000);
  console.log(
    `${runs} interleavings on ${name}, from seed ${seed} on: ${anomalies.length} failed, ${seconds} s`,
  );
  for (const anomaly of anomalies) console.log(`  ${anomaly}`);
  console.table(tally);
  if (anomalies.length > 0) process.exitCode = 1;
}

import { parseArgs } from 'node:util';
import { Clock } from './clock.js';
import { exploreAll, kindsOf, nameOf, show } from './explorer.js';
import { Hubs } from './hubs.js';
import { Run } from './run.js';
import { setups } from './setups.js';

// The long run: npx tsx spec/exhaustive/long.ts [--steps 6 --setup 2 --seed 1]
// One sequence: npx tsx spec/exhaustive/long.ts --setup 2 --play 'open a; close 0; write a; return'

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '6' },
    /** Decides which of the sequences that lead to equal states is continued. */
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    /** The index of one of the setups, instead of all. */
    setup: { type: 'string' },
    /** One sequence instead of all. */
    play: { type: 'string' },
  },
});
const steps = Number(values.steps);
const chosen = values.setup === undefined ? setups : setups.slice(Number(values.setup)).slice(0, 1);
// Sequences that are shown of each kind of fault.
const SHOWN = 3;

process.exitCode = values.play === undefined ? await playAll() : await playOne(values.play.split(';'));

async function playOne(sequence: readonly string[]): Promise<number> {
  const [setup = setups[0]] = chosen;
  if (setup === undefined) return 1;
  const clock = new Clock();
  clock.install();
  const hubs = new Hubs(clock);
  console.log(nameOf(setup));
  for (let length = 1; length <= sequence.length; length += 1) {
    const played = sequence.slice(0, length).map((step) => step.trim());
    const { items, fault } = await new Run(setup, hubs).play(played);
    console.log(`${played.at(-1)}: ${items.join(' | ')}`);
    if (fault === undefined) continue;
    console.log(`  ${fault}`);
    return 1;
  }
  return 0;
}

async function playAll(): Promise<number> {
  const seed = Number(values.seed);
  console.log(`every sequence of up to ${steps} steps, with seed ${seed}`);
  const started = performance.now();
  const elapsed = () => `${Math.round((performance.now() - started) / 1000)} s`;
  const reports = await exploreAll(chosen, { steps, seed }, (setup, { sequences, states, faults }) => {
    const figures = `${sequences} sequences, ${states} states, ${faults.length} faults`;
    console.log(`${elapsed()}: ${nameOf(setup)}: ${figures}`);
  });

  const kinds = kindsOf(reports);
  for (const [kind, faults] of kinds) {
    console.log(`\n${faults.length} times: ${kind}`);
    for (const fault of faults.slice(0, SHOWN)) console.log(show(fault));
  }
  const sequences = reports.reduce((sum, report) => sum + report.sequences, 0);
  const states = reports.reduce((sum, report) => sum + report.states, 0);
  console.log();
  console.log(`sequences of up to ${steps} steps  ${sequences}`);
  console.log(`states that differ           ${states}`);
  console.log(`KINDS OF FAULTS              ${kinds.size}`);
  console.log(`time                         ${elapsed()}`);
  console.log(`Node                         ${process.version}`);
  return kinds.size === 0 ? 0 : 1;
}

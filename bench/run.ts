// npm run bench -- [--case NAME]… [--rounds N] [--quick] [--save] [--profile]

import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type Case, cases, type Load } from './cases.js';
import { type Figures, report } from './report.js';
import { round } from './round.js';
import { prepare } from './tools.js';

const { values: options } = parseArgs({
  options: {
    case: { type: 'string', multiple: true },
    rounds: { type: 'string' },
    // Says whether everything works; its figures are too noisy to judge by.
    quick: { type: 'boolean', default: false },
    save: { type: 'boolean', default: false },
    profile: { type: 'boolean', default: false },
  },
});

const rounds = Number(options.rounds ?? (options.quick ? 1 : 5));
if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds takes a number from 1 on.');

const chosen = options.case?.map(named) ?? cases;
const folder = fileURLToPath(new URL('.cache/profiles', import.meta.url));
const flags = options.profile ? ['--cpu-prof', `--cpu-prof-dir=${folder}`] : [];
const tools = prepare();

const results = [];
for (const one of chosen) results.push({ case: one, figures: await measure(one) });

const text = report(results, rounds, tools);
console.log(text);
if (options.save) writeFileSync(new URL('results.md', import.meta.url), text);

/** Runs a case round by round, each contender once in every round: noise that comes and goes hits all of them. */
async function measure({ name, load, contenders }: Case): Promise<Figures> {
  const figures: Figures = new Map(contenders.map((contender) => [contender.name, []]));
  for (let turn = 0; turn < rounds; turn += 1) {
    // Nobody is always first, or always behind the same other.
    const start = turn % contenders.length;
    for (const contender of [...contenders.slice(start), ...contenders.slice(0, start)]) {
      console.error(`bench: ${name}, round ${turn + 1} of ${rounds}: ${contender.name}`);
      const figure = await round(contender, options.quick ? shortened(load) : load, tools, flags);
      figures.get(contender.name)?.push(figure);
    }
  }
  return figures;
}

function shortened(load: Load): Load {
  // Not its warm-up: what runs cold is another program.
  return { ...load, turns: load.turns / 5 };
}

function named(name: string): Case {
  const found = cases.find((one) => one.name === name);
  if (found === undefined) throw new Error(`--case takes one of ${cases.map((one) => one.name).join(', ')}.`);
  return found;
}

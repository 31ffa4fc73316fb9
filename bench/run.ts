// npm run bench -- [--case NAME]… [--contender NAME]… [--rounds N] [--beside DIST] [--quick] [--save] [--profile]

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type Case, cases, type Load } from './cases.js';
import { nchan, subject } from './contenders.js';
import { findNchan } from './nchan.js';
import { type Figures, type Result, report } from './report.js';
import { round } from './round.js';
import { here, prepare } from './tools.js';

const { values: options } = parseArgs({
  options: {
    case: { type: 'string', multiple: true },
    // Of a case, these only.
    contender: { type: 'string', multiple: true },
    rounds: { type: 'string' },
    // The dist/ of another working copy: a change beside what was there before it, in one run.
    beside: { type: 'string' },
    // Says whether everything works; its figures are too noisy to judge by.
    quick: { type: 'boolean', default: false },
    save: { type: 'boolean', default: false },
    profile: { type: 'boolean', default: false },
  },
});

const rounds = Number(options.rounds ?? (options.quick ? 1 : 5));
if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds takes a number from 1 on.');

const chosen = (options.case?.map(named) ?? cases).map(besideOther).map(withChosen);
const flags = options.profile ? ['--cpu-prof', `--cpu-prof-dir=${here('.cache/profiles')}`] : [];
prepare();

const results: Result[] = [];
for (const one of chosen) {
  const figures = await measure(one);
  const result = { case: one, date: new Date().toISOString().slice(0, 10), figures };
  results.push(result);
  console.error(report([result]));
  if (options.save) keep(result);
}
console.log(report(results));
if (options.save) writeFileSync(here('results.md'), report(kept()));

/** A case stands by itself: what is compared is what ran in turns. So one that is run again replaces only its own. */
function keep({ case: { name }, date, figures }: Result): void {
  const file = here(`results/${name}.json`);
  mkdirSync(here('results'), { recursive: true });
  writeFileSync(file, `${JSON.stringify({ date, figures: [...figures] }, null, 1)}\n`);
}

function kept(): Result[] {
  return cases
    .filter(({ name }) => existsSync(here(`results/${name}.json`)))
    .map((one) => {
      const { date, figures } = JSON.parse(readFileSync(here(`results/${one.name}.json`), 'utf8'));
      return { case: one, date, figures: new Map(figures) };
    });
}

/** Runs a case round by round, each contender once in every round. */
async function measure({ name, load, contenders, rounds: most = rounds }: Case): Promise<Figures> {
  const present = contenders.filter((contender) => contender !== nchan || findNchan() !== undefined);
  const figures: Figures = new Map(present.map((contender) => [contender.name, []]));
  const count = Math.min(rounds, most);
  for (let turn = 0; turn < count; turn += 1) {
    console.error(`bench: ${name}, round ${turn + 1} of ${count}`);
    const samples = await round(present, options.quick ? shortened(load) : load, turn, flags);
    for (const [contender, sample] of samples) figures.get(contender)?.push(sample);
  }
  return figures;
}

function shortened(load: Load): Load {
  // Not its warm-up: what runs cold is another program.
  if (load.measure === 'deliveries') return { ...load, parts: Math.ceil(load.parts / 5) };
  return { ...load, streams: load.streams / 5 };
}

function besideOther(one: Case): Case {
  if (options.beside === undefined) return one;
  const build = resolve(options.beside, 'esm/index.js');
  const others = one.contenders
    .filter(({ server }) => server === subject.server)
    .map((own) => ({ ...own, name: `${own.name} of ${options.beside}`, build }));
  return { ...one, contenders: [...one.contenders, ...others] };
}

function withChosen(one: Case): Case {
  const { contender: names } = options;
  if (names === undefined) return one;
  const contenders = one.contenders.filter(({ name, build }) => names.includes(name) || build !== undefined);
  return { ...one, contenders };
}

function named(name: string): Case {
  const found = cases.find((one) => one.name === name);
  if (found === undefined) throw new Error(`--case takes one of ${cases.map((one) => one.name).join(', ')}.`);
  return found;
}

import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { type Case, subject } from './cases.js';
import type { Tools } from './tools.js';

const PEERS = ['better-sse', 'bare res.write', 'bare socket'];

/** Of each contender, by its name, one figure a round: microseconds of CPU for a delivery. */
export type Figures = Map<string, number[]>;

export interface Result {
  case: Case;
  figures: Figures;
}

/** What was measured, as Markdown. */
export function report(results: readonly Result[], rounds: number, tools: Tools): string {
  return [
    '# The bench of express-comet',
    '',
    `${new Date().toISOString().slice(0, 10)} · Node ${process.versions.node} · ${cpus()[0]?.model.trim()} · ` +
      `express-comet ${versionOf('..')}, better-sse ${versionOf('node_modules/better-sse')}, ` +
      `express ${versionOf('../node_modules/express')} · ${rounds} round${rounds === 1 ? '' : 's'}, interleaved · ` +
      `${tools.pins ? 'server and client each on a core of its own' : 'not pinned to cores'} · client in ${tools.language}`,
    '',
    'Microseconds of the server’s CPU (user and system) for each event that arrived; less is better. × is the ratio of the',
    'medians to express-comet, and the range of that ratio over the rounds.',
    ...results.flatMap(table),
    '',
    '## express-comet’s share of what another takes',
    '',
    `| case | ${PEERS.map((peer) => `of ${peer}`).join(' | ')} | goal |`,
    `|---|${'---|'.repeat(PEERS.length)}---|`,
    ...results.filter(({ figures }) => PEERS.some((peer) => figures.has(peer))).map(shares),
    '',
  ].join('\n');
}

function table({ case: { name, title, contenders }, figures }: Result): string[] {
  const rows = contenders.map((contender) => {
    const rounds = figures.get(contender.name) ?? [];
    const [lowest, highest] = [Math.min(...rounds), Math.max(...rounds)];
    const ratio = contender === subject ? '1' : spread(figures, contender.name, subject.name);
    return `| ${contender.name} | ${fixed(median(rounds))} | ${fixed(lowest)} – ${fixed(highest)} | ${ratio} |`;
  });
  return ['', `## ${name}: ${title}`, '', '| | median | range | × |', '|---|---|---|---|', ...rows];
}

function shares({ case: { name, goal }, figures }: Result): string {
  const cells = PEERS.map((peer) => (figures.has(peer) ? spread(figures, subject.name, peer) : ''));
  const verdict = goal && (ratio(figures, subject.name, goal.peer) <= goal.share ? 'met' : 'missed');
  const aim = goal ? `≤ ${goal.share} of ${goal.peer}: ${verdict}` : '';
  return `| ${name} | ${cells.join(' | ')} | ${aim} |`;
}

function spread(figures: Figures, name: string, other: string): string {
  const others = figures.get(other) ?? [];
  // Round by round: the two ran right after one another, under the same noise.
  const ratios = (figures.get(name) ?? []).map((figure, round) => figure / (others[round] ?? Number.NaN));
  const range = `${fixed(Math.min(...ratios))} – ${fixed(Math.max(...ratios))}`;
  return `${fixed(ratio(figures, name, other))} (${range})`;
}

function ratio(figures: Figures, name: string, other: string): number {
  return median(figures.get(name) ?? []) / median(figures.get(other) ?? []);
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [low, high] = [sorted[sorted.length % 2 === 0 ? middle - 1 : middle], sorted[middle]];
  return ((low ?? Number.NaN) + (high ?? Number.NaN)) / 2;
}

function fixed(value: number): string {
  return value.toFixed(value < 1 ? 3 : 2);
}

function versionOf(folder: string): string {
  return JSON.parse(readFileSync(new URL(`${folder}/package.json`, import.meta.url), 'utf8')).version;
}

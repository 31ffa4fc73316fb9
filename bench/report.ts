import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import type { Sample } from './bout.js';
import { type Case, type Figure, type Goal, units } from './cases.js';
import { bare, nchan, peers, subject } from './contenders.js';
import { pins } from './tools.js';

/** Of each contender, by its name, one sample a round. */
export type Figures = Map<string, Sample[]>;

export interface Result {
  case: Case;
  /** When it was measured: `2026-11-26`. */
  date: string;
  figures: Figures;
}

/** What was measured, as Markdown. */
export function report(results: readonly Result[]): string {
  const dates = [...new Set(results.map(({ date }) => date))].sort();
  return [
    '# The bench of express-comet',
    '',
    `${dates.join(', ')} · Node ${process.versions.node} · ${cpus()[0]?.model.trim()} · ` +
      `${versions()} · interleaved rounds · ` +
      `${pins ? 'server and client each on a core of its own' : 'not pinned to cores'} · every event counted`,
    '',
    'The server’s CPU (user and system) for each event that arrived, or each stream that was opened. Medians of the',
    'rounds; × is a round’s ratio to the first row’s: the median of the rounds, and the range.',
    ...goals(results),
    ...shares(results),
    ...growth(results),
    ...results.flatMap(table),
    '',
  ].join('\n');
}

function goals(results: readonly Result[]): string[] {
  const rows = results.flatMap(({ case: { name, goals = [] }, figures }) =>
    goals
      .filter(({ beside }) => beside.some((one) => figures.has(one.name)))
      .map((goal) => aim(name, goal, figures)),
  );
  return section('Goals', '| case | who | | beside | goal | reached | |', rows);
}

function aim(name: string, { figure, who = subject, beside, most, more }: Goal, figures: Figures): string {
  const of = (contender: { name: string }) => median(valuesOf(figures, contender.name, figure));
  const least = beside.reduce((best, one) => (of(one) < of(best) ? one : best));
  const reached = more ? of(who) - of(least) : ratioOf(figures, who.name, least.name, figure);
  const range = more ? [] : [rangeOf(ratios(figures, who.name, least.name, figure))];
  const verdict = reached <= most ? 'met' : 'missed';
  const unit = more ? ' KiB more' : '';
  const cells = [name, who.name, units[figure], `${beside.length > 1 ? 'the best, ' : ''}${least.name}`];
  return row(...cells, `≤ ${most}${unit}`, [fixed(reached) + unit, ...range].join(' '), verdict);
}

/** express-comet's share of what another takes. */
function shares(results: readonly Result[]): string[] {
  const others = [...peers, nchan, bare.response, bare.socket, bare.send].filter(({ name }) =>
    results.some(({ figures }) => figures.has(name)),
  );
  const rows = results
    .filter(({ case: { load }, figures }) => load.measure !== 'memory' && figures.has(subject.name))
    .filter(({ figures }) => others.some(({ name }) => figures.has(name)))
    .map(({ case: { name }, figures }) => {
      const share = (other: string) =>
        figures.has(other) ? fixed(ratioOf(figures, subject.name, other, 'cost')) : '';
      return row(name, ...others.map((other) => share(other.name)));
    });
  const heads = ['case', ...others.map(({ name }) => `of ${name}`)];
  return others.length === 0
    ? []
    : section('express-comet’s share of the CPU that another takes', row(...heads), rows);
}

/** How the cost of a delivery grows with streams, bytes, channels and retained frames, beside that of the bare socket. */
function growth(results: readonly Result[]): string[] {
  const rows = results
    .filter(({ case: { load } }) => load.measure === 'deliveries' && load.interval === undefined)
    .filter(({ figures }) => figures.has(bare.socket.name))
    .flatMap(({ case: { title, contenders }, figures }) =>
      contenders
        .filter(({ server, name }) => server === subject.server && figures.has(name))
        .map(({ name }) => {
          const [own, socket] = [name, bare.socket.name].map((one) => median(valuesOf(figures, one, 'cost')));
          const ratio = fixed(ratioOf(figures, name, bare.socket.name, 'cost'));
          return row(title, name, fixed(own), fixed(socket), ratio);
        }),
    );
  return rows.length < 2
    ? []
    : section('How a delivery’s cost grows', '| case | who | µs of CPU | bare socket, µs | × |', rows);
}

function table({ case: { name, title }, figures }: Result): string[] {
  const [[first = '', samples = []] = []] = figures;
  const rounds = `${samples.length} round${samples.length === 1 ? '' : 's'}`;
  const measured = (Object.keys(units) as Figure[]).filter((figure) => samples[0]?.[figure] !== undefined);
  const rows = Array.from(figures.keys(), (contender) => {
    const cells = measured.flatMap((figure, column) => {
      const values = valuesOf(figures, contender, figure);
      if (column > 0) return [fixed(median(values))];
      const times = `${fixed(ratioOf(figures, contender, first, figure))} ${rangeOf(ratios(figures, contender, first, figure))}`;
      return [fixed(median(values)), rangeOf(values), contender === first ? '1' : times];
    });
    return row(contender, ...cells);
  });
  const heads = measured.flatMap((figure, column) =>
    column > 0 ? [units[figure]] : [units[figure], 'range', '×'],
  );
  return section(`${name}: ${title}, ${rounds}`, row('', ...heads), rows);
}

function section(title: string, head: string, rows: readonly string[]): string[] {
  if (rows.length === 0) return [];
  return ['', `## ${title}`, '', head, head.replace(/[^|]+/g, '---'), ...rows];
}

function row(...cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}

function valuesOf(figures: Figures, name: string, figure: Figure): number[] {
  return (figures.get(name) ?? []).map((sample) => sample[figure] ?? Number.NaN);
}

function ratioOf(figures: Figures, name: string, other: string, figure: Figure): number {
  return median(ratios(figures, name, other, figure));
}

/** Round by round: the two ran in turns, under the same noise. */
function ratios(figures: Figures, name: string, other: string, figure: Figure): number[] {
  const others = valuesOf(figures, other, figure);
  return valuesOf(figures, name, figure).map((value, round) => value / (others[round] ?? Number.NaN));
}

function rangeOf(values: readonly number[]): string {
  return `(${fixed(Math.min(...values))} – ${fixed(Math.max(...values))})`;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [low, high] = [sorted[sorted.length % 2 === 0 ? middle - 1 : middle], sorted[middle]];
  return ((low ?? Number.NaN) + (high ?? Number.NaN)) / 2;
}

function fixed(value = Number.NaN): string {
  if (value >= 1000) return Math.round(value).toLocaleString('en');
  return value.toFixed(value < 1 ? 3 : 2);
}

function versions(): string {
  const { dependencies } = read('package.json');
  const names = Object.entries(dependencies ?? {}).map(([name, version]) => `${name} ${version}`);
  const own = read('../package.json').version;
  const express = read('../node_modules/express/package.json').version;
  return [`express-comet ${own}`, `express ${express}`, ...names].join(', ');
}

function read(path: string): { version?: string; dependencies?: Record<string, string> } {
  return JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'));
}

const KEYS = [
  ...[
    'cycles',
    'writes',
    'accepted',
    'neverAccepted',
    'outcomes',
    'delivered',
    'failed',
    'unknown',
    'events',
  ],
  ...['streams', 'recovered', 'gapsSaid', 'epochs', 'slowestOutcome'],
] as const;

/** What became of one or many clusters: counts, milliseconds of the slowest outcome, and how often each fault was drawn. */
export type Figures = Record<(typeof KEYS)[number], number> & Record<string, number>;

export const noFigures = (): Figures => Object.fromEntries(KEYS.map((key) => [key, 0])) as Figures;

/** Adds what became of more. */
export function addFigures(sum: Figures, more: Figures): void {
  for (const [key, count] of Object.entries(more)) {
    const before = sum[key] ?? 0;
    sum[key] = key === 'slowestOutcome' ? Math.max(before, count) : before + count;
  }
}

// Numbers, times and positions as text.

const whole = new Intl.NumberFormat('en');
const clock = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });
const UNITS = ['B', 'KiB', 'MiB', 'GiB'];

export const count = (value) => whole.format(value);
export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;
export const time = (moment) => clock.format(new Date(moment));

export function bytes(value) {
  let unit = 0;
  let size = value;
  while (size >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${UNITS[unit]}`;
}

export function milliseconds(value) {
  if (value === null || value === undefined) return '–';
  if (value < 10) return `${value.toFixed(value < 0.1 ? 2 : 1)} ms`;
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

/** `{ error: 1, stalled: 2 }` as `1 error, 2 stalled`. */
export function tally(counts) {
  return Object.entries(counts)
    .map(([name, value]) => `${count(value)} ${name}`)
    .join(', ');
}

/** Why not every listener was delivered to; empty where every one was. */
export function reasonsOf({ unknown, reasons }) {
  return tally(unknown > 0 ? { ...reasons, unknown } : reasons);
}

/**
 * The id of an event is `<epoch>-<seq>@<chan_id, percent-encoded>`; a position is what stands before the `@`. An event of a
 * start has none: there the id says how far the client had come before.
 */
export function parseId(id) {
  const [before, label = ''] = id.split('@');
  const [position = '', epoch = '', seq = '0'] = /^(\w+)-(\d+)$/.exec(before) ?? [];
  return { position, epoch, seq: Number(seq), channel: decodeURIComponent(label) };
}

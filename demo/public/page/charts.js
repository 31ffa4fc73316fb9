// The last minutes, drawn by uPlot. Their window, their axes and their sizes are fixed, so that only the lines move.

import './language.js';
import uPlot from '../vendor/uPlot.esm.js';
import { byId, element, setText } from './dom.js';
import { count, milliseconds } from './format.js';

const SECONDS = 300;
const HEIGHT = 168;
const AXIS = 40;

const CHARTS = [
  {
    id: 'chart-rates',
    series: [
      { name: 'Delivered', of: 'delivered', colour: '--tone-0', show: count },
      { name: 'Failed', of: 'failed', colour: '--bad', show: count },
    ],
    range: (_chart, _min, max) => [0, niceAbove(max)],
  },
  {
    id: 'chart-times',
    series: [
      { name: 'p50', of: 'p50', colour: '--tone-1', show: milliseconds },
      { name: 'p99', of: 'p99', colour: '--tone-2', show: milliseconds },
    ],
    // From microseconds to the seconds of a stall.
    isLogarithmic: true,
    range: (_chart, _min, max) => [0.01, Math.max(10, 10 ** Math.ceil(Math.log10(max || 1)))],
  },
  {
    id: 'chart-listeners',
    series: [
      { name: 'Listeners', of: 'listeners', colour: '--tone-4', show: count },
      { name: 'Behind', of: 'behind', colour: '--warn', show: count },
    ],
    range: (_chart, _min, max) => [0, niceAbove(max)],
  },
];

/** Seconds, the oldest first. */
let seconds = [];
let made = [];

/** Adds a second; what a rewind brings again is known already. */
export function add(second) {
  if (second.time <= (seconds.at(-1)?.time ?? 0)) return;
  seconds.push(second);
  seconds = seconds.filter(({ time }) => time > second.time - SECONDS * 1000);
  draw();
}

let isDue = false;

/** Once for all that came together: a newcomer gets minutes at once. */
function draw() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    for (const { chart, spec, values } of made) {
      chart.setData(dataOf(spec));
      const latest = seconds.at(-1);
      spec.series.forEach(({ of, show }, index) => {
        setText(values[index], latest === undefined ? '–' : show(latest[of]));
      });
    }
  });
}

function dataOf({ series, isLogarithmic }) {
  const values = series.map(({ of }) =>
    seconds.map((second) => (isLogarithmic && second[of] !== null ? Math.max(0.01, second[of]) : second[of])),
  );
  return [seconds.map(({ time }) => time / 1000), ...values];
}

export function makeCharts() {
  for (const { chart } of made) chart.destroy();
  made = CHARTS.map(make);
  draw();
}

function make(spec) {
  const place = byId(spec.id);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const quiet = { stroke: colour('--quiet'), font: '11px system-ui, sans-serif' };
  const grid = { stroke: colour('--line'), width: 1 };

  const chart = new uPlot(
    {
      width: place.clientWidth,
      height: HEIGHT,
      padding: [10, 10, 0, 0],
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { size: 6 } },
      scales: {
        x: {
          time: true,
          range: () => [
            (seconds.at(-1)?.time ?? Date.now()) / 1000 - SECONDS,
            (seconds.at(-1)?.time ?? Date.now()) / 1000,
          ],
        },
        y: { range: spec.range, ...(spec.isLogarithmic && { distr: 3 }) },
      },
      axes: [
        {
          ...quiet,
          grid: { show: false },
          ticks: { ...grid, size: 4 },
          size: 26,
          space: 60,
          incrs: [60, 120],
          values: (_chart, marks) => marks.map((mark) => clock.format(mark * 1000)),
        },
        {
          ...quiet,
          grid,
          ticks: { show: false },
          size: AXIS,
          gap: 6,
          ...(spec.isLogarithmic
            ? {
                splits: (chart) => powersOfTen(chart.scales.y.max),
                // uPlot would leave out some of them.
                filter: (_chart, marks) => marks,
                values: (_chart, marks) => marks.map(short),
              }
            : {
                space: 34,
                incrs: STEPS,
                values: (_chart, marks) => marks.map((mark) => compact.format(mark)),
              }),
        },
      ],
      series: [
        {},
        ...spec.series.map(({ name, colour: of }, index) => ({
          label: name,
          stroke: colour(of),
          width: 1.5,
          points: { show: false },
          ...(index === 0 && !spec.isLogarithmic && { fill: `${colour(of)}1f` }),
        })),
      ],
    },
    dataOf(spec),
    place,
  );
  new ResizeObserver(() => {
    if (place.clientWidth > 0) chart.setSize({ width: place.clientWidth, height: HEIGHT });
  }).observe(place);

  const legend = byId(`${spec.id}-legend`);
  const values = spec.series.map(() => element('dd', '', '–'));
  legend.replaceChildren(
    ...spec.series.map(({ name, colour: of }, index) => {
      const entry = element('div', '', element('dt', '', name), values[index]);
      entry.dataset.colour = of.slice(2);
      return entry;
    }),
  );
  return { chart, spec, values };
}

const clock = new Intl.DateTimeFormat('en-GB', { timeStyle: 'short' });
const compact = new Intl.NumberFormat('en', { notation: 'compact' });
const STEPS = [1, 2, 5]
  .flatMap((step) => [0, 1, 2, 3, 4, 5, 6, 7].map((power) => step * 10 ** power))
  .sort((a, b) => a - b);

/** The first of 4, 10, 20, 40, 100 … that is not below it: so the scale moves seldom. */
function niceAbove(value) {
  let bound = 4;
  for (const times of steps()) {
    if (bound >= value) return bound;
    bound *= times;
  }
}

function* steps() {
  for (;;) {
    yield 2.5;
    yield 2;
    yield 2;
  }
}

function powersOfTen(max) {
  const powers = [];
  for (let power = 0.01; power <= max * 1.001; power *= 10) powers.push(Number(power.toPrecision(1)));
  return powers;
}

function short(mark) {
  return mark < 1000 ? String(mark) : `${mark / 1000}K`;
}

// Canvas knows no custom properties: it is drawn anew in the other colours.
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', makeCharts);

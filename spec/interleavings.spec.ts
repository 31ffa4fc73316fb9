import { type Result, runAlone, runTogether } from './interleavings/run.js';
import { SCALE } from './support/scale.js';

// What every client was told must be what was written on the channels of its names since it began: each event once, in
// order, or it is told of the gap. Channels end and are made anew, histories grow old, and clients come back from anywhere.
// The short run; the long one is `npm run test:long`.
describe('Generated interleavings', () => {
  const RUNS = Math.ceil(200 * SCALE);
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 28));

  it(`of writes, ends, joins and returns on one hub are ${RUNS} times without an anomaly`, async function () {
    this.timeout(180_000 * Math.max(SCALE, 1));
    check(await runAlone(seed, RUNS));
  });

  it(`of the same on several hubs, with delays and lost connections, are ${RUNS} times without an anomaly`, async function () {
    this.timeout(180_000 * Math.max(SCALE, 1));
    check(await runTogether(seed, RUNS));
  });

  function check({ anomalies, tally }: Result): void {
    if (process.env.TALLY) console.log(JSON.stringify({ seed, runs: RUNS, ...tally }));
    if (anomalies.length > 0) throw new Error(anomalies.join('\n'));
  }
});

import { expect } from 'chai';
import { run } from './faults/machine.js';
import { planOf } from './faults/plan.js';
import { addFigures, noFigures } from './faults/record.js';

const SCHEDULES = 25;
const WRITES = 150;

// The short run; the long one is `npm run test:long`.
describe('Schedules of faults, drawn from a seed', () => {
  it(`have true outcomes, each once, and clients that read all they should, ${SCHEDULES} times`, async () => {
    const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
    const sum = noFigures();
    for (let index = 0; index < SCHEDULES; index += 1) {
      const { figures, faults } = await run(planOf(seed + index, WRITES));
      const again = `npm run test:long -- --seed ${seed + index} --writes ${WRITES}`;
      expect(faults, `it fails again by: ${again}`).to.deep.equal([]);
      addFigures(sum, figures);
    }
    expect(sum).to.include({ schedules: SCHEDULES, falseDelivered: 0, unsettled: 0, settledTwice: 0 });
    // It was about what it is meant to be about.
    for (const key of ['delivered', 'failed', 'unknown', 'blocked', 'judged'] as const) {
      expect(sum[key], key).to.be.above(0);
    }
  });
});

import { expect } from 'chai';
import { addFigures, noFigures } from './cluster/figures.js';
import { run } from './cluster/machine.js';
import { planOf, USUAL } from './cluster/plan.js';
import { SCALE } from './support/scale.js';

const CYCLES = 6;

// The short run; the long one is `npm run test:long`.
describe('A cluster under kills, restarts and pauses, drawn from a seed', () => {
  const base = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));

  for (let index = 0; index < SCALE; index += 1) {
    it(`has no silent gap, no double, one order and true outcomes, ${2 * CYCLES} times (${index + 1})`, async function () {
      this.timeout(180_000);
      const seed = base + index;
      const sum = noFigures();
      // Both at the same time: most of it is waiting.
      await Promise.all(
        [2, 3].map(async (nodes) => {
          const { figures, faults } = await run(planOf(seed, nodes, CYCLES, USUAL));
          const again = `npx tsx spec/cluster/long.ts --seed ${seed} --nodes ${nodes} --length ${CYCLES} --draw '${[...USUAL]}'`;
          expect(faults, `it may fail again by: ${again}`).to.deep.equal([]);
          addFigures(sum, figures);
        }),
      );
      expect(sum.cycles).to.equal(2 * CYCLES);
      // It was about what it is meant to be about.
      for (const key of ['delivered', 'events', 'recovered'] as const) expect(sum[key], key).to.be.above(0);
    });
  }
});

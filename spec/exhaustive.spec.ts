import { expect } from 'chai';
import { exploreAll, kindsOf, show } from './exhaustive/explorer.js';
import { setups } from './exhaustive/setups.js';

// What a page gets must be what the model says, after every sequence of what can happen to two channels and a page.
describe('Every sequence of a few steps over two channels and a page', () => {
  const STEPS = 3;

  it(`of up to ${STEPS} steps leaves the page with what it must get`, async function () {
    this.timeout(120_000);
    const reports = await exploreAll(setups, { steps: STEPS });
    const faults = [...kindsOf(reports).values()].map(([shortest]) => shortest && show(shortest));
    expect(faults).to.deep.equal([]);
    expect(reports.reduce((sum, { sequences }) => sum + sequences, 0)).to.be.above(5000);
  });

  it('shows a server that does not see the cursor of a return', async function () {
    this.timeout(120_000);
    const reports = await exploreAll(setups.slice(-2), { steps: STEPS, isSpoiled: true });
    expect([...kindsOf(reports).keys()]).not.to.deep.equal([]);
  });
});

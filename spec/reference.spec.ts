import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { execute } from './support/process.js';

const MAKE = fileURLToPath(new URL('../scripts/reference/make.mjs', import.meta.url));

describe('The API reference', function () {
  // The packages that make it are installed first, where `npm test` has not done it.
  this.timeout(60_000);

  it('is what the docstrings say, and no public name is without one', async () => {
    const { code, stdout, stderr } = await execute(process.execPath, [MAKE, '--check']);
    expect(stdout + stderr).to.equal('');
    expect(code).to.equal(0);
  });
});

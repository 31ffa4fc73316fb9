import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect } from 'chai';
import { execute } from './support/process.js';
import { cleanup } from './support/server.js';

const CONFIG: object = JSON.parse(readFileSync('.mocharc.json', 'utf8'));
const FINE = `describe('fine', () => { it('passes', () => {}); it.skip('is skipped', () => {}); });`;

/** Runs Mocha as `npm test` does, on these files. Returns its exit code, and the last line that it prints. */
async function mocha(...files: readonly string[]): Promise<[code: number | null, last: string | undefined]> {
  const folder = mkdtempSync(join(tmpdir(), 'express-comet-reporter-'));
  cleanup(() => rmSync(folder, { recursive: true }));
  const spec = files.map((text, index) => {
    const path = join(folder, `${index}.spec.ts`);
    writeFileSync(path, text);
    return path;
  });
  const config = join(folder, 'mocharc.json');
  writeFileSync(config, JSON.stringify({ ...CONFIG, spec }));
  const { code, stdout } = await execute(process.execPath, [
    ...[resolve('node_modules/mocha/bin/mocha.js'), '--config', config],
  ]);
  return [code, stdout.trim().split('\n').at(-1)];
}

describe('The last line of the test run', () => {
  it('counts what passed and what was skipped', async () => {
    expect(await mocha(FINE)).to.deep.equal([0, '1 passed, 0 failed, 1 skipped']);
  });

  // The hook that fails counts once, beside the tests that it kept from running.
  const hooks: [hook: string, passed: number, failed: number][] = [
    ['before', 0, 4],
    ['beforeEach', 0, 4],
    ['afterEach', 1, 3],
  ];
  for (const [hook, passed, failed] of hooks) {
    it(`counts the tests as failed that a failing ${hook} kept from running`, async () => {
      const broken = `describe('broken', () => {
        ${hook}(() => { throw new Error('no server'); });
        it('one', () => {}); it('two', () => {});
        describe('inner', () => { it('three', () => {}); });
      });`;
      const [code, last] = await mocha(broken, FINE);
      expect(last).to.equal(`${passed + 1} passed, ${failed} failed, 1 skipped`);
      expect(code).to.be.above(0);
    });
  }

  it('counts a file as failed that has no test, or can not be loaded', async () => {
    const [code, last] = await mocha(`describe('none', () => {});`, `throw new Error('broken');`, FINE);
    expect(last).to.equal('1 passed, 2 failed, 1 skipped');
    expect(code).to.equal(2);
  });

  it('says that the run ended too early where every worker died', async () => {
    const deadly = `it('dies', () => { process.exit(0); });`;
    const [code, last] = await mocha(deadly, deadly, deadly, FINE);
    expect(code).to.be.above(0);
    expect(last).to.match(/^The run ended before its tests did\.$|^\d+ passed, [1-9]/);
  });
});

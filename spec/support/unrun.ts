import type { Context, Hook, Suite } from 'mocha';

interface Hooks {
  readonly _beforeAll: readonly Hook[];
  readonly _beforeEach: readonly Hook[];
  readonly _afterEach: readonly Hook[];
}

/** Titles of the tests that did not run because a hook failed. */
function titlesOfUnrun(suite: Suite, isStopped = false): string[] {
  const { _beforeAll, _beforeEach, _afterEach } = suite as unknown as Hooks;
  const isOver = isStopped || [_beforeAll, _beforeEach, _afterEach].flat().some((hook) => hook.isFailed());
  const unrun = suite.tests.filter((test) => isOver && test.state === undefined && !test.isPending());
  return [
    ...unrun.map((test) => test.fullTitle()),
    ...suite.suites.flatMap((inner) => titlesOfUnrun(inner, isOver)),
  ];
}

/** What Mocha does after the last test of each file: a test that was to run and did not is a failure. */
export const mochaHooks = {
  afterAll(this: Context): void {
    const titles = titlesOfUnrun(this.test!.parent!);
    if (titles.length === 0) return;
    const error = new Error(`${titles.length} tests did not run: ${titles.join('; ')}`);
    throw Object.assign(error, { unrun: titles.length });
  },
};

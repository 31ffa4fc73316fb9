// Mocha's own report, and then the tally alone on the last line, in the form that CI looks for.

const { reporters, Runner } = require('mocha');

const { EVENT_RUN_END, EVENT_TEST_FAIL } = Runner.constants;

module.exports = class Reporter extends reporters.Spec {
  #runner;
  // Tests that a failed hook kept from running.
  #unrun = 0;

  constructor(runner, options) {
    super(runner, options);
    this.#runner = runner;
    runner.on(EVENT_TEST_FAIL, (_test, { unrun = 0 }) => {
      // The error of unrun.ts counts as one of them.
      this.#unrun += Math.max(unrun - 1, 0);
    });
    // Mocha exits with 0 if all its workers die while files are waiting for one.
    const abort = () => {
      console.log('The run ended before its tests did.');
      process.exitCode = 1;
    };
    process.on('exit', abort);
    runner.once(EVENT_RUN_END, () => process.off('exit', abort));
  }

  epilogue() {
    super.epilogue();
    const { passes, failures, pending } = this.stats;
    // Mocha counts a file without a test, as `failZero` says, and emits no event for it.
    const empty = this.#runner.failures - failures;
    if (empty > 0) console.log(`${empty} files have no test to run: each counts as failed.`);
    const skipped = pending > 0 ? `, ${pending} skipped` : '';
    console.log(`${passes} passed, ${failures + this.#unrun + Math.max(empty, 0)} failed${skipped}`);
  }
};

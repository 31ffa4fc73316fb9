// Mocha's own report, and then the tally alone on the last line, in the form that CI looks for.

const { reporters, Runner } = require('mocha');

const { EVENT_RUN_END, EVENT_TEST_FAIL, EVENT_TEST_PASS } = Runner.constants;

module.exports = class Reporter extends reporters.Spec {
  #runner;
  // Tests that a failed hook kept from running.
  #unrun = 0;
  // Servers on which a test passed, by the titles of redis-servers.spec.ts.
  #servers = new Set();

  constructor(runner, options) {
    super(runner, options);
    this.#runner = runner;
    runner.on(EVENT_TEST_FAIL, (_test, { unrun = 0 }) => {
      // The error of unrun.ts counts as one of them.
      this.#unrun += Math.max(unrun - 1, 0);
    });
    runner.on(EVENT_TEST_PASS, (test) => {
      const [, server] = /^On (\S+ \S+)$/.exec(test.titlePath()[0]) ?? [];
      if (server !== undefined) this.#servers.add(server);
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
    if (this.#servers.size > 0) console.log(`Servers that ran: ${[...this.#servers].sort().join(', ')}`);
    const skipped = pending > 0 ? `, ${pending} skipped` : '';
    console.log(`${passes} passed, ${failures + this.#unrun + Math.max(empty, 0)} failed${skipped}`);
  }
};

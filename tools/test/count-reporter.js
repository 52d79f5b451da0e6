// @ts-check
"use strict";
const fs = require("node:fs");
const { reporters, Runner } = require("mocha");

const { EVENT_RUN_END, EVENT_TEST_FAIL, EVENT_TEST_PASS, EVENT_TEST_PENDING } = Runner.constants;
/** How long the process may run after the last test. */
const GRACE_SECONDS = 10;
const LINES_OF_ERROR = 30;
const LETTERS_OF_ERROR = 3000;

/**
 * @typedef {object} Counts
 * @property {number} passed
 * @property {string[]} failed - Full titles, followed by the error from the second line on.
 * @property {{ title: string, reason: string }[]} skipped
 */

/**
 * Mocha's spec reporter that also writes the counts of the run to a file (`--reporter-option counts=<file>`), ends the run on SIGINT
 * and SIGTERM after its hooks, and fails a run that leaves something open, which would hang.
 */
class CountReporter extends reporters.Spec {
  /**
   * @param {import("mocha").Runner} runner
   * @param {import("mocha").MochaOptions} options
   */
  constructor(runner, options) {
    super(runner, options);
    const file = String(options.reporterOptions?.counts);
    /** @type {Counts} */
    const counts = { passed: 0, failed: [], skipped: [] };
    const write = () => fs.writeFileSync(file, JSON.stringify(counts));
    runner.on(EVENT_TEST_PASS, () => {
      counts.passed += 1;
    });
    runner.on(EVENT_TEST_FAIL, (test, error) => counts.failed.push(`${test.fullTitle()}\n${beginningOf(error)}`));
    runner.on(EVENT_TEST_PENDING, (test) => counts.skipped.push({ title: test.fullTitle(), reason: reasonOf(test) }));
    runner.once(EVENT_RUN_END, () => {
      write();
      setTimeout(() => {
        const open = process.getActiveResourcesInfo().join(", ");
        process.stderr.write(`The tests are over, but this keeps the process alive: ${open}\n`);
        counts.failed.push(`nothing is left open after the tests (found: ${open})`);
        write();
        process.exit(1);
      }, GRACE_SECONDS * 1000).unref();
    });
    // Each time: the same interrupt can come from the terminal and from parent processes.
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
      process.on(signal, () => runner.abort());
    }
  }
}

/**
 * The beginning of an error, for the summary. The provider's errors have no stack.
 * @param {Error} error
 * @returns {string}
 */
function beginningOf(error) {
  return (error.stack || error.message).split("\n").slice(0, LINES_OF_ERROR).join("\n").slice(0, LETTERS_OF_ERROR);
}

/**
 * The reason that `skip` left on the test, or on the suite whose hook skipped it.
 * @param {import("mocha").Runnable | import("mocha").Suite | undefined} node
 * @returns {string}
 */
function reasonOf(node) {
  for (let at = node; at; at = at.parent) {
    if ("skipReason" in at) {
      return String(at.skipReason);
    }
  }
  return "no reason was given (use skip of tools/test/skip)";
}

module.exports = CountReporter;

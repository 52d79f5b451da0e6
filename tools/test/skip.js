// @ts-check
"use strict";
const { Hook } = require("mocha");

/**
 * Skips the running test, or with it all tests of a suite when called in its `before`, and says why in the summary of the run.
 * @param {import("mocha").Context} context - `this` of the test or hook.
 * @param {string} reason
 * @returns {never}
 */
function skip(context, reason) {
  const runnable = context.runnable();
  // A hook is not what is reported as skipped: the tests of its suite are.
  Object.assign(runnable instanceof Hook && runnable.parent ? runnable.parent : runnable, { skipReason: reason });
  return context.skip();
}

module.exports = { skip };

// @ts-check
"use strict";
const { Hook } = require("mocha");

/**
 * Skips the running test, or all tests of a suite when called in its `before`. The summary shows the reason.
 * @param {import("mocha").Context} context - `this` of the test or hook.
 * @param {string} reason
 * @returns {never}
 */
function skip(context, reason) {
  const runnable = context.runnable();
  // Of a hook, the tests of its suite are reported as skipped.
  Object.assign(runnable instanceof Hook && runnable.parent ? runnable.parent : runnable, { skipReason: reason });
  return context.skip();
}

module.exports = { skip };

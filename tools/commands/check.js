// @ts-check
"use strict";
const { run } = require("../process");
const { secondsSince } = require("../progress");
const { installNodeDependencies } = require("../setup/node-dependencies");

/** The parts. Longest first: with two at a time, the run is shortest. */
const PARTS = [
  { name: "lint", command: ["eslint", "."] },
  { name: "generated pages", command: ["node", "tools/commands/docs.js", "--compare"] },
  { name: "types", command: ["tsc", "--noEmit", "--incremental", "--tsBuildInfoFile", "node_modules/.cache/check.tsbuildinfo"] },
  { name: "types of tools", command: ["tsc", "-p", "tools"] },
  { name: "import rules", command: ["depcruise", "provider", "components", "stacks", "lab", "test", "tools"] },
  { name: "unused code", command: ["knip"] },
  { name: "format", command: ["biome", "check", "--error-on-warnings", "."] },
];
const AT_ONCE = 2;

/**
 * Runs the static checks. Prints a line for each, and the output of each that failed.
 * @returns {Promise<{ passed: string[], failed: string[] }>}
 */
async function runChecks() {
  /** @type {string[]} */
  const passed = [];
  /** @type {string[]} */
  const failed = [];
  const waiting = [...PARTS];
  const worker = async () => {
    for (let part = waiting.shift(); part; part = waiting.shift()) {
      const started = process.hrtime.bigint();
      const [program = "", ...args] = part.command;
      const file = program === "node" ? process.execPath : `node_modules/.bin/${program}`;
      const { exitCode, output } = await run([file, ...args], { capture: true });
      (exitCode === 0 ? passed : failed).push(part.name);
      process.stdout.write(`[check] ${part.name} ... ${exitCode === 0 ? "ok" : "FAILED"} (${secondsSince(started)})\n`);
      if (exitCode !== 0) {
        process.stdout.write(`${output.trimEnd()}\n`);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return { passed, failed };
}

/** `npm run check` */
async function check() {
  await installNodeDependencies();
  const { failed } = await runChecks();
  process.stdout.write(failed.length === 0 ? "[check] all parts passed\n" : `[check] failed: ${failed.join(", ")}\n`);
  return failed.length === 0 ? 0 : 1;
}

module.exports = { check, runChecks };

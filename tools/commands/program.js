// @ts-check
"use strict";
const { run } = require("../process");
const { setUp } = require("../setup");

/**
 * Sets up and runs a TypeScript program of this repository, as one Node process with the terminal.
 * @param {string} file
 * @param {readonly string[]} args
 */
async function program(file, args) {
  const env = await setUp();
  const { exitCode } = await run([process.execPath, "--require", "tsx/cjs", file, ...args], { env, interactive: true });
  return exitCode;
}

module.exports = {
  /** @param {readonly string[]} args */
  demo: (args) => program("lab/demo.ts", args),
  /** @param {readonly string[]} args */
  bench: (args) => program("test/bench/main.ts", args),
  /** @param {readonly string[]} args */
  killRounds: (args) => program("test/recovery/kill-rounds.ts", args),
};

// @ts-check
"use strict";
/**
 * The entry of every npm script, which needs nothing but Node. Sets up what the command needs, with one line per step, and runs it.
 * Usage: node tools/run.js <demo|test|check|docs|servers|bench|kill-rounds|setup> [arguments of the command]
 */
const { Interrupted, forwardInterrupts } = require("./process");
const { SetupError } = require("./progress");

const OLDEST_NODE = 20;
/** Each is loaded on demand, and answers the exit code. */
const COMMANDS = {
  demo: () => require("./commands/program").demo,
  bench: () => require("./commands/program").bench,
  "kill-rounds": () => require("./commands/program").killRounds,
  test: () => require("./commands/test").test,
  check: () => require("./commands/check").check,
  docs: () => require("./commands/docs").docs,
  servers: () => require("./commands/servers").servers,
  setup: () => require("./setup").setup,
};

/** @param {readonly string[]} argv */
async function main([name = "", ...args]) {
  if (Number(process.versions.node.split(".")[0]) < OLDEST_NODE) {
    throw new SetupError(`Node ${OLDEST_NODE} or newer is needed; this is ${process.version}.`);
  }
  if (!Object.hasOwn(COMMANDS, name)) {
    throw new SetupError(`Usage: node tools/run.js <${Object.keys(COMMANDS).join("|")}> [arguments]`);
  }
  forwardInterrupts();
  return await COMMANDS[/** @type {keyof typeof COMMANDS} */ (name)]()(args);
}

main(process.argv.slice(2)).then(
  (exitCode) => {
    process.exitCode = exitCode;
  },
  (error) => {
    const expected = error instanceof SetupError || error instanceof Interrupted;
    process.stderr.write(`${expected ? error.message : error.stack}\n`);
    process.exitCode = error instanceof Interrupted ? error.exitCode : 1;
  },
);

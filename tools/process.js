// @ts-check
"use strict";
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const { checkoutRoot } = require("./paths");

/** How long an interrupted child may take to clean up (a lab with three hosts to stop) before it is killed. */
const CLEANUP_SECONDS = 120;
/** npm forwards a Ctrl-C that the terminal sends too: signals within this time are the same key press. */
const SAME_SIGNAL_SECONDS = 2;

/** @type {Set<import("node:child_process").ChildProcess>} */
const children = new Set();
/** Those that share the terminal, and with it our process group. @type {Set<import("node:child_process").ChildProcess>} */
const interactive = new Set();
/** @type {{ signal: NodeJS.Signals, at: number } | undefined} */
let interruption;

/** An interrupt from outside. No further process is started. */
class Interrupted extends Error {
  /** @param {NodeJS.Signals} signal */
  constructor(signal) {
    super(`interrupted by ${signal}`);
    this.exitCode = 128 + os.constants.signals[signal];
  }
}

/**
 * @typedef {object} RunOptions
 * @property {string} [cwd] - Default: the root of the checkout.
 * @property {NodeJS.ProcessEnv} [env]
 * @property {boolean} [capture] - Collect stdout and stderr (interleaved) instead of showing them.
 * @property {string} [logFile] - Append stdout and stderr to it instead of showing them.
 * @property {number} [timeoutSeconds] - End it after this time.
 * @property {boolean} [cleansUp] - When its time is over, let it clean up before it is killed.
 * @property {boolean} [sweep] - Kill what is left of its process group when it has ended.
 * @property {boolean} [interactive] - It gets the terminal, and shares our process group so that it can read from it.
 *
 * @typedef {object} RunResult
 * @property {number} exitCode - 128 plus the signal's number when a signal ended it, 127 when it could not be started.
 * @property {string} output
 * @property {boolean} timedOut
 */

/**
 * Runs a program to its end, in a process group of its own: so an interrupt reaches it and its children once, from us.
 * @param {readonly string[]} argv
 * @param {RunOptions} [options]
 * @returns {Promise<RunResult>}
 */
async function run(argv, options = {}) {
  throwIfInterrupted();
  const [program = "", ...args] = argv;
  const log = options.logFile === undefined ? undefined : fs.openSync(options.logFile, "a");
  const sink = options.capture ? "pipe" : (log ?? "inherit");
  const child = spawn(program, args, {
    cwd: options.cwd ?? checkoutRoot,
    env: options.env ?? process.env,
    stdio: options.interactive ? "inherit" : ["ignore", sink, sink],
    detached: !options.interactive,
  });
  if (log !== undefined) {
    fs.closeSync(log);
  }
  (options.interactive ? interactive : children).add(child);
  /** @type {Buffer[]} */
  const output = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (chunk) => output.push(chunk));
  }
  let timedOut = false;
  /** @type {NodeJS.Timeout[]} */
  const timers = [];
  if (options.timeoutSeconds !== undefined) {
    const end = () => {
      timedOut = true;
      signalGroup(child, options.cleansUp ? "SIGTERM" : "SIGKILL");
      timers.push(setTimeout(() => signalGroup(child, "SIGKILL"), CLEANUP_SECONDS * 1000));
    };
    timers.push(setTimeout(end, options.timeoutSeconds * 1000));
  }
  const exitCode = await new Promise((resolve) => {
    child.on("error", (error) => {
      output.push(Buffer.from(`${error.message}\n`));
      resolve(127);
    });
    // "exit", not "close": a daemon may have inherited the output and keep it open.
    child.on(options.capture ? "close" : "exit", (/** @type {number | null} */ code, /** @type {NodeJS.Signals} */ signal) =>
      resolve(code ?? 128 + os.constants.signals[signal]),
    );
  });
  timers.forEach((timer) => clearTimeout(timer));
  children.delete(child);
  interactive.delete(child);
  if (!options.interactive && (options.sweep || timedOut || interruption)) {
    signalGroup(child, "SIGKILL");
  }
  throwIfInterrupted();
  return { exitCode, output: Buffer.concat(output).toString("utf8"), timedOut };
}

/** @param {import("node:child_process").ChildProcess} child @param {NodeJS.Signals} signal */
function signalGroup(child, signal) {
  if (child.pid === undefined) {
    return;
  }
  try {
    process.kill(-child.pid, signal);
  } catch {
    // The group is empty.
  }
}

function throwIfInterrupted() {
  if (interruption) {
    throw new Interrupted(interruption.signal);
  }
}

/** Passes interrupts on to the children from now on. `run` throws `Interrupted` when they have cleaned up and ended. */
function forwardInterrupts() {
  for (const signal of /** @type {NodeJS.Signals[]} */ (["SIGINT", "SIGTERM", "SIGHUP"])) {
    process.on(signal, () => {
      const now = Date.now();
      if (interruption && now - interruption.at < SAME_SIGNAL_SECONDS * 1000) {
        return;
      }
      const first = interruption === undefined;
      interruption = { signal: interruption?.signal ?? signal, at: now };
      if (first && children.size > 0) {
        process.stderr.write(`\n${signal}: cleaning up (at most ${CLEANUP_SECONDS} s) ...\n`);
      }
      for (const child of children) {
        signalGroup(child, signal);
      }
      if (signal !== "SIGINT" || !process.stdin.isTTY) {
        // The terminal sends a Ctrl-C to the whole group; Pulumi takes a second one for "stop at once".
        interactive.forEach((child) => child.kill(signal));
      }
      if (first) {
        setTimeout(() => children.forEach((child) => signalGroup(child, "SIGKILL")), CLEANUP_SECONDS * 1000).unref();
      }
    });
  }
}

module.exports = { Interrupted, forwardInterrupts, run };

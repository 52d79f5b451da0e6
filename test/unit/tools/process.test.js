// @ts-check
"use strict";
const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const { once } = require("node:events");
const { mkdtempSync, readFileSync, rmSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { setImmediate } = require("node:timers/promises");
const { run } = require("../../../tools/process");

const PROCESS_MODULE = require.resolve("../../../tools/process");

/**
 * Resolves when the process is gone: the kernel carries a SIGKILL out a moment after it was sent. The test's own time is the limit.
 * @param {number} pid
 */
async function gone(pid) {
  while (isAlive(pid)) {
    await setImmediate();
  }
}

/** @param {number} pid */
function isAlive(pid) {
  try {
    // A zombie that nobody has waited for yet still takes signals.
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

describe("run", () => {
  it("answers the exit code and, when asked to, the output", async () => {
    const result = await run(["sh", "-c", "echo out; echo err >&2; exit 7"], { capture: true });
    assert.equal(result.exitCode, 7);
    assert.deepEqual(result.output.split("\n").sort(), ["", "err", "out"]);
  });

  it("answers 127 for a program that does not exist", async () => {
    const result = await run(["/no/such/program"], { capture: true });
    assert.equal(result.exitCode, 127);
    assert.match(result.output, /no\/such\/program/);
  });

  it("kills a program, and its children, at the timeout", async () => {
    const { timedOut, output } = await run(["sh", "-c", "sleep 60 & echo $!; wait"], { capture: true, timeoutSeconds: 2 });
    assert.equal(timedOut, true);
    assert.match(output, /^\d+$/m);
    await gone(Number(output.trim()));
  });

  it("kills what a program left behind on request", async () => {
    const { exitCode, output } = await run(["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"], { capture: true, sweep: true });
    assert.equal(exitCode, 0);
    await gone(Number(output.trim()));
  });
});

describe("forwardInterrupts", () => {
  /** @type {string} */
  let folder;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "interrupt-test-"));
  });
  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  /** @type {readonly (readonly [NodeJS.Signals, number])[]} */
  const cases = [
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ];
  for (const [signal, exitCode] of cases) {
    it(`passes ${signal} on once, waits until the child has cleaned up, and ends with ${exitCode}`, async () => {
      const child = `trap 'echo signal >> ${folder}/log; sleep 0.1; echo clean >> ${folder}/log; exit' INT TERM; echo ready; while :; do sleep 0.05; done`;
      const program = `
        const { forwardInterrupts, run } = require(${JSON.stringify(PROCESS_MODULE)});
        forwardInterrupts();
        run(["sh", "-c", process.argv[1]]).catch((error) => { process.exitCode = error.exitCode; });`;
      const parent = spawn(process.execPath, ["-e", program, child], { stdio: ["ignore", "pipe", "ignore"] });
      await once(parent.stdout, "data");
      // npm sends what the terminal has sent already.
      parent.kill(signal);
      parent.kill(signal);
      const [code] = await once(parent, "exit");
      assert.equal(code, exitCode);
      assert.equal(readFileSync(join(folder, "log"), "utf8"), "signal\nclean\n");
    });
  }
});

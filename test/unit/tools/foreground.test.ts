import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";

const MODULE = resolve(__dirname, "../../../lab/real/process.ts");

/** Runs a program in the foreground of another process, sends that one a signal once the program is ready, and returns its exit status. */
async function statusOf(program: string, signal?: NodeJS.Signals): Promise<unknown> {
  const argv = JSON.stringify([process.execPath, "--eval", program]);
  const code = `require(${JSON.stringify(MODULE)}).runInForeground(${argv}).then(process.exit)`;
  const child = spawn(process.execPath, ["--require", "tsx/cjs", "--eval", code], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "close");
  if (signal !== undefined) {
    await once(child.stdout, "data");
    child.kill(signal);
  }
  const [status] = (await ended) as unknown[];
  return status;
}

describe("A command in the foreground", () => {
  const endingWith = (status: number): string =>
    `process.on("SIGTERM", () => process.exit(${status})); setTimeout(() => {}, 50_000); console.log("ready")`;

  it("has its own exit status", async () => {
    assert.equal(await statusOf("process.exit(0)"), 0);
    assert.equal(await statusOf("process.exit(7)"), 7);
    assert.equal(await statusOf(endingWith(7), "SIGTERM"), 7);
  });

  it("that a signal ended has not succeeded, even if it says so", async () => {
    assert.equal(await statusOf(endingWith(0), "SIGTERM"), 143);
  });
});

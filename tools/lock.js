// @ts-check
"use strict";
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");
const { cacheDir } = require("./paths");

/**
 * Does something that two runs on this machine must not do at the same time. The kernel holds the lock (flock), so a killed run
 * cannot leave it behind. Where there is no flock program it is done without.
 * @template T
 * @param {string} name
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
async function withLock(name, work) {
  const file = path.join(cacheDir(), "locks", `${name}.lock`);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  // The holder ends, and with it the lock, when its standard input is closed: by us, or by the kernel when we are gone.
  const holder = spawn("flock", [file, "sh", "-c", "echo held; exec cat"], { stdio: ["pipe", "pipe", "ignore"], detached: true });
  const waiting = setTimeout(() => process.stdout.write(`[setup] waiting for another run that is doing "${name}"\n`), 1000);
  await new Promise((resolve) => {
    holder.on("error", resolve);
    holder.on("exit", resolve);
    holder.stdout.once("data", resolve);
  });
  clearTimeout(waiting);
  try {
    return await work();
  } finally {
    holder.stdin.on("error", () => {}); // It may have ended already.
    holder.stdin.end();
  }
}

module.exports = { withLock };

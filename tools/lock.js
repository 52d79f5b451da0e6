// @ts-check
"use strict";
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");
const { cacheDir } = require("./paths");

/**
 * Runs work that two runs on this machine must not do at the same time. The kernel holds the lock (flock), so a killed run does not leave
 * it behind. Without a flock program, there is no lock.
 * @template T
 * @param {string} name
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
async function withLock(name, work) {
  const file = path.join(cacheDir(), "locks", `${name}.lock`);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  // The holder and its lock end when its standard input is closed: by us, or by the kernel when this process ends.
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

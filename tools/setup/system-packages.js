// @ts-check
"use strict";
const fs = require("node:fs");
const { run } = require("../process");

/**
 * Installs Debian packages that the set-up needs, as root on a system with apt. Elsewhere it does nothing; the caller then finds that the
 * program is missing.
 * @param {readonly string[]} packages
 */
async function installSystemPackages(packages) {
  if (process.getuid?.() !== 0 || !fs.existsSync("/usr/bin/apt-get")) {
    return;
  }
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const apt = ["apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=120"];
  // A new machine has no package lists yet.
  await run([...apt, "update"], { env, capture: true, timeoutSeconds: 180 });
  await run([...apt, "install", "--no-install-recommends", ...packages], { env, capture: true, timeoutSeconds: 600 });
}

module.exports = { installSystemPackages };

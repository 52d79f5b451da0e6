// @ts-check
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { withLock } = require("../lock");
const { checkoutId, checkoutRoot } = require("../paths");
const { run } = require("../process");
const { SetupError, step } = require("../progress");

/**
 * Whether node_modules matches the lock file. npm writes its list of packages when it has finished.
 * @param {string} root - The checkout.
 */
function dependenciesInstalled(root) {
  const wanted = readPackages(path.join(root, "package-lock.json"));
  const installed = readPackages(path.join(root, "node_modules", ".package-lock.json"));
  return Object.entries(wanted).every(([name, { version, integrity, optional }]) => {
    const found = installed[name];
    // npm skips optional packages for other platforms.
    return name === "" || (found ? found.version === version && found.integrity === integrity : optional === true);
  });
}

/**
 * @param {string} file
 * @returns {Record<string, { version?: string, integrity?: string, optional?: boolean }>}
 */
function readPackages(file) {
  try {
    return JSON.parse(fs.readFileSync(file, "utf8")).packages ?? {};
  } catch {
    return {};
  }
}

/** Installs the locked Node dependencies without install scripts: none is needed, and some download files. */
async function installNodeDependencies() {
  await withLock(`dependencies-${checkoutId()}`, () =>
    step("installing Node dependencies (locked)", async () => {
      if (dependenciesInstalled(checkoutRoot)) {
        return { note: "already there", value: undefined };
      }
      const npm = process.env.npm_execpath?.endsWith(".js") ? [process.execPath, process.env.npm_execpath] : ["npm"];
      const { exitCode, output } = await run(
        [...npm, "ci", "--ignore-scripts", "--include=dev", "--include=optional", "--no-audit", "--no-fund", "--loglevel=error"],
        { capture: true },
      );
      if (exitCode !== 0) {
        throw new SetupError(`npm ci failed:\n${output}`);
      }
      return { value: undefined };
    }),
  );
}

module.exports = { dependenciesInstalled, installNodeDependencies };

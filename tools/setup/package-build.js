// @ts-check
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { withLock } = require("../lock");
const { checkoutId, checkoutRoot } = require("../paths");
const { run } = require("../process");
const { SetupError, step } = require("../progress");

const SOURCES = ["provider", "components", "cli"];
const SETTINGS = ["tsconfig.json", "tsconfig.build.json", "package-lock.json"];

/**
 * The sources of the build, each with its size and time.
 * @param {string} root - The checkout.
 * @returns {Record<string, string>}
 */
function sourceState(root) {
  const files = SOURCES.filter((folder) => fs.existsSync(path.join(root, folder))).flatMap((folder) =>
    fs
      .readdirSync(path.join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .map((name) => path.join(folder, name)),
  );
  return Object.fromEntries(
    [...files, ...SETTINGS].map((name) => {
      const { size, mtimeMs } = fs.statSync(path.join(root, name));
      return [name, `${size} ${mtimeMs}`];
    }),
  );
}

/** Compiles the package to dist/, where its `exports` point: the Pulumi engine loads it from there. */
async function buildPackage() {
  await withLock(`build-${checkoutId()}`, () =>
    step("compiling the package", async () => {
      const dist = path.join(checkoutRoot, "dist");
      const stamp = path.join(dist, ".built-from.json");
      const now = sourceState(checkoutRoot);
      const before = readStamp(stamp);
      if (JSON.stringify(before) === JSON.stringify(now)) {
        return { note: "up to date", value: undefined };
      }
      if (before === undefined || Object.keys(before).some((name) => !(name in now))) {
        // The compiler does not remove the output of a deleted source.
        fs.rmSync(dist, { recursive: true, force: true });
      }
      const { exitCode, output } = await run(["node_modules/.bin/tsc", "-p", "tsconfig.build.json"], { capture: true });
      if (exitCode !== 0) {
        throw new SetupError(`The package does not compile:\n${output}`);
      }
      fs.writeFileSync(stamp, JSON.stringify(now));
      return { value: undefined };
    }),
  );
}

/** @param {string} file */
function readStamp(file) {
  try {
    return JSON.parse(fs.readFileSync(file, "utf8"));
  } catch {
    return undefined;
  }
}

module.exports = { buildPackage, sourceState };

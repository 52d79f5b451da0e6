// @ts-check
"use strict";
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { checkoutRoot } = require("../paths");
const { run } = require("../process");
const { installNodeDependencies } = require("../setup/node-dependencies");

const TARGET = path.join(checkoutRoot, "docs", "api");

/** @param {string} folder */
async function generate(folder) {
  const { exitCode, output } = await run(["node_modules/.bin/typedoc", "--out", folder], { capture: true });
  if (exitCode !== 0) {
    process.stdout.write(output);
  }
  return exitCode;
}

/** `npm run docs`: writes the API reference. */
async function docs() {
  await installNodeDependencies();
  const exitCode = await generate(TARGET);
  if (exitCode === 0) {
    process.stdout.write(`Written: ${path.relative(checkoutRoot, TARGET)}\n`);
  }
  return exitCode;
}

/** Fails, and names the pages, when the committed API reference is not what the sources give. */
async function compare() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "api-reference-"));
  try {
    const exitCode = await generate(folder);
    if (exitCode !== 0) {
      return exitCode;
    }
    const [wanted, found] = [readPages(folder), readPages(TARGET)];
    const stale = [...new Set([...wanted.keys(), ...found.keys()])].filter((page) => wanted.get(page) !== found.get(page)).sort();
    if (stale.length > 0) {
      process.stdout.write(
        `docs/api is not what the sources give. Run "npm run docs". Pages that differ:\n${stale.join("\n")}\n`,
      );
    }
    return stale.length === 0 ? 0 : 1;
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * @param {string} folder
 * @returns {Map<string, string>}
 */
function readPages(folder) {
  const pages = fs.existsSync(folder) ? fs.readdirSync(folder, { recursive: true, encoding: "utf8" }) : [];
  return new Map(
    pages.filter((page) => page.endsWith(".md")).map((page) => [page, fs.readFileSync(path.join(folder, page), "utf8")]),
  );
}

module.exports = { docs };

if (require.main === module && process.argv[2] === "--compare") {
  compare().then((exitCode) => {
    process.exitCode = exitCode;
  });
}

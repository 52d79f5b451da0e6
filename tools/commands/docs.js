// @ts-check
"use strict";
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { checkoutRoot } = require("../paths");
const { run } = require("../process");
const { installNodeDependencies } = require("../setup/node-dependencies");

const DOCS = path.join(checkoutRoot, "docs");
/** Generated pages, relative to `docs`. */
const API = "api";
const DRIFT_TABLE = path.join("guide", "drift-table.md");

/**
 * Generates the API reference (from the sources) and the drift table (from the tests) into a folder laid out as `docs`.
 * @param {string} folder
 */
async function generate(folder) {
  const api = await run(["node_modules/.bin/typedoc", "--out", path.join(folder, API)], { capture: true });
  if (api.exitCode !== 0) {
    process.stdout.write(api.output);
    return api.exitCode;
  }
  const table = await run([process.execPath, "--require", "tsx/cjs", "test/lifecycles/drift/page.ts"], { capture: true });
  if (table.exitCode !== 0) {
    process.stdout.write(table.output);
    return table.exitCode;
  }
  fs.mkdirSync(path.dirname(path.join(folder, DRIFT_TABLE)), { recursive: true });
  fs.writeFileSync(path.join(folder, DRIFT_TABLE), table.output);
  return 0;
}

/** `npm run docs`: writes the API reference and the drift table. */
async function docs() {
  await installNodeDependencies();
  const exitCode = await generate(DOCS);
  if (exitCode === 0) {
    process.stdout.write(`Written: docs/${API}, docs/${DRIFT_TABLE}\n`);
  }
  return exitCode;
}

/** Fails when committed pages differ from generated ones, and lists them. */
async function compare() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "generated-pages-"));
  try {
    const exitCode = await generate(folder);
    if (exitCode !== 0) {
      return exitCode;
    }
    const [wanted, found] = [readPages(folder), readPages(DOCS)];
    const stale = [...new Set([...wanted.keys(), ...found.keys()])].filter((page) => wanted.get(page) !== found.get(page)).sort();
    if (stale.length > 0) {
      process.stdout.write(
        `Generated pages in docs are out of date. Run "npm run docs". Pages that differ:\n${stale.join("\n")}\n`,
      );
    }
    return stale.length === 0 ? 0 : 1;
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Reads the generated pages in a folder laid out as `docs`, by path.
 * @param {string} folder
 * @returns {Map<string, string>}
 */
function readPages(folder) {
  const api = path.join(folder, API);
  const pages = fs.existsSync(api) ? fs.readdirSync(api, { recursive: true, encoding: "utf8" }) : [];
  const generated = [...pages.filter((page) => page.endsWith(".md")).map((page) => path.join(API, page)), DRIFT_TABLE];
  return new Map(
    generated
      .filter((page) => fs.existsSync(path.join(folder, page)))
      .map((page) => [page, fs.readFileSync(path.join(folder, page), "utf8")]),
  );
}

module.exports = { docs };

if (require.main === module && process.argv[2] === "--compare") {
  compare().then((exitCode) => {
    process.exitCode = exitCode;
  });
}

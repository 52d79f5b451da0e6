// @ts-check
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { checkoutRoot } = require("../paths");
const { SetupError } = require("../progress");

/** @typedef {{ flavour: string, hosts: string, server: string, version: string, apiExtensions: number, passed: number, failed: number }} Result */

const PAGE = path.join("docs", "servers.md");

const HEAD = `# Servers

What the contract suite ([test/contract/lxd](../test/contract/lxd/lxd-contract.ts)) has shown: which servers it ran on, and how many of its
cases passed. The same suite runs on real hosts and on simulated ones; what it expects of a server where they differ is in
[servers.ts](../test/contract/lxd/servers.ts). This page is written by \`node tools/run.js servers FOLDER\`, from the results of runs
with \`CONTRACT_REPORT=FOLDER\`.
`;

/** @param {Result} result */
const row = ({ flavour, hosts, server, version, apiExtensions, passed, failed }) =>
  `| ${flavour} | ${{ lxd: "LXD", incus: "Incus" }[server] ?? server} ${version} | ${apiExtensions} | ${hosts} | ${passed} of ${passed + failed} |`;

/**
 * Writes docs/servers.md from the results of the contract suite.
 * @param {readonly string[]} args - A folder with results.
 */
async function servers([folder]) {
  if (folder === undefined || !fs.existsSync(folder)) {
    throw new SetupError(
      "Usage: node tools/run.js servers FOLDER, with what the contract suite left in it by CONTRACT_REPORT=FOLDER",
    );
  }
  const names = fs.readdirSync(folder).filter((name) => name.endsWith(".json"));
  /** @type {Result[]} */
  const results = names.map((name) => JSON.parse(fs.readFileSync(path.join(folder, name), "utf8")));
  results.sort((a, b) => a.apiExtensions - b.apiExtensions || a.hosts.localeCompare(b.hosts));
  const head = ["| Flavour | Server | API extensions | Hosts | Cases passed |", "|---|---|---|---|---|"];
  fs.writeFileSync(path.join(checkoutRoot, PAGE), [HEAD, ...head, ...results.map(row), ""].join("\n"));
  process.stdout.write(`Written: ${PAGE}\n`);
  return 0;
}

module.exports = { servers };

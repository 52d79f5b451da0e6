// @ts-check
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { checkoutRoot } = require("../paths");
const { SetupError } = require("../progress");

/**
 * What the contract suite left for a flavour, on real or simulated hosts.
 * @typedef {{ flavour: string, hosts: "real" | "simulated", server: "lxd" | "incus", version: string, apiExtensions: number, passed: number,
 *   failed: number }} ContractResult
 * What a tier on real hosts left.
 * @typedef {{ flavour: string, tier: string, passed: number, failed: number }} TierResult
 */

const PAGE = path.join("docs", "servers.md");

const HEAD = `# Servers

Which servers the suites ran on, and how many of their cases passed. The contract suite
([test/contract/lxd](../test/contract/lxd/lxd-contract.ts)) has every call of the library and every error that it relies on. It runs on real
hosts and on simulated ones; what it expects of a server where they differ is in [servers.ts](../test/contract/lxd/servers.ts). The tiers are
those of [CONTRIBUTING.md](../CONTRIBUTING.md#tiers-of-tests); those on real hosts include the contract suite once.

LXD 5.21 and later are in no Debian release. What they do otherwise is simulated, as read from their source ([simulator.md](simulator.md)).

This page is written by \`node tools/run.js servers FOLDER\`, from the results of runs with \`SERVERS_REPORT=FOLDER\`.
`;

/** @param {{ passed: number, failed: number } | undefined} result */
const cases = (result) => (result === undefined ? "" : `${result.passed} of ${result.passed + result.failed}`);

/**
 * Writes docs/servers.md from the results of the suites.
 * @param {readonly string[]} args - A folder with results.
 */
async function servers([folder]) {
  if (folder === undefined || !fs.existsSync(folder)) {
    throw new SetupError("Usage: node tools/run.js servers FOLDER, with what the suites left in it by SERVERS_REPORT=FOLDER");
  }
  const results = fs
    .readdirSync(folder)
    .filter((name) => name.endsWith(".json"))
    .sort()
    .map((name) => JSON.parse(fs.readFileSync(path.join(folder, name), "utf8")));
  /** @type {ContractResult[]} */
  const contracts = results.filter(({ hosts }) => hosts !== undefined);
  /** @type {TierResult[]} */
  const tiers = results.filter(({ tier }) => tier !== undefined);
  const flavours = [...new Map(contracts.map((result) => [result.flavour, result])).values()];
  flavours.sort((a, b) => a.apiExtensions - b.apiExtensions);
  const rows = flavours.map(({ flavour, server, version, apiExtensions }) => {
    const contract = (/** @type {string} */ hosts) =>
      cases(contracts.find((each) => each.flavour === flavour && each.hosts === hosts));
    const ofTiers = tiers.filter((each) => each.flavour === flavour).map((each) => `${each.tier} ${cases(each)}`);
    const name = { lxd: "LXD", incus: "Incus" }[server];
    return `| ${flavour} | ${name} ${version} | ${apiExtensions} | ${contract("simulated")} | ${contract("real")} | ${ofTiers.join("; ")} |`;
  });
  const head = [
    "| Flavour of the lab | Server | API extensions | Contract, simulated | Contract, real | Tiers on real hosts |",
    "|---|---|---|---|---|---|",
  ];
  fs.writeFileSync(path.join(checkoutRoot, PAGE), [HEAD, ...head, ...rows, ""].join("\n"));
  process.stdout.write(`Written: ${PAGE}\n`);
  return 0;
}

module.exports = { servers };

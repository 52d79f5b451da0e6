// @ts-check
"use strict";
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { parseArgs } = require("node:util");
const { Interrupted, run } = require("../process");
const { SetupError, secondsSince } = require("../progress");
const { setUpStacks } = require("../setup");
const { installNodeDependencies } = require("../setup/node-dependencies");
const { runChecks } = require("./check");

/**
 * A tier is a mocha run over its `files`, by default `test/<name>/**\/*.test.{ts,js}`. `limitMinutes` limits the tier, `testSeconds` each test without a
 * timeout of its own: both stop what hangs, and are generous for a busy machine. Tiers with `stacks` need the compiled package and the Pulumi
 * CLI; the others run from the sources. Each `lane` starts at once and runs in parallel to the others, its tiers one after the other.
 * Tiers with a `lab` boot real hosts of their own, by that program with these options; most of their time they wait for LXD.
 * `thoroughMinutes` is the limit with --thorough; a tier that has no other limit runs with --thorough only, and one with `nightly` with
 * --nightly only.
 * @typedef {{ name: string, files?: string, limitMinutes?: number, thoroughMinutes?: number, nightly?: boolean, testSeconds: number,
 *   stacks?: boolean, lane: string, lab?: readonly string[] }} Tier
 */

const LAB = "lab/real/cli.ts";
const HOSTS = ["--hosts", "bcn2,bcn1,bcn3"];
/** A story that begins with one server and ends with the next one. */
const TWO_VERSIONS = "two-versions";
/**
 * What is tested on each server: all acceptance tests but that story, and those of the lab itself and of snapd. The latter bring a snap in the
 * place of the flavour's server, on hosts of Debian 12, whose snapd their set-up is made for; Incus has no snap.
 */
const ON_ONE_SERVER = `lab|snapd|${TWO_VERSIONS}`;
const ON_EACH_SERVER = `test/acceptance/!(${ON_ONE_SERVER}).test.ts`;
/** What CI tests of it on Debian 13's LXD, which is close to Debian 12's. The others run by night. */
const CORE = "contract|hosts|stack";
const CORE_FILES = `test/acceptance/@(${CORE}).test.ts`;
const OTHER_FILES = `test/acceptance/!(${ON_ONE_SERVER}|${CORE}).test.ts`;
/** Long stories, which CI tells on Debian 12's LXD alone. */
const LONG = "inside-machines|three-members|two-networks|upgrades|image-updates";
const LONG_FILES = `test/acceptance/@(${LONG}).test.ts`;
const SHORT_FILES = `test/acceptance/!(${ON_ONE_SERVER}|${LONG}).test.ts`;

/** @type {(name: string, flavour: string, files?: string) => Tier} */
const acceptanceOn = (name, flavour, files = ON_EACH_SERVER) => ({
  ...{ name, files, thoroughMinutes: 80, testSeconds: 600, stacks: true },
  ...{ lane: "flavours", lab: [LAB, "--flavour", flavour, ...HOSTS] },
});
/** @type {(flavour: string) => Tier} */
const recoveryOn = (flavour) => ({
  ...{ name: `recovery-${flavour}`, files: "test/recovery/*.test.ts", thoroughMinutes: 80, testSeconds: 600, stacks: true },
  ...{ nightly: true, lane: "flavours", lab: [LAB, "--flavour", flavour, ...HOSTS] },
});

/** @type {readonly Tier[]} */
const TIERS = [
  { name: "unit", limitMinutes: 20, testSeconds: 60, lane: "here" },
  { name: "contract", limitMinutes: 10, testSeconds: 120, lane: "here" },
  { name: "mocks", limitMinutes: 10, testSeconds: 120, stacks: true, lane: "here" },
  { name: "lifecycles", limitMinutes: 30, thoroughMinutes: 80, testSeconds: 300, lane: "lifecycles" },
  { name: "engine", limitMinutes: 40, thoroughMinutes: 80, testSeconds: 300, stacks: true, lane: "here" },
  {
    name: "acceptance",
    files: `test/acceptance/!(${TWO_VERSIONS}).test.ts`,
    limitMinutes: 60,
    thoroughMinutes: 80,
    testSeconds: 600,
    stacks: true,
    lane: "acceptance",
    lab: [LAB, ...HOSTS],
  },
  { name: "recovery", thoroughMinutes: 80, testSeconds: 600, stacks: true, lane: "recovery", lab: [LAB, ...HOSTS] },
  {
    // The emulator takes the whole time of a processor: it runs when the first tiers have ended.
    name: "machines",
    thoroughMinutes: 40,
    testSeconds: 900,
    stacks: true,
    lane: "recovery",
    lab: ["lab/machines/cli.ts", "--vm"],
  },
  {
    ...{ name: "other-hosts", thoroughMinutes: 40, testSeconds: 600 },
    ...{ stacks: true, lane: "recovery", lab: [LAB, "--shape", "strict"] },
  },
  {
    ...{ name: "contract-other-hosts", files: "test/acceptance/contract.test.ts", thoroughMinutes: 40, testSeconds: 600 },
    ...{ nightly: true, lane: "acceptance", lab: [LAB, "--shape", "strict"] },
  },
  {
    ...{ name: "recovery-other-hosts", files: "test/recovery/half-joins.test.ts", thoroughMinutes: 40, testSeconds: 600 },
    ...{ nightly: true, lane: "acceptance", lab: [LAB, "--shape", "strict", "--hosts", "alpha,Beta-2,gamma"] },
  },
  acceptanceOn("trixie-lxd", "trixie-lxd", CORE_FILES),
  acceptanceOn("trixie-incus7", "trixie-incus7", SHORT_FILES),
  { ...acceptanceOn("trixie-lxd-others", "trixie-lxd", OTHER_FILES), nightly: true },
  { ...acceptanceOn("trixie-incus7-long", "trixie-incus7", LONG_FILES), nightly: true },
  { ...acceptanceOn("trixie-incus", "trixie-incus"), nightly: true },
  { ...acceptanceOn(TWO_VERSIONS, "trixie-incus", `test/acceptance/${TWO_VERSIONS}.test.ts`), nightly: true },
  ...["trixie-lxd", "trixie-incus", "trixie-incus7"].map(recoveryOn),
];
/** Environment of --nightly: everything instead of a sample. Variables that are set already win. */
const NIGHTLY = {
  EVERY_CASE: "1",
  HISTORIES: "5000",
  FUZZ: "5000",
  SWEEP: "1",
  HANGS: "1",
  TRANSIENT: "1",
  KILL_ROUNDS: "20",
  PACKAGE_MANAGERS: "1",
  OPERATION_SECONDS: "60",
};
/** Factor of the time limits by night. */
const NIGHT_FACTOR = 12;

/** The static checks are a tier too, with a test for each part. */
const TIER_NAMES = ["check", ...TIERS.map(({ name }) => name)];

/** @typedef {import("../test/count-reporter").Counts} Counts */

/**
 * `npm test -- [--tier unit,engine] [--grep text] [--thorough|--nightly] [--no-skips]`
 * --no-skips fails the run when a test is skipped.
 * --thorough is what CI runs: more positions of the fault sweep, more random cases, and recovery. --nightly runs every position and effect.
 * @param {readonly string[]} argv
 */
async function test(argv) {
  const options = parseOptions(argv);
  /** @type {Map<string, Counts>} */
  const results = new Map();
  let exitCode = 0;
  try {
    await runTiers(options, results);
  } catch (error) {
    if (!(error instanceof SetupError) && !(error instanceof Interrupted)) {
      throw error;
    }
    results.set(error instanceof Interrupted ? "interrupt" : "set-up", { passed: 0, failed: [error.message], skipped: [] });
    exitCode = error instanceof Interrupted ? error.exitCode : 1;
  }
  return summarize(results) ? exitCode : exitCode || 1;
}

/**
 * @param {ReturnType<typeof parseOptions>} options
 * @param {Map<string, Counts>} results
 */
async function runTiers(options, results) {
  await installNodeDependencies();
  const tiers = TIERS.filter(({ name }) => options.tiers.includes(name));
  const breadth = { ...(options.nightly ? NIGHTLY : {}), ...(options.thorough ? { THOROUGH: "1" } : {}) };
  const stacks = tiers.some((tier) => tier.stacks) ? await setUpStacks() : process.env;
  /** @type {(tier: Tier, logFile?: string) => Promise<void>} */
  const runOne = async (tier, logFile) => {
    const env = { ...breadth, ...(tier.stacks ? stacks : process.env) };
    const counts = await runTier(tier, env, options, logFile);
    if (options.noSkips) {
      counts.failed.push(
        ...counts.skipped.splice(0).map(({ title, reason }) => `${title} (must not be skipped here: ${reason})`),
      );
    }
    results.set(tier.name, counts);
    const report = process.env["SERVERS_REPORT"];
    if (tier.lab !== undefined && report !== undefined) {
      reportServer(report, tier.name, tier.lab, counts);
    }
  };
  const here = async () => {
    if (options.tiers.includes("check")) {
      const { passed, failed } = await runChecks();
      results.set("check", { passed: passed.length, failed, skipped: [] });
    }
    for (const tier of tiers.filter(({ lane }) => lane === "here")) {
      await runOne(tier);
    }
  };
  /** @type {(name: string) => Promise<void>} */
  const alongside = async (name) => {
    for (const tier of tiers.filter(({ lane }) => lane === name)) {
      await (options.tiers.length === 1 ? runOne(tier) : quietly((logFile) => runOne(tier, logFile)));
    }
  };
  const others = new Set(tiers.map(({ lane }) => lane).filter((lane) => lane !== "here"));
  const lanes = [here(), ...[...others].map(alongside)];
  // An interrupt ends all of them, at different times.
  for (const lane of await Promise.allSettled(lanes)) {
    if (lane.status === "rejected") {
      throw lane.reason;
    }
  }
}

/**
 * Runs work in parallel to others: prints its output in one piece at the end.
 * @param {(logFile: string) => Promise<void>} work
 */
async function quietly(work) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "test-log-"));
  const logFile = path.join(folder, "output");
  try {
    await work(logFile);
  } finally {
    process.stdout.write(fs.readFileSync(logFile));
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * @param {Tier} tier
 * @param {NodeJS.ProcessEnv} env
 * @param {Pick<ReturnType<typeof parseOptions>, "grep" | "nightly">} options
 * @param {string} [logFile] - Takes the output.
 * @returns {Promise<Counts>}
 */
async function runTier({ name, testSeconds, lab, ...tier }, env, { grep, nightly }, logFile) {
  const usualMinutes =
    (env["THOROUGH"] === undefined ? undefined : tier.thoroughMinutes) ?? tier.limitMinutes ?? tier.thoroughMinutes ?? 0;
  const limitMinutes = usualMinutes * (nightly ? NIGHT_FACTOR : 1);
  const say = (/** @type {string} */ text) =>
    logFile === undefined ? process.stdout.write(text) : fs.appendFileSync(logFile, text);
  const obstacle = lab === undefined ? undefined : whyNoLab();
  if (obstacle !== undefined) {
    say(`\n[test] ${name}: skipped, because ${obstacle}\n`);
    return { passed: 0, failed: [], skipped: [{ title: `all of ${name}`, reason: obstacle }] };
  }
  say(`\n[test] ${name}\n`);
  const started = process.hrtime.bigint();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "test-counts-"));
  const file = path.join(folder, "counts.json");
  try {
    const mocha = [process.execPath, "node_modules/mocha/bin/mocha.js", tier.files ?? `test/${name}/**/*.test.{ts,js}`];
    const settings = [
      "--timeout",
      `${testSeconds}s`,
      "--reporter",
      "tools/test/count-reporter.js",
      "--reporter-option",
      `counts=${file}`,
    ];
    const selection = grep === undefined ? ["--fail-zero"] : ["--grep", grep];
    const argv = [...(lab === undefined ? [] : onHostsOf(name, lab)), ...mocha, ...settings, ...selection];
    const { exitCode, timedOut } = await run(argv, {
      env,
      timeoutSeconds: limitMinutes * 60,
      cleansUp: true,
      sweep: true,
      ...(logFile !== undefined && { logFile }),
    });
    const counts = readCounts(file);
    if (timedOut) {
      counts.failed.push(`the tier ends within ${limitMinutes} minutes`);
    } else if (exitCode !== 0 && counts.failed.length === 0) {
      counts.failed.push(`the tier ends with exit code 0 (it was ${exitCode}; see above)`);
    }
    say(`[test] ${name}: ${secondsSince(started)}\n`);
    return counts;
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Boots hosts, runs the command on the lab's workstation, and always stops the hosts.
 * @param {string} instance
 * @param {readonly string[]} lab - The program, and its options.
 */
function onHostsOf(instance, lab) {
  return [process.execPath, "--require", "tsx/cjs", ...lab, "--instance", instance, "run", "--"];
}

/**
 * Keeps the result of a tier on real hosts for `tools/run.js servers`.
 * @param {string} folder
 * @param {string} tier
 * @param {readonly string[]} lab - The options of its hosts.
 * @param {Counts} counts
 */
function reportServer(folder, tier, lab, { passed, failed }) {
  const named = lab.indexOf("--flavour");
  const flavour = named < 0 ? "bookworm-lxd" : lab[named + 1];
  fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(path.join(folder, `tier-${tier}.json`), JSON.stringify({ flavour, tier, passed, failed: failed.length }));
}

/**
 * @param {string} file
 * @returns {Counts}
 */
function readCounts(file) {
  try {
    return JSON.parse(fs.readFileSync(file, "utf8"));
  } catch {
    return { passed: 0, failed: [], skipped: [] }; // mocha ended before its first test.
  }
}

/** Why this machine cannot run the lab of real hosts. */
function whyNoLab() {
  if (process.getuid?.() !== 0) {
    return "the lab of real hosts needs root";
  }
  const release = fs.existsSync("/etc/os-release") ? fs.readFileSync("/etc/os-release", "utf8") : "";
  const isDebian = /^(ID|ID_LIKE)=.*\b(debian|ubuntu)\b/m.test(release);
  return isDebian ? undefined : "the lab of real hosts needs Debian or Ubuntu";
}

/** @param {readonly string[]} argv */
function parseOptions(argv) {
  const options = {
    tier: { type: "string" },
    grep: { type: "string" },
    "no-skips": { type: "boolean" },
    thorough: { type: "boolean" },
    nightly: { type: "boolean" },
  };
  /** @type {{ tier?: string, grep?: string, "no-skips"?: boolean, thorough?: boolean, nightly?: boolean }} */
  let values;
  try {
    values = parseArgs({
      args: [...argv],
      options: /** @type {import("node:util").ParseArgsConfig["options"]} */ (options),
    }).values;
  } catch (error) {
    throw new SetupError(error instanceof Error ? error.message : String(error));
  }
  // --grep searches titles, and the static checks have none.
  const nightly = values.nightly === true;
  const thorough = nightly || values.thorough === true;
  const usual = TIERS.filter(
    ({ limitMinutes, nightly: byNight }) => nightly || (!byNight && (thorough || limitMinutes !== undefined)),
  ).map(({ name }) => name);
  const tiers = values.tier?.split(",") ?? [...(values.grep === undefined ? ["check"] : []), ...usual];
  const unknown = tiers.filter((name) => !TIER_NAMES.includes(name));
  if (unknown.length > 0) {
    throw new SetupError(`There is no tier ${unknown.join(", ")}. The tiers are ${TIER_NAMES.join(", ")}.`);
  }
  return { tiers, noSkips: values["no-skips"] === true, grep: values.grep, thorough, nightly };
}

/**
 * Prints a line for each tier, skipped tests with reasons, failed tests, and the totals.
 * @param {Map<string, Counts>} results
 * @returns {boolean} Whether nothing failed.
 */
function summarize(results) {
  process.stdout.write("\n");
  for (const [tier, { passed, failed, skipped }] of results) {
    process.stdout.write(`[test] ${tier}: ${totals(passed, failed.length, skipped.length)}\n`);
    skipped.forEach(({ title, reason }) => process.stdout.write(`         skipped: ${title}: ${reason}\n`));
    failed.forEach((title) => process.stdout.write(`         FAILED: ${title.replaceAll("\n", "\n           ")}\n`));
  }
  const all = [...results.values()];
  const failed = sum(all.map((counts) => counts.failed.length));
  process.stdout.write(
    `${totals(sum(all.map((counts) => counts.passed)), failed, sum(all.map((counts) => counts.skipped.length)))}\n`,
  );
  return failed === 0;
}

/** @param {number} passed @param {number} failed @param {number} skipped */
function totals(passed, failed, skipped) {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

/** @param {readonly number[]} values */
function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

module.exports = { test };

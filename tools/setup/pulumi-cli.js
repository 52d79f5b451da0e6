// @ts-check
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { withLock } = require("../lock");
const { PULUMI_VERSION, cacheDir, checkoutId, checkoutRoot, pulumiRoot } = require("../paths");
const { run } = require("../process");
const { SetupError, step } = require("../progress");
const { buildPulumiFromSource } = require("./pulumi-from-source");
const { downloadPulumi } = require("./pulumi-release");

/** What a TypeScript stack needs besides the CLI: the language host and the host of dynamic resources. */
const COMPANIONS = ["pulumi-language-nodejs", "pulumi-resource-pulumi-nodejs"];

/**
 * Finds or installs the Pulumi CLI. Answers the environment in which programs use it; the user's PATH is unchanged.
 * @returns {Promise<NodeJS.ProcessEnv>}
 */
async function providePulumi() {
  const bin = await withLock("pulumi-cli", findOrInstall);
  return {
    ...process.env,
    PATH: [bin, process.env.PATH].join(path.delimiter),
    // Do not touch the user's logins and plugins.
    PULUMI_HOME: path.join(cacheDir(), "pulumi", "home", checkoutId()),
    PULUMI_SKIP_UPDATE_CHECK: "true",
  };
}

/** @returns {Promise<string>} The folder of the programs. */
async function findOrInstall() {
  const title = `Pulumi CLI ${PULUMI_VERSION}`;
  const ours = path.join(pulumiRoot(), "bin");
  const onPath = findOnPath("pulumi");
  for (const bin of onPath ? [path.dirname(onPath), ours] : [ours]) {
    const version = await usableVersion(bin);
    if (version) {
      return step(title, async () => ({ note: bin === ours ? "already there" : `using ${version} from ${bin}`, value: bin }));
    }
  }
  /** @type {string[]} */
  const reasons = [];
  for (const [way, install] of /** @type {const} */ ([
    ["official release", downloadPulumi],
    ["built from Go modules, about 4 minutes", buildPulumiFromSource],
  ])) {
    const failure = await step(`${title} (${way})`, async () => {
      const reason = await installInto(ours, install);
      return reason === undefined ? { value: undefined } : { note: `not possible: ${firstLine(reason)}`, value: reason };
    });
    if (failure === undefined) {
      return ours;
    }
    reasons.push(`${way}: ${failure}`);
  }
  throw new SetupError(
    `The Pulumi CLI could not be installed. Put pulumi ${PULUMI_VERSION} or newer with ${COMPANIONS.join(" and ")} on PATH.\n${reasons.join("\n")}`,
  );
}

/**
 * Installs into a temporary folder and renames it, so that no run sees half an installation. Removes what a killed run left.
 * @param {string} target
 * @param {(folder: string) => Promise<void>} install - Leaves the programs in `<folder>/bin`.
 * @returns {Promise<string | undefined>} Why it did not work.
 */
async function installInto(target, install) {
  const temporary = path.join(cacheDir(), "tmp", "pulumi");
  fs.rmSync(temporary, { recursive: true, force: true });
  fs.mkdirSync(temporary, { recursive: true });
  try {
    await install(temporary);
    const bin = path.join(temporary, "bin");
    if (!(await usableVersion(bin))) {
      return "what was installed does not run here";
    }
    fs.rmSync(target, { recursive: true, force: true });
    fs.mkdirSync(path.dirname(target), { recursive: true });
    fs.renameSync(bin, target);
    return undefined;
  } catch (error) {
    if (error instanceof SetupError) {
      return error.message;
    }
    throw error;
  } finally {
    fs.rmSync(temporary, { recursive: true, force: true });
  }
}

/**
 * The version of a CLI that fits this SDK: the same major version, not older, with its companions beside it.
 * @param {string} bin
 */
async function usableVersion(bin) {
  if (!["pulumi", ...COMPANIONS].every((name) => fs.existsSync(path.join(bin, name)))) {
    return undefined;
  }
  const env = { ...process.env, PULUMI_SKIP_UPDATE_CHECK: "true" };
  const { exitCode, output } = await run([path.join(bin, "pulumi"), "version"], {
    capture: true,
    env,
    timeoutSeconds: 30,
    cwd: checkoutRoot,
  });
  const version = output.trim().replace(/^v/, "");
  return exitCode === 0 && isCompatible(version, PULUMI_VERSION) ? version : undefined;
}

/**
 * @param {string} version - e.g. `3.250.1`.
 * @param {string} wanted
 */
function isCompatible(version, wanted) {
  const [major = 0, minor = 0, patch = 0] = wanted.split(".").map(Number);
  const found = /^(\d+)\.(\d+)\.(\d+)$/.exec(version);
  if (!found || Number(found[1]) !== major) {
    return false;
  }
  return Number(found[2]) > minor || (Number(found[2]) === minor && Number(found[3]) >= patch);
}

/** @param {string} program */
function findOnPath(program) {
  for (const folder of (process.env.PATH ?? "").split(path.delimiter).filter(Boolean)) {
    const file = path.join(folder, program);
    if (fs.existsSync(file)) {
      return fs.realpathSync(file);
    }
  }
  return undefined;
}

/** @param {string} text */
function firstLine(text) {
  return text.split("\n", 1)[0];
}

module.exports = { isCompatible, providePulumi };

// @ts-check
"use strict";
const fs = require("node:fs");
const { run } = require("../process");
const { SetupError } = require("../progress");
const { installSystemPackages } = require("./system-packages");

const DOWNLOAD_SECONDS = 180;

/**
 * The installer of Pulumi's Automation API, which takes the release of the SDK's version. It runs as a process of its own, so that it can be
 * stopped after a time.
 */
const INSTALLER = `
  require("@pulumi/pulumi/automation").PulumiCommand.install({ root: process.argv[1] }).catch((error) => {
    console.error(error.message);
    process.exit(1);
  });
`;

/**
 * Downloads the official release.
 * @param {string} root - The programs go to its `bin`.
 */
async function downloadPulumi(root) {
  if (!fs.existsSync("/usr/bin/curl")) {
    await installSystemPackages(["curl", "ca-certificates"]); // The installer's script fetches the archive with curl.
  }
  const { exitCode, output, timedOut } = await run([process.execPath, "-e", INSTALLER, root], {
    capture: true,
    timeoutSeconds: DOWNLOAD_SECONDS,
  });
  if (timedOut) {
    throw new SetupError(`the download did not finish within ${DOWNLOAD_SECONDS} s`);
  }
  if (exitCode !== 0) {
    throw new SetupError(output.trim());
  }
}

module.exports = { downloadPulumi };

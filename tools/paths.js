// @ts-check
"use strict";
const { createHash } = require("node:crypto");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");

const manifest = require("../package.json");

/** The version of the Pulumi CLI to install: the one of the SDK, because an older CLI may lack what the SDK needs. */
const PULUMI_VERSION = manifest.devDependencies["@pulumi/pulumi"];

/** @type {string} The root of this checkout. */
const checkoutRoot = fs.realpathSync(path.join(__dirname, ".."));

/** Files that are kept between runs and shared by checkouts. The folder can be deleted at any time. */
function cacheDir() {
  const xdg = process.env.XDG_CACHE_HOME;
  // The XDG specification says to ignore relative values.
  const base = xdg && path.isAbsolute(xdg) ? xdg : path.join(os.homedir(), ".cache");
  return path.join(base, "pulumi-lxd-cluster");
}

/** The folder of our copy of the Pulumi CLI, with the programs in `bin`. */
function pulumiRoot() {
  return path.join(cacheDir(), "pulumi", PULUMI_VERSION);
}

/** Eight hex digits that identify this checkout on the machine. */
function checkoutId() {
  return createHash("sha256").update(checkoutRoot).digest("hex").slice(0, 8);
}

module.exports = { PULUMI_VERSION, cacheDir, checkoutId, checkoutRoot, pulumiRoot };

// @ts-check
"use strict";
const { createHash } = require("node:crypto");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");

const manifest = require("../package.json");

/** The Pulumi CLI to install. It follows the SDK: a CLI older than the SDK may not know what the SDK asks of it. */
const PULUMI_VERSION = manifest.devDependencies["@pulumi/pulumi"];

/** @type {string} The root of this checkout. */
const checkoutRoot = fs.realpathSync(path.join(__dirname, ".."));

/** Where everything that is kept between runs and shared by checkouts lives. It can be deleted at any time. */
function cacheDir() {
  const xdg = process.env.XDG_CACHE_HOME;
  // The XDG specification wants relative values to be ignored.
  const base = xdg && path.isAbsolute(xdg) ? xdg : path.join(os.homedir(), ".cache");
  return path.join(base, "pulumi-lxd-cluster");
}

/** The folder of our own copy of the Pulumi CLI; the programs are in its `bin`. */
function pulumiRoot() {
  return path.join(cacheDir(), "pulumi", PULUMI_VERSION);
}

/** Eight hex digits that tell this checkout from others on the same machine. */
function checkoutId() {
  return createHash("sha256").update(checkoutRoot).digest("hex").slice(0, 8);
}

module.exports = { PULUMI_VERSION, cacheDir, checkoutId, checkoutRoot, pulumiRoot };

// @ts-check
"use strict";
const { installNodeDependencies } = require("./node-dependencies");
const { buildPackage } = require("./package-build");
const { providePulumi } = require("./pulumi-cli");

/**
 * Sets up everything that programs with a stack need.
 * @returns {Promise<NodeJS.ProcessEnv>} The environment to run them in.
 */
async function setUp() {
  await installNodeDependencies();
  return await setUpStacks();
}

/** The same, when the Node dependencies are installed. */
async function setUpStacks() {
  await buildPackage();
  return await providePulumi();
}

/** `node tools/run.js setup` */
async function setup() {
  const env = await setUp();
  process.stdout.write(`To use the same Pulumi CLI in this shell: export PATH="${env.PATH?.split(":")[0]}:$PATH"\n`);
  return 0;
}

module.exports = { setUp, setUpStacks, setup };

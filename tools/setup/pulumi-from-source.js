// @ts-check
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { PULUMI_VERSION, checkoutRoot } = require("../paths");
const { run } = require("../process");
const { SetupError } = require("../progress");
const { provideGo } = require("./go-toolchain");
const { installSystemPackages } = require("./system-packages");

/** Each program has a Go module of its own, because they need different versions of Pulumi's Go SDK. */
const PROGRAMS = [
  { module: "pulumi-language-nodejs", program: "github.com/pulumi/pulumi/sdk/v3/nodejs/cmd/pulumi-language-nodejs" },
  { module: "pulumi-cli", program: "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi" },
];

/**
 * Builds the CLI and its language host from pinned Go modules, and adds the host of dynamic resources from the Node SDK.
 * @param {string} root - The programs go to its `bin`.
 */
async function buildPulumiFromSource(root) {
  if (!fs.existsSync("/etc/ssl/certs/ca-certificates.crt")) {
    await installSystemPackages(["ca-certificates"]); // Unlike npm, go trusts only what the system trusts.
  }
  // The caches of this build take gigabytes and are not used again: they are removed with `root`.
  const env = {
    ...process.env,
    GOPATH: path.join(root, "go"),
    GOMODCACHE: path.join(root, "go", "pkg", "mod"),
    GOCACHE: path.join(root, "go-build"),
    GOFLAGS: "-mod=readonly -modcacherw -trimpath -buildvcs=false",
    GOWORK: "off",
    CGO_ENABLED: "0",
  };
  const bin = path.join(root, "bin");
  const modules = path.join(checkoutRoot, "tools");
  const go = await provideGo(path.join(modules, "pulumi-cli"), root, env);
  for (const { module, program } of PROGRAMS) {
    const version = `-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v${PULUMI_VERSION}`;
    const { exitCode, output } = await run([go, "build", "-o", `${bin}/`, "-ldflags", `-s -w ${version}`, program], {
      capture: true,
      cwd: path.join(modules, module),
      env,
    });
    if (exitCode !== 0) {
      throw new SetupError(`${module} does not build:\n${output}`);
    }
  }
  const dynamicHost = path.join(bin, "pulumi-resource-pulumi-nodejs");
  fs.copyFileSync(path.join(checkoutRoot, "node_modules", "@pulumi", "pulumi", "pulumi-resource-pulumi-nodejs"), dynamicHost);
  fs.chmodSync(dynamicHost, 0o755);
}

module.exports = { buildPulumiFromSource };

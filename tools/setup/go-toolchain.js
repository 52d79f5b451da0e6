// @ts-check
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { checkoutRoot } = require("../paths");
const { run } = require("../process");
const { SetupError } = require("../progress");
const { installSystemPackages } = require("./system-packages");

/** Go's own name for what Node calls x64. */
const ARCHITECTURE = process.arch === "x64" ? "amd64" : process.arch;
/** The oldest Go that reads our go.mod files and downloads a newer Go by itself. */
const OLDEST_MINOR = 21;

/**
 * Finds or downloads a Go that can build `module`.
 * @param {string} module - The folder of a go.mod; its `go` line says which version is needed.
 * @param {string} scratch - A folder for what is downloaded.
 * @param {NodeJS.ProcessEnv} env - With the Go caches to use.
 * @returns {Promise<string>} The go program.
 */
async function provideGo(module, scratch, env) {
  for (const go of ["go", "/usr/local/go/bin/go"]) {
    if (await canBuild(go, module, env)) {
      return go;
    }
  }
  const wanted = goVersion(module);
  const download = await downloadGo(wanted, scratch);
  if (download.go !== undefined) {
    return download.go;
  }
  const older = await goFromModules(wanted, scratch, env);
  if (older !== undefined) {
    return older;
  }
  throw new SetupError(`Go ${wanted} or newer is needed (https://go.dev/dl) and could not be installed: ${download.reason}`);
}

/**
 * @param {string} go
 * @param {string} module
 * @param {NodeJS.ProcessEnv} env
 */
async function canBuild(go, module, env) {
  // Inside the module, go has the required version, downloads it, or fails.
  const { exitCode, output } = await run([go, "env", "GOVERSION"], { capture: true, cwd: module, env, timeoutSeconds: 180 });
  const minor = /go1\.(\d+)/.exec(output.trim().split("\n").at(-1) ?? "")?.[1];
  return exitCode === 0 && Number(minor) >= OLDEST_MINOR;
}

/** @param {string} module */
function goVersion(module) {
  const version = /^go (\S+)$/m.exec(fs.readFileSync(path.join(module, "go.mod"), "utf8"))?.[1];
  if (version === undefined) {
    throw new Error(`${module}/go.mod names no Go version`);
  }
  return version;
}

/**
 * Downloads the official archive and checks it against the checksum of go.dev.
 * @param {string} version
 * @param {string} scratch
 * @returns {Promise<{ go?: string, reason?: string }>}
 */
async function downloadGo(version, scratch) {
  const name = `go${version}.${process.platform}-${ARCHITECTURE}.tar.gz`;
  const archive = path.join(scratch, name);
  try {
    const checksum = (await (await fetchOk(`https://dl.google.com/go/${name}.sha256`, 30)).text()).trim();
    const content = Buffer.from(await (await fetchOk(`https://dl.google.com/go/${name}`, 300)).arrayBuffer());
    if (require("node:crypto").createHash("sha256").update(content).digest("hex") !== checksum) {
      return { reason: `the checksum of ${name} is wrong` };
    }
    fs.writeFileSync(archive, content);
  } catch (error) {
    return { reason: `${name} cannot be downloaded: ${describeFetchError(error)}` };
  }
  const { exitCode, output } = await run(["tar", "-xzf", archive, "-C", scratch], { capture: true });
  return exitCode === 0 ? { go: path.join(scratch, "go", "bin", "go") } : { reason: output };
}

/** @param {string} url @param {number} timeoutSeconds */
async function fetchOk(url, timeoutSeconds) {
  const response = await fetch(url, { signal: AbortSignal.timeout(timeoutSeconds * 1000) });
  if (!response.ok) {
    throw new Error(`${url} answered ${response.status}`);
  }
  return response;
}

/** @param {unknown} error - fetch says "fetch failed" and keeps what happened in the cause. */
function describeFetchError(error) {
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  return cause instanceof Error ? cause.message : String(cause);
}

/**
 * The distribution's Go is too old to build anything here. It downloads the right one as a Go module, checked against our go.sum.
 * @param {string} version
 * @param {string} scratch
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<string | undefined>}
 */
async function goFromModules(version, scratch, env) {
  await installSystemPackages(["golang-go", "ca-certificates"]);
  const cwd = path.join(checkoutRoot, "tools", "go-toolchain");
  const moduleVersion = `v0.0.1-go${version}.${process.platform}-${ARCHITECTURE}`;
  // A copy, because go adds missing entries to go.sum (processors other than amd64).
  fs.cpSync(cwd, path.join(scratch, "go-toolchain"), { recursive: true });
  const { exitCode } = await run(["go", "mod", "download", `golang.org/toolchain@${moduleVersion}`], {
    capture: true,
    cwd: path.join(scratch, "go-toolchain"),
    env,
    timeoutSeconds: 300,
  });
  if (exitCode !== 0) {
    return undefined;
  }
  const root = path.join(env.GOMODCACHE ?? "", "golang.org", `toolchain@${moduleVersion}`);
  // Files of Go modules are not executable.
  await run(["chmod", "-R", "+x", path.join(root, "bin"), path.join(root, "pkg", "tool")], { capture: true });
  return path.join(root, "bin", "go");
}

module.exports = { provideGo };

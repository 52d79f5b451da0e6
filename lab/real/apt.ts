import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Release } from "../debian-servers";
import { lastLines, mustRun, runCommand, withFileLock } from "./process";
import { labCacheDir } from "./state";

/** The sources of Debian packages on this machine. */
export interface AptSettings {
  readonly mirror: string;
  readonly securityMirror: string;
  /** Lines of apt.conf about transport: proxies, retries, date checks. */
  readonly acquire: readonly string[];
  /** Environment for programs other than apt that download from the mirror. */
  readonly proxyEnvironment: Readonly<Record<string, string>>;
}

/** Where packages of a file system come from. */
export interface PackageSuite {
  readonly release: Release;
  readonly backports: boolean;
}

/** One `deb` entry of the machine's sources. */
export interface AptSource {
  readonly uri: string;
  readonly suites: readonly string[];
  readonly components: readonly string[];
}

/** Maps each command that the lab needs on the machine to the package that provides it. */
const MACHINE_COMMANDS: Readonly<Record<string, string>> = {
  debootstrap: "debootstrap",
  mksquashfs: "squashfs-tools",
  ip: "iproute2",
  "ssh-keygen": "openssh-client",
  xz: "xz-utils",
  zstd: "zstd",
  flock: "util-linux",
  losetup: "mount",
  nsenter: "util-linux",
};

/**
 * Installs missing packages that the lab needs on this machine. Updates the package lists only if a package is missing.
 * Safe for concurrent callers: the second waits for the first.
 */
export async function ensureMachinePackages(log: (line: string) => void): Promise<void> {
  if (missingPackages().length === 0) return;
  await withFileLock(join(labCacheDir(), "locks", "packages.lock"), "wait", () => installMissingPackages(log));
}

function missingPackages(): string[] {
  const folders = (process.env["PATH"] ?? "").split(":").concat("/usr/sbin", "/sbin");
  const missing = Object.entries(MACHINE_COMMANDS)
    .filter(([command]) => !folders.some((folder) => existsSync(join(folder, command))))
    .map(([, name]) => name);
  return [...new Set(missing)];
}

async function installMissingPackages(log: (line: string) => void): Promise<void> {
  const packages = missingPackages();
  if (packages.length === 0) return;
  log(`installing on this machine: ${packages.join(" ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  // Ignores an unreachable third-party source if Debian's own lists are present.
  const update = await runCommand(["apt-get", "update", "-q"], { env });
  const install = await runCommand(["apt-get", "install", "-qq", "--no-install-recommends", ...packages], { env });
  if (install.exitCode !== 0) {
    throw new Error(
      `Unable to install ${packages.join(" ")} on this machine:\n${lastLines(`${update.stderr}${install.stderr}`, 15)}`,
    );
  }
}

/**
 * The machine's Debian mirrors and proxy settings. Debian's public mirrors if the machine names none (for example on
 * Ubuntu).
 */
export async function readAptSettings(): Promise<AptSettings> {
  const sources = readMachineSources();
  const mirror = sources.find((source) =>
    source.suites.some((suite) => /^(bookworm|trixie|forky|sid|(old)?stable|testing|unstable)$/.test(suite)),
  );
  const security = sources.find((source) => source.suites.some((suite) => suite.endsWith("-security")));
  const dump = await mustRun(["apt-config", "dump"]);
  const acquire = dump.split("\n").filter((line) => /^Acquire::(https?|ftp|Retries|Check-|ForceIPv)/i.test(line));
  const mirrorUri = mirror?.uri ?? "http://deb.debian.org/debian";
  return {
    mirror: mirrorUri,
    securityMirror:
      mirror === undefined ? "http://deb.debian.org/debian-security" : (security?.uri ?? "http://deb.debian.org/debian-security"),
    acquire,
    proxyEnvironment: proxyEnvironment(dump, new URL(mirrorUri).hostname),
  };
}

/** The lines of a sources.list for a release on the machine's mirrors. */
export function sourcesList(settings: AptSettings, { release, backports }: PackageSuite): string {
  return [
    `deb ${settings.mirror} ${release} main`,
    `deb ${settings.mirror} ${release}-updates main`,
    `deb ${settings.securityMirror} ${release}-security main`,
    ...(backports ? [`deb ${settings.mirror} ${release}-backports main`] : []),
    "",
  ].join("\n");
}

function readMachineSources(): AptSource[] {
  const folder = "/etc/apt/sources.list.d";
  const names = existsSync(folder) ? readdirSync(folder).sort() : [];
  const files = ["/etc/apt/sources.list", ...names.map((name) => join(folder, name))].filter((file) => existsSync(file));
  const all = files.flatMap((file) => {
    const text = readFileSync(file, "utf8");
    if (file.endsWith(".sources")) return parseDeb822Sources(text);
    return file.endsWith(".list") ? parseSourcesList(text) : [];
  });
  return all.filter((source) => /^https?:/.test(source.uri) && source.components.includes("main"));
}

/** Parses the one-line format of sources.list(5). */
function parseSourcesList(text: string): AptSource[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+([^#]*)/.exec(line);
    const [, uri, suite, components] = match ?? [];
    if (uri === undefined || suite === undefined || components === undefined) return [];
    return [{ uri: uri.replace(/\/$/, ""), suites: [suite], components: components.trim().split(/\s+/) }];
  });
}

/** Parses the deb822 format of sources.list(5). */
function parseDeb822Sources(text: string): AptSource[] {
  return text.split(/\n\s*\n/).flatMap((paragraph) => {
    const fields = new Map<string, string>();
    let field = "";
    for (const line of paragraph.split("\n")) {
      if (line.startsWith("#")) continue;
      const match = /^([A-Za-z-]+):\s*(.*)$/.exec(line);
      if (match?.[1] !== undefined) field = match[1].toLowerCase();
      fields.set(field, `${fields.get(field) ?? ""} ${match?.[2] ?? line.trim()}`.trim());
    }
    const words = (name: string) => (fields.get(name) ?? "").split(/\s+/).filter((word) => word !== "");
    if (!words("types").includes("deb") || fields.get("enabled")?.toLowerCase() === "no") return [];
    return words("uris").map((uri) => ({
      uri: uri.replace(/\/$/, ""),
      suites: words("suites"),
      components: words("components"),
    }));
  });
}

function proxyEnvironment(aptConfigDump: string, mirrorHost: string): Record<string, string> {
  const value = (key: string) => {
    const line = aptConfigDump.split("\n").find((candidate) => candidate.toLowerCase().startsWith(`${key.toLowerCase()} "`));
    const quoted = line === undefined ? undefined : /"(.*)"/.exec(line)?.[1];
    return quoted === "" ? undefined : quoted;
  };
  const environment: Record<string, string> = {};
  for (const scheme of ["http", "https"]) {
    const proxy = value(`Acquire::${scheme}::Proxy::${mirrorHost}`) ?? value(`Acquire::${scheme}::Proxy`);
    if (proxy !== undefined && proxy !== "DIRECT") environment[`${scheme}_proxy`] = proxy;
  }
  return environment;
}

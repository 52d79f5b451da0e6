import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import type { Release } from "../debian-servers";
import { type PackageSuite, readAptSettings, sourcesList } from "./apt";
import type { Flavour } from "./flavours";
import { mustRun, withFileLock } from "./process";
import { removeFolder } from "./remove-folder";
import type { Shape } from "./shapes";
import { labCacheDir } from "./state";

/** Recipe of the file system that hosts and guests of a release share. A change here rebuilds it. */
const TREE_RECIPE = {
  packages: [
    "ca-certificates",
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    "libpam-systemd",
    "netbase",
    "nftables",
    "openssh-server",
    "procps",
    "sudo",
    "systemd",
    "systemd-sysv",
    "udev",
  ],
};

/** Recipe of a bare host on the common file system. A change here rebuilds it. */
const HOST_RECIPE = {
  /** User name, id, and sudo permissions. */
  users: [
    { name: "operator", id: 1000, sudo: true },
    { name: "nosudo", id: 1001, sudo: false },
  ],
  /**
   * Settings of udev and sysctl would change the machine outside the host's namespaces. The other units are useless in
   * a lab and slow the boot.
   */
  maskedUnits: [
    "systemd-udevd.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udev-trigger.service",
    "systemd-sysctl.service",
    "systemd-binfmt.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "console-getty.service",
    "getty.target",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
  ],
};

/** Folder of the local apt repository in a host or guest. */
const REPOSITORY = "/srv/packages";

/** Where a host of a flavour with a newer server has that one. */
export const NEWER_REPOSITORY = "/srv/newer-packages";

/** A stable short hash of a recipe. */
export function recipeHash(recipe: unknown): string {
  return createHash("sha256").update(JSON.stringify(recipe)).digest("hex").slice(0, 12);
}

/**
 * Returns a cached folder; creates it if it is missing. Safe for concurrent callers: the second waits for the first. A
 * killed creator leaves only a partial folder, which the next caller removes.
 */
export async function cachedFolder(name: string, build: (partial: string) => Promise<void>): Promise<string> {
  const folder = join(labCacheDir(), name);
  if (existsSync(folder)) return folder;
  return withFileLock(join(labCacheDir(), "locks", `${name}.lock`), "wait", async () => {
    if (existsSync(folder)) return folder;
    const partial = `${folder}.partial`;
    removeFolder(partial);
    mkdirSync(partial, { recursive: true });
    try {
      await build(partial);
    } catch (error) {
      removeFolder(partial);
      throw new Error(`Unable to make the lab's ${name}: ${(error as Error).message}`, { cause: error });
    }
    renameSync(partial, folder);
    return folder;
  });
}

/** The recipe of a release's common file system, for what is built on it. */
export function treeRecipe(release: Release): unknown {
  return { release, ...TREE_RECIPE };
}

/**
 * The base file system of a release for hosts and guests: debootstrap's minbase with systemd, sshd and sudo. Takes
 * about a minute if it is not cached.
 */
export function commonTree(release: Release, log: (line: string) => void): Promise<string> {
  return cachedFolder(`tree-${recipeHash(treeRecipe(release))}`, async (partial) => {
    log(`making the common file system of Debian ${release} (about a minute, once)`);
    const settings = await readAptSettings();
    chmodSync(partial, 0o755);
    await inBuildNamespace(
      ["debootstrap", "--variant=minbase", `--include=${TREE_RECIPE.packages.join(",")}`, release, partial, settings.mirror],
      { env: { ...process.env, ...settings.proxyEnvironment, DEBIAN_FRONTEND: "noninteractive" }, logFile: `${partial}.log` },
    );
    for (const name of readdirSync(join(partial, "var/cache/apt/archives"))) {
      if (name.endsWith(".deb")) rmSync(join(partial, "var/cache/apt/archives", name));
    }
    removeFolder(join(partial, "var/lib/apt/lists"));
    rmSync(`${partial}.log`);
    for (const name of readdirSync(join(partial, "etc/ssh"))) {
      if (name.startsWith("ssh_host_")) rmSync(join(partial, "etc/ssh", name));
    }
    // Empty, not missing: systemd then creates an id at the first boot without a first-boot setup.
    writeFileSync(join(partial, "etc/machine-id"), "");
    rmSync(join(partial, "var/lib/dbus/machine-id"), { force: true });
    writeFileSync(join(partial, "etc/resolv.conf"), "");
  });
}

/**
 * The layers of a bare host's file system, topmost first: no server installed, and a local repository that provides
 * it. Takes under a minute if only the common tree is cached.
 */
export async function hostLayers(flavour: Flavour, shape: Shape, log: (line: string) => void): Promise<string[]> {
  const { release } = flavour;
  const tree = await commonTree(release, log);
  const script = hostBuildScript(flavour);
  const layer = await cachedFolder(`host-${recipeHash([treeRecipe(release), HOST_RECIPE, script])}`, async (partial) => {
    log(`making the bare host ${flavour.name}: users, sshd, and a local package repository with ${flavour.package}`);
    const layerDir = join(partial, "layer");
    const backports = flavour.backports || flavour.hasNewer === true;
    await buildLayer(tree, layerDir, partial, { name: "host.sh", text: script, suite: { ...flavour, backports } });
    await writeRepositoryIndex(layerDir);
    if (flavour.hasNewer === true) await writeRepositoryIndex(layerDir, NEWER_REPOSITORY);
    for (const unit of HOST_RECIPE.maskedUnits) {
      mkdirSync(join(layerDir, "etc/systemd/system"), { recursive: true });
      symlinkSync("/dev/null", join(layerDir, "etc/systemd/system", unit));
    }
  });
  const layers = [join(layer, "layer"), tree];
  const shaping = shapeScript(shape);
  if (shaping === "") return layers;
  const recipe = [treeRecipe(release), HOST_RECIPE, script, shaping];
  const top = await cachedFolder(`shape-${recipeHash(recipe)}`, async (partial) => {
    log(`setting up the hosts of the shape ${shape.name}`);
    const suite = { name: "shape.sh", text: shaping, suite: flavour };
    await buildLayer(layers.join(":"), join(partial, "layer"), partial, suite);
  });
  return [join(top, "layer"), ...layers];
}

/** Shell lines that set up a bare host as the shape says; empty for hosts as Debian makes them. */
function shapeScript({ user, umask, locale }: Shape): string {
  const lines: string[] = [];
  if (user !== "root") lines.push("echo 'PermitRootLogin no' >/etc/ssh/sshd_config.d/no-root.conf");
  if (umask !== undefined) {
    // sshd reads the first of these files, and sudo the second.
    for (const file of ["common-session", "common-session-noninteractive"]) {
      lines.push(`echo 'session optional pam_umask.so umask=${umask}' >>/etc/pam.d/${file}`);
    }
  }
  if (locale !== undefined) {
    lines.push(
      "apt-get update -q",
      "apt-get install -q -y --no-install-recommends locales",
      `echo '${locale} UTF-8' >/etc/locale.gen`,
      "locale-gen",
      `update-locale LANG=${locale}`,
      LOCAL_SOURCE,
    );
  }
  return lines.join("\n");
}

/** Shell line that makes the local repository apt's only source. */
const LOCAL_SOURCE = `echo 'deb [trusted=yes lang=none] file:${REPOSITORY} ./' >/etc/apt/sources.list`;

function hostBuildScript(flavour: Flavour): string {
  const users = HOST_RECIPE.users.map(
    (user) => `getent group ${user.name} >/dev/null || groupadd --gid ${user.id} ${user.name}
useradd --create-home --shell /bin/bash --uid ${user.id} --gid ${user.name} ${user.name}
${user.sudo ? `echo '${user.name} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/${user.name}; chmod 440 /etc/sudoers.d/${user.name}` : ""}
install -d -m 700 -o ${user.name} -g ${user.name} /home/${user.name}/.ssh`,
  );
  const newer =
    flavour.hasNewer === true ? downloadScript(NEWER_REPOSITORY, [flavour.package], `${flavour.release}-backports`) : "";
  return `
apt-get update -q
${newer}
${repositoryScript([flavour.package, ...flavour.otherPackages], flavour.backports ? `${flavour.release}-backports` : undefined)}
install -d -m 700 /root/.ssh
${users.join("\n")}
`;
}

/**
 * Shell lines that fill the local repository with packages and their dependencies that are not installed yet, and make
 * it apt's only source. Of packages that `targetRelease` has, takes those.
 */
export function repositoryScript(packages: readonly string[], targetRelease?: string): string {
  return `${downloadScript(REPOSITORY, packages, targetRelease)}
${LOCAL_SOURCE}`;
}

function downloadScript(folder: string, packages: readonly string[], targetRelease?: string): string {
  const from = targetRelease === undefined ? "" : ` --target-release=${targetRelease}`;
  return `mkdir -p ${folder}/partial
apt-get install -q -y${from} --no-install-recommends --download-only -o Dir::Cache::archives=${folder} ${packages.join(" ")}
rm -rf ${folder}/partial ${folder}/lock`;
}

/** The package index of a repository for apt: the control fields of each package with name, size and hash of its file. */
export async function writeRepositoryIndex(layerDir: string, repository = REPOSITORY): Promise<void> {
  const folder = join(layerDir, repository);
  const entries: string[] = [];
  for (const name of readdirSync(folder).sort()) {
    if (!name.endsWith(".deb")) continue;
    const content = readFileSync(join(folder, name));
    const fields = await mustRun(["dpkg-deb", "--field", join(folder, name)]);
    const hash = createHash("sha256").update(content).digest("hex");
    entries.push(`${fields.trimEnd()}\nFilename: ./${name}\nSize: ${content.length}\nSHA256: ${hash}\n`);
  }
  writeFileSync(join(folder, "Packages"), entries.join("\n"));
}

/**
 * Runs a shell script as root in a file system made of `lower` and a new layer on top, with the machine's package
 * sources of the script's suite. Keeps the layer. The script has /proc and /dev; its mounts and processes end with it.
 */
export async function buildLayer(
  lower: string,
  layerDir: string,
  scratch: string,
  script: { readonly name: string; readonly text: string; readonly suite: PackageSuite },
): Promise<void> {
  const settings = await readAptSettings();
  const root = join(scratch, "root");
  const work = join(scratch, "work");
  for (const folder of [layerDir, root, work]) mkdirSync(folder, { recursive: true });
  const files: Record<string, string> = {
    "etc/apt/sources.list": sourcesList(settings, script.suite),
    "etc/apt/apt.conf.d/90lab": [...settings.acquire, 'Acquire::Languages "none";', 'APT::Sandbox::User "root";', ""].join("\n"),
    // Services must not start while packages are installed.
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
    "etc/resolv.conf": existsSync("/etc/resolv.conf") ? readFileSync("/etc/resolv.conf", "utf8") : "",
    [script.name]: `set -eu\n${script.text}\napt-get clean\nrm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log\n`,
  };
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(layerDir, path)), { recursive: true });
    writeFileSync(join(layerDir, path), content, { mode: path === "usr/sbin/policy-rc.d" ? 0o755 : 0o644 });
  }
  const mountAndRun = `set -eu
mount -t overlay lab-build -o "lowerdir=$1,upperdir=$2,workdir=$3" "$4"
cd "$4"
mount -t proc proc proc
mount --rbind /dev dev
exec chroot . /bin/sh "/$5"`;
  await inBuildNamespace(["sh", "-c", mountAndRun, "sh", lower, layerDir, work, root, script.name], {
    env: { ...process.env, ...settings.proxyEnvironment, DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C.UTF-8", HOME: "/root" },
    logFile: `${scratch}.log`,
  });
  for (const path of [script.name, "usr/sbin/policy-rc.d", "etc/apt/apt.conf.d/90lab", "etc/resolv.conf"])
    rmSync(join(layerDir, path));
  rmSync(`${scratch}.log`);
  removeFolder(root);
  removeFolder(work);
}

/**
 * Runs a build command in namespaces that end its mounts and processes with it. Also ends the command if this process
 * is killed, because the lock is free then.
 */
export async function inBuildNamespace(
  argv: readonly string[],
  options: { env: NodeJS.ProcessEnv; logFile: string },
): Promise<void> {
  await mustRun(
    ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", ...argv],
    options,
  );
}

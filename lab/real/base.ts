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
import { type AptSettings, RELEASE, readAptSettings, sourcesList } from "./apt";
import { mustRun, withFileLock } from "./process";
import { removeFolder } from "./remove-folder";
import { labCacheDir } from "./state";

/** What every lab file system, host or guest, is made of. A change here makes a new one. */
export const TREE_RECIPE = {
  release: RELEASE,
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

/** What makes a bare host of the common file system. A change here makes a new one. */
const HOST_RECIPE = {
  tree: TREE_RECIPE,
  /** Packages a host can install from its local repository, with everything they need beyond the common file system. */
  repository: ["lxd", "lxd-agent", "dnsmasq-base", "btrfs-progs", "iptables", "curl", "jq", "snapd", "squashfuse", "fuse3"],
  /** User name, id, and what sudo allows. */
  users: [
    { name: "operator", id: 1000, sudo: true },
    { name: "nosudo", id: 1001, sudo: false },
  ],
  /**
   * udev and sysctl settings would reach beyond the host's namespaces, to the machine; the others have nothing to do in a lab and cost boot time.
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

/** Where the local apt repository of a host or guest is. */
const REPOSITORY = "/srv/packages";

/** A stable short hash of a recipe. */
export function recipeHash(recipe: unknown): string {
  return createHash("sha256").update(JSON.stringify(recipe)).digest("hex").slice(0, 12);
}

/**
 * Gives back a cached folder, and makes it first where it is missing. Two makers at once are safe: the second waits and finds it done.
 * A maker that is killed leaves only a partial folder, which the next one removes.
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

/** The file system that hosts and guests are made of: debootstrap's minbase with systemd, sshd and sudo. About a minute where it is not cached. */
export function commonTree(log: (line: string) => void): Promise<string> {
  return cachedFolder(`tree-${recipeHash(TREE_RECIPE)}`, async (partial) => {
    log("making the common Debian file system (about a minute, once)");
    const settings = await readAptSettings();
    chmodSync(partial, 0o755);
    await inBuildNamespace(
      ["debootstrap", "--variant=minbase", `--include=${TREE_RECIPE.packages.join(",")}`, RELEASE, partial, settings.mirror],
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
    // Empty, not missing: systemd then makes an id at the first boot without taking it for an installation to be set up.
    writeFileSync(join(partial, "etc/machine-id"), "");
    rmSync(join(partial, "var/lib/dbus/machine-id"), { force: true });
    writeFileSync(join(partial, "etc/resolv.conf"), "");
  });
}

/**
 * The layers of a bare host's file system, topmost first: no LXD on it, and a local repository that has it.
 * Under a minute where it is not cached and the common tree is.
 */
export async function hostLayers(log: (line: string) => void): Promise<string[]> {
  const tree = await commonTree(log);
  const layer = await cachedFolder(`host-${recipeHash([HOST_RECIPE, hostBuildScript()])}`, async (partial) => {
    log("making the bare host: users, sshd, and a local package repository with LXD");
    const layerDir = join(partial, "layer");
    await buildLayer(tree, layerDir, partial, "host.sh", hostBuildScript(), await readAptSettings());
    await writeRepositoryIndex(layerDir);
    for (const unit of HOST_RECIPE.maskedUnits) {
      mkdirSync(join(layerDir, "etc/systemd/system"), { recursive: true });
      symlinkSync("/dev/null", join(layerDir, "etc/systemd/system", unit));
    }
  });
  return [join(layer, "layer"), tree];
}

function hostBuildScript(): string {
  const users = HOST_RECIPE.users.map(
    (user) => `getent group ${user.name} >/dev/null || groupadd --gid ${user.id} ${user.name}
useradd --create-home --shell /bin/bash --uid ${user.id} --gid ${user.name} ${user.name}
${user.sudo ? `echo '${user.name} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/${user.name}; chmod 440 /etc/sudoers.d/${user.name}` : ""}
install -d -m 700 -o ${user.name} -g ${user.name} /home/${user.name}/.ssh`,
  );
  return `
apt-get update -q
${repositoryScript(HOST_RECIPE.repository)}
install -d -m 700 /root/.ssh
${users.join("\n")}
`;
}

/** Shell lines that fill the local repository with packages and what they need beyond those installed by then, and make it apt's only source. */
export function repositoryScript(packages: readonly string[]): string {
  return `mkdir -p ${REPOSITORY}/partial
apt-get install -q -y --no-install-recommends --download-only -o Dir::Cache::archives=${REPOSITORY} ${packages.join(" ")}
rm -rf ${REPOSITORY}/partial ${REPOSITORY}/lock
echo 'deb [trusted=yes lang=none] file:${REPOSITORY} ./' >/etc/apt/sources.list`;
}

/** The index apt wants beside the packages: each one's own control fields with name, size and hash of its file. */
export async function writeRepositoryIndex(layerDir: string): Promise<void> {
  const folder = join(layerDir, REPOSITORY);
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
 * Runs a shell script as root of a file system made of `lower` and a new layer on top, with the machine's package sources, and keeps the layer.
 * The script finds /proc and /dev; what it leaves mounted or running ends with it.
 */
export async function buildLayer(
  lower: string,
  layerDir: string,
  scratch: string,
  scriptName: string,
  script: string,
  settings: AptSettings,
): Promise<void> {
  const root = join(scratch, "root");
  const work = join(scratch, "work");
  for (const folder of [layerDir, root, work]) mkdirSync(folder, { recursive: true });
  const files: Record<string, string> = {
    "etc/apt/sources.list": sourcesList(settings),
    "etc/apt/apt.conf.d/90lab": [...settings.acquire, 'Acquire::Languages "none";', 'APT::Sandbox::User "root";', ""].join("\n"),
    // No service is to start while packages are installed.
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
    "etc/resolv.conf": existsSync("/etc/resolv.conf") ? readFileSync("/etc/resolv.conf", "utf8") : "",
    [scriptName]: `set -eu\n${script}\napt-get clean\nrm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log\n`,
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
  await inBuildNamespace(["sh", "-c", mountAndRun, "sh", lower, layerDir, work, root, scriptName], {
    env: { ...process.env, ...settings.proxyEnvironment, DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C.UTF-8", HOME: "/root" },
    logFile: `${scratch}.log`,
  });
  for (const path of [scriptName, "usr/sbin/policy-rc.d", "etc/apt/apt.conf.d/90lab", "etc/resolv.conf"])
    rmSync(join(layerDir, path));
  rmSync(`${scratch}.log`);
  removeFolder(root);
  removeFolder(work);
}

/** Runs a build command where its mounts and processes cannot outlive it, nor it this process, even when that is killed: the lock would be free then. */
export async function inBuildNamespace(
  argv: readonly string[],
  options: { env: NodeJS.ProcessEnv; logFile: string },
): Promise<void> {
  await mustRun(
    ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", ...argv],
    options,
  );
}

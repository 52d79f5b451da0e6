import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  buildLayer,
  cachedFolder,
  commonTree,
  inBuildNamespace,
  recipeHash,
  repositoryScript,
  treeRecipe,
  writeRepositoryIndex,
} from "./base";
import { mustRun } from "./process";
import { removeFolder } from "./remove-folder";

/** The Debian release of the guests, whatever their host runs. */
const RELEASE = "bookworm";

/** Packages of a guest on top of the common file system. */
const PACKAGES = ["cloud-init"];

/** Packages that a guest can install from its local repository. */
const REPOSITORY_PACKAGES = ["jq"];

/** Units that are useless in a guest of the lab, slow its boot, or fail in a container. */
const MASKED_UNITS = [
  "systemd-binfmt.service",
  "proc-sys-fs-binfmt_misc.automount",
  "sys-kernel-debug.mount",
  "sys-kernel-tracing.mount",
  "apt-daily.timer",
  "apt-daily-upgrade.timer",
  "dpkg-db-backup.timer",
  "cloud-init-hotplugd.socket",
  "console-getty.service",
];

/**
 * cloud-init reads its configuration from LXD, or from the NoCloud seed, which is all that Incus gives it; the omitted modules
 * need a network, a cloud, or a disk.
 */
const CLOUD_CONFIG = `# The configuration of the lab's guests.
datasource_list: [LXD, NoCloud, None]
users: []
disable_root: false
preserve_hostname: false
ssh_deletekeys: false
ssh_genkeytypes: [ed25519]
manage_etc_hosts: false
cloud_init_modules: [seed_random, bootcmd, write-files, set_hostname, update_hostname, users-groups, ssh]
cloud_config_modules: [set-passwords, timezone, runcmd]
cloud_final_modules: [package-update-upgrade-install, scripts-per-once, scripts-per-boot, scripts-per-instance, scripts-user, final-message]
system_info:
  distro: debian
  network:
    renderers: [networkd]
  paths: {cloud_dir: /var/lib/cloud/, templates_dir: /etc/cloud/templates/}
  ssh_svcname: ssh
`;

/** A file of cloud-init's NoCloud seed that gives the value of a config key, or `otherwise` if the key is not set. */
function seedTemplate(key: string, otherwise: string): string {
  return `{% if config_get("${key}", "") == "" %}${otherwise}\n{% else %}{{ config_get("${key}", "") }}{% endif %}`;
}

const DHCP_ON_ETH0 = `version: 1
config:
  - type: physical
    name: eth0
    subnets:
      - type: dhcp
        control: auto`;

/** The server renders these templates when it creates, copies or starts a container of the image. */
const TEMPLATES: Readonly<Record<string, string>> = {
  "hostname.tpl": "{{ container.name }}\n",
  "hosts.tpl": "127.0.0.1\tlocalhost\n127.0.1.1\t{{ container.name }}\n::1\tlocalhost ip6-localhost ip6-loopback\n",
};

/** For Incus, which has no data source of its own in cloud-init: templates of a NoCloud seed. */
const SEED_TEMPLATES: Readonly<Record<string, string>> = {
  "cloud-init-meta.tpl": "#cloud-config\ninstance-id: {{ container.name }}\nlocal-hostname: {{ container.name }}\n",
  "cloud-init-user.tpl": seedTemplate("cloud-init.user-data", "#cloud-config\n{}"),
  "cloud-init-vendor.tpl": seedTemplate("cloud-init.vendor-data", "#cloud-config\n{}"),
  "cloud-init-network.tpl": seedTemplate("cloud-init.network-config", DHCP_ON_ETH0),
};

/** The files of cloud-init's NoCloud seed in the guest, and their templates. */
const SEED_FILES: Readonly<Record<string, string>> = {
  "/var/lib/cloud/seed/nocloud-net/meta-data": "cloud-init-meta.tpl",
  "/var/lib/cloud/seed/nocloud-net/user-data": "cloud-init-user.tpl",
  "/var/lib/cloud/seed/nocloud-net/vendor-data": "cloud-init-vendor.tpl",
  "/var/lib/cloud/seed/nocloud-net/network-config": "cloud-init-network.tpl",
};

/** cloud-init generates SSH host keys, except in a guest that hides LXD's data source from it. */
const HOST_KEY_UNIT = `[Unit]
Description=SSH host keys of this guest
After=cloud-init.service
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key

[Install]
WantedBy=multi-user.target
`;

function buildScript(): string {
  return `
apt-get update -q
apt-get install -q -y --no-install-recommends ${PACKAGES.join(" ")}
cat >/etc/cloud/cloud.cfg <<'END'
${CLOUD_CONFIG}END
rm -f /etc/cloud/cloud.cfg.d/*
cat >/etc/systemd/system/ssh-host-keys.service <<'END'
${HOST_KEY_UNIT}END
mkdir -p /etc/systemd/system/systemd-networkd-wait-online.service.d
cat >/etc/systemd/system/systemd-networkd-wait-online.service.d/any.conf <<'END'
[Service]
ExecStart=
ExecStart=/lib/systemd/systemd-networkd-wait-online --any --timeout=20
END
systemctl enable systemd-networkd.service ssh-host-keys.service
systemctl mask ${MASKED_UNITS.join(" ")}
rm -rf /etc/ssh/ssh_host_* /var/cache/apt/*.bin /usr/share/doc/* /usr/share/man/* /usr/share/locale/* /usr/share/info/*
${repositoryScript(REPOSITORY_PACKAGES)}
`;
}

/**
 * The guest image: Debian with systemd, networkd, sshd, sudo and cloud-init, as the two files that LXD imports,
 * `metadata.tar.xz` and `rootfs.squashfs`, and with `metadata-nocloud.tar.xz` for Incus. Takes about half a minute if only the common tree is cached.
 */
export async function guestImage(log: (line: string) => void): Promise<string> {
  const tree = await commonTree(RELEASE, log);
  return cachedFolder(`guest-${recipeHash([treeRecipe(RELEASE), buildScript(), TEMPLATES, SEED_TEMPLATES])}`, async (partial) => {
    log("making the guest image: cloud-init, squashfs");
    const layer = join(partial, "layer");
    await buildLayer(tree, layer, partial, {
      name: "guest.sh",
      text: buildScript(),
      suite: { release: RELEASE, backports: false },
    });
    await writeRepositoryIndex(layer);
    await makeSquashfs(partial, [
      ...["sh", "-c", `mount -t overlay lab-build -o "ro,lowerdir=$1" /mnt && exec mksquashfs /mnt "$2" ${SQUASHFS}`],
      ...["sh", `${layer}:${tree}`, join(partial, "rootfs.squashfs")],
    ]);
    removeFolder(layer);
    const files = { "/etc/hostname": "hostname.tpl", "/etc/hosts": "hosts.tpl" };
    const properties = { os: "Debian", release: "bookworm", description: "Debian 12 for the lab", variant: "cloud" };
    await writeMetadata(partial, "metadata", { properties, templates: TEMPLATES, files });
    const templates = { ...TEMPLATES, ...SEED_TEMPLATES };
    await writeMetadata(partial, "metadata-nocloud", { properties, templates, files: { ...files, ...SEED_FILES } });
  });
}

/** Commands of the guest that does nothing. */
const IDLE_COMMANDS = ["sh", "cat", "echo", "false", "sleep", "true"];

/** The server sends SIGPWR to stop a container. */
const IDLE_INIT = `#!/bin/sh
trap 'exit 0' PWR TERM
while :; do sleep 3600 & wait; done
`;

const IDLE_SCRIPT = `
apt-get update -q
apt-get install -q -y --no-install-recommends busybox-static
mkdir -p /idle/bin /idle/sbin /idle/dev /idle/etc /idle/proc /idle/root /idle/run /idle/sys /idle/tmp
cp /bin/busybox /idle/bin/busybox
for name in ${IDLE_COMMANDS.join(" ")}; do ln -s busybox /idle/bin/$name; done
printf '%s' '${IDLE_INIT.replaceAll("'", "'\\''")}' >/idle/sbin/init
chmod 755 /idle/sbin/init
`;

const IDLE_PROPERTIES = { metadata: { os: "idle", release: "1" }, "metadata-newer": { os: "idle", release: "2" } };

/**
 * The image of a guest that does nothing, in the same files as {@link guestImage}, and with `metadata-newer.tar.xz`. For suites that make, move and
 * start many instances: a member unpacks it in no time, where a Debian takes most of the time of such a suite.
 */
export async function idleImage(log: (line: string) => void): Promise<string> {
  const tree = await commonTree(RELEASE, log);
  return cachedFolder(`idle-${recipeHash([treeRecipe(RELEASE), IDLE_SCRIPT, IDLE_PROPERTIES])}`, async (partial) => {
    log("making the image of a guest that does nothing");
    const layer = join(partial, "layer");
    const suite = { release: RELEASE, backports: false } as const;
    await buildLayer(tree, layer, partial, { name: "idle.sh", text: IDLE_SCRIPT, suite });
    await makeSquashfs(partial, ["mksquashfs", join(layer, "idle"), join(partial, "rootfs.squashfs"), ...SQUASHFS.split(" ")]);
    removeFolder(layer);
    for (const [name, properties] of Object.entries(IDLE_PROPERTIES)) {
      await writeMetadata(partial, name, { properties, templates: {}, files: {} });
    }
  });
}

const SQUASHFS = "-comp zstd -Xcompression-level 3 -noappend -no-progress";

async function makeSquashfs(partial: string, argv: readonly string[]): Promise<void> {
  await inBuildNamespace(argv, { env: process.env, logFile: `${partial}.log` });
  rmSync(`${partial}.log`);
}

/** What an image says of itself. */
interface Metadata {
  readonly properties: Readonly<Record<string, string>>;
  /** Contents of the templates, by name. */
  readonly templates: Readonly<Record<string, string>>;
  /** Files of the guest, each with its template. */
  readonly files: Readonly<Record<string, string>>;
}

async function writeMetadata(folder: string, name: string, { properties, templates, files }: Metadata): Promise<void> {
  const architecture = process.arch === "arm64" ? "aarch64" : "x86_64";
  const when = ["create", "copy"];
  const metadata = {
    architecture,
    creation_date: Math.floor(Date.now() / 1000),
    properties: { ...properties, architecture },
    templates: Object.fromEntries(Object.entries(files).map(([file, template]) => [file, { when, template }])),
  };
  const content = join(folder, name);
  mkdirSync(join(content, "templates"), { recursive: true });
  // JSON is YAML.
  writeFileSync(join(content, "metadata.yaml"), `${JSON.stringify(metadata, undefined, 2)}\n`);
  for (const [file, text] of Object.entries(templates)) writeFileSync(join(content, "templates", file), text);
  await mustRun([
    "tar",
    "--create",
    "--xz",
    "--file",
    join(folder, `${name}.tar.xz`),
    "--directory",
    content,
    "metadata.yaml",
    "templates",
  ]);
  removeFolder(content);
}

import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { gunzipSync } from "node:zlib";
import { buildLayer, cachedFolder, commonTree, inBuildNamespace, recipeHash, treeRecipe } from "../real/base";
import { mustRun } from "../real/process";
import { removeFolder } from "../real/remove-folder";
import { labCacheDir } from "../real/state";
import { type CpioEntry, cpioArchive, file, folder } from "./cpio";

/** What a machine is booted with. */
export interface System {
  /** Name in the cache; it changes with everything that the system is made of. */
  readonly name: string;
  /** The layers of its file system, topmost first. */
  readonly layers: readonly string[];
  /** ext4 file system with these layers. Disks of machines are overlays of it, so it must never change. */
  readonly disk: string;
  /** The kernel, as QEMU boots it by PVH: not compressed, because emulated decompression takes seconds. */
  readonly kernel: string;
  /** The initial file system; see {@link BOOT_INIT}. */
  readonly initrd: string;
}

/** The Debian release of machines and of the virtual machines in them. */
export const SUITE = { release: "bookworm", backports: false } as const;

/** Size of a machine's root file system. The file is sparse. */
const DISK_GIB = 8;

/** Kernel modules that mount a machine's root file system; the rest is loaded from there. */
const BOOT_MODULES = ["crc32c_generic", "virtio_pci", "virtio_blk", "ext4"];

/**
 * First process of a machine: mounts its root file system, writes the files of its identity there at the first boot, and
 * starts systemd.
 */
const BOOT_INIT = `#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t devtmpfs dev /dev
while read -r module; do $B insmod "/modules/$module" || echo "insmod $module failed"; done </modules/order
$B mount -t ext4 -o rw /dev/vda /root
if [ ! -e /root/etc/lab-identity ]; then $B cp -a /identity/. /root/; fi
$B umount /proc
$B mount -o move /dev /root/dev
exec $B switch_root /root /sbin/init
`;

/** Units that a machine of the lab has no use for. */
const MASKED_UNITS = [
  "apt-daily.timer",
  "apt-daily-upgrade.timer",
  "dpkg-db-backup.timer",
  "e2scrub_all.timer",
  "e2scrub_reap.service",
  "fstrim.timer",
  "systemd-timesyncd.service",
  "systemd-networkd-wait-online.service",
];

const MACHINE_SCRIPT = `
apt-get update -q
# The lab has an initial file system of its own.
INITRD=No apt-get install -q -y --no-install-recommends linux-image-amd64 busybox-static qemu-guest-agent e2fsprogs
rm -rf /usr/share/doc/* /usr/share/man/* /usr/share/locale/* /etc/ssh/ssh_host_*
echo '/dev/vda / ext4 defaults 0 0' >/etc/fstab
install -d -m 700 /root/.ssh
getent group operator >/dev/null || groupadd --gid 1000 operator
useradd --create-home --shell /bin/bash --uid 1000 --gid operator operator
echo 'operator ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/operator
chmod 440 /etc/sudoers.d/operator
install -d -m 700 -o operator -g operator /home/operator/.ssh
systemctl enable systemd-networkd.service
systemctl mask ${MASKED_UNITS.join(" ")}
systemctl set-default multi-user.target
`;

/** Packages of a machine that runs LXD's virtual machines. LXD calls gdisk, genisoimage and mksquashfs. */
const VM_HOST_PACKAGES = [
  "lxd",
  "lxd-client",
  "lxd-agent",
  "dnsmasq-base",
  "iptables",
  "curl",
  "jq",
  "qemu-system-x86",
  "qemu-utils",
  "ovmf",
  "seabios",
  "gdisk",
  "genisoimage",
  "squashfs-tools",
  // For the image of virtual machines.
  "dosfstools",
  "mtools",
  "syslinux",
  "syslinux-common",
];

/**
 * Holds a virtual machine of KVM's that never runs. When the first one starts and the last one ends, Linux changes its own code, that of the
 * scheduler too, and a processor that QEMU emulates did not always notice. Seen were a hang and, most likely for the same reason, the panic
 * "corrupted stack end detected inside scheduler". The numbers are KVM_CREATE_VM, KVM_CREATE_IRQCHIP and KVM_CREATE_VCPU.
 */
const HOLD_KVM = `#!/usr/bin/perl
use strict;
open(my $kvm, "+<", "/dev/kvm") or die "/dev/kvm: $!";
my $machine = ioctl($kvm, 0xAE01, 0) or die "KVM_CREATE_VM: $!";
open(my $vm, "+<&=", $machine) or die "the virtual machine: $!";
ioctl($vm, 0xAE60, 0) or die "KVM_CREATE_IRQCHIP: $!";
my $processor = ioctl($vm, 0xAE41, 0) or die "KVM_CREATE_VCPU: $!";
sleep;
`;

const HOLD_KVM_UNIT = `[Unit]
Description=A virtual machine that never runs, so that the kernel's code stays the same
After=systemd-modules-load.service
Before=lxd.service

[Service]
ExecStart=/usr/local/sbin/hold-kvm

[Install]
WantedBy=multi-user.target
`;

const VM_HOST_SCRIPT = `
apt-get update -q
apt-get install -q -y --no-install-recommends ${VM_HOST_PACKAGES.join(" ")}
rm -rf /usr/share/doc/* /usr/share/man/* /usr/share/locale/*
# They must be there before LXD first looks for QEMU.
printf '%s\\n' kvm-amd vhost_vsock vhost_net tun >/etc/modules-load.d/lab.conf
# Huge pages shorten the two-dimensional page walks of a virtual machine. Halt polling only burns an emulated core.
printf '%s\\n' 'w /sys/kernel/mm/transparent_hugepage/shmem_enabled - - - - always' \\
  'w /sys/module/kvm/parameters/halt_poll_ns - - - - 0' >/etc/tmpfiles.d/lab.conf
cat >/usr/local/sbin/hold-kvm <<'END'
${HOLD_KVM}END
chmod 755 /usr/local/sbin/hold-kvm
cat >/etc/systemd/system/hold-kvm.service <<'END'
${HOLD_KVM_UNIT}END
systemctl enable hold-kvm.service
# For the inside of a virtual machine; Debian enables it here too.
systemctl disable lxd-agent.service || true
`;

/** The Debian release of the QEMU that emulates machines. */
const QEMU_SUITE = { release: "trixie", backports: false } as const;

const QEMU_SCRIPT = `
apt-get update -q
apt-get install -q -y --no-install-recommends qemu-system-x86 qemu-utils
rm -rf /usr/share/doc/* /usr/share/man/* /usr/share/locale/*
`;

/** A bare machine: Debian 12 with its own kernel, systemd, sshd and sudo. */
export async function machineSystem(log: (line: string) => void): Promise<System> {
  return makeSystem("machine", await machineLayers(log), log);
}

/** A machine with LXD and QEMU installed. LXD is not initialised. */
export async function vmHostSystem(log: (line: string) => void): Promise<System> {
  return makeSystem("vm-host", await vmHostLayers(log), log);
}

async function machineLayers(log: (line: string) => void): Promise<string[]> {
  const tree = await commonTree(SUITE.release, log);
  const layer = await cachedFolder(
    `machine-layer-${recipeHash([treeRecipe(SUITE.release), MACHINE_SCRIPT])}`,
    async (partial) => {
      log("making the file system of machines: a kernel (about a minute, once)");
      await buildLayer(tree, join(partial, "layer"), partial, { name: "machine.sh", text: MACHINE_SCRIPT, suite: SUITE });
    },
  );
  return [join(layer, "layer"), tree];
}

/** The file system with LXD and QEMU. */
export async function vmHostLayers(log: (line: string) => void): Promise<string[]> {
  const lower = await machineLayers(log);
  const layer = await cachedFolder(
    `vm-host-layer-${recipeHash([treeRecipe(SUITE.release), MACHINE_SCRIPT, VM_HOST_SCRIPT])}`,
    async (partial) => {
      log("making the file system of machines with LXD and QEMU (about two minutes, once)");
      await buildLayer(lower.join(":"), join(partial, "layer"), partial, { name: "host.sh", text: VM_HOST_SCRIPT, suite: SUITE });
    },
  );
  return [join(layer, "layer"), ...lower];
}

/**
 * The file system that the lab runs QEMU from, so that nothing of it is installed on this machine. Not the release of the
 * machines: QEMU before 8.1 translates code while another emulated processor changes it, and keeps the former code. Linux
 * changes its own code, and a processor then stays at a breakpoint that memory no longer has: the machine hangs.
 */
export async function emulatorLayers(log: (line: string) => void): Promise<string[]> {
  const tree = await commonTree(QEMU_SUITE.release, log);
  const layer = await cachedFolder(`qemu-${recipeHash([treeRecipe(QEMU_SUITE.release), QEMU_SCRIPT])}`, async (partial) => {
    log("making the file system with QEMU (about a minute, once)");
    await buildLayer(tree, join(partial, "layer"), partial, { name: "qemu.sh", text: QEMU_SCRIPT, suite: QEMU_SUITE });
  });
  return [join(layer, "layer"), tree];
}

async function makeSystem(kind: string, layers: readonly string[], log: (line: string) => void): Promise<System> {
  const name = `${kind}-${recipeHash([layers.map((layer) => relative(labCacheDir(), layer)), BOOT_INIT, BOOT_MODULES, DISK_GIB])}`;
  const made = await cachedFolder(name, async (partial) => {
    log(`making the disk and the boot files of a ${kind}`);
    const boot = layers.find((layer) => readdirSync(layer).includes("boot") && kernelOf(layer) !== undefined) ?? "";
    writeFileSync(join(partial, "initrd"), cpioArchive(initrd(boot)));
    await extractKernel(join(boot, "boot", kernelOf(boot) ?? ""), join(partial, "vmlinux"));
    await makeDisk(layers, join(partial, "disk.raw"), partial);
  });
  return {
    name,
    layers,
    disk: join(made, "disk.raw"),
    kernel: join(made, "vmlinux"),
    initrd: join(made, "initrd"),
  };
}

function kernelOf(layer: string): string | undefined {
  return readdirSync(join(layer, "boot")).find((name) => name.startsWith("vmlinuz-"));
}

/** Makes an ext4 file system with the content of the layers. */
async function makeDisk(layers: readonly string[], disk: string, scratch: string): Promise<void> {
  await inBuildNamespace(
    [
      ...["sh", "-c", 'mount -t overlay lab-build -o "ro,lowerdir=$1" /mnt && exec mkfs.ext4 -q -L root -d /mnt "$2" "$3"'],
      ...["sh", layers.join(":"), disk, `${DISK_GIB}G`],
    ],
    { env: process.env, logFile: `${scratch}.log` },
  );
  rmSync(`${scratch}.log`);
}

/** Entries of the initial file system: busybox, modules in the order in which they are loaded, and the first process. */
function initrd(layer: string): CpioEntry[] {
  const modules = modulesWithDependencies(layer, BOOT_MODULES);
  return [
    ...["bin", "dev", "identity", "modules", "proc", "root"].map((path) => folder(path)),
    file("bin/busybox", readFileSync(join(layer, "usr/bin/busybox")), 0o755),
    file("init", BOOT_INIT, 0o755),
    ...modules.map((path) => file(`modules/${basename(path)}`, readFileSync(path))),
    file("modules/order", modules.map((path) => `${basename(path)}\n`).join("")),
  ];
}

/** Files of kernel modules and of what they depend on, in the order in which they must be loaded. */
export function modulesWithDependencies(layer: string, names: readonly string[]): string[] {
  // A layer holds what dpkg wrote through the links of the merged /usr.
  const all = join(layer, "usr/lib/modules");
  const folder = join(all, readdirSync(all)[0] ?? "");
  const dependencies = new Map(
    readFileSync(join(folder, "modules.dep"), "utf8")
      .trimEnd()
      .split("\n")
      .map((line): [string, string[]] => {
        const [path = "", below = ""] = line.split(":");
        return [moduleName(path), [path, ...below.split(" ").filter((word) => word !== "")].reverse()];
      }),
  );
  const builtIn = readFileSync(join(folder, "modules.builtin"), "utf8").split("\n").map(moduleName);
  const order = names.flatMap((name) => {
    const paths = dependencies.get(moduleName(name));
    if (paths === undefined && !builtIn.includes(moduleName(name))) throw new Error(`The kernel has no module ${name}.`);
    return paths ?? [];
  });
  return [...new Set(order)].map((path) => join(folder, path));
}

/** The kernel counts - and _ in names of modules as one. */
function moduleName(path: string): string {
  return basename(path, ".ko").replaceAll("-", "_");
}

/** Takes the uncompressed kernel out of a bzImage; see "The Linux/x86 Boot Protocol". */
async function extractKernel(bzImage: string, target: string): Promise<void> {
  const image = readFileSync(bzImage);
  const setupSectors = image[0x1f1] === 0 ? 4 : (image[0x1f1] ?? 4);
  const start = (setupSectors + 1) * 512 + image.readUInt32LE(0x248);
  const payload = image.subarray(start, start + image.readUInt32LE(0x24c));
  if (payload.readUInt16BE(0) === 0x1f8b) {
    writeFileSync(target, gunzipSync(payload));
    return;
  }
  writeFileSync(`${target}.xz`, payload);
  // The size of the kernel follows the compressed stream.
  await mustRun(["sh", "-c", 'xz --decompress --single-stream --format=xz --stdout <"$1" >"$2"', "sh", `${target}.xz`, target]);
  removeFolder(`${target}.xz`);
}

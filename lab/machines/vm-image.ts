import { copyFileSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { gzipSync } from "node:zlib";
import { buildLayer, cachedFolder, commonTree, inBuildNamespace, recipeHash, treeRecipe } from "../real/base";
import { mustRun } from "../real/process";
import { removeFolder } from "../real/remove-folder";
import { labCacheDir } from "../real/state";
import { cpioArchive, file, folder } from "./cpio";
import { modulesWithDependencies, SUITE, vmHostLayers } from "./system";

/** Kernel arguments of a virtual machine. The second line saves seconds of its start. */
const KERNEL_ARGUMENTS = `console=ttyS0 quiet net.ifnames=0 mitigations=off nokaslr audit=0 panic=5 \
tsc=reliable no_timer_check rcupdate.rcu_expedited=1 cryptomgr.notests lsm= zswap.enabled=0 nowatchdog`;

/** The boot loader's configuration. */
const BOOT_LOADER = `DEFAULT linux
PROMPT 0
TIMEOUT 0
LABEL linux
  LINUX vmlinuz
  INITRD initrd
  APPEND ${KERNEL_ARGUMENTS}
`;

/**
 * Sizes of the boot partition and of the root file system. The latter grows to the end of its disk at each start.
 */
const BOOT_MEBIBYTES = 32;
const ROOT_MEBIBYTES = 256;

const VM_MODULES = [
  "crc32c_generic",
  "virtio_pci",
  "virtio_scsi",
  "sd_mod",
  "ext4",
  "virtio_net",
  "virtio_console",
  "vmw_vsock_virtio_transport",
  "9pnet_virtio",
  "9p",
  "virtiofs",
  "button",
  "evdev",
  "virtio_rng",
  "virtio_balloon",
];

const VM_INIT = `#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
while read -r module; do $B insmod "/modules/$module" || echo "insmod $module failed"; done </modules/order
tries=0
while [ ! -b /dev/sda2 ] && [ $tries -lt 600 ]; do $B usleep 50000; tries=$((tries + 1)); done
$B mount -t ext4 -o rw,noatime /dev/sda2 /root
for each in dev proc sys; do $B mount -o move /$each /root/$each; done
exec $B switch_root /root /sbin/init
`;

/** busybox's init instead of systemd, whose start takes a minute in an emulated machine. */
const INITTAB = `::sysinit:/etc/lab/start
::respawn:/etc/lab/agent
::respawn:/usr/sbin/sshd -D
::ctrlaltdel:/bin/busybox reboot
::shutdown:/bin/busybox sync
`;

const START = `#!/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts -o gid=5,mode=620,ptmxmode=666
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /run/sshd /run/lock
busybox hostname -F /etc/hostname
busybox ip link set lo up
# The named port by which the agent tells LXD that it has started; udev would make it.
for port in /sys/class/virtio-ports/vport*; do
  [ -e "$port/name" ] || continue
  mkdir -p /dev/virtio-ports
  ln -sf "../\${port##*/}" "/dev/virtio-ports/$(cat "$port/name")"
done
busybox acpid -c /etc/acpi -l /dev/null
[ -e /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
for nic in /sys/class/net/eth*; do
  [ -e "$nic" ] && busybox udhcpc -b -i "\${nic##*/}" -s /etc/lab/address -t 20 -T 1 >/dev/null 2>&1 &
done
# The partition ends where the disk ends.
if [ -n "$(sfdisk --quiet --list-free /dev/sda)" ]; then
  echo ', +' | sfdisk --quiet --no-reread --force -N 2 /dev/sda && partx --update --nr 2 /dev/sda
fi
resize2fs /dev/sda2
exit 0
`;

const ADDRESS = `#!/bin/busybox sh
case $1 in
  bound | renew)
    busybox ip addr flush dev "$interface" scope global
    busybox ip addr add "$ip/\${mask:-24}" dev "$interface"
    busybox ip link set "$interface" up
    [ -z "$router" ] || busybox ip route add default via "$router" dev "$interface"
    ;;
  deconfig) busybox ip link set "$interface" up ;;
esac
`;

/** What the units of lxd-agent do. */
const AGENT = `#!/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH HOME=/root
mkdir -p /run/lxd_agent.mnt /run/lxd_agent
mount -t virtiofs config /run/lxd_agent.mnt -o ro 2>/dev/null ||
  mount -t 9p config /run/lxd_agent.mnt -o ro,access=0,trans=virtio,size=1048576 2>/dev/null || { sleep 1; exit 1; }
mountpoint -q /run/lxd_agent || mount -t tmpfs tmpfs /run/lxd_agent -o mode=0700,size=50M
cp -Rp /run/lxd_agent.mnt/. /run/lxd_agent/
umount /run/lxd_agent.mnt
chown -R 0:0 /run/lxd_agent
cd /run/lxd_agent && exec ./lxd-agent
`;

/** LXD stops a virtual machine by its power button. */
const POWER_BUTTON = "#!/bin/sh\nexec busybox poweroff\n";

const FILES: Readonly<Record<string, string>> = {
  "/etc/inittab": INITTAB,
  "/etc/lab/start": START,
  "/etc/lab/address": ADDRESS,
  "/etc/lab/agent": AGENT,
  "/etc/acpi/PWRF/00000080": POWER_BUTTON,
  "/etc/hostname": "debian\n",
  "/etc/hosts": "127.0.0.1 localhost debian\n",
};

/** What is left out: LXD copies the image for each virtual machine, under emulation. */
const LEFT_OUT = [
  ...["/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/usr/share/info", "/usr/share/i18n", "/usr/share/zoneinfo"],
  ...["/usr/lib/systemd", "/lib/systemd", "/usr/lib/apt", "/usr/bin/perl*", "/usr/lib/x86_64-linux-gnu/gconv"],
  ...["/usr/lib/x86_64-linux-gnu/perl*", "/usr/share/perl*", "/usr/lib/x86_64-linux-gnu/systemd", "/usr/lib/udev", "/lib/udev"],
  ...["/usr/share/zsh", "/usr/share/bash-completion", "/usr/share/debconf", "/var/cache/*", "/etc/ssh/ssh_host_*"],
  ...[
    "/usr/bin/systemd-*",
    "/usr/bin/udevadm",
    "/bin/udevadm",
    "/usr/bin/journalctl",
    "/usr/lib/ssl/misc",
    "/usr/share/ca-certificates",
  ],
];

const SCRIPT = `
apt-get update -q
apt-get install -q -y --no-install-recommends busybox-static e2fsprogs fdisk
${Object.entries(FILES)
  .map(([path, text]) => `mkdir -p "$(dirname ${path})"\ncat >${path} <<'END-OF-FILE'\n${text}END-OF-FILE`)
  .join("\n")}
chmod 755 /etc/lab/* /etc/acpi/PWRF/*
rm -f /sbin/init
for link in init halt poweroff reboot; do ln -sf ../bin/busybox "/sbin/$link"; done
rm -f /etc/resolv.conf.dpkg*
rm -rf ${LEFT_OUT.join(" ")}
`;

/**
 * The image of a small Debian with sshd and sudo for virtual machines of LXD in a machine of the lab: a folder with
 * `metadata.tar.xz` and `disk.qcow2`, as LXD imports them. It starts by BIOS, not by UEFI.
 */
export async function vmImage(log: (line: string) => void): Promise<string> {
  const tree = await commonTree(SUITE.release, log);
  const tools = await vmHostLayers(log);
  const [, kernelLayer = ""] = tools;
  const recipe = [
    "gzip, modules without signatures",
    kernelLayer.slice(labCacheDir().length),
    treeRecipe(SUITE.release),
    SCRIPT,
    BUILD_DISK,
  ];
  return cachedFolder(`vm-image-${recipeHash([...recipe, VM_MODULES, VM_INIT, BOOT_LOADER])}`, async (partial) => {
    log("making the image of virtual machines");
    await buildLayer(tree, join(partial, "layer"), partial, { name: "vm.sh", text: SCRIPT, suite: SUITE });
    const parts = join(partial, "parts");
    mkdirSync(parts);
    // BIOS reads it sector by sector, which is slow under emulation; it is unpacked faster.
    writeFileSync(join(parts, "initrd"), gzipSync(initrd(kernelLayer)));
    writeFileSync(join(parts, "syslinux.cfg"), BOOT_LOADER);
    const boot = join(kernelLayer, "boot");
    copyFileSync(join(boot, readdirSync(boot).find((name) => name.startsWith("vmlinuz-")) ?? ""), join(parts, "vmlinuz"));
    await inBuildNamespace(["sh", "-c", BUILD_DISK, "sh", `${join(partial, "layer")}:${tree}`, tools.join(":"), parts], {
      env: { ...process.env, LC_ALL: "C" },
      logFile: `${partial}.log`,
    });
    rmSync(`${partial}.log`);
    renameSync(join(parts, "disk.qcow2"), join(partial, "disk.qcow2"));
    for (const folder of ["layer", "parts"]) removeFolder(join(partial, folder));
    await writeMetadata(partial);
  });
}

/** $1: layers of the virtual machine; $2: layers of the file system with the tools; $3: folder with the boot files. */
const BUILD_DISK = `set -eu
mount -t overlay lab-build -o "ro,lowerdir=$1" /mnt
mkfs.ext4 -q -L root -d /mnt "$3/root" ${ROOT_MEBIBYTES}M
umount /mnt
mount -t overlay lab-build -o "ro,lowerdir=$2" /mnt
mount --rbind /dev /mnt/dev
mount -t proc proc /mnt/proc
mount --bind "$3" /mnt/srv
exec chroot /mnt env TMPDIR=/srv sh -eu -c '
cd /srv
truncate -s ${BOOT_MEBIBYTES}M boot
mkfs.vfat -F 16 boot
mcopy -i boot vmlinuz initrd syslinux.cfg ::
truncate -s ${BOOT_MEBIBYTES + ROOT_MEBIBYTES + 2}M disk
sgdisk -n 1:2048:+${BOOT_MEBIBYTES}M -t 1:ef00 -A 1:set:2 -n 2:0:+${ROOT_MEBIBYTES}M -t 2:8304 disk
dd if=boot of=disk bs=1M seek=1 conv=notrunc,sparse
dd if=root of=disk bs=1M seek=${BOOT_MEBIBYTES + 1} conv=notrunc,sparse
syslinux --install --offset $((2048 * 512)) disk
dd if=/usr/lib/syslinux/mbr/gptmbr.bin of=disk bs=440 count=1 conv=notrunc
qemu-img convert -q -c -O qcow2 -o compression_type=zstd disk disk.qcow2'
`;

function initrd(layer: string): Buffer {
  const modules = modulesWithDependencies(layer, VM_MODULES);
  return cpioArchive([
    ...["bin", "dev", "modules", "proc", "root", "sys"].map((path) => folder(path)),
    file("bin/busybox", readFileSync(join(layer, "usr/bin/busybox")), 0o755),
    file("init", VM_INIT, 0o755),
    ...modules.map((path) => file(`modules/${basename(path)}`, withoutSignature(readFileSync(path)))),
    file("modules/order", modules.map((path) => `${basename(path)}\n`).join("")),
  ]);
}

/**
 * A kernel module without the signature at its end, which takes the kernel half a second of emulated time to check. The
 * size of the signature is in the four bytes before the mark; see struct module_signature.
 */
function withoutSignature(module: Buffer): Buffer {
  const mark = "~Module signature appended~\n";
  const end = module.length - mark.length;
  if (module.subarray(end).toString("latin1") !== mark) return module;
  return module.subarray(0, end - 12 - module.readUInt32BE(end - 4));
}

async function writeMetadata(target: string): Promise<void> {
  const content = join(target, "metadata");
  mkdirSync(content);
  const properties = { os: "Debian", release: "bookworm", description: "Debian 12 for virtual machines of the lab" };
  const metadata = { architecture: "x86_64", creation_date: Math.floor(Date.now() / 1000), properties };
  // JSON is YAML.
  writeFileSync(join(content, "metadata.yaml"), `${JSON.stringify(metadata)}\n`);
  await mustRun(["tar", "--create", "--xz", "--file", join(target, "metadata.tar.xz"), "--directory", content, "metadata.yaml"]);
  removeFolder(content);
}

import { symlinkSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { ensureMachinePackages } from "../real/apt";
import { cachedFolder, recipeHash } from "../real/base";
import { waitFor } from "../real/process";
import { labCacheDir } from "../real/state";
import { MachineLab } from "./index";
import { HARDWARE, type MachineSpec, type SavedState } from "./machine";
import { emulatorLayers, vmHostSystem } from "./system";
import { vmImage } from "./vm-image";

/**
 * The machine whose LXD runs virtual machines. With two processors its kernel panics now and then when a virtual machine starts, in an
 * interrupt or the idle task: a fault of the emulation of several processors in parallel. With one it has not, and is faster.
 */
const VM_HOST: MachineSpec = { name: "vmhost", address: "192.168.1.121", memoryMebibytes: 4096, cpus: 1 };

const STATE = "ready";

/**
 * LXD gives QEMU five seconds in its feature check, and keeps the verdict until it starts again. On a busy machine the
 * first start of an emulated QEMU can take longer.
 */
const FEATURE_CHECK_TIMEOUT_SECONDS = 900;

const PREPARE = `
qemu=$(command -v qemu-system-x86_64)
for code in /usr/share/OVMF/OVMF_CODE.fd; do cat "$qemu" "$code" >/dev/null; done
timeout 60 "$qemu" -version >/dev/null
lxd waitready --timeout=300
`;

/** Name of the virtual machine of {@link startVmHost} with `running`. */
const VIRTUAL_MACHINE = "v1";

const VIRTUAL_MACHINE_TIMEOUT_SECONDS = 1800;

/**
 * BIOS, because emulated UEFI ends the emulator, and no ROMs of cards: their screen output and network boot take half a minute. Room for
 * a second processor, which LXD gives a virtual machine only on a host that has two.
 */
const RAW_QEMU =
  "-bios /usr/share/seabios/bios-256k.bin -global virtio-vga.romfile= -global virtio-net-pci.romfile= -smp maxcpus=2";

/** Initialises LXD, with a profile for virtual machines, and starts one. LXD's client reads YAML from a file as input. */
const LAUNCH = `
exec </dev/null
lxd init --auto
lxc profile set default security.secureboot=false raw.qemu="${RAW_QEMU}"
lxc image import /root/image/metadata.tar.xz /root/image/disk.qcow2 --alias vm
rm -r /root/image
lxc init vm ${VIRTUAL_MACHINE} --vm -c limits.memory=384MiB -c limits.cpu=1 -d root,size=300MiB
lxc start ${VIRTUAL_MACHINE}
# With curl, because the start of LXD's client takes a second of emulated CPU time.
until curl -sS --unix-socket /var/lib/lxd/unix.socket lxd/1.0/instances/${VIRTUAL_MACHINE}/state | grep -q '"processes":[1-9]'; do
  sleep 3
done
# QEMU cannot load a state in which a processor executes a virtual machine.
lxc pause ${VIRTUAL_MACHINE}
`;

const RESUME = `lxc start ${VIRTUAL_MACHINE} </dev/null`;

/**
 * Starts a lab with one machine, from its saved state: LXD is installed, not initialised, and runs virtual machines. Their
 * image is in the workstation's home, `lxd-images/vm`.
 * @param options - With `running`, LXD is initialised, and has the image "vm", a profile that virtual machines need here,
 * and a virtual machine "v1" whose agent answers.
 */
export async function startVmHost(options: {
  instance?: string;
  running?: boolean;
  log?: (line: string) => void;
}): Promise<MachineLab> {
  const { log = () => undefined } = options;
  MachineLab.requireAvailable();
  await ensureMachinePackages(log);
  const system = await vmHostSystem(log);
  const image = await vmImage(log);
  const state = options.running === true ? await savedVirtualMachine(image, log) : await savedState(log);
  const lab = await MachineLab.start({ ...options, log, system, machines: [VM_HOST], states: { [VM_HOST.name]: state } });
  try {
    symlinkSync(image, join(lab.lab.home, "lxd-images/vm"));
    if (options.running === true) await lab.machine(VM_HOST.name).run(RESUME);
    return lab;
  } catch (error) {
    await lab.stop();
    throw error;
  }
}

/** Boots the machine once, until LXD says that it runs virtual machines, and keeps it as it is then. */
async function savedState(log: (line: string) => void): Promise<SavedState> {
  const system = await vmHostSystem(log);
  const [qemu = ""] = await emulatorLayers(log);
  const recipe = [relative(labCacheDir(), qemu), HARDWARE, system.name, VM_HOST, PREPARE];
  const folder = await cachedFolder(`vm-host-state-${recipeHash(recipe)}`, async (partial) => {
    log("booting a machine with LXD, and saving its state (one to five minutes, once)");
    const lab = await MachineLab.start({ instance: "vm-host-state", log, system, machines: [VM_HOST] });
    try {
      const machine = lab.machine(VM_HOST.name);
      await machine.run(PREPARE);
      await waitFor("LXD to find QEMU", FEATURE_CHECK_TIMEOUT_SECONDS, async () => {
        const { stdout } = await machine.exec(["sh", "-c", "lxc info </dev/null | grep driver:"]);
        if (stdout.includes("qemu")) return true;
        log(`LXD has not found QEMU in time (${stdout.trim()}); starting it again`);
        await machine.run("systemctl restart lxd.service; lxd waitready --timeout=300");
        return undefined;
      });
      await machine.save(STATE);
      await machine.moveTo(partial);
    } finally {
      await lab.stop();
    }
  });
  return { folder, snapshot: STATE };
}

/** Starts a virtual machine once, until its agent answers, pauses it, and keeps the machine as it is then. */
async function savedVirtualMachine(image: string, log: (line: string) => void): Promise<SavedState> {
  const before = await savedState(log);
  const name = `vm-state-${recipeHash([basename(before.folder), basename(image), LAUNCH])}`;
  const folder = await cachedFolder(name, async (partial) => {
    log("starting a virtual machine, and saving its state (one to ten minutes, once)");
    const system = await vmHostSystem(log);
    const states = { [VM_HOST.name]: before };
    const lab = await MachineLab.start({ instance: "vm-state", log, system, machines: [VM_HOST], states });
    try {
      const machine = lab.machine(VM_HOST.name);
      await lab.lab.workstationExec(["ssh", VM_HOST.name, "mkdir /root/image"]);
      for (const file of ["metadata.tar.xz", "disk.qcow2"]) {
        const copied = await lab.lab.workstationExec(["scp", join(image, file), `${VM_HOST.name}:/root/image/`]);
        if (copied.exitCode !== 0) throw new Error(`Unable to copy ${file}: ${copied.stderr}`);
      }
      await machine.run(LAUNCH, { timeoutSeconds: VIRTUAL_MACHINE_TIMEOUT_SECONDS });
      await machine.save(STATE);
      await machine.moveTo(partial);
    } finally {
      await lab.stop();
    }
  });
  return { folder, snapshot: STATE };
}

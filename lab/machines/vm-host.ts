import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { cachedFolder, recipeHash } from "../real/base";
import { waitFor } from "../real/process";
import { MachineLab } from "./index";
import type { MachineSpec, SavedState } from "./machine";
import { vmHostSystem } from "./system";
import { vmImage } from "./vm-image";

/** The machine whose LXD runs virtual machines. */
const VM_HOST: MachineSpec = { name: "vmhost", address: "192.168.1.121", memoryMebibytes: 4096, cpus: 2 };

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

/**
 * Starts a lab with one machine, from its saved state: LXD is installed, not initialised, and runs virtual machines. Their
 * image is in the workstation's home, `lxd-images/vm`.
 */
export async function startVmHost(options: { instance?: string; log?: (line: string) => void }): Promise<MachineLab> {
  const { log = () => undefined } = options;
  const system = await vmHostSystem(log);
  const [image, state] = [await vmImage(log), await savedState(log)];
  const lab = await MachineLab.start({ ...options, log, system, machines: [VM_HOST], states: { [VM_HOST.name]: state } });
  symlinkSync(image, join(lab.lab.home, "lxd-images/vm"));
  return lab;
}

/** Boots the machine once, until LXD says that it runs virtual machines, and keeps it as it is then. */
async function savedState(log: (line: string) => void): Promise<SavedState> {
  const system = await vmHostSystem(log);
  const folder = await cachedFolder(`vm-host-state-${recipeHash([system.name, VM_HOST, PREPARE])}`, async (partial) => {
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
      mkdirSync(partial, { recursive: true });
      await machine.moveTo(partial);
    } finally {
      await lab.stop();
    }
  });
  return { folder, snapshot: STATE };
}

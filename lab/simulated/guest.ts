/** The machine inside a simulated instance: the files of a small Debian system, and its programs. */
import { GuestSoftware } from "./guest-software";
import type { Instance } from "./lxd/database";
import { MemoryFiles } from "./memory-files";
import type { PackagedMachine } from "./programs/packages";
import { SimulatedUnits } from "./programs/systemd";
import { makeSystemFiles } from "./system-files";

/** A guest. LXD's files API shows the same files. */
export interface Guest extends PackagedMachine {
  readonly instance: Instance;
  readonly units: SimulatedUnits;
}

/** The files of a new guest. */
export function makeGuestFiles(instance: Instance): MemoryFiles {
  const made = new MemoryFiles();
  makeSystemFiles(made);
  made.writeFile("/etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n');
  made.writeFile(
    "/proc/self/mountinfo",
    "36 35 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n37 36 0:21 / /run rw,nosuid - tmpfs tmpfs rw\n",
  );
  made.writeFile("/etc/hostname", `${instance.name}\n`);
  return made;
}

/** The packages of an instance. */
export function softwareOf(instance: Instance): GuestSoftware {
  instance.software ??= new GuestSoftware();
  return instance.software;
}

/** The guest of an instance. */
export function guestOf(instance: Instance): Guest {
  instance.files ??= makeGuestFiles(instance);
  if (instance.units === undefined) {
    instance.units = new SimulatedUnits(instance.files);
    if (instance.status === "Running") {
      instance.units.boot();
    }
  }
  const software = softwareOf(instance);
  return {
    ...{ name: instance.name, files: instance.files, units: instance.units, instance },
    ...{ packageManager: software.packageManager, packages: software.packages, heldPackages: software.heldPackages },
    ...{ archive: software.archive, packageTrouble: software.packageTrouble },
    versionsOf: (name) => software.versionsOf(name),
    takeInstallTime: () => Promise.resolve(),
    installPackage: (name, version) => software.installPackage(name, version),
    removePackage: (name) => software.removePackage(name),
  };
}

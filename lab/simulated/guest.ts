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
  made.writeFile("/etc/resolv.conf", "nameserver 192.168.1.1\n");
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

/**
 * The kernel's files about its routes: a default route through each interface with an address, as DHCP, router advertisements and static
 * network configs give.
 */
export function networkFiles({ leases }: Instance): Readonly<Record<string, string>> {
  const header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
  const zeros = "0".repeat(32);
  const [all, v6] = [[...leases], [...leases].filter(([, { ipv6 }]) => ipv6 !== undefined)];
  const v4 = all.filter(([, { ipv4 }]) => ipv4 !== undefined);
  return {
    "/proc/net/route": header + v4.map(([nic]) => `${nic}\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n`).join(""),
    "/proc/net/ipv6_route": v6
      .map(
        ([nic]) => `${zeros} 00 ${zeros} 00 ${zeros.replace(/.$/, "1")} 00000400 00000001 00000000 00000003 ${nic.padStart(8)}\n`,
      )
      .join(""),
  };
}

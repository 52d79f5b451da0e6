import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { isIPv6 } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FLAVOUR_NAMES, type FlavourName } from "../../lab/debian-servers";
import { type SimulatedHostOptions, SimulatedLab } from "../../lab/simulated";
import { CALLS_PATH, callsInContract, callsOf } from "./lxd/calls";
import type { HarnessHost, LxdHarness } from "./lxd/harness";
import { lxdContract } from "./lxd/lxd-contract";
import { serverOf } from "./lxd/servers";

for (const flavour of FLAVOUR_NAMES) {
  lxdContract(`simulated hosts of ${flavour}`, () => simulatedHosts(flavour));
}

lxdContract("simulated hosts with upper case in a name, IPv6 addresses and sudo", () =>
  simulatedHosts("bookworm-lxd", [
    { name: "alpha", lanAddress: "fd00:c1a5:7e4::a1", user: "operator" },
    { name: "Beta-2", lanAddress: "fd00:c1a5:7e4::b2", user: "operator" },
  ]),
);

const TWO_HOSTS = [
  { name: "bcn2", lanAddress: "192.168.1.102" },
  { name: "bcn1", lanAddress: "192.168.1.101" },
] as const;

type Host = SimulatedHostOptions & { readonly lanAddress: string };

async function simulatedHosts(flavour: FlavourName, [first, second]: readonly [Host, Host] = TWO_HOSTS): Promise<LxdHarness> {
  const [, service] = serverOf(flavour).debian.units;
  const lab = await SimulatedLab.start({
    flavour,
    hosts: [first, second].map((each) => ({ ...each, packages: [] })),
  });
  const folder = mkdtempSync(join(tmpdir(), "contract-image-"));
  const image = { metadataPath: join(folder, "metadata.tar.xz"), rootfsPath: join(folder, "rootfs.squashfs") };
  writeFileSync(image.metadataPath, "metadata");
  writeFileSync(image.rootfsPath, "root file system");
  const otherImage = { ...image, rootfsPath: join(folder, "other.squashfs") };
  writeFileSync(otherImage.rootfsPath, "other root file system");
  const debian = { ...image, rootfsPath: join(folder, "debian.squashfs") };
  writeFileSync(debian.rootfsPath, "root file system of Debian");
  const host = (name: string): HarnessHost => {
    const { connection, lanAddress } = lab.host(name);
    return { name, address: `${isIPv6(lanAddress) ? `[${lanAddress}]` : lanAddress}:8443`, connection };
  };
  let cameToTheEnd = false; // a part of the suite makes only part of the calls
  return {
    flavour,
    kind: first.name === TWO_HOSTS[0].name ? "simulated" : "simulated, strict",
    primary: host(first.name),
    secondary: host(second.name),
    image,
    otherImage,
    debian,
    hurtPackages: (name) => {
      Object.assign(lab.host(name).packageTrouble, { interrupted: true, deadSources: ["cdrom://[Debian 12] bookworm"] });
      return Promise.resolve();
    },
    listen: (name, address, port) => {
      const { listeners } = lab.host(name);
      const listener = { process: "perl", pid: 910, address, port };
      listeners.push(listener);
      return Promise.resolve(async () => void listeners.splice(listeners.indexOf(listener), 1));
    },
    killLxd: (name) => {
      lab.host(name).controlUnit("restart", service);
      return Promise.resolve();
    },
    powerOff: (name) => {
      cameToTheEnd = true;
      return lab.host(name).powerOff();
    },
    stop: async () => {
      if (cameToTheEnd && flavour === "bookworm-lxd" && process.env["UPDATE_CALLS"] !== undefined) {
        writeFileSync(CALLS_PATH, `${JSON.stringify(callsOf(lab.requests), null, 2)}\n`);
      }
      if (cameToTheEnd && flavour === "bookworm-lxd") {
        assert.deepEqual(
          callsOf(lab.requests),
          callsInContract(),
          "run this once with UPDATE_CALLS=1 if the suite makes other calls",
        );
      }
      await lab.stop();
      rmSync(folder, { recursive: true });
      assert.deepEqual(lab.defects, []);
      assert.deepEqual(
        lab.hosts.map(({ unknownCommands }) => unknownCommands),
        [[], []],
      );
      assert.deepEqual(
        lab.unknownGuestCommands.filter(([program]) => program !== "no-such-program"),
        [],
      );
    },
  };
}

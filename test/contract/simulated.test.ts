import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SimulatedLab } from "../../lab/simulated";
import { CALLS_PATH, callsInContract, callsOf } from "./lxd/calls";
import type { HarnessHost, LxdHarness } from "./lxd/harness";
import { lxdContract } from "./lxd/lxd-contract";
import { FLAVOURS, type Flavour, serverOf } from "./lxd/servers";

for (const flavour of FLAVOURS) {
  lxdContract(`simulated hosts of ${flavour}`, () => simulatedHosts(flavour));
}

async function simulatedHosts(flavour: Flavour): Promise<LxdHarness> {
  const [, service] = serverOf(flavour).units;
  const lab = await SimulatedLab.start({
    flavour,
    hosts: [
      { name: "bcn2", lanAddress: "192.168.1.102" },
      { name: "bcn1", lanAddress: "192.168.1.101" },
    ],
  });
  const folder = mkdtempSync(join(tmpdir(), "contract-image-"));
  const image = { metadataPath: join(folder, "metadata.tar.xz"), rootfsPath: join(folder, "rootfs.squashfs") };
  writeFileSync(image.metadataPath, "metadata");
  writeFileSync(image.rootfsPath, "root file system");
  const host = (name: string): HarnessHost => {
    const { connection, lanAddress } = lab.host(name);
    return { name, address: `${lanAddress}:8443`, connection };
  };
  let cameToTheEnd = false; // a part of the suite makes only part of the calls
  return {
    flavour,
    kind: "simulated",
    primary: host("bcn2"),
    secondary: host("bcn1"),
    image,
    hurtPackages: (name) => {
      Object.assign(lab.host(name).packageTrouble, { interrupted: true, deadSources: ["cdrom://[Debian 12] bookworm"] });
      return Promise.resolve();
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

import assert from "node:assert/strict";
import { SimulatedLab } from "../../lab/simulated";
import { snapdContract } from "./snapd/snapd-contract";

for (const [version, user] of [
  ["2.57.6", "root"],
  ["2.58", "root"],
  ["2.68.3", "operator"],
  ["2.77.1", "root"],
] as const) {
  snapdContract(`simulated hosts, ${version}`, async () => {
    const lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", snapd: true, snapdVersion: version, user }] });
    const host = lab.host("bcn2");
    return {
      version,
      connections: [host.connection],
      installFromFile: () => {
        host.installSnapFromFile("5.21.1-abcdef0", ["wrong"]);
        return Promise.resolve();
      },
      isActive: () => Promise.resolve(host.unitActive("snap.lxd.daemon.service")),
      stop: async () => {
        await lab.stop();
        assert.deepEqual([lab.defects, host.unknownCommands], [[], []]);
      },
    };
  });
}

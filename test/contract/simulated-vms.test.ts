import assert from "node:assert/strict";
import { SimulatedLab } from "../../lab/simulated";
import { vmsContract } from "./vms/vms-contract";

vmsContract("simulated hosts", false, async () => {
  const lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", lxd: "deb" }] });
  const name = "vm1";
  await lab.byHand("bcn2", "POST", "/1.0/storage-pools", { name: "default", driver: "dir" });
  await lab.byHand("bcn2", "POST", "/1.0/networks", { name: "lxdbr0", config: { "ipv4.address": "10.1.0.1/24" } });
  const devices = {
    root: { type: "disk", path: "/", pool: "default" },
    eth0: { type: "nic", network: "lxdbr0", name: "eth0" },
  };
  await lab.byHand("bcn2", "PUT", "/1.0/profiles/default", { config: {}, description: "", devices });
  lab.seedInstances(1, { host: "bcn2", config: { "limits.memory": "384MiB", "limits.cpu": "1" } });
  return {
    ...{ connection: lab.host("bcn2").connection, name, directory: "/srv" },
    killAgent: () => {
      lab.setAgent("bcn2", name, false);
      setImmediate(() => lab.setAgent("bcn2", name, true));
      return Promise.resolve();
    },
    stop: async () => {
      await lab.stop();
      assert.deepEqual([lab.defects, lab.unknownGuestCommands], [[], []]);
    },
  };
});

import assert from "node:assert/strict";
import { vmLifecycle } from "../../../provider/resources/lxd-vm";
import { Managed, type SimulatedCluster, startTwoMembers } from "./simulated-cluster";

/** Why an action could not be undone: inputs of the program, manual changes, and the message. */
const REASONS = {
  "it is ephemeral": { given: {}, ephemeral: true, says: /ephemeral: it is ephemeral, so it is deleted with its disk/ },
  "it is protected from being deleted": {
    given: { config: { "security.protection.delete": "true" } },
    ephemeral: false,
    says: /security\.protection\.delete/,
  },
  "it is protected from being started": {
    given: { profiles: ["default", "guarded"] },
    ephemeral: false,
    says: /security\.protection\.start: it would not start again once it is stopped/,
  },
  "it has a volume of its member": {
    given: { devices: { "my/disk": { type: "disk", pool: "default", source: "v1", path: "/data" } } },
    ephemeral: false,
    says: /devices\.my\/disk: volume "v1" of pool "default" is on bcn1, and does not move/,
  },
  "it has a path of its member": {
    given: { devices: { srv: { type: "disk", source: "/srv", path: "/data" } } },
    ephemeral: false,
    says: /devices\.srv: the host path \/srv is on bcn1/,
  },
  "it has a GPU of its member": {
    given: { devices: { gpu0: { type: "gpu", pci: "01:00.0" } } },
    ephemeral: false,
    says: /devices\.gpu0: the gpu device is on bcn1/,
  },
} as const;

type Reason = keyof typeof REASONS;

/** Actions that stop or move an instance, and their obstacles. */
const ACTS: Record<string, { change: object; impossible: readonly Reason[] }> = {
  "a stop": { change: { running: false, waitFor: [] }, impossible: ["it is ephemeral"] },
  "a restart for a change": {
    change: { rootDisk: { size: "20GiB" }, allowRestart: true },
    impossible: ["it is ephemeral", "it is protected from being started"],
  },
  "a forced restart for a change": {
    change: { rootDisk: { size: "20GiB" }, allowRestart: "force" },
    impossible: ["it is ephemeral", "it is protected from being started"],
  },
  "a move": { change: { target: "bcn2", allowRestart: true }, impossible: Object.keys(REASONS) as Reason[] },
  "another name": {
    change: { description: "to be another", name: "another" },
    impossible: ["it is protected from being deleted"],
  },
};

describe("an action that cannot be undone is refused, in the preview and by pulumi up:", () => {
  let two: SimulatedCluster;

  before(async () => {
    two = await startTwoMembers();
    two.lab.seedImage("bcn2", { alias: "vm-image", type: "virtual-machine" });
    const lxd = await two.byHand();
    const body = { name: "default", driver: "dir" };
    for (const target of ["bcn2", "bcn1", undefined]) {
      await lxd.change("POST", "/1.0/storage-pools", { query: { target }, body });
    }
    const volumes = "/1.0/storage-pools/default/volumes/custom";
    await lxd.change("POST", volumes, { query: { target: "bcn1" }, body: { name: "v1", config: {} } });
    const devices = { root: { type: "disk", path: "/", pool: "default" } };
    await lxd.change("POST", "/1.0/profiles", { body: { name: "guarded", description: "", config: {}, devices: {} } });
    // The key is one of newer servers.
    Object.assign(two.lab.host("bcn2").daemon?.database.profile("default", "guarded") ?? {}, {
      config: { "security.protection.start": "true" },
    });
    await lxd.change("PUT", "/1.0/profiles/default", { body: { description: "", config: {}, devices } });
  });
  after(() => two.stop());

  let number = 0;
  for (const [act, { change, impossible }] of Object.entries(ACTS)) {
    for (const [reason, { given, ephemeral, says }] of Object.entries(REASONS)) {
      const isRefused = impossible.includes(reason as Reason);
      it(`${act}, when ${reason}${isRefused ? "" : " (nothing is in the way)"}`, async () => {
        number += 1;
        const name = `vm${number}`;
        const vm = new Managed(vmLifecycle, name);
        const args = { cluster: two.cluster, name, image: { alias: "vm-image" }, target: "bcn1", ...given };
        await vm.up(args);
        const instance = () => two.lab.host("bcn2").daemon?.database.instance("default", name);
        Object.assign(instance() ?? {}, { ephemeral });
        const before = two.lab.requests.length;
        const wanted = { ...args, ...change, ...("name" in change && { name: `another${number}` }) };
        await vm.preview(wanted);
        assert.equal(/pulumi up will refuse this/.test(vm.warnings.join()), isRefused, vm.warnings.join());
        if (isRefused) {
          assert.match(vm.warnings.join(), says);
          await assert.rejects(vm.up(wanted), says);
          assert.deepEqual(two.lab.mutations(before), []);
          assert.equal(instance()?.status, "Running");
        } else {
          await vm.up(wanted);
        }
      });
    }
  }
});

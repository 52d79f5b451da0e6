import assert from "node:assert/strict";
import type { Config, Devices } from "../../../provider/lxd/config";
import type { InstanceType } from "../../../provider/lxd/instances/instances";
import { describeObstacles, obstaclesToLiveUpdate } from "../../../provider/lxd/instances/obstacles";

function obstacles(
  type: InstanceType,
  live: { config?: Config; devices?: Devices },
  wanted: { config?: Config; devices?: Devices },
  cpuHotplug = true,
): string[] {
  const full = ({ config = {}, devices = {} }: { config?: Config; devices?: Devices }) => ({ config, devices });
  return obstaclesToLiveUpdate(type, full(live), full(wanted), { cpuHotplug }).map(({ what, cure }) => `${what} ${cure}`);
}

describe("obstaclesToLiveUpdate", () => {
  const keys: [title: string, key: string, from: string, to: string, obstacle: boolean][] = [
    ["more CPUs are plugged in", "limits.cpu", "1", "2", false],
    ["a first number of CPUs is plugged in", "limits.cpu", "", "4", false],
    ["CPUs are pinned only while it is stopped", "limits.cpu", "2", "0-3", true],
    ["pinned CPUs are released only while it is stopped", "limits.cpu", "0-3", "4", true],
    ["memory shrinks", "limits.memory", "4GiB", "2GiB", false],
    ["memory does not grow", "limits.memory", "4GiB", "8GiB", true],
    ["memory does not grow beyond LXD's default", "limits.memory", "", "2GiB", true],
    ["memory in another spelling is no change", "limits.memory", "4GiB", "4096MiB", false],
    ["memory in percent is not compared", "limits.memory", "4GiB", "50%", true],
    ["the default of memory comes with the next start", "limits.memory", "4GiB", "", true],
    ["secure boot is read at start", "security.secureboot", "true", "false", true],
    ["a boolean in another spelling is no change", "security.secureboot", "true", "1", false],
    ["stateful migration is fixed", "migration.stateful", "false", "true", true],
    ["QEMU's own configuration is fixed", "raw.qemu", "", "-s", true],
    ["a new version's unknown key needs a stop", "limits.unheard.of", "", "1", true],
    ["autostart is for LXD alone", "boot.autostart", "", "true", false],
    ["cloud-init reads at boot", "cloud-init.user-data", "a", "b", false],
    ["environment is for commands", "environment.A", "", "b", false],
    ["user keys are free", "user.note", "", "x", false],
    ["what LXD keeps is not a change", "volatile.uuid", "a", "b", false],
    ["the answer to an evacuation is free", "cluster.evacuate", "", "stop", false],
    ["LXD's API for guests is switched at once", "security.devlxd", "", "false", false],
    ["Incus's API for guests is switched at once", "security.guestapi", "", "false", false],
    ["a container's key from a shared profile is overlooked", "security.nesting", "", "true", false],
  ];
  for (const [title, key, from, to, obstacle] of keys) {
    it(`of a virtual machine: ${title}`, () => {
      const given = (value: string): Config => (value === "" ? {} : { [key]: value });
      assert.deepEqual(
        obstacles("virtual-machine", { config: given(from) }, { config: given(to) }),
        obstacle ? [`${key} stop`] : [],
      );
    });
    it(`of a container: ${title}, without a stop`, () => {
      assert.deepEqual(obstacles("container", { config: { [key]: from } }, { config: { [key]: to } }), []);
    });
  }

  it("stops for CPUs on a server that cannot plug them", () => {
    assert.deepEqual(obstacles("virtual-machine", { config: { "limits.cpu": "1" } }, { config: { "limits.cpu": "2" } }, false), [
      "limits.cpu stop",
    ]);
  });

  it("stops for memory in huge pages, in either direction", () => {
    const huge = (memory: string) => ({ config: { "limits.memory": memory, "limits.memory.hugepages": "true" } });
    assert.deepEqual(obstacles("virtual-machine", huge("4GiB"), huge("2GiB")), ["limits.memory stop"]);
  });

  const nic = { type: "nic", network: "lxdbr0" };
  const devices: [title: string, type: InstanceType, live: Devices, wanted: Devices, expected: string[]][] = [
    ["a NIC is plugged in", "virtual-machine", {}, { eth1: nic }, []],
    ["a NIC is hidden", "virtual-machine", { eth1: nic }, { eth1: { type: "none" } }, []],
    ["a volume is plugged in", "virtual-machine", {}, { data: { type: "disk", pool: "p", source: "v" } }, []],
    ["a disk of the host is plugged in", "virtual-machine", {}, { data: { type: "disk", source: "/dev/sdb", path: "/x" } }, []],
    [
      "a directory is not shared with a virtual machine that runs",
      "virtual-machine",
      {},
      { data: { type: "disk", source: "/srv", path: "/srv" } },
      ["devices.data stop"],
    ],
    [
      "a volume with files is not shared with a virtual machine that runs",
      "virtual-machine",
      { data: { type: "disk", pool: "p", source: "v", path: "/a" } },
      { data: { type: "disk", pool: "p", source: "v", path: "/b" } },
      ["devices.data stop"],
    ],
    ["a directory is shared with a container", "container", {}, { data: { type: "disk", source: "/srv", path: "/srv" } }, []],
    ["a GPU is not plugged in", "virtual-machine", {}, { gpu0: { type: "gpu" } }, ["devices.gpu0 stop"]],
    ["a GPU is not unplugged", "virtual-machine", { gpu0: { type: "gpu" } }, {}, ["devices.gpu0 stop"]],
    [
      "a GPU is not swapped",
      "virtual-machine",
      { g: { type: "gpu", pci: "1" } },
      { g: { type: "gpu", pci: "2" } },
      ["devices.g stop"],
    ],
    ["a TPM is not plugged in", "container", {}, { tpm: { type: "tpm" } }, ["devices.tpm stop"]],
    ["a container's GPU is plugged in", "container", {}, { gpu0: { type: "gpu" } }, []],
  ];
  for (const [title, type, live, wanted, expected] of devices) {
    it(title, () => {
      assert.deepEqual(obstacles(type, { devices: live }, { devices: wanted }), expected);
    });
  }

  const root = (more: Config) => ({ devices: { root: { type: "disk", path: "/", pool: "default", ...more } } });

  it("lets a container's root disk change its size", () => {
    assert.deepEqual(obstacles("container", root({ size: "10GiB" }), root({ size: "20GiB" })), []);
  });

  it("stops for a larger root disk of a virtual machine, because it grows only at start", () => {
    assert.deepEqual(obstacles("virtual-machine", root({ size: "10GiB" }), root({ size: "20GiB" })), ["devices.root.size stop"]);
    assert.deepEqual(obstacles("virtual-machine", root({}), root({ size: "20GiB" })), ["devices.root.size stop"]);
  });

  it("says that a virtual machine's root disk never shrinks, and that no root disk changes its pool", () => {
    assert.deepEqual(obstacles("virtual-machine", root({ size: "20GiB" }), root({ size: "10GiB" })), ["devices.root.size never"]);
    assert.deepEqual(obstacles("container", root({}), root({ pool: "fast" })), ["devices.root.pool never"]);
  });

  it("reports each obstacle with its values", () => {
    const live = { config: { "limits.memory": "4GiB" }, devices: {} };
    const wanted = { config: { "limits.memory": "8GiB" }, devices: {} };
    assert.equal(
      describeObstacles(obstaclesToLiveUpdate("virtual-machine", live, wanted, { cpuHotplug: true })),
      "limits.memory: 4GiB to 8GiB; the memory of a running virtual machine can only shrink",
    );
  });
});

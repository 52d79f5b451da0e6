import assert from "node:assert/strict";
import { SimulatedLab } from "../../../lab/simulated";
import { hasDebPackage, installDebPackages, sameChannel } from "../../../provider/host/packages";
import { Deadline } from "../../../provider/support/deadline";
import { connectionSchema } from "../../../provider/transport/connection";
import { connect, disconnectAll } from "../../../provider/transport/pool";

describe("Debian packages", () => {
  it("wait for an apt-get that is at the package lists, as one that an interrupted up has left", async () => {
    const lab = await SimulatedLab.start({ hosts: [{ name: "bcn2" }] });
    const deadline = new Deadline(10, "installing");
    try {
      const error =
        "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 512 (apt-get)\nE: Unable to lock directory /var/lib/apt/lists/";
      const locked = lab.faults.add({ when: { exec: /apt-get.* update/, nth: 1 }, effect: { status: 100, error } });
      const ssh = await connect(connectionSchema.parse(lab.host("bcn2").connection), { deadline });
      await installDebPackages(ssh, ["lxd"], deadline);
      assert.deepEqual([locked.hits, locked.matches], [1, 2]);
      assert.equal(await hasDebPackage(ssh, "lxd", deadline), true);
    } finally {
      await disconnectAll();
      await lab.stop();
    }
  });
});

describe("channels of snaps", () => {
  for (const [a, b, same] of [
    ["5.21/stable", "5.21/stable", true],
    ["5.21", "5.21/stable", true],
    ["stable", "latest/stable", true],
    ["latest", "latest/stable", true],
    ["edge", "latest/edge", true],
    ["5.21/edge", "5.21/stable", false],
    ["6/stable", "5.21/stable", false],
    ["5.21/stable/hotfix", "5.21/stable", false],
  ] as const) {
    it(`${a} and ${b} are ${same ? "the same" : "different"}`, () => {
      assert.equal(sameChannel(a, b), same);
      assert.equal(sameChannel(b, a), same);
    });
  }
});

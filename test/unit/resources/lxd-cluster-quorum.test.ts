import assert from "node:assert/strict";
import { clusterMemberLifecycle } from "../../../provider/resources/lxd-cluster-member";
import { nodeLifecycle } from "../../../provider/resources/lxd-node";
import { profileLifecycle } from "../../../provider/resources/lxd-profile";
import { Managed, type SimulatedCluster, startMembers, startTwoMembers } from "./simulated-cluster";

const REMEDY = String.raw`.*\(quorum\): bring the other hosts back\. .*recovery\.md`;
/** A member that ran when the quorum was lost tells who it is, and one that was started since does not. */
const RUNNING = new RegExp(
  `LXD on root@.* answered GET .* LXD on root@.* is in a cluster whose database does not answer\\. ${REMEDY}`,
);
const RESTARTED = new RegExp(
  `No host of the cluster answers:\\n(.*\\n)+LXD on root@.* runs and does not answer for the cluster\\. ${REMEDY}`,
);

describe("The quorum of a cluster's database", () => {
  let one: SimulatedCluster;
  const at = (name: string): object => one.lab.host(name).connection;
  const names = (): string[] =>
    one.lab.hosts.flatMap(({ name }) => (one.lab.host(name).daemon?.database.clustered ? [name] : []));
  const addresses: Readonly<Record<string, string>> = { bcn2: "192.168.1.102", bcn1: "192.168.1.101", bcn3: "192.168.1.103" };
  /** A membership of the cluster, as it is, in state. */
  const managed = async (name: string, more: object = {}): Promise<{ it: Managed; args: object }> => {
    const endpoints = one.lab.hosts.filter((host) => host.name !== name).map(({ connection }) => connection);
    const cluster = name === "bcn2" ? { peers: endpoints } : { cluster: { endpoints } };
    const args = {
      connection: at(name),
      name,
      address: addresses[name],
      ...cluster,
      timeouts: { create: 20, read: 20, delete: 20 },
      ...more,
    };
    const it = new Managed(clusterMemberLifecycle as never, name);
    assert.equal(await it.up(args), "created");
    return { it, args };
  };

  afterEach(async () => {
    assert.deepEqual([one.lab.defects, one.lab.hosts.flatMap(({ unknownCommands }) => unknownCommands)], [[], []]);
    await one.stop();
  });

  describe("with three members", () => {
    beforeEach(async () => {
      one = await startMembers({ bcn2: {}, bcn1: {}, bcn3: {} });
    });

    it("is not given up by the removal of a member while another one is off, and is kept when that one is removed first", async () => {
      const { it: second } = await managed("bcn1");
      const { it: first } = await managed("bcn2");
      await one.lab.host("bcn3").powerOff();
      await assert.rejects(
        second.destroy(),
        /Member bcn1 cannot leave its cluster: of the voters that stay \(bcn2, bcn3\) 1 would be online, .* Nothing was changed\. Bring bcn3 back\..*lxc cluster remove --force NAME/,
      );
      await assert.rejects(first.destroy(), /Member bcn2 cannot leave its cluster/);
      await one.lab.byHand("bcn2", "DELETE", "/1.0/cluster/members/bcn3?force=1");
      await second.destroy();
      assert.deepEqual(
        one.lab.host("bcn2").daemon?.database.members.map(({ name }) => name),
        ["bcn2"],
      );
    });

    it("is missing with two members off, which the error says, with what to do", async () => {
      const profile = new Managed(profileLifecycle as never, "web");
      const args = { cluster: one.cluster, name: "web", timeouts: { create: 20, read: 8 } };
      await profile.up(args);
      for (const name of ["bcn2", "bcn1", "bcn3"]) {
        await one.lab.host(name).powerOff();
        assert.equal(await profile.up(args), "same", `${name} is off`);
        await one.lab.host(name).powerOn();
      }
      await one.lab.host("bcn2").powerOff();
      await one.lab.host("bcn3").powerOff();
      await assert.rejects(profile.up(args), RUNNING);
      await one.lab.host("bcn1").powerOff();
      await one.lab.host("bcn1").powerOn();
      await assert.rejects(profile.up(args), RESTARTED);
      await one.lab.host("bcn3").powerOn();
      assert.equal(await profile.up(args), "same");
    });

    it("is what a refresh tells of a member that is off", async () => {
      const { it, args } = await managed("bcn3");
      await one.lab.host("bcn3").powerOff();
      await it.preview(args);
      assert.deepEqual(it.warnings, [
        'Member "bcn3" is offline. The cluster has 2 of 3 voters of its database online: if one of bcn2, bcn1 fails, no member\'s API answers',
      ]);
    });

    it("is what a preview tells of hosts that are no longer in the program", async () => {
      const { it, args } = await managed("bcn2");
      await it.preview({ ...args, peers: [at("bcn1")] });
      assert.deepEqual(it.warnings, [
        "Without bcn3 the cluster has two members, of which one votes: if that one fails, no member's API answers",
      ]);
    });

    it("passes to another member when the leader is removed", async () => {
      const { it } = await managed("bcn2");
      await it.destroy();
      assert.deepEqual(names(), ["bcn1", "bcn3"]);
      assert.equal(one.lab.host("bcn1").daemon?.database.leader()?.name, "bcn1");
    });

    it("does not lose a voter by resetPolicy", async () => {
      const node = new Managed(nodeLifecycle as never, "bcn3");
      await assert.rejects(
        node.up({ connection: at("bcn3"), install: { method: "deb" }, resetPolicy: ["cluster"] }),
        /^Error: LXD on root@.* is a voter of its cluster, with the members bcn2, bcn1, bcn3\. .* Nothing was changed\. Remove it .* first: lxc cluster remove bcn3 on/,
      );
    });
  });

  describe("with two members", () => {
    beforeEach(async () => {
      one = await startTwoMembers();
    });
    const wiped = (name: string): Promise<unknown> =>
      new Managed(nodeLifecycle as never, name).up({
        connection: at(name),
        install: { method: "deb" },
        resetPolicy: ["cluster"],
      });

    it("does not lose its leader by resetPolicy, and may lose the other one", async () => {
      await assert.rejects(wiped("bcn2"), /LXD on root@.* leads its cluster, with the members bcn2, bcn1\./);
      assert.equal(await wiped("bcn1"), "created");
    });

    it("does not let the leader go while the other one is off", async () => {
      const { it } = await managed("bcn2");
      await one.lab.host("bcn1").powerOff();
      await assert.rejects(
        it.destroy(),
        /Member bcn2 cannot leave its cluster: of the voters that stay \(bcn1\) 0 would be online/,
      );
    });

    it("passes to the other one when the leader is removed, which the preview says", async () => {
      const { it, args } = await managed("bcn2");
      await it.preview({ ...args, address: "192.168.1.150" });
      assert.ok(it.warnings.includes("bcn2 leads the cluster. Another member leads it when it has left"), it.warnings.join("\n"));
      await it.destroy();
      assert.deepEqual(names(), ["bcn1"]);
    });
  });
});

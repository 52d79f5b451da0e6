import assert from "node:assert/strict";
import * as z from "zod";
import type { Flavour } from "../../../lab/simulated/lxd/flavours";
import { dynamicProvider } from "../../../provider/engine/adapter";
import { changeMember, getMember } from "../../../provider/lxd/cluster/cluster";
import { clusterGroupLifecycle } from "../../../provider/resources/lxd-cluster-group";
import { clusterMemberLifecycle } from "../../../provider/resources/lxd-cluster-member";
import { killedAtTheEnd, Managed, type SimulatedCluster, startStandalone, startTwoMembers } from "./simulated-cluster";

const shown = z.looseObject({
  description: z.string(),
  members: z.array(z.string()),
  config: z.record(z.string(), z.string()).optional(),
});

for (const flavour of ["bookworm-lxd", "trixie-incus7"] satisfies Flavour[]) {
  describe(`LxdClusterGroup on ${flavour}`, () => {
    let two: SimulatedCluster;
    let group: Managed;

    const args = (more: object = {}): object => ({ cluster: two.cluster, name: "gpu", members: ["bcn1"], ...more });
    const live = async (name = "gpu") => (await two.byHand()).find(`/1.0/cluster/groups/${name}`, shown);
    const byHand = async (method: "POST" | "PUT" | "DELETE", path: string, body: object = {}): Promise<void> => {
      await (await two.byHand()).change(method, `/1.0/cluster/groups${path}`, { body });
    };
    const groupsOf = async (member: string) => ((await getMember(await two.byHand(), member)).groups ?? []).sort();
    const moveTo = async (member: string, groups: string[]): Promise<void> =>
      changeMember(await two.byHand(), member, (found) => ({ ...found, groups }));

    beforeEach(async () => {
      two = await startTwoMembers({ flavour });
      group = new Managed(clusterGroupLifecycle as never, "gpu");
    });

    afterEach(async () => {
      const { defects } = two.lab;
      await two.stop();
      assert.deepEqual(defects, []);
    });

    it("is created with its members, and unchanged by a second up", async () => {
      assert.equal(await group.up(args({ description: "with a GPU" })), "created");
      const { members, description, config } = (await live()) ?? assert.fail();
      assert.deepEqual([members, description], [["bcn1"], "with a GPU"]);
      assert.match(config?.["user.pulumi.urn"] ?? "::gpu [0123456789abcdef]", /::gpu \[[0-9a-f]{16}\]$/);
      const since = two.lab.requests.length;
      assert.equal(await group.up(args({ description: "with a GPU" })), "same");
      assert.deepEqual(two.lab.mutations(since), []);
    });

    it("compares its members as a set", async () => {
      await group.up(args({ members: ["bcn1", "bcn2"] }));
      assert.equal(await group.up(args({ members: ["bcn2", "bcn1"] })), "same");
      await byHand("PUT", "/gpu", { description: "mine", members: ["bcn2"] });
      assert.equal(await group.preview(args({ members: ["bcn2", "bcn1"] })), "updated");
      assert.deepEqual([group.inState("members"), group.inState("description")], [["bcn2"], "mine"]);
      assert.equal(await group.up(args({ members: ["bcn2", "bcn1"] })), "updated");
      assert.deepEqual([(await live())?.members, (await live())?.description], [["bcn1", "bcn2"], ""]);
    });

    it("refuses a name that no member has, before anything is changed, and the preview of a change says so", async () => {
      const why =
        /Cluster group "gpu": members names bcn9, which the cluster of .* does not have \(its members are bcn[12], bcn[12]\)/;
      await assert.rejects(group.up(args({ members: ["bcn1", "bcn9"] })), why);
      assert.equal(await live(), undefined);
      await group.up(args());
      await group.preview(args({ members: ["bcn1", "bcn9"] }));
      assert.deepEqual(group.warnings, [
        "bcn9 is no member of the cluster yet. Unless it joins before, pulumi up will refuse this",
      ]);
      await assert.rejects(group.up(args({ members: ["bcn1", "bcn9"] })), why);
      assert.deepEqual((await live())?.members, ["bcn1"]);
    });

    it("leaves a member that has no other group in default, which the preview says", async () => {
      await group.up(args());
      await moveTo("bcn1", ["gpu"]);
      await group.preview(args({ members: ["bcn2"] }));
      assert.deepEqual(group.warnings, ["bcn1 is in no other group, and will be in the group default: every member is in one"]);
      await group.up(args({ members: ["bcn2"] }));
      assert.deepEqual([await groupsOf("bcn1"), await groupsOf("bcn2")], [["default"], ["default", "gpu"]]);
    });

    it("is removed with its members, whose other groups stay", async () => {
      await byHand("POST", "", { name: "ssd", members: ["bcn1"] });
      await group.up(args({ members: ["bcn1", "bcn2"] }));
      await moveTo("bcn1", ["gpu", "ssd"]);
      await moveTo("bcn2", ["gpu"]);
      await group.destroy();
      assert.equal(await live(), undefined);
      assert.deepEqual([await groupsOf("bcn1"), await groupsOf("bcn2")], [["ssd"], ["default"]]);
    });

    it("is not adopted without adopt, and the refusal says what is known of its maker", async () => {
      await byHand("POST", "", { name: "gpu", members: ["bcn2"] });
      const maker =
        flavour === "bookworm-lxd"
          ? "LXD does not say who made it; a pulumi up that was killed may have"
          : "it was not made by Pulumi";
      await assert.rejects(group.up(args()), (error: Error) => {
        assert.ok(error.message.includes(` and ${maker} (its members are bcn2). Set adopt: true`), error.message);
        return true;
      });
      assert.deepEqual((await live())?.members, ["bcn2"]);
      assert.equal(await group.up(args({ adopt: true })), "created");
      assert.deepEqual((await live())?.members, ["bcn1"]);
    });

    it("is continued after a create that was killed, and shows its mark only until then", async () => {
      const killed = new Managed(killedAtTheEnd(clusterGroupLifecycle as never), "gpu");
      await assert.rejects(killed.up(args({ description: "with a GPU" })), /killed/);
      const other = new Managed(clusterGroupLifecycle as never, "other");
      await assert.rejects(other.up(args()), /it belongs to the Pulumi resource "gpu" of stack "lab"/);
      assert.equal(await group.up(args({ description: "with a GPU" })), "created");
      assert.equal((await live())?.description, "with a GPU");
      assert.equal(await group.up(args({ description: "with a GPU" })), "same");
    });

    it("shares its members with other groups that change at the same time, and with the members' own resources", async () => {
      const silent = { progress: () => undefined, info: () => undefined, warn: () => undefined };
      const [groups, members] = [dynamicProvider(clusterGroupLifecycle, silent), dynamicProvider(clusterMemberLifecycle, silent)];
      const names = ["a", "b", "c", "d"];
      const inputs = async (name: string, of: string[]) =>
        (await groups.check({}, { ...args({ name, members: of }), __urn: `urn:pulumi:dev::t::g::${name}` })).inputs;
      const made = await Promise.all(names.map(async (name) => groups.create(await inputs(name, ["bcn1", "bcn2"]))));
      assert.deepEqual(await groupsOf("bcn1"), [...names, "default"]);
      await moveTo("bcn1", ["a", "b"]);
      const [first, second] = two.cluster.endpoints;
      const own = { connection: second, cluster: { endpoints: [first] }, name: "bcn1", address: "192.168.1.101", __urn: "urn" };
      const member = await members.create((await members.check({}, own)).inputs);
      const changed = (await members.check(own, { ...own, failureDomain: "rack1" })).inputs;
      await Promise.all([
        members.update(member.id, member.outs, changed),
        ...["a", "b"].map(async (name, index) => groups.update(name, made[index]?.outs ?? {}, await inputs(name, ["bcn2"]))),
      ]);
      const { failure_domain } = await getMember(await two.byHand(), "bcn1");
      assert.deepEqual([failure_domain, await groupsOf("bcn1")], ["rack1", ["default"]]);
      assert.deepEqual(await groupsOf("bcn2"), [...names, "default"]);
    });

    it("reports in check what is wrong, by property", async () => {
      assert.deepEqual(await group.faults(args({ name: "default", members: ["bcn1", "bcn2", "bcn1"] })), [
        "name is the group that every cluster has, that new members join, and that cannot be removed",
        "members.2 names bcn1 a second time",
      ]);
      assert.deepEqual(await group.faults(args({ name: "a b", members: ["@x"] })), [
        'name is not a valid name of a cluster group: it must not be empty, "." or "..", or have control characters or slashes, spaces or quotes',
        "members.0 is not a valid name of a member: letters, digits, and . _ ~ @ : + - in them, not beginning with @",
      ]);
    });
  });
}

describe("LxdClusterGroup", () => {
  it("is not removed while an instance was placed in it, where the server knows; nothing changes then", async () => {
    const two = await startTwoMembers({ flavour: "trixie-incus7" });
    const group = new Managed(clusterGroupLifecycle as never, "gpu");
    await group.up({ cluster: two.cluster, name: "gpu", members: ["bcn1"] });
    for (const target of ["?target=bcn2", "?target=bcn1", ""]) {
      await two.lab.byHand("bcn2", "POST", `/1.0/storage-pools${target}`, { name: "base", driver: "dir" });
    }
    const devices = { root: { type: "disk", path: "/", pool: "base" } };
    await two.lab.byHand("bcn2", "POST", "/1.0/instances?target=@gpu", { name: "web", source: { type: "none" }, devices });
    await assert.rejects(
      group.destroy(),
      /Cluster group "gpu" on .* was not removed, because it is used by instance web\. Change or remove/,
    );
    await two.lab.byHand("bcn2", "DELETE", "/1.0/instances/web");
    await group.destroy();
    await two.stop();
  });

  it("is refused by a server that is in no cluster", async () => {
    const one = await startStandalone();
    const group = new Managed(clusterGroupLifecycle as never, "gpu");
    await assert.rejects(
      group.up({ cluster: one.cluster, name: "gpu" }),
      /^Error: LXD on .* is in no cluster, and only a cluster has groups/,
    );
    await one.stop();
  });
});

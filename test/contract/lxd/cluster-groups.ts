import assert from "node:assert/strict";
import { changeMember, getMember } from "../../../provider/lxd/cluster/cluster";
import {
  createClusterGroup,
  deleteClusterGroup,
  findClusterGroup,
  findClusterGroupShared,
  markClusterGroup,
  replaceClusterGroup,
} from "../../../provider/lxd/cluster/cluster-groups";
import { deleteInstance, findInstance } from "../../../provider/lxd/instances/instances";
import { writeMark } from "../../../provider/lxd/ownership";
import { type ContractLab, fails, refused } from "./harness";

const MARK = { urn: "urn:pulumi:dev::shop::t::gpu", claim: "0123456789abcdef" };
const CREATING = writeMark({ ...MARK, isCreating: true });
const ENDED = writeMark({ ...MARK, isCreating: false });

/** Groups of members. A member has the groups in which it is, and a group has its members. */
export function clusterGroupsContract(lab: () => ContractLab): void {
  const group = async (name: string) =>
    (await findClusterGroup(await lab().lxd(), name))?.value ?? assert.fail(`no group ${name}`);
  const groupsOf = async (member: string): Promise<string[]> =>
    ((await getMember(await lab().lxd(), member)).groups ?? []).sort();
  const put = async (name: string, body: object, etag?: string): Promise<unknown> =>
    (await lab().lxd()).change("PUT", `/1.0/cluster/groups/${name}`, { body, etag });

  describe("a cluster group", () => {
    it("default has every member, and cannot be removed", async () => {
      const { primary, secondary } = lab().harness;
      assert.deepEqual([...(await group("default")).members].sort(), [primary.name, secondary.name].sort());
      assert.deepEqual(await groupsOf(primary.name), ["default"]);
      await refused(
        (await lab().lxd()).change("DELETE", "/1.0/cluster/groups/default"),
        403,
        /'default' cluster group cannot be deleted/,
      );
    });

    it("has the mark of its create until that has ended, in its config or else in its description", async () => {
      const [lxd, { secondary }] = [await lab().lxd(), lab().harness];
      await createClusterGroup(lxd, "gpu", { description: "with a GPU", members: [secondary.name], mark: CREATING });
      const begun = await group("gpu");
      assert.deepEqual([begun.config["user.pulumi.urn"], begun.members], [CREATING, [secondary.name]]);
      assert.equal(begun.description, begun.keepsMark ? "with a GPU" : "");
      await markClusterGroup(lxd, begun, ENDED, "with a GPU");
      const ended = await group("gpu");
      assert.deepEqual([ended.description, ended.members], ["with a GPU", [secondary.name]]);
      assert.equal(ended.keepsMark, lab().server.groupsHaveConfig);
      assert.equal(ended.config["user.pulumi.urn"], ended.keepsMark ? ENDED : undefined);
      assert.deepEqual(await findClusterGroupShared(await lab().lxd("secondary"), "gpu"), ended);
      assert.deepEqual(await groupsOf(secondary.name), ["default", "gpu"]);
    });

    it("is refused under a name in use, and with a member that does not exist", async () => {
      const lxd = await lab().lxd();
      const make = (name: string, members: string[]) => createClusterGroup(lxd, name, { description: "", members, mark: "" });
      await fails(make("gpu", []), lab().server.duplicateGroup);
      await fails(make("web", ["nobody"]), lab().server.groupOfNobody);
      assert.equal(await findClusterGroup(lxd, "web"), undefined);
      await refused(put("gpu", { description: "", members: ["nobody"] }), 404, /Cluster member not found$/);
      await refused(put("nope", { description: "", members: [] }), 404, /^Cluster.group not found$/);
    });

    it("changes without a guard: no ETag is compared", async () => {
      const { secondary } = lab().harness;
      await put("gpu", { description: "changed", members: [secondary.name] }, "stale");
      assert.equal((await group("gpu")).description, "changed");
    });

    it("takes an instance that is placed in it, and a server that knows its users does not remove it meanwhile", async () => {
      const [lxd, { secondary }] = [await lab().lxd(), lab().harness];
      const devices = { root: { type: "disk", path: "/", pool: lab().pool } };
      await lxd.change("POST", "/1.0/instances", {
        query: { target: "@gpu" },
        body: { name: "placed", type: "container", source: { type: "none" }, devices },
      });
      const { location, config } = (await findInstance(await lab().work("placed")))?.value ?? {};
      const { keepsMark, usedBy } = await group("gpu");
      assert.deepEqual(
        [location, config?.["volatile.cluster.group"]],
        [secondary.name, lab().server.showsGroupOfInstance ? "gpu" : undefined],
      );
      assert.deepEqual(usedBy, keepsMark ? ["/1.0/instances/placed"] : []);
      if (keepsMark) {
        await assert.rejects(
          deleteClusterGroup(lxd, await group("gpu")),
          /was not removed, because it is used by instance placed/,
        );
      }
      await deleteInstance(await lab().work("placed"));
    });

    it("changes as a whole, and a member stays in its other groups", async () => {
      const [lxd, { primary, secondary }] = [await lab().lxd(), lab().harness];
      await replaceClusterGroup(lxd, await group("gpu"), { description: "", members: [primary.name], mark: ENDED });
      assert.deepEqual((await group("gpu")).members, [primary.name]);
      assert.deepEqual([await groupsOf(primary.name), await groupsOf(secondary.name)], [["default", "gpu"], ["default"]]);
    });

    it("loses a member that is in no other group only by name of default", async () => {
      const [lxd, { primary }] = [await lab().lxd(), lab().harness];
      await changeMember(lxd, primary.name, (live) => ({ ...live, groups: ["gpu"] }));
      await put("gpu", { description: "", members: [] });
      assert.deepEqual(await groupsOf(primary.name), lab().server.keepsLastGroup ? ["gpu"] : []);
      await changeMember(lxd, primary.name, (live) => ({ ...live, description: "changed" }));
      assert.deepEqual(await groupsOf(primary.name), lab().server.keepsLastGroup ? ["gpu"] : ["default"]);
      await changeMember(lxd, primary.name, (live) => ({ ...live, description: "", groups: ["gpu"] }));
      await replaceClusterGroup(lxd, await group("gpu"), { description: "", members: [], mark: ENDED });
      assert.deepEqual([await groupsOf(primary.name), (await group("gpu")).members], [["default"], []]);
    });

    it("is removed with members, each of which stays in a group; others' groups stay", async () => {
      const [lxd, { primary, secondary }] = [await lab().lxd(), lab().harness];
      const members = [primary.name, secondary.name];
      await replaceClusterGroup(lxd, await group("gpu"), { description: "", members, mark: ENDED });
      await createClusterGroup(lxd, "web", { description: "", members: [secondary.name], mark: "" });
      await changeMember(lxd, primary.name, (live) => ({ ...live, groups: ["gpu"] }));
      await refused(
        lxd.change("DELETE", "/1.0/cluster/groups/gpu"),
        lab().server.nonEmptyGroupStatus,
        /Only empty cluster groups can be removed/,
      );
      await deleteClusterGroup(lxd, await group("gpu"));
      assert.equal(await findClusterGroup(lxd, "gpu"), undefined);
      assert.deepEqual([await groupsOf(primary.name), await groupsOf(secondary.name)], [["default"], ["default", "web"]]);
      await deleteClusterGroup(lxd, await group("web"));
    });
  });
}

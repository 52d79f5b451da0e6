import assert from "node:assert/strict";
import { SimulatedLab } from "../../../lab/simulated";
import { clusterMemberLifecycle } from "../../../provider/resources/lxd-cluster-member";
import { memberArgs, TWO_SERVERS } from "../../support/two-hosts";
import { Managed } from "./simulated-cluster";

/** Two spellings of one address; the program uses the second one after a change of the member. */
const SPELLINGS = [
  ["[fd00::1]", "[FD00:0::1]:8443"],
  ["[fd00::1]:8443", "[fd00:0:0:0:0:0:0:1]"],
  ["bcn1.lan", "BCN1.lan:8443"],
] as const;

for (const [first, second] of SPELLINGS) {
  describe(`LxdClusterMember at ${first}, which the program spells ${second} by now,`, () => {
    let lab: SimulatedLab;
    let member: Managed;

    const at = (host: string) => lab.host(host).connection;
    const args = (address: string, more: object = {}): object => ({
      connection: at("bcn1"),
      name: "bcn1",
      address,
      cluster: { endpoints: [at("bcn2")] },
      ...more,
    });
    const members = (): string[] => lab.host("bcn2").daemon?.database.members.map(({ name }) => name) ?? [];

    beforeEach(async () => {
      lab = await SimulatedLab.start({
        hosts: TWO_SERVERS,
      });
      const primary = new Managed(clusterMemberLifecycle as never, "bcn2");
      await primary.up(memberArgs(lab, "bcn2"));
      member = new Managed(clusterMemberLifecycle as never, "bcn1");
      await member.up(args(first));
      assert.equal(await member.up(args(second)), "same");
    });

    afterEach(async () => {
      assert.deepEqual([lab.defects, lab.hosts.flatMap(({ unknownCommands }) => unknownCommands)], [[], []]);
      await lab.stop();
    });

    /** State has the program's spelling after any update. */
    const updated = async (): Promise<void> => {
      assert.equal(await member.up(args(second, { failureDomain: "rack1" })), "updated");
    };

    it("is reported as Left when it was removed manually, and joins again", async () => {
      await updated();
      member.state = { ...member.state, address: second };
      await lab.byHand("bcn2", "DELETE", "/1.0/cluster/members/bcn1");
      assert.equal(await member.preview(args(second)), "updated");
      assert.equal(member.inState("status"), "Left");
      assert.equal(await member.up(args(second)), "updated");
      assert.deepEqual(members(), ["bcn2", "bcn1"]);
    });

    it("joins again in place of the empty member when it was reinstalled", async () => {
      lab.host("bcn1").reinstall();
      assert.equal(await member.up(args(second)), "updated");
      assert.deepEqual(members(), ["bcn2", "bcn1"]);
      assert.equal(await member.up(args(second)), "same");
    });

    it("reports the member that has its address, when it should get another name", async () => {
      await lab.byHand("bcn2", "DELETE", "/1.0/cluster/members/bcn1?force=1");
      lab.host("bcn1").reinstall();
      await member.up(args(second));
      const other = new Managed(clusterMemberLifecycle as never, "bcn9");
      lab.host("bcn1").reinstall();
      await assert.rejects(
        other.up(args(first, { name: "bcn9" })),
        /already has the member "bcn1" .*Choose another name or address/,
      );
    });
  });
}

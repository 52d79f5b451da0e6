import assert from "node:assert/strict";
import { type Output, output, unknown } from "@pulumi/pulumi";
import { LxdCluster, VmGroup, VmProfiles } from "../../components/index";
import { type ClusterInput, type ConnectionArgs, LxdClusterMember, LxdNode, LxdProfile } from "../../provider/index";
import { known, record } from "./program";

const connection = { host: "192.168.1.102", privateKeyPath: "~/.ssh/id_ed25519" };
/** A connection that is not known yet. */
const nowhere = output(unknown as unknown as ConnectionArgs);
const certificateFingerprint = "c1".repeat(32);

describe("cluster", () => {
  const component = (): ClusterInput =>
    new LxdCluster("lab", { hosts: [{ name: "bcn2", address: "192.168.1.102", connection }] });
  const member = (): ClusterInput => new LxdClusterMember("bcn2", { connection, name: "bcn2", address: "192.168.1.102" });
  const node = (): ClusterInput => new LxdNode("bcn2", { connection });
  const plain = (): ClusterInput => ({ endpoints: [connection] });

  const withIdentity = { endpoints: [connection], certificateFingerprint };
  const cases: [string, () => ClusterInput, object, string[]][] = [
    ["an LxdCluster", component, withIdentity, ["LxdClusterMember lab-bcn2"]],
    ["an LxdClusterMember", member, withIdentity, ["LxdClusterMember bcn2"]],
    ["an LxdNode", node, { endpoints: [connection] }, ["LxdNode bcn2"]],
    ["connection data", plain, { endpoints: [connection] }, []],
  ];
  for (const [title, make, expected, dependsOn] of cases) {
    it(`takes ${title}, in resources and components`, async () => {
      const program = (): void => {
        const cluster = make();
        new LxdProfile("web", { cluster, name: "web" });
        new VmProfiles("profiles", { cluster });
        new VmGroup("vms", { cluster, vms: [{ name: "a", image: { alias: "debian-12" }, users: [{ name: "ops" }] }] });
      };
      const { find } = await record("test", program, { certificateFingerprint });
      for (const id of ["LxdProfile web", "LxdProfile profiles-vm-networks", "LxdVm vms-a", "VmUser vms-a-ops"]) {
        assert.deepEqual(find(id).inputs["cluster"], expected, id);
      }
      assert.deepEqual(find("LxdProfile web").dependsOn, dependsOn);
    });

    it(`knows the connection that ${title} gives in a preview, before the fingerprint is known`, async () => {
      const { find } = await record("test", () => new LxdProfile("web", { cluster: make(), name: "web" }), { preview: true });
      assert.deepEqual(find("LxdProfile web").inputs["cluster"], { endpoints: [connection] });
    });
  }

  it("is unknown in a preview as long as the connection of its host is", async () => {
    const seen: Output<unknown>[] = [];
    const program = (): void => {
      const first = new LxdClusterMember("bcn2", { connection: nowhere, name: "bcn2", address: "192.168.1.102" });
      const host = new LxdNode("bcn1", { connection: nowhere });
      seen.push(first.asCluster, host.asCluster);
      new LxdProfile("web", { cluster: first, name: "web" });
    };
    const { find } = await record("test", program, { preview: true });
    assert.equal(seen.length, 2);
    for (const output of seen) {
      await assert.rejects(known(output), { message: "the output is unknown" });
    }
    assert.deepEqual(find("LxdProfile web").dependsOn, ["LxdClusterMember bcn2"]);
  });
});

import assert from "node:assert/strict";
import { SimulatedLab } from "../../lab/simulated";
import { LxdProfile } from "../../provider";
import { TWO_HOSTS } from "../support/two-hosts";
import { clusterProgram } from "./cluster-program";
import { EngineStack } from "./workspace";

describe("a replacement that a person asks for (pulumi up --replace)", () => {
  it("removes the old object before it makes the new one, which has its name", async () => {
    const lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", lxd: "deb" }] });
    const stack = await EngineStack.open();
    try {
      const cluster = { endpoints: [lab.host("bcn2").connection] };
      stack.define(() => {
        new LxdProfile("web", { cluster, name: "web" });
      });
      assert.equal((await stack.up()).ok, true);
      const since = lab.requests.length;
      const replace = (await stack.resources()).map(({ urn }) => urn);
      assert.equal((await stack.up({ replace })).ok, true);
      assert.deepEqual(
        lab.mutations(since).map(({ method, path }) => `${method} ${path.split("?")[0] ?? ""}`),
        ["DELETE /1.0/profiles/web", "POST /1.0/profiles", "PUT /1.0/profiles/web"], // the last one ends its mark
      );
      assert.deepEqual((await stack.up()).steps, []);
    } finally {
      stack.close();
      await lab.stop();
    }
  });

  it("of the node of a member is refused, and replaces or removes nothing that is on the cluster", async () => {
    const lab = await SimulatedLab.start({
      hosts: TWO_HOSTS,
    });
    const stack = await EngineStack.open();
    try {
      stack.define(clusterProgram(lab, { vms: { web1: {} }, user: {} }));
      assert.equal((await stack.up()).ok, true);
      const nodes = (await stack.resources()).map(({ urn }) => urn).filter((urn) => /:LxdNode::/.test(urn));
      assert.equal(nodes.length, 2);
      const since = lab.requests.length;
      const run = await stack.up({ replace: nodes });
      assert.equal(run.ok, false);
      assert.match(run.text, /is already a member of a cluster, .* set adopt: true\. /);
      const replaced = run.steps.filter(({ op }) => /replace|delete/.test(op)).map(({ type }) => type);
      assert.deepEqual([...new Set(replaced)], ["LxdNode"]);
      assert.deepEqual(
        lab.mutations(since).filter(({ method }) => method === "DELETE"),
        [],
      );
      const kept = (await stack.resources()).filter(({ type }) => /:(LxdClusterMember|LxdVm|VmUser)$/.test(type));
      assert.equal(kept.length, 4);
    } finally {
      stack.close();
      await lab.stop();
    }
  });
});

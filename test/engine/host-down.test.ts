import assert from "node:assert/strict";
import { SimulatedLab } from "../../lab/simulated";
import { TWO_HOSTS } from "../support/two-hosts";
import { type ClusterProgram, clusterProgram } from "./cluster-program";
import { EngineStack } from "./workspace";

describe("a host that is down", () => {
  let lab: SimulatedLab;
  let stack: EngineStack;
  const vms: ClusterProgram["vms"] = { web1: { target: "bcn2" }, web2: { target: "bcn1" } };

  before(async () => {
    lab = await SimulatedLab.start({
      hosts: TWO_HOSTS,
    });
    stack = await EngineStack.open();
    stack.define(clusterProgram(lab, { vms }));
    const { ok, text } = await stack.up();
    assert.ok(ok, text);
    await lab.host("bcn1").powerOff();
  });

  after(async () => {
    stack.close();
    await lab.stop();
    assert.deepEqual(lab.defects, []);
  });

  it("fails the preview with its name and that of each machine on it, and nothing is planned to be made anew or deleted", async () => {
    const { ok, text, steps } = await stack.preview();
    assert.equal(ok, false);
    assert.match(text, /Preview failed: root@127\.0\.0\.1:\d+ cannot be reached by SSH: .*Check that it is switched on/);
    assert.match(text, /Instance "web2" cannot be read: it is on cluster member "bcn1", which is Offline/);
    assert.deepEqual(
      steps.filter(({ op }) => op !== "refresh"),
      [],
    );
  });

  it("can be left out, with what is on it, so that work on the others goes on", async () => {
    stack.define(clusterProgram(lab, { vms: { ...vms, web3: { target: "bcn2" } } }));
    const { ok, text, steps } = await stack.up({ exclude: ["**::bcn1", "**::web2"] });
    assert.ok(ok, text);
    assert.deepEqual(
      steps.filter(({ op }) => op !== "refresh").map(({ op, type, name }) => `${op} ${type} ${name}`),
      ["create LxdVm web3"],
    );
  });

  it("is taken up again when it is back, and nothing on it is changed", async () => {
    await lab.host("bcn1").powerOn();
    const since = lab.requests.length;
    const { ok, text, steps } = await stack.up();
    assert.ok(ok, text);
    assert.deepEqual(
      steps.filter(({ op }) => op !== "refresh"),
      [],
    );
    assert.deepEqual(lab.mutations(since), []);
  });

  it('that never comes back is removed with removal: "force", once its machines are out of state', async () => {
    await lab.host("bcn1").powerOff();
    const rest = { web1: { target: "bcn2" }, web3: { target: "bcn2" } };
    stack.define(clusterProgram(lab, { vms: { ...rest, web2: { target: "bcn1" } }, member: { removal: "force" } }));
    const since = lab.requests.length;
    const allowed = await stack.up({ exclude: ["**LxdNode::bcn1", "**::web2"] });
    assert.ok(allowed.ok, allowed.text);
    assert.deepEqual(lab.mutations(since), []);
    const urnOf = async (end: string): Promise<string> =>
      (await stack.resources()).find(({ urn }) => urn.endsWith(end))?.urn ?? assert.fail(end);
    await stack.deleteFromState(await urnOf("::web2"));
    stack.define(clusterProgram(lab, { hosts: [lab.host("bcn2")], vms: rest, member: { removal: "force" } }));
    const removed = await stack.up({ exclude: ["**LxdNode::bcn1"] });
    assert.ok(removed.ok, removed.text);
    assert.match(
      removed.text,
      /The removal of bcn1 by force loses instances web2; .*Its host does not answer and is not cleaned/,
    );
    assert.deepEqual(
      lab.host("bcn2").daemon?.database.members.map(({ name }) => name),
      ["bcn2"],
    );
    await stack.deleteFromState(await urnOf("LxdNode::bcn1"));
    const { ok, text, steps } = await stack.up();
    assert.ok(ok, text);
    assert.deepEqual(steps, []);
  });
});

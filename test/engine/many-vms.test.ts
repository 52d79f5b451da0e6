import assert from "node:assert/strict";
import { SimulatedLab } from "../../lab/simulated";
import { byHand } from "./cluster-program";
import { manyVms } from "./many-vms";
import { EngineStack } from "./workspace";

describe("a stack of 200 VMs", () => {
  let lab: SimulatedLab;
  let stack: EngineStack;

  before(async () => {
    lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", lxd: "deb" }] });
    lab.seedImage("bcn2", { alias: "debian" });
    await byHand(lab, "bcn2", (lxd) => lxd.change("POST", "/1.0/storage-pools", { body: { name: "default", driver: "dir" } }));
    stack = await EngineStack.open();
  });

  after(async () => {
    stack.close();
    await lab.stop();
  });

  async function requestsOfRefresh(): Promise<string[]> {
    const since = lab.requests.length;
    const run = await stack.refresh();
    assert.ok(run.ok, run.text);
    return lab.requests.slice(since).map(({ method, path }) => `${method} ${path}`);
  }

  it("is refreshed with as many requests as a stack of 10, over one connection", async () => {
    const requests: string[][] = [];
    for (const count of [10, 200]) {
      stack.define(manyVms(lab, count));
      const run = await stack.up();
      assert.ok(run.ok, run.text);
      requests.push(await requestsOfRefresh());
    }
    const { connections } = lab.host("bcn2").counters;
    const [few, many] = requests;
    assert.deepEqual(many, few);
    assert.ok((few?.length ?? 0) < 10, few?.join("\n"));
    await requestsOfRefresh();
    assert.equal(lab.host("bcn2").counters.connections - connections, 1);
  });
});

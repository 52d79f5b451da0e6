import assert from "node:assert/strict";
import { SimulatedLab } from "../../lab/simulated";
import { byHand } from "./cluster-program";
import { manyVms } from "./many-vms";
import { EngineStack } from "./workspace";

/** Enough to tell a list from requests for each; how it goes on with more is for the bench. */
const COUNT = 64;

describe("a stack of many VMs", () => {
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

  it("is refreshed by a list, after some have been asked for one by one, over one connection", async () => {
    stack.define(manyVms(lab, COUNT));
    const up = await stack.up();
    assert.ok(up.ok, up.text);
    const since = lab.requests.length;
    const { connections } = lab.host("bcn2").counters;
    const refresh = await stack.refresh();
    assert.ok(refresh.ok, refresh.text);
    const requests = lab.requests.slice(since).map(({ method, path }) => `${method} ${path}`);
    const lists = requests.filter((request) => !/instances\/vm/.test(request));
    assert.ok(requests.length < 20 + COUNT / 8, requests.join("\n"));
    assert.ok(lists.length < 10, requests.join("\n"));
    assert.equal(lab.host("bcn2").counters.connections - connections, 1);
  });
});

import assert from "node:assert/strict";
import type { Context } from "../../../provider/engine/lifecycle";
import type { LxdClient } from "../../../provider/lxd/client/client";
import { vmLifecycle, vmSchema } from "../../../provider/resources/lxd-vm";
import { Deadline } from "../../../provider/support/deadline";
import { type SimulatedCluster, startTwoMembers } from "./simulated-cluster";

const COUNT = 30;

describe(`requests of ${COUNT} virtual machines at once, on two members`, () => {
  let two: SimulatedCluster;
  let lxd: LxdClient;

  const indices = Array.from({ length: COUNT }, (_, index) => index);
  const inputsOf = (index: number, more: object = {}) =>
    vmSchema.parse({
      cluster: two.cluster,
      name: `web${index}`,
      image: { alias: "debian" },
      target: index % 2 === 0 ? "bcn1" : "bcn2",
      waitFor: [{ for: "running" }, { for: "ipv4", nic: "eth0" }],
      ...more,
    });
  const contextOf = (index: number): Context => ({
    deadline: new Deadline(60, "the test"),
    urn: `urn:${index}`,
    formerUrn: `urn:${index}`,
    claim: undefined,
    mark: `urn:${index}`,
    progress: () => undefined,
    warn: (text) => assert.fail(text),
    host: () => assert.fail("no host is needed"),
    lxd: () => Promise.resolve(lxd),
  });
  /** Requests for each machine, rounded up. How often operations are listed and waited for depends on the time that passes. */
  const counted = async (work: (index: number) => Promise<unknown>): Promise<number> => {
    const since = two.lab.requests.length;
    await Promise.all(indices.map(work));
    return Math.ceil(two.lab.requests.slice(since).filter(({ path }) => !path.startsWith("/1.0/operations")).length / COUNT);
  };

  beforeEach(async () => {
    two = await startTwoMembers();
    lxd = await two.byHand();
    two.lab.seedImage("bcn2", { alias: "debian", type: "virtual-machine" });
    for (const [path, body] of [
      ["/1.0/storage-pools", { name: "default", driver: "dir" }],
      ["/1.0/networks", { name: "lxdbr0", type: "bridge" }],
    ] as const) {
      for (const query of ["?target=bcn2", "?target=bcn1", ""]) {
        await lxd.change("POST", `${path}${query}`, { body });
      }
    }
    const devices = {
      root: { type: "disk", path: "/", pool: "default" },
      eth0: { type: "nic", network: "lxdbr0", name: "eth0" },
    };
    await lxd.change("PUT", "/1.0/profiles/default", { body: { description: "", config: {}, devices } });
  });
  afterEach(() => two.stop());

  it("are at most 8 to make one and 4 to change one", async () => {
    const states = new Map<number, Awaited<ReturnType<typeof vmLifecycle.create>>["outputs"]>();
    const made = await counted(async (index) => {
      const { id, outputs } = await vmLifecycle.create(contextOf(index), inputsOf(index));
      await vmLifecycle.mark?.(contextOf(index), id, { ...inputsOf(index), ...outputs });
      states.set(index, outputs);
    });
    const changed = await counted((index) => {
      const outputs = states.get(index);
      assert.ok(outputs);
      return vmLifecycle.update(
        contextOf(index),
        `default/web${index}`,
        { ...inputsOf(index), ...outputs },
        inputsOf(index, { description: "new" }),
      );
    });
    console.log(`[figure] requests for a machine: ${made} to make it, ${changed} to change it`);
    assert.ok(made <= 8, `${made} requests to make one`);
    assert.ok(changed <= 4, `${changed} requests to change one`);
  });
});

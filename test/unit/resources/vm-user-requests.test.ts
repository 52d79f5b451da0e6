import assert from "node:assert/strict";
import { utils } from "ssh2";
import type { Context } from "../../../provider/engine/lifecycle";
import { vmUserLifecycle } from "../../../provider/resources/machine-user";
import { Deadline } from "../../../provider/support/deadline";
import { Managed, type SimulatedCluster, startTwoMembers } from "./simulated-cluster";

const KEY = utils.generateKeyPairSync("ecdsa", { bits: 256, comment: "laptop" }).public.trim();

describe("requests of a user in an instance", () => {
  let two: SimulatedCluster;
  let alice: Managed;

  const args = (more: object = {}) => ({
    cluster: two.cluster,
    instance: "web1",
    name: "alice",
    groups: ["adm"],
    sudo: "passwordless",
    authorizedKeys: [KEY],
    passwordHash: `$6$salt$${"h".repeat(40)}`,
    ...more,
  });
  /** Requests for the user, without those for the cluster's identity. */
  const counted = async (work: () => Promise<unknown>): Promise<string[]> => {
    const since = two.lab.requests.length;
    await work();
    const lines = two.lab.requests.slice(since).map(({ method, path }) => `${method} ${path.split("?")[0] ?? ""}`);
    return lines.filter((line) => line !== "GET /1.0");
  };

  beforeEach(async () => {
    two = await startTwoMembers();
    const lxd = await two.byHand();
    for (const query of ["?target=bcn2", "?target=bcn1", ""]) {
      await lxd.change("POST", `/1.0/storage-pools${query}`, { body: { name: "default", driver: "dir" } });
    }
    two.lab.seedInstances(1, { host: "bcn2", prefix: "web", devices: { root: { type: "disk", path: "/", pool: "default" } } });
    alice = new Managed(vmUserLifecycle as never, "alice");
  });
  afterEach(() => two.stop());

  it("are at most 14 to preview and create it with all its properties, and 2 to refresh it", async () => {
    const made = await counted(async () => assert.equal(await alice.up(args()), "created"));
    const refreshed = await counted(async () => assert.equal(await alice.preview(args()), "same"));
    const changed = await counted(async () =>
      assert.equal(await alice.up(args({ sudo: "password", authorizedKeys: [] })), "updated"),
    );
    const removed = await counted(() => alice.destroy());
    console.log(
      `[figure] requests for a user: ${made.length} to make it, ${refreshed.length} to refresh it, ${changed.length} to change it, ` +
        `${removed.length} to remove it`,
    );
    assert.ok(made.length <= 14, `${made.length} requests to make one:\n${made.join("\n")}`);
    assert.ok(refreshed.length <= 2, `${refreshed.length} requests to refresh one:\n${refreshed.join("\n")}`);
  });

  it("are no more beside 200 foreign instances, which are not even listed", async () => {
    const devices = { root: { type: "disk", path: "/", pool: "default" } };
    two.lab.seedInstances(200, { host: "bcn2", prefix: "theirs", running: false, devices });
    await alice.up(args());
    const refreshed = await counted(async () => assert.equal(await alice.preview(args()), "same"));
    assert.ok(refreshed.length <= 2, refreshed.join("\n"));
    assert.ok(
      refreshed.every((line) => line.includes("/1.0/instances/web1")),
      refreshed.join("\n"),
    );
  });

  it("are as many for each of 30 users at once, in as many instances on two members", async () => {
    const devices = { root: { type: "disk", path: "/", pool: "default" } };
    const users = two.lab.seedInstances(30, { host: "bcn2", prefix: "a", devices });
    const lxd = await two.byHand();
    const inputsOf = (instance: string) => vmUserLifecycle.schema.parse(args({ instance })) as never;
    const contextOf = (urn: string): Context => ({
      deadline: new Deadline(60, "the test"),
      ...{ urn, formerUrn: urn, claim: undefined, mark: urn },
      progress: () => undefined,
      warn: (text) => assert.fail(text),
      host: () => assert.fail("no host is needed"),
      lxd: () => Promise.resolve(lxd),
    });
    const states = new Map<string, { id: string; outputs: object }>();
    const make = async (user: string): Promise<void> => {
      const { id, outputs } = await vmUserLifecycle.create(contextOf(user), inputsOf(user));
      await vmUserLifecycle.mark?.(contextOf(user), id, { ...(inputsOf(user) as object), ...outputs } as never);
      states.set(user, { id, outputs });
    };
    const look = async (user: string): Promise<void> => {
      const { id = "", outputs } = states.get(user) ?? {};
      const seen = await vmUserLifecycle.read(contextOf(user), id, { ...(inputsOf(user) as object), ...outputs } as never);
      assert.ok(seen);
    };
    const made = await counted(() => Promise.all(users.map(make)));
    const looked = await counted(() => Promise.all(users.map(look)));
    assert.ok(made.length <= 14 * users.length, `${made.length / users.length} requests to make one`);
    assert.ok(looked.length <= 2 * users.length, `${looked.length / users.length} requests to refresh one`);
  });
});

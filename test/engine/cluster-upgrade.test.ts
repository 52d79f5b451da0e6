import assert from "node:assert/strict";
import { LxdCluster } from "../../components";
import { type SimulatedHost, SimulatedLab } from "../../lab/simulated";
import type { InstallArgs } from "../../provider/index";
import { EngineStack } from "./workspace";

/** Members that wait for the others are waited for up to half of it. */
const SOON = { update: 6, read: 6 };

describe("the upgrade of the snap on all members by LxdCluster.install", () => {
  let lab: SimulatedLab;
  let stack: EngineStack;
  let upgrades: Readonly<Record<string, { state?: string | undefined; recommendedAction?: string | undefined }>> = {};

  const define = (install: Omit<Extract<InstallArgs, { method: "snap" }>, "method">): void =>
    stack.define(() => {
      const hosts = lab.hosts.map(({ name, lanAddress: address, connection }) => ({
        ...{ name, address: address, connection },
        node: { timeouts: SOON },
      }));
      const cluster = new LxdCluster("lab", { hosts, install: { method: "snap", ...install } });
      cluster.upgrades.apply((told) => {
        upgrades = told;
      });
    });
  const revisions = (): unknown[] => lab.hosts.map(({ snaps }) => snaps.get("lxd")?.revision);
  const ofAll = (state: string, recommendedAction: string): unknown =>
    Object.fromEntries(lab.hosts.map(({ name }) => [name, { state, recommendedAction }]));
  /** Counts, at the end of each host's upgrade, the hosts in which snapd was told to change something until then. */
  const countBegun = (since: number): number[] => {
    const counts: number[] = [];
    for (const host of lab.hosts) {
      const put = host.putSnap.bind(host);
      host.putSnap = (...args: Parameters<SimulatedHost["putSnap"]>) => {
        const told = lab.requests.slice(since).filter(({ method, route }) => method === "POST" && route === "/v2/snaps/{name}");
        counts.push(new Set(told.map(({ host: name }) => name)).size);
        put(...args);
      };
    }
    return counts;
  };
  const assertOneAfterTheOther = (begun: number[], revision: string): void =>
    assert.deepEqual({ begun, revisions: revisions() }, { begun: [1, 2, 3], revisions: Array(3).fill(revision) });

  before(async () => {
    const names = ["bcn2", "bcn1", "bcn3"];
    lab = await SimulatedLab.start({
      hosts: names.map((name, index) => ({ name, snapd: true, lanAddress: `192.168.1.${102 + index}` })),
    });
    stack = await EngineStack.open();
    define({ channel: "5.21/stable" });
    const made = await stack.up();
    assert.ok(made.ok, made.text);
  });

  after(async () => {
    stack.close();
    await lab.stop();
    assert.deepEqual([lab.defects, lab.hosts.flatMap(({ unknownCommands }) => unknownCommands)], [[], []]);
  });

  it("to a newer revision is shown in the preview, goes one member after the other, and is told by the outputs", async () => {
    for (const { store } of lab.hosts) {
      store.release("5.21/stable", { revision: 33999, version: "5.21.4-9b1e0d2", lxd: "lxd-5.21" });
    }
    assert.deepEqual([revisions(), upgrades], [["33110", "33110", "33110"], ofAll("up to date", "none")]);
    define({ channel: "5.21/stable", revision: 33999 });
    const preview = await stack.preview();
    const told = preview.messages.join("\n");
    assert.match(told, /pulumi up will upgrade LXD on \S+ from \S+ \(revision 33110\) to \S+ .*33999.*one after the other/);
    lab.timings.installMs = 200;
    const begun = countBegun(lab.requests.length);
    const run = await stack.up();
    assert.ok(run.ok, run.text);
    assertOneAfterTheOther(begun, "33999");
    assert.deepEqual(upgrades, ofAll("up to date", "none"));
    assert.deepEqual((await stack.up()).steps, []);
  });

  it("to another channel lets members wait for the last one, and the outputs say so until the next refresh", async () => {
    define({ channel: "6/stable" });
    const begun = countBegun(lab.requests.length);
    const run = await stack.up();
    assert.ok(run.ok, run.text);
    assertOneAfterTheOther(begun, "34850");
    const told = Object.values(upgrades).map(({ state, recommendedAction }) => [state, recommendedAction].join(", "));
    assert.deepEqual(told.sort(), ["restarting, none", "restarting, none", "up to date, none"]);
    const after = await stack.up();
    assert.ok(after.ok, after.text);
    assert.deepEqual(upgrades, ofAll("up to date", "none"));
    assert.deepEqual((await stack.up()).steps, []);
  });
});

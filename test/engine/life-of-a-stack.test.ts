import assert from "node:assert/strict";
import * as z from "zod";
import { SimulatedLab } from "../../lab/simulated";
import { providerPointer } from "../../provider/engine/pointer";
import { SCHEMA_VERSIONS } from "../lifecycles/histories/world";
import { TWO_HOSTS } from "../support/two-hosts";
import { byHand, type ClusterProgram, clusterProgram } from "./cluster-program";
import { EngineStack, type Run, type StateResource, type Step } from "./workspace";

const PASSWORD = "correct-horse-battery";
const PASSWORD_HASH = "$6$saltsalt$qRPK7m23GJusamGpoGLby.Jw2RWzHdMjLgDPvZ8Jc0kNvCbAC7YOK3sXZ3jX2c8O4gDg6IWDRuO2OJ6j8q.M/";

const named = (steps: readonly Step[], op: string): string[] =>
  steps.filter((step) => step.op === op).map(({ type, name }) => `${type} ${name}`);

/** Base64 of a JSON object that tells a server where to join. Other base64 may happen to begin alike. */
const joinTokensIn = (text: string): string[] =>
  (text.match(/eyJ[A-Za-z0-9+/]{40,}=*/g) ?? []).filter((base64) =>
    /"server_name"/.test(Buffer.from(base64, "base64").toString("latin1")),
  );

describe("the life of a stack", () => {
  let lab: SimulatedLab;
  let stack: EngineStack;
  let everything: ClusterProgram;
  /** All that was on the screen. */
  let shown = "";

  before(async () => {
    lab = await SimulatedLab.start({
      hosts: TWO_HOSTS.map((host) => ({ ...host, password: PASSWORD })),
    });
    stack = await EngineStack.open();
    everything = { connection: { password: PASSWORD }, vms: { web1: {} }, user: { passwordHash: PASSWORD_HASH } };
    stack.define(clusterProgram(lab, everything));
  });

  after(async () => {
    stack.close();
    await lab.stop();
  });

  afterEach(() => {
    assert.deepEqual(lab.defects, []);
    assert.deepEqual(
      lab.hosts.flatMap(({ unknownCommands }) => unknownCommands),
      [],
    );
    lab.faults.clear();
  });

  /** A run, with what it cost: connections to each host, and requests that asked LXD for a change. */
  async function watched(work: () => Promise<Run>): Promise<Run & { connections: number[]; changes: string[] }> {
    const before = lab.hosts.map(({ counters }) => counters.connections);
    const since = lab.requests.length;
    const run = await work();
    shown += run.text;
    const changes = lab.mutations(since).map(({ method, path }) => `${method} ${path.split("?")[0] ?? ""}`);
    return { ...run, connections: lab.hosts.map(({ counters }, index) => counters.connections - (before[index] ?? 0)), changes };
  }

  async function succeeds(work: () => Promise<Run>) {
    const run = await watched(work);
    assert.ok(run.ok, run.text);
    return run;
  }

  async function comesToRest(): Promise<void> {
    const { steps, changes } = await succeeds(() => stack.up());
    assert.deepEqual([steps, changes], [[], []]);
  }

  async function inState(type: string, name: string): Promise<StateResource> {
    const found = (await stack.resources()).find(
      (resource) => resource.type.endsWith(`:${type}`) && resource.urn.endsWith(`::${name}`),
    );
    assert.ok(found, `${type} ${name} is not in state`);
    return found;
  }

  describe("in the beginning", () => {
    it("begins with bare hosts: LXD, the cluster, and all that is on it, in one `up` and one connection to each host", async () => {
      assert.deepEqual(
        lab.hosts.map(({ packages }) => packages.has("lxd")),
        [false, false],
      );
      const { steps, connections } = await succeeds(() => stack.up());
      const created = named(steps, "create");
      assert.deepEqual([...created].sort(), [
        "LxdClusterMember bcn1",
        "LxdClusterMember bcn2",
        "LxdImage debian",
        "LxdNetwork lxdbr0",
        "LxdNode bcn1",
        "LxdNode bcn2",
        "LxdProfile web",
        "LxdStoragePool default",
        "LxdVm web1",
        "VmUser web1-ops",
      ]);
      for (const [first, then] of [
        ["LxdNode bcn2", "LxdClusterMember bcn2"],
        ["LxdClusterMember bcn2", "LxdClusterMember bcn1"],
        ["LxdClusterMember bcn1", "LxdStoragePool default"],
        ["LxdStoragePool default", "LxdProfile web"],
        ["LxdProfile web", "LxdVm web1"],
        ["LxdVm web1", "VmUser web1-ops"],
      ] as const) {
        assert.ok(created.indexOf(first) < created.indexOf(then), `${first} before ${then}`);
      }
      assert.deepEqual(connections, [1, 1]);
    });

    it("shows in each resource's row what is being done", () => {
      assert.match(shown, /LxdNode bcn2 creating .*installing the Debian packages lxd on root@127\.0\.0\.1/);
      assert.match(shown, /LxdClusterMember bcn1 creating .*joining bcn1 to the cluster of bcn2/);
      // What follows within a second is shown only as long as nothing else follows that.
      assert.match(shown, /LxdVm web1 creating \(\d+s\) .*creating/);
    });

    it("has no change in a second `up`: not one request for a change, and one connection to each host", async () => {
      const { steps, changes, connections } = await succeeds(() => stack.up());
      assert.deepEqual({ steps, changes, connections }, { steps: [], changes: [], connections: [1, 1] });
    });

    it("keeps in state where the provider is, the version of its shape, and nothing unfinished", async () => {
      const resources = await stack.resources();
      assert.equal(resources.length, 10);
      for (const { type, inputs, outputs } of resources) {
        const kind = type.replace("pulumi-nodejs:dynamic/lxd:", "");
        assert.equal(inputs["__provider"], providerPointer(kind));
        assert.equal(outputs["__provider"], providerPointer(kind));
        assert.equal(outputs["schemaVersion"], SCHEMA_VERSIONS[kind]);
        assert.equal("unfinished" in outputs, false);
      }
    });

    it("keeps no secret in state: neither credentials, nor password hashes, nor join tokens", () => {
      const text = stack.backendText();
      assert.ok(text.includes("LxdClusterMember"));
      const keyLine = lab.privateKey.split("\n")[2] ?? assert.fail();
      for (const secret of [PASSWORD, PASSWORD_HASH, PASSWORD_HASH.slice(12), keyLine, "PRIVATE KEY"]) {
        assert.ok(!text.includes(secret), secret);
      }
      assert.deepEqual(joinTokensIn(text), []);
    });
  });

  describe("when LXD is changed by hand", () => {
    const change = (config: object, description: string) =>
      byHand(lab, "bcn2", async (lxd) => {
        const { devices } = await lxd.get("/1.0/profiles/web", z.looseObject({ devices: z.unknown() }));
        await lxd.change("PUT", "/1.0/profiles/web", { body: { config, devices, description } });
      });

    it("shows the difference in a preview, with the property and both values, and changes nothing", async () => {
      await change({ "limits.memory": "2GiB", "limits.cpu": "4" }, "");
      const { steps, text, changes } = await succeeds(() => stack.preview());
      assert.deepEqual(
        steps.filter(({ op }) => op !== "refresh").map(({ op, type, name }) => `${op} ${type} ${name}`),
        ["update LxdProfile web"],
      );
      assert.match(text, /limits\.memory\s*: "2GiB" => "1GiB"/);
      assert.match(text, /- limits\.cpu\s*: "4"/);
      assert.deepEqual(changes, []);
    });

    it("is repaired by `up`, by that one change, and then shows none", async () => {
      const { changes } = await succeeds(() => stack.up());
      assert.deepEqual(changes, ["PUT /1.0/profiles/web"]);
      await comesToRest();
    });

    it("takes other words for the same thing for no difference", async () => {
      await change({ "limits.memory": "1024MiB" }, "");
      await comesToRest();
    });

    it("makes again what was removed by hand", async () => {
      await byHand(lab, "bcn2", async (lxd) => {
        await lxd.change("PUT", "/1.0/instances/web1/state", { body: { action: "stop", force: true, timeout: 5 } });
        await lxd.change("DELETE", "/1.0/instances/web1");
      });
      const { steps } = await succeeds(() => stack.up());
      assert.deepEqual(named(steps, "create"), ["LxdVm web1", "VmUser web1-ops"]);
      await comesToRest();
    });
  });

  describe("when something fails on the way", () => {
    it("keeps a VM that exists but is not as wanted, with the reason, and finishes it the next time without making it anew", async () => {
      lab.timings.addressMs = 3_600_000;
      const web2 = { waitFor: [{ for: "ipv4" as const, nic: "eth0" }], timeouts: { create: 15 } };
      everything = { ...everything, vms: { web1: {}, web2 } };
      stack.define(clusterProgram(lab, everything));
      const failed = await watched(() => stack.up());
      assert.equal(failed.ok, false);
      assert.match(failed.text, /web2.*waiting for an IPv4 address on eth0/s);
      const unfinished = await inState("LxdVm", "web2");
      assert.match(String(unfinished.outputs["unfinished"]), /IPv4 address on eth0/);
      assert.equal(unfinished.outputs["__provider"], providerPointer("LxdVm"));

      lab.timings.addressMs = 0;
      const planned = await succeeds(() => stack.preview());
      assert.deepEqual(named(planned.steps, "update"), ["LxdVm web2"]);
      assert.match(
        planned.messages.join("\n"),
        /^warning web2: Instance "web2" exists \(Running\), but is not finished: .*waiting for an IPv4 address on eth0/m,
      );
      await byHand(lab, "bcn2", (lxd) =>
        lxd.change("PUT", "/1.0/instances/web2/state", { body: { action: "restart", force: true, timeout: 5 } }),
      );
      const finished = await succeeds(() => stack.up());
      assert.deepEqual(named(finished.steps, "update"), ["LxdVm web2"]);
      assert.deepEqual(named(finished.steps, "create"), ["VmUser web2-ops"]);
      assert.ok(!finished.changes.includes("POST /1.0/instances"));
      assert.equal("unfinished" in (await inState("LxdVm", "web2")).outputs, false);
    });

    for (const [effect, what] of [
      ["drop-before", "before LXD has heard of it"],
      ["drop-after", "after LXD has done it"],
    ] as const) {
      it(`says which host was lost when the connection breaks ${what}, and goes on the next time`, async () => {
        everything = { ...everything, extra: { name: effect } };
        stack.define(clusterProgram(lab, everything));
        const fault = lab.faults.add({ when: { method: "POST", path: /^\/1\.0\/profiles/, nth: 1 }, effect });
        const failed = await watched(() => stack.up());
        assert.equal(fault.hits, 1);
        assert.equal(failed.ok, false);
        assert.match(failed.text, /connection to LXD on root@127\.0\.0\.1:\d+ broke during POST \/1\.0\/profiles/);
        await succeeds(() => stack.up());
      });
    }

    it("says what LXD said when LXD refuses", async () => {
      lab.faults.add({
        when: { method: "PUT", path: /^\/1\.0\/profiles\//, nth: 1 },
        effect: { status: 400, error: "Invalid config: no" },
      });
      everything = { ...everything, extra: { name: "drop-after", description: "other" } };
      stack.define(clusterProgram(lab, everything));
      const { ok, text, messages } = await watched(() => stack.up());
      assert.equal(ok, false);
      assert.match(
        text,
        /LXD on root@127\.0\.0\.1:\d+ answered PUT \/1\.0\/profiles\/drop-after\S* with 400: Invalid config: no/,
      );
      assert.equal(messages.filter((message) => message.includes("Invalid config: no")).length, 1, "it is said once");
      await succeeds(() => stack.up());
    });

    it("tells of bad input in a preview, before anything is touched, by property", async () => {
      stack.define(clusterProgram(lab, { ...everything, profile: { config: { "limits.memory": "4 giga" } } }));
      const since = lab.requests.length;
      const { ok, text } = await watched(() => stack.preview());
      assert.equal(ok, false);
      assert.match(text, /config\.limits\.memory is neither a size such as "4GiB" nor a share such as "50%"/);
      assert.deepEqual(lab.mutations(since), []);
      stack.define(clusterProgram(lab, everything));
    });
  });

  describe("when a host is down", () => {
    it("ends a preview with an error that names the host, and plans no deletion", async () => {
      await lab.host("bcn1").powerOff();
      const { port } = lab.host("bcn1");
      const { ok, text, steps } = await watched(() => stack.preview());
      assert.equal(ok, false);
      assert.match(text, new RegExp(`root@127\\.0\\.0\\.1:${port} cannot be reached by SSH: connect ECONNREFUSED`));
      assert.deepEqual(
        steps.filter(({ op }) => /delete|replace|create/.test(op)),
        [],
      );
    });

    it("leaves state as it was, so that all is well when the host is back", async () => {
      const before = (await stack.resources()).map(({ urn }) => urn);
      assert.equal((await watched(() => stack.refresh())).ok, false);
      assert.deepEqual(
        (await stack.resources()).map(({ urn }) => urn),
        before,
      );
      await lab.host("bcn1").powerOn();
      await comesToRest();
    });
  });

  describe("in the end", () => {
    it("ends with hosts that are clean enough to begin again", async () => {
      const all = (await stack.resources()).length;
      const { steps, connections } = await succeeds(() => stack.destroy());
      const deleted = named(steps, "delete");
      assert.equal(deleted.length, all);
      assert.ok(
        deleted.indexOf("LxdClusterMember bcn1") < deleted.indexOf("LxdClusterMember bcn2"),
        "the first member goes last",
      );
      assert.deepEqual(connections, [1, 1]);
      assert.deepEqual(await stack.resources(), []);
      assert.equal(named((await succeeds(() => stack.up())).steps, "create").length, all);
      await succeeds(() => stack.destroy());
    });

    it("has shown no secret on the screen in all of this", () => {
      for (const secret of [PASSWORD, PASSWORD_HASH, "PRIVATE KEY-----"]) {
        assert.ok(!shown.includes(secret), secret);
      }
      assert.deepEqual(joinTokensIn(shown), []);
    });
  });
});

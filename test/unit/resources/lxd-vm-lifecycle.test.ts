import assert from "node:assert/strict";
import * as z from "zod";
import { vmLifecycle } from "../../../provider/resources/lxd-vm";
import { Managed, type SimulatedCluster, startTwoMembers } from "./simulated-cluster";

const shown = z.looseObject({
  status: z.string(),
  location: z.string(),
  config: z.record(z.string(), z.string()),
  devices: z.record(z.string(), z.record(z.string(), z.string())),
});

describe("LxdVm on LXD", () => {
  let two: SimulatedCluster;
  let vm: Managed<never, never> & { state: Record<string, unknown> | undefined };

  const manage = (name: string) => new Managed(vmLifecycle, name) as unknown as typeof vm;
  const args = (more: object = {}) => ({
    cluster: two.cluster,
    name: "web1",
    image: { alias: "vm-image" },
    target: "bcn1",
    waitFor: [{ for: "ipv4", nic: "eth0" }],
    ...more,
  });
  const state = (): Record<string, unknown> => vm.state as Record<string, unknown>;
  const live = async (name = "web1") => (await two.byHand()).get(`/1.0/instances/${name}`, shown);
  const byHand = async (method: "PUT" | "POST" | "DELETE" | "PATCH", path: string, body: object) =>
    (await two.byHand()).change(method, path, { body });
  const stopByHand = () => byHand("PUT", "/1.0/instances/web1/state", { action: "stop", timeout: 30 });
  const requestsOf = (since: number, pattern: RegExp) =>
    two.lab.requests
      .slice(since)
      .map(({ method, path }) => `${method} ${path.split("?")[0] ?? ""}`)
      .filter((line) => pattern.test(line));

  beforeEach(async () => {
    two = await startTwoMembers();
    vm = manage("web1");
    two.lab.seedImage("bcn2", { alias: "vm-image", type: "virtual-machine" });
    two.lab.seedImage("bcn2", { alias: "container-image", type: "container" });
    for (const [path, body] of [
      ["/1.0/storage-pools", { name: "default", driver: "dir" }],
      ["/1.0/networks", { name: "lxdbr0", type: "bridge" }],
    ] as const) {
      await byHand("POST", `${path}?target=bcn2`, body);
      await byHand("POST", `${path}?target=bcn1`, body);
      await byHand("POST", path, body);
    }
    const devices = {
      root: { type: "disk", path: "/", pool: "default" },
      eth0: { type: "nic", network: "lxdbr0", name: "eth0" },
    };
    await byHand("PUT", "/1.0/profiles/default", { description: "", config: {}, devices });
  });
  afterEach(async () => {
    const { defects } = two.lab;
    await two.stop();
    assert.deepEqual(defects, []);
  });

  it("is made stopped, then started, then waited for, and shows what came of it", async () => {
    const before = two.lab.requests.length;
    assert.equal(await vm.up(args()), "created");
    assert.deepEqual(requestsOf(before, /^(POST|PUT) /), ["POST /1.0/instances", "PUT /1.0/instances/web1/state"]);
    assert.deepEqual(vm.progress, ["creating", "starting", "waiting for an IPv4 address on eth0"]);
    assert.equal(state()["status"], "Running");
    assert.equal(state()["location"], "bcn1");
    const { eth0 } = state()["addresses"] as Record<string, { ipv4: string[] }>;
    assert.equal(eth0?.ipv4.length, 1);
    assert.doesNotMatch(JSON.stringify(state()["expandedConfig"]), /volatile|image\.|user\./);
  });

  it("shows no difference afterwards, and changes nothing", async () => {
    await vm.up(args());
    const before = two.lab.requests.length;
    assert.equal(await vm.up(args()), "same");
    assert.deepEqual(two.lab.mutations(before), []);
  });

  it("starts again what was stopped by hand, as drift of running alone", async () => {
    await vm.up(args());
    await stopByHand();
    assert.equal(await vm.preview(args()), "updated");
    assert.equal(state()["running"], false);
    await vm.up(args());
    assert.equal((await live()).status, "Running");
    assert.equal(await vm.up(args()), "same");
  });

  it("repairs config that was changed by hand, and loses nothing that LXD keeps", async () => {
    await vm.up(args({ config: { "user.role": "web" } }));
    const { config, devices } = await live();
    await byHand("PUT", "/1.0/instances/web1", {
      config: { ...config, "user.role": "db", "user.hand": "x" },
      devices,
      profiles: ["default"],
    });
    assert.equal(await vm.up(args({ config: { "user.role": "web" } })), "updated");
    assert.deepEqual((await live()).config, config);
  });

  it("refuses, before anything is touched, a change that needs a stop", async () => {
    await vm.up(args({ memory: "1GiB" }));
    const before = two.lab.requests.length;
    await assert.rejects(
      vm.up(args({ memory: "2GiB" })),
      /would have to be stopped.*limits\.memory: 1GiB to 2GiB.*allowRestart: true/,
    );
    assert.deepEqual(two.lab.mutations(before), []);
    assert.match(vm.warnings.join(), /^pulumi up will refuse this/);
    assert.equal((await live()).config["limits.memory"], "1GiB");
  });

  it("stops cleanly, changes and starts when it may", async () => {
    await vm.up(args({ memory: "1GiB" }));
    const before = two.lab.lifecycle.length;
    await vm.up(args({ memory: "2GiB", allowRestart: true }));
    const actions = two.lab.lifecycle.slice(before).map(({ action }) => action);
    assert.deepEqual(actions, ["instance-shutdown", "instance-updated", "instance-started"]);
  });

  it("changes what it can while it runs", async () => {
    await vm.up(args({ cpu: 1, memory: "2GiB" }));
    const before = two.lab.lifecycle.length;
    await vm.up(args({ cpu: 2, memory: "1GiB", devices: { eth1: { type: "nic", network: "lxdbr0" } } }));
    assert.deepEqual(
      two.lab.lifecycle.slice(before).map(({ action }) => action),
      ["instance-updated"],
    );
  });

  it("starts again an instance whose change LXD refuses after the stop", async () => {
    await vm.up(args({ memory: "1GiB" }));
    const fault = two.lab.faults.add({
      when: { method: "PUT", path: /\/instances\/web1(\?|$)/ },
      effect: { failOperation: "Disk is full" },
    });
    await assert.rejects(vm.up(args({ memory: "2GiB", allowRestart: true })), /Disk is full/);
    fault.remove();
    assert.equal((await live()).status, "Running");
  });

  it("writes again when LXD wrote to the instance in between", async () => {
    await vm.up(args());
    const fault = two.lab.faults.add({
      when: { method: "PUT", path: /\/instances\/web1(\?|$)/, nth: 1 },
      effect: { status: 412, error: "ETag doesn't match: a vs b" },
    });
    await vm.up(args({ description: "new" }));
    assert.equal(fault.matches, 2);
    assert.equal(await vm.up(args({ description: "new" })), "same");
  });

  describe("while LXD is busy with it,", () => {
    const STOPPING = 'Failed to create instance update operation: Instance is busy running a "stop" operation';
    const CHANGED = "A matching non-reusable operation has now succeeded";
    const onInstance = /\/instances\/web1(\?|$)/;
    const onState = /\/instances\/web1\/state/;

    const off = { running: false, waitFor: [] };
    for (const [what, method, path, reply, before, after] of [
      ["is changed as soon as it is free", "PUT", onInstance, STOPPING, {}, { description: "new" }],
      ["is changed as soon as another change is made", "PUT", onInstance, CHANGED, {}, { description: "new" }],
      ["is started as soon as it is free", "PUT", onState, STOPPING, off, {}],
      ["is stopped as soon as it is free", "PUT", onState, STOPPING, {}, off],
      ["is moved as soon as it is free", "POST", onInstance, STOPPING, off, { ...off, target: "bcn2" }],
      ["is removed as soon as it is free", "DELETE", onInstance, STOPPING, {}, undefined],
    ] as const) {
      it(what, async () => {
        await vm.up(args(before));
        const fault = two.lab.faults.add({ when: { method, path, nth: 1 }, effect: { failOperation: reply } });
        await (after === undefined ? vm.destroy() : vm.up(args(after)));
        assert.deepEqual([fault.hits, fault.matches], [1, 2]);
      });
    }

    it("tells with what when the time is over", async () => {
      await vm.up(args());
      two.lab.faults.add({ when: { method: "PUT", path: onInstance }, effect: { failOperation: STOPPING } });
      await assert.rejects(
        vm.up(args({ description: "new", timeouts: { update: 1 } })),
        /did not finish within 1 s; at the end: instance "web1" is not free for it: LXD on \S+ says: .*busy running a "stop" operation/,
      );
    });
  });

  it("moves to another member when it may be stopped, and keeps its addresses' MAC", async () => {
    await vm.up(args());
    const mac = (await live()).config["volatile.eth0.hwaddr"];
    await assert.rejects(vm.up(args({ target: "bcn2" })), /target: bcn1 to bcn2; a running instance is not moved/);
    await vm.up(args({ target: "bcn2", allowRestart: true }));
    assert.equal((await live()).location, "bcn2");
    assert.equal((await live()).config["volatile.eth0.hwaddr"], mac);
    assert.equal(await vm.up(args({ target: "bcn2", allowRestart: true })), "same");
    assert.equal(await vm.up(args({ target: "@default" })), "same");
  });

  it("overrides the inherited root disk, and gives the override up again", async () => {
    const container = { instanceType: "container", image: { alias: "container-image" } };
    await vm.up(args({ ...container, rootDisk: { size: "20GiB" } }));
    assert.deepEqual((await live()).devices, { root: { type: "disk", path: "/", pool: "default", size: "20GiB" } });
    assert.equal(await vm.up(args({ ...container, rootDisk: { size: "20480MiB" } })), "same");
    assert.equal(await vm.up(args(container)), "updated");
    assert.deepEqual((await live()).devices, {});
  });

  it("keeps an instance in state whose wait fails, says what it was waiting for, and finishes it with the next up", async () => {
    const failing = args({ waitFor: [{ for: "command", command: ["false"] }], timeouts: { create: 2, update: 30 } });
    await assert.rejects(
      vm.up(failing),
      /Instance "web1" exists \(Running\), but is not finished: .* waiting for false to succeed.*goes on from here/,
    );
    assert.match(String(state()["unfinished"]), /not finished/);
    const before = two.lab.requests.length;
    assert.equal(await vm.up(args({ timeouts: { update: 30 } })), "updated");
    assert.deepEqual(requestsOf(before, /^(POST|DELETE) /), []);
    assert.equal(state()["unfinished"], undefined);
  });

  it("does not take cloud-init for done that never found LXD, while there is something for it to find", async () => {
    const waiting = { waitFor: [{ for: "cloud-init" }], cloudInit: { networkConfig: "version: 2\n" } };
    const deaf = { config: { "security.devlxd": "false" } };
    await assert.rejects(
      vm.up(args({ ...waiting, ...deaf })),
      /is not finished: cloud-init of instance "web1" did not find LXD .*nothing of cloud-init\.network-config is in effect.*lxc restart web1\)/,
    );
    await assert.rejects(vm.up(args(waiting)), /did not find LXD/); // as long as it is not booted again
    for (const action of ["stop", "start"]) {
      await (await two.byHand()).change("PUT", "/1.0/instances/web1/state", { body: { action, force: true, timeout: 5 } });
    }
    assert.equal(await vm.up(args(waiting)), "updated");
    assert.equal(state()["unfinished"], undefined);
    assert.equal(await vm.up(args({ ...waiting, cloudInit: undefined })), "updated");
  });

  it("goes on with its own instance when the answer to the creation is lost", async () => {
    two.lab.faults.add({ when: { method: "POST", path: /^\/1\.0\/instances\?/, nth: 1 }, effect: "drop-after" });
    const before = two.lab.requests.length;
    assert.equal(await vm.up(args()), "created");
    assert.deepEqual(requestsOf(before, /^POST /), ["POST /1.0/instances"]);
    assert.equal((await live()).status, "Running");
  });

  it("goes on with its own instance when an earlier create was killed", async () => {
    await vm.up(args());
    const again = manage("web1");
    assert.equal(await again.up(args()), "created");
    assert.equal(again.progress.at(-1), "waiting for an IPv4 address on eth0");
  });

  it("refuses an instance that others made, and adopts it on request", async () => {
    await manage("other").up(args());
    await assert.rejects(vm.up(args()), /already exists.*belongs to the Pulumi resource "other".*adopt: true/);
    assert.equal(await vm.up(args({ adopt: true, description: "mine" })), "created");
    assert.match((await live()).config["user.pulumi.urn"] ?? "", /::web1$/);
    await assert.rejects(
      manage("third").up(args({ adopt: true, instanceType: "container", image: { alias: "container-image" } })),
      /is a virtual-machine, not a container/,
    );
  });

  const refusals: [title: string, more: object, message: RegExp][] = [
    ["a profile", { profiles: ["nope"] }, /^profiles: LXD on .* has no profile "nope" .*\(it has default\).*LxdProfile/],
    ["an image", { image: { alias: "nope" } }, /^image\.alias: .* has no image "nope".*container-image, vm-image.*LxdImage/],
    ["a member", { target: "bcn9" }, /^target: "bcn9" is not a member .* bcn2 \(Online\), bcn1 \(Online\)/],
    ["a group", { target: "@nope" }, /^target: no member .* is in group "nope"/],
    ["a pool", { rootDisk: { pool: "nope" } }, /^rootDisk\.pool: .* has no storage pool "nope" \(it has default\)/],
    ["a volume's pool", { devices: { d: { type: "disk", pool: "nope", source: "v", path: "/d" } } }, /^devices\.d\.pool: /],
    ["a network", { devices: { eth1: { type: "nic", network: "nope" } } }, /^devices\.eth1\.network: .* \(it has lxdbr0\)/],
    ["a root disk", { profiles: [] }, /^rootDisk\.pool: the instance has no profiles/],
    ["a NIC to wait for", { waitFor: [{ for: "ipv6", nic: "eth9" }] }, /^waitFor\.0\.nic: .* "eth9".* it has eth0$/],
  ];
  for (const [title, more, message] of refusals) {
    it(`refuses ${title} that does not exist, before anything is made`, async () => {
      const before = two.lab.requests.length;
      await assert.rejects(vm.up(args(more)), ({ message: text }: Error) => message.test(text) || assert.fail(text));
      assert.deepEqual(two.lab.mutations(before), []);
      assert.equal(vm.state, undefined);
    });
  }

  it("refuses an image of the other kind", async () => {
    await assert.rejects(
      vm.up(args({ image: { alias: "container-image" } })),
      /is an image for a container, and instanceType is "virtual-machine"/,
    );
  });

  it("reads any number of instances with one list, and finds one that is gone", async () => {
    await vm.up(args());
    const before = two.lab.requests.length;
    await vm.preview(args());
    assert.deepEqual(requestsOf(before, /instances/), ["GET /1.0/instances"]);
    await stopByHand();
    await (await two.byHand()).change("DELETE", "/1.0/instances/web1");
    assert.equal(await vm.preview(args()), "created");
  });

  it("calls an instance on a member without power unreadable, never gone or changed", async () => {
    await vm.up(args());
    await two.lab.host("bcn1").powerOff();
    await assert.rejects(vm.preview(args()), /Instance "web1" cannot be read: it is on cluster member "bcn1", which is Offline/);
    await assert.rejects(manage("web2").up(args({ name: "web2" })), /^Error: target: cluster member "bcn1" is Offline/);
  });

  it("leaves an evacuated instance where it is, and says from where it came", async () => {
    await vm.up(args());
    await byHand("POST", "/1.0/cluster/members/bcn1/state", { action: "evacuate" });
    assert.equal(await vm.preview(args()), "same");
    assert.equal(state()["evacuatedFrom"], "bcn1");
    assert.equal(state()["location"], "bcn2");
  });

  it("is removed: stopped first, and done when it is gone already", async () => {
    await vm.up(args());
    const known = vm.state;
    await vm.destroy();
    assert.deepEqual(
      two.lab.lifecycle.slice(-2).map(({ action }) => action),
      ["instance-shutdown", "instance-deleted"],
    );
    vm.state = known;
    await vm.destroy();
    assert.equal(vm.state, undefined);
  });

  it("is stopped by force for its removal when it does not stop cleanly", async () => {
    await vm.up(args());
    two.lab.faults.add({
      when: { method: "PUT", path: /\/web1\/state/, nth: 1 },
      effect: { failOperation: 'Failed shutting down instance, status is "Running": context deadline exceeded' },
    });
    await vm.destroy();
    assert.deepEqual(vm.progress.slice(-3), ["stopping (it is given 30 s)", "stopping by force", "deleting"]);
  });

  it("does not force a stop for a change, unless allowRestart says so", async () => {
    await vm.up(args({ memory: "1GiB" }));
    const refuseToStop = () =>
      two.lab.faults.add({
        when: { method: "PUT", path: /\/web1\/state/, nth: 1 },
        effect: { failOperation: "Failed shutting down" },
      });
    refuseToStop();
    await assert.rejects(
      vm.up(args({ memory: "2GiB", allowRestart: true })),
      /did not stop cleanly .* left running and nothing was changed/,
    );
    assert.equal((await live()).status, "Running");
    two.lab.faults.clear();
    refuseToStop();
    await vm.up(args({ memory: "2GiB", allowRestart: "force" }));
    assert.equal((await live()).config["limits.memory"], "2GiB");
  });

  it("refuses to remove what is protected, and leaves it running", async () => {
    await vm.up(args({ config: { "security.protection.delete": true } }));
    await assert.rejects(vm.destroy(), /protected from being deleted \(security\.protection\.delete\)/);
    assert.equal((await live()).status, "Running");
  });
});

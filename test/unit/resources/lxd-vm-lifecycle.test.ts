import assert from "node:assert/strict";
import * as z from "zod";
import type { FaultEffect } from "../../../lab/simulated/faults";
import { profileLifecycle } from "../../../provider/resources/lxd-profile";
import { vmLifecycle } from "../../../provider/resources/lxd-vm";
import { messageOf } from "../../../provider/support/errors";
import { killedAtTheEnd, Managed, type SimulatedCluster, startTwoMembers } from "./simulated-cluster";

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

  it("is created stopped, started, waited for, and outputs the result", async () => {
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

  it("shows no difference afterwards, and a second up changes nothing", async () => {
    await vm.up(args());
    const before = two.lab.requests.length;
    assert.equal(await vm.up(args()), "same");
    assert.deepEqual(two.lab.mutations(before), []);
  });

  it("is started again after a manual stop, as drift of running alone", async () => {
    await vm.up(args());
    await stopByHand();
    assert.equal(await vm.preview(args()), "updated");
    assert.equal(state()["running"], false);
    await vm.up(args());
    assert.equal((await live()).status, "Running");
    assert.equal(await vm.up(args()), "same");
  });

  it("repairs config that was changed manually, and keeps LXD's own keys", async () => {
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
    await vm.up(args());
    const before = two.lab.requests.length;
    const change = args({ config: { "security.secureboot": false } });
    await assert.rejects(
      vm.up(change),
      /requires stopping the running instance.*security\.secureboot: unset to false.*allowRestart: true/,
    );
    assert.deepEqual(two.lab.mutations(before), []);
    assert.match(vm.warnings.join(), /^pulumi up will refuse this/);
    assert.equal((await live()).config["security.secureboot"], undefined);
  });

  it("says in a preview that changed cloud-init data takes effect at the next start, unless the change needs a restart", async () => {
    await vm.up(args());
    const cloudInit = { userData: "#cloud-config\n{}\n" };
    await vm.preview(args({ cloudInit }));
    assert.match(
      vm.warnings.join("\n"),
      /^The change of cloud-init\.user-data takes effect at the next start of instance "web1"\..*$/,
    );
    vm.warnings.length = 0;
    await vm.preview(args({ cloudInit, running: false }));
    await vm.preview(args({ cloudInit, config: { "security.secureboot": false }, allowRestart: true }));
    await stopByHand();
    await vm.preview(args({ cloudInit }));
    assert.doesNotMatch(vm.warnings.join("\n"), /next start/);
  });

  it("grows back to its memory at the start while it runs", async () => {
    await vm.up(args({ memory: "2GiB" }));
    await vm.up(args({ memory: "1GiB" }));
    const before = two.lab.lifecycle.length;
    await vm.up(args({ memory: "2GiB", description: "grown" }));
    assert.ok(two.lab.lifecycle.slice(before).every(({ action }) => action === "instance-updated"));
    assert.equal((await live()).config["limits.memory"], "2GiB");
  });

  it("is reported as evacuated, not as drift: nothing is planned, and nothing fails", async () => {
    const stays = args({ config: { "cluster.evacuate": "stop" } });
    await vm.up(stays);
    await byHand("POST", "/1.0/cluster/members/bcn1/state", { action: "evacuate" });
    assert.equal((await live()).status, "Stopped");
    const before = two.lab.requests.length;
    assert.equal(await vm.up(stays), "same");
    assert.deepEqual(two.lab.mutations(before), []);
    assert.equal(state()["evacuatedFrom"], "bcn1");
    assert.equal(await vm.up({ ...stays, description: "changed meanwhile" }), "updated");
    assert.match(
      vm.warnings.join(),
      /stays stopped, because its cluster member "bcn1" is evacuated\. Restore the member \(lxc cluster restore bcn1\)/,
    );
    await byHand("POST", "/1.0/cluster/members/bcn1/state", { action: "restore" });
    assert.equal(await vm.up({ ...stays, description: "changed meanwhile" }), "same");
    assert.equal((await live()).status, "Running");
    assert.equal(state()["evacuatedFrom"], undefined);
  });

  it("is not moved to a member without a bridge of the host that it needs", async () => {
    two.lab.host("bcn1").interfaces.set("br9", { type: "bridge", hwaddr: "00:16:3e:00:00:09", addresses: [] });
    const devices = { eth1: { type: "nic", nictype: "bridged", parent: "br9" } };
    await vm.up(args({ devices }));
    const before = two.lab.requests.length;
    await vm.preview(args({ devices, target: "bcn2", allowRestart: true }));
    assert.match(vm.warnings.join("\n"), /^pulumi up will refuse this\. target: instance "web1" cannot be moved to bcn2.*"br9"/m);
    await assert.rejects(
      vm.up(args({ devices, target: "bcn2", allowRestart: true })),
      /target: instance "web1" cannot be moved to bcn2, and nothing was changed: its device eth1 needs "br9", which does not exist on bcn2/,
    );
    assert.deepEqual(two.lab.mutations(before), []);
    assert.equal((await live()).status, "Running");
  });

  it("is not moved to a member without its pool, and the preview says so", async () => {
    await vm.up(args());
    const { database } = two.lab.host("bcn2").daemon ?? assert.fail();
    Object.assign(database.pool("default").nodes.get(database.member("bcn2")) ?? {}, { status: "Errored" });
    const before = two.lab.requests.length;
    const moved = args({ target: "bcn2", allowRestart: true });
    await vm.preview(moved);
    assert.match(
      vm.warnings.join("\n"),
      /^pulumi up will refuse this\. target: .* its device root needs "default", which is Errored on bcn2/m,
    );
    await assert.rejects(vm.up(moved), /its device root needs "default", which is Errored on bcn2/);
    assert.deepEqual(two.lab.mutations(before), []);
  });

  it("is not stopped for a move that LXD refuses because it has backups, and the preview says so", async () => {
    await vm.up(args());
    await byHand("POST", "/1.0/instances/web1/backups", { name: "nightly" });
    const before = two.lab.requests.length;
    const moved = args({ target: "bcn2", allowRestart: true });
    const refusal = /target: instance "web1" cannot be moved to bcn2, and nothing was changed: it has backups \(nightly\)/;
    await vm.preview(moved);
    assert.match(vm.warnings.join("\n"), new RegExp(`^pulumi up will refuse this\\. ${refusal.source}`, "m"));
    await assert.rejects(vm.up(moved), refusal);
    assert.deepEqual([two.lab.mutations(before), (await live()).status], [[], "Running"]);
    await byHand("DELETE", "/1.0/instances/web1/backups/nightly", {});
    assert.equal(await vm.up(moved), "updated");
    assert.equal((await live()).location, "bcn2");
  });

  it("stops cleanly, changes and starts if permitted", async () => {
    await vm.up(args({ memory: "1GiB" }));
    const before = two.lab.lifecycle.length;
    await vm.up(args({ memory: "2GiB", allowRestart: true }));
    const actions = two.lab.lifecycle.slice(before).map(({ action }) => action);
    assert.deepEqual(actions, ["instance-shutdown", "instance-updated", "instance-started"]);
  });

  it("changes what it can while it runs", async () => {
    await vm.up(args({ cpu: 1, memory: "2GiB" }));
    const before = two.lab.lifecycle.length;
    await vm.up(args({ cpu: 2, memory: "1GiB", devices: { eth1: { type: "nic", nictype: "macvlan", parent: "lxdbr0" } } }));
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

  describe("that moves its own key into a profile,", () => {
    beforeEach(async () => {
      const profile = new Managed<never, never>(profileLifecycle as never, "web");
      await profile.up({ cluster: two.cluster, name: "web", config: { "raw.qemu": "-s", "limits.memory": "1GiB" } });
    });
    const withWeb = (config: object, more: object = {}) => args({ profiles: ["default", "web"], config, ...more });

    it("is not reported as stopped when the profile has the same", async () => {
      await vm.up(withWeb({ "raw.qemu": "-s" }));
      assert.equal(await vm.preview(withWeb({})), "updated");
      assert.deepEqual(vm.warnings, []);
      assert.equal(await vm.up(withWeb({})), "updated");
    });

    it("is reported as refused when the profile has another one", async () => {
      await vm.up(withWeb({ "raw.qemu": "-S" }));
      await vm.preview(withWeb({}));
      assert.match(vm.warnings.join("\n"), /^pulumi up will refuse this\..*raw\.qemu: -S to -s; it is not changed while/);
      await assert.rejects(vm.up(withWeb({})), /requires stopping the running instance.*raw\.qemu: -S to -s/);
    });

    it("is reported as possibly refused when it may have started with the memory that it gets back", async () => {
      const own = { "raw.qemu": "-s" };
      await vm.up(withWeb(own, { memory: "2GiB" }));
      await vm.up(withWeb(own, { memory: "512MiB" }));
      await vm.preview(withWeb(own));
      assert.match(vm.warnings.join("\n"), /^pulumi up may refuse this\..*limits\.memory: 512MiB to 1GiB/);
      assert.equal(await vm.up(withWeb(own)), "updated");
    });

    it("is not refused in the preview for a profile that the same pulumi up may create", async () => {
      await vm.up(args());
      await vm.preview(args({ profiles: ["default", "later"], target: "bcn2", allowRestart: true }));
      assert.doesNotMatch(vm.warnings.join("\n"), /refuse/);
    });
  });

  describe("under a profile that changes,", () => {
    let profile: Managed<never, never>;
    const web = (config: object, more: object = {}) => ({ cluster: two.cluster, name: "web", config, ...more });
    const withWeb = (more: object = {}) => args({ profiles: ["default", "web"], ...more });
    const starts = (since: number) => two.lab.lifecycle.slice(since).filter(({ action }) => action === "instance-started").length;
    const bootMemory = () => two.lab.host("bcn2").daemon?.database.instance("default", "web1").bootMemory;
    const upOfProfile = async (config: object) => profile.up(web(config)).catch((error: unknown) => messageOf(error));

    beforeEach(async () => {
      profile = new Managed<never, never>(profileLifecycle as never, "web");
      await profile.up(web({ "limits.memory": "1GiB" }));
    });

    it("is restarted by the next up if permitted, and no longer mentioned afterwards", async () => {
      await vm.up(withWeb({ allowRestart: true }));
      const before = two.lab.lifecycle.length;
      assert.match(await upOfProfile({ "limits.memory": "2GiB" }), /1 instance \(web1\) did not take the change/);
      assert.equal(bootMemory(), "1GiB");
      assert.equal(await vm.preview(withWeb({ allowRestart: true })), "updated");
      assert.match(
        vm.warnings.join(),
        /runs without a change of its profiles. limits.memory: 1GiB to 2GiB.*will be stopped and started/,
      );
      assert.equal(await profile.up(web({ "limits.memory": "2GiB" })), "updated");
      assert.equal(await vm.up(withWeb({ allowRestart: true })), "updated");
      assert.equal(bootMemory(), "2GiB");
      assert.equal(starts(before), 1);
      const said = [profile.warnings.length, vm.warnings.length];
      assert.equal(await profile.up(web({ "limits.memory": "2GiB" })), "same");
      assert.equal(await vm.up(withWeb({ allowRestart: true })), "same");
      assert.deepEqual([profile.warnings.length, vm.warnings.length], said);
    });

    it("is mentioned at every preview until a user has restarted it, if a restart is not permitted", async () => {
      await vm.up(withWeb());
      await upOfProfile({ "limits.memory": "2GiB" });
      await profile.up(web({ "limits.memory": "2GiB" }));
      for (let preview = 1; preview <= 2; preview += 1) {
        const said = [profile.warnings.length, vm.warnings.length] as const;
        assert.equal(await profile.preview(web({ "limits.memory": "2GiB" })), "same");
        assert.equal(await vm.preview(withWeb()), "same");
        assert.match(profile.warnings.slice(said[0]).join(), /1 instance \(web1\) did not take the change/);
        assert.match(vm.warnings.slice(said[1]).join(), /limits.memory: 1GiB to 2GiB.*restart it, or set allowRestart: true/);
      }
      const before = two.lab.lifecycle.length;
      assert.equal(await vm.up(withWeb({ description: "another change is still made" })), "updated");
      assert.equal(starts(before), 0);
      assert.deepEqual((state()["runsWith"] as { config: object }).config, { "limits.memory": "1GiB" });
      await byHand("PUT", "/1.0/instances/web1/state", { action: "restart", timeout: 30 });
      const said = [profile.warnings.length, vm.warnings.length];
      assert.equal(await profile.up(web({ "limits.memory": "2GiB" })), "same");
      await vm.up(withWeb());
      assert.deepEqual([profile.warnings.length, vm.warnings.length], said);
      assert.equal(state()["runsWith"], undefined);
    });

    it("is not stopped for the change when it is ephemeral: LXD would delete it, which the preview says", async () => {
      await vm.up(withWeb({ allowRestart: true }));
      await upOfProfile({ "limits.memory": "2GiB" });
      await profile.up(web({ "limits.memory": "2GiB" }));
      const instance = () => two.lab.host("bcn2").daemon?.database.instance("default", "web1");
      Object.assign(instance() ?? {}, { ephemeral: true });
      const before = two.lab.requests.length;
      await vm.preview(withWeb({ allowRestart: true }));
      assert.match(vm.warnings.join(), /pulumi up will refuse this\..*ephemeral: it is ephemeral, so it is deleted/);
      await assert.rejects(vm.up(withWeb({ allowRestart: true })), /ephemeral: it is ephemeral, so it is deleted with its disk/);
      assert.deepEqual([two.lab.mutations(before), instance()?.status], [[], "Running"]);
    });

    it("is not restarted when the change is undone before", async () => {
      await vm.up(withWeb({ allowRestart: true }));
      const before = two.lab.lifecycle.length;
      await upOfProfile({ "limits.memory": "2GiB" });
      await vm.preview(withWeb({ allowRestart: true }));
      await profile.up(web({ "limits.memory": "1GiB" }));
      assert.equal(profile.inState("waiting"), undefined);
      await vm.up(withWeb({ allowRestart: true }), { refresh: false });
      assert.equal(starts(before), 0);
      assert.equal(await vm.preview(withWeb({ allowRestart: true })), "same");
    });

    it("is named, with the obstacle, before the profile is changed", async () => {
      await vm.up(withWeb());
      const before = two.lab.requests.length;
      assert.equal(await profile.preview(web({ "limits.memory": "2GiB", "user.x": "taken by all" })), "updated");
      assert.match(
        profile.warnings.join(),
        /The change of profile "web" reaches 1 instance \(web1\) only at the next start.*limits.memory: 1GiB to 2GiB/,
      );
      assert.deepEqual(two.lab.mutations(before), []);
    });

    it("is reported when LXD accepts the change silently, and applies it only at the next start", async () => {
      await vm.up(withWeb());
      assert.equal(await profile.up(web({ "limits.memory": "1GiB", "security.secureboot": false })), "updated");
      assert.match(profile.warnings.at(-1) ?? "", /1 instance \(web1\) did not take the change/);
      assert.equal(await profile.preview(web({ "limits.memory": "1GiB", "security.secureboot": false })), "same");
      assert.equal(await vm.preview(withWeb()), "same");
      assert.match(vm.warnings.at(-1) ?? "", /security.secureboot: unset to false/);
    });

    it("is still mentioned when the answer to the change was lost", async () => {
      await vm.up(withWeb());
      two.lab.faults.add({ when: { method: "PUT", path: /profiles\/web/, nth: 1 }, effect: "drop-after" });
      assert.match(await upOfProfile({ "limits.memory": "2GiB" }), /broke during PUT/);
      assert.equal(await profile.up(web({ "limits.memory": "2GiB" })), "updated");
      await profile.preview(web({ "limits.memory": "2GiB" }));
      assert.match(profile.warnings.at(-1) ?? "", /1 instance \(web1\) did not take the change/);
    });

    it("has the change when others were only creating or removing it meanwhile", async () => {
      await vm.up(withWeb());
      const answer =
        'The following instances failed to update (profile change still saved):\n - Project: default, Instance: web1: Instance is busy running a "delete" operation\n';
      two.lab.faults.add({
        when: { method: "PUT", path: /profiles\/web/, nth: 1 },
        effect: {
          answer: (response) => {
            two.lab.host("bcn2").daemon?.database.instances.clear();
            response.writeHead(500, { "content-type": "application/json" });
            response.end(JSON.stringify({ type: "error", error: answer, error_code: 500, metadata: null }));
          },
        },
      });
      assert.equal(await upOfProfile({ "limits.memory": "1GiB", "user.x": "1" }), "updated");
      assert.equal(profile.inState("waiting"), undefined);
    });

    it("waits for operations of others on it before the profile is changed", async () => {
      await vm.up(withWeb());
      const daemon = two.lab.host("bcn1").daemon;
      let finish: () => void = () => undefined;
      daemon?.operate(
        { description: "Restarting instance", resources: { instances: ["/1.0/instances/web1"] } },
        () => new Promise<void>((resolve) => (finish = resolve)),
      );
      let puts = -1; // not checked yet
      two.lab.faults.add({
        when: { method: "GET", path: /operations\?/, nth: 2 },
        effect: {
          answer: (response, real) => {
            puts = two.lab.requests.filter(({ method, path }) => method === "PUT" && path.includes("profiles/web")).length;
            finish();
            response.end(real);
          },
        },
      });
      const before = two.lab.requests.filter(({ method, path }) => method === "PUT" && path.includes("profiles/web")).length;
      assert.equal(await upOfProfile({ "limits.memory": "1GiB", "user.x": "1" }), "updated");
      assert.equal(puts, before);
    });

    it("names those of other members, too, which LXD did not notify of a change that one refused", async () => {
      await vm.up(withWeb({ instanceType: "container", image: { alias: "container-image" } }));
      const other = manage("web2");
      await other.up(withWeb({ name: "web2", target: "bcn2", instanceType: "container", image: { alias: "container-image" } }));
      const nic = { type: "nic", nictype: "bridged", parent: "nope" };
      await assert.rejects(
        profile.up(web({ "limits.memory": "1GiB" }, { devices: { eth7: nic } })),
        /2 instances \(web1, web2\) did not take/,
      );
    });
  });

  describe("while LXD fails briefly, is created in the same up", () => {
    const FAILURES: FaultEffect[] = ["daemon-restart", { status: 500, error: "websocket: bad handshake" }];
    const conditions = [
      ["a command", { for: "command", command: ["true"] }],
      ["cloud-init", { for: "cloud-init" }],
      ["its agent", { for: "agent" }],
      ["an address", { for: "ipv4", nic: "eth0" }],
    ] as const;
    for (const effect of FAILURES) {
      const what = typeof effect === "string" ? effect : JSON.stringify(effect);
      for (const [title, condition] of conditions) {
        it(`when ${title} is waited for: ${what}`, async () => {
          const path =
            condition.for === "command" || condition.for === "cloud-init" ? /web1\/exec/ : /instances\/web1(\/state)?\?.*/;
          const fault = two.lab.faults.add({ when: { path, nth: 1 }, effect });
          assert.equal(await vm.up(args({ waitFor: [condition] })), "created");
          assert.equal(fault.hits, 1);
        });
      }
    }

    it("when its daemon restarts during the start, and during the stop for a change", async () => {
      two.lab.faults.add({ when: { method: "PUT", path: /web1\/state/, nth: 1 }, effect: "daemon-restart" });
      assert.equal(await vm.up(args({ memory: "1GiB" })), "created");
      two.lab.faults.add({ when: { method: "PUT", path: /web1\/state/, nth: 1 }, effect: "daemon-restart" });
      assert.equal(await vm.up(args({ memory: "2GiB", allowRestart: true })), "updated");
      assert.equal((await live()).status, "Running");
    });
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

    it("reports what it waited for at the deadline", async () => {
      await vm.up(args());
      two.lab.faults.add({ when: { method: "PUT", path: onInstance }, effect: { failOperation: STOPPING } });
      await assert.rejects(
        vm.up(args({ description: "new", timeouts: { update: 4 } })),
        /did not finish within 4 s; at the end: instance "web1" is not free for it: LXD on \S+ says: .*busy running a "stop" operation/,
      );
    });
  });

  it("moves to another member if it may be stopped, and keeps its NICs' MAC addresses", async () => {
    await vm.up(args());
    const mac = (await live()).config["volatile.eth0.hwaddr"];
    await assert.rejects(vm.up(args({ target: "bcn2" })), /target: bcn1 to bcn2; a running instance is not moved/);
    await vm.up(args({ target: "bcn2", allowRestart: true }));
    assert.equal((await live()).location, "bcn2");
    assert.equal((await live()).config["volatile.eth0.hwaddr"], mac);
    assert.equal(await vm.up(args({ target: "bcn2", allowRestart: true })), "same");
    assert.equal(await vm.up(args({ target: "@default" })), "same");
  });

  describe("waits for a member that its peers do not find yet", () => {
    const notFound = { status: 500, error: "Missing event connection with target cluster member" };

    it("when it is created there", async () => {
      const fault = two.lab.faults.add({ when: { method: "POST", path: /^\/1\.0\/instances\?/, nth: 1 }, effect: notFound });
      assert.equal(await vm.up(args()), "created");
      assert.deepEqual([fault.hits, (await live()).location], [1, "bcn1"]);
    });

    it("when it is created there and the creation began all the same", async () => {
      const unclear = JSON.stringify({ type: "error", error_code: 500, error: "EOF", metadata: null });
      const answer: FaultEffect = {
        answer: (response) => {
          response.writeHead(500).end(unclear);
        },
      };
      const fault = two.lab.faults.add({ when: { method: "POST", path: /^\/1\.0\/instances\?/, nth: 1 }, effect: answer });
      const before = two.lab.requests.length;
      assert.equal(await vm.up(args()), "created");
      assert.deepEqual([fault.hits, requestsOf(before, /^POST /)], [1, ["POST /1.0/instances"]]);
    });

    it("when it is moved there", async () => {
      await vm.up(args());
      const fault = two.lab.faults.add({
        when: { method: "POST", path: /^\/1\.0\/instances\/web1\?/, nth: 1 },
        effect: notFound,
      });
      assert.equal(await vm.up(args({ target: "bcn2", allowRestart: true })), "updated");
      assert.deepEqual([fault.hits, (await live()).location], [1, "bcn2"]);
    });
  });

  it("overrides the inherited root disk, and removes the override again", async () => {
    const container = { instanceType: "container", image: { alias: "container-image" } };
    await vm.up(args({ ...container, rootDisk: { size: "20GiB" } }));
    assert.deepEqual((await live()).devices, { root: { type: "disk", path: "/", pool: "default", size: "20GiB" } });
    assert.equal(await vm.up(args({ ...container, rootDisk: { size: "20480MiB" } })), "same");
    assert.equal(await vm.up(args(container)), "updated");
    assert.deepEqual((await live()).devices, {});
  });

  it("keeps an instance in state whose wait fails, names what it waited for, and finishes it with the next up", async () => {
    const failing = args({ waitFor: [{ for: "command", command: ["false"] }], timeouts: { create: 5, update: 60 } });
    await assert.rejects(
      vm.up(failing),
      /Instance "web1" exists \(Running\), but is not finished: .* waiting for false to succeed.*The next pulumi up continues/,
    );
    assert.match(String(state()["unfinished"]), /not finished/);
    const before = two.lab.requests.length;
    assert.equal(await vm.up(args({ timeouts: { update: 60 } })), "updated");
    assert.deepEqual(requestsOf(before, /^(POST|DELETE) /), []);
    assert.equal(state()["unfinished"], undefined);
  });

  it("does not report cloud-init as done that never found LXD, if there is user data to find", async () => {
    const waiting = { waitFor: [{ for: "cloud-init" }], cloudInit: { networkConfig: "version: 2\n" } };
    const deaf = { config: { "security.devlxd": "false" } };
    await assert.rejects(
      vm.up(args({ ...waiting, ...deaf })),
      /is not finished: cloud-init of instance "web1" did not find its data .*nothing of cloud-init\.network-config is in effect.*lxc restart web1\)/,
    );
    await assert.rejects(vm.up(args(waiting)), /did not find its data/); // as long as it is not rebooted
    for (const action of ["stop", "start"]) {
      await (await two.byHand()).change("PUT", "/1.0/instances/web1/state", { body: { action, force: true, timeout: 5 } });
    }
    assert.equal(await vm.up(args(waiting)), "updated");
    assert.equal(state()["unfinished"], undefined);
    assert.equal(await vm.up(args({ ...waiting, cloudInit: undefined })), "updated");
  });

  it("continues with its own instance when the answer to the creation is lost", async () => {
    two.lab.faults.add({ when: { method: "POST", path: /^\/1\.0\/instances\?/, nth: 1 }, effect: "drop-after" });
    const before = two.lab.requests.length;
    assert.equal(await vm.up(args()), "created");
    assert.deepEqual(requestsOf(before, /^POST /), ["POST /1.0/instances"]);
    assert.equal((await live()).status, "Running");
  });

  it("continues with its own instance when an earlier create was killed", async () => {
    await assert.rejects(new Managed(killedAtTheEnd(vmLifecycle) as never, "web1").up(args()), /killed/);
    const again = manage("web1");
    assert.equal(await again.up(args()), "created");
    assert.equal(again.progress.at(-1), "waiting for an IPv4 address on eth0");
  });

  it("refuses an instance that others created, and adopts it on request", async () => {
    await manage("other").up(args());
    await assert.rejects(vm.up(args()), /already exists.*belongs to the Pulumi resource "other".*adopt: true/);
    assert.equal(await vm.up(args({ adopt: true, description: "mine" })), "created");
    assert.match((await live()).config["user.pulumi.urn"] ?? "", /::web1 \[/);
    await assert.rejects(
      manage("third").up(args({ adopt: true, instanceType: "container", image: { alias: "container-image" } })),
      /is a virtual-machine, but instanceType is container/,
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
    it(`refuses ${title} that does not exist, before anything is created`, async () => {
      const before = two.lab.requests.length;
      await assert.rejects(vm.up(args(more)), ({ message: text }: Error) => message.test(text) || assert.fail(text));
      assert.deepEqual(two.lab.mutations(before), []);
      assert.equal(vm.state, undefined);
    });
  }

  it("refuses an image of the other type", async () => {
    await assert.rejects(
      vm.up(args({ image: { alias: "container-image" } })),
      /is an image for a container, and instanceType is "virtual-machine"/,
    );
  });

  it("reads an instance with one request, and reports one that is gone", async () => {
    await vm.up(args());
    const before = two.lab.requests.length;
    await vm.preview(args());
    assert.deepEqual(requestsOf(before, /instances/), ["GET /1.0/instances/web1"]);
    await stopByHand();
    await (await two.byHand()).change("DELETE", "/1.0/instances/web1");
    assert.equal(await vm.preview(args()), "created");
  });

  it("reports an instance on a member without power as unreadable, never as gone or changed", async () => {
    await vm.up(args());
    await two.lab.host("bcn1").powerOff();
    await assert.rejects(vm.preview(args()), /Instance "web1" cannot be read: it is on cluster member "bcn1", which is Offline/);
    await assert.rejects(manage("web2").up(args({ name: "web2" })), /^Error: target: cluster member "bcn1" is Offline/);
  });

  it("is created on a member without a recent heartbeat that answers", async () => {
    two.lab.host("bcn1").daemon?.delayHeartbeat(700);
    assert.equal(await vm.up(args()), "created");
    assert.equal((await live()).location, "bcn1");
  });

  it("keeps an evacuated instance in place, and reports its former member", async () => {
    await vm.up(args());
    await byHand("POST", "/1.0/cluster/members/bcn1/state", { action: "evacuate" });
    assert.equal(await vm.preview(args()), "same");
    assert.equal(state()["evacuatedFrom"], "bcn1");
    assert.equal(state()["location"], "bcn2");
  });

  it("is removed: stopped first; a missing one counts as removed", async () => {
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
    assert.deepEqual(vm.progress.slice(-3), ["stopping (waiting up to 30 s)", "stopping by force", "deleting"]);
  });

  it("is stopped by force in time if its guest's shutdown timeout is longer than that of the removal", async () => {
    await vm.up(args({ config: { "boot.host_shutdown_timeout": "600" }, timeouts: { delete: 20 } }));
    two.lab.faults.add({
      when: { method: "PUT", path: /\/web1\/state/, nth: 1 },
      effect: { failOperation: 'Failed shutting down instance, status is "Running": context deadline exceeded' },
    });
    await vm.destroy();
    assert.deepEqual(vm.progress.slice(-3), ["stopping (waiting up to 10 s)", "stopping by force", "deleting"]);
  });

  it("does not count as removed when LXD is restarted between its answer and the end of the removal", async () => {
    await vm.up(args());
    two.lab.faults.add({ when: { method: "DELETE", path: /\/1\.0\/instances\/web1/, nth: 1 }, effect: "lose-operation" });
    await vm.destroy();
    assert.deepEqual(two.lab.lifecycle.at(-1)?.action, "instance-deleted");
    assert.equal(vm.state, undefined);
  });

  it("stays in state when LXD loses each attempt to remove it", async () => {
    await vm.up(args());
    two.lab.faults.add({ when: { method: "DELETE", path: /\/1\.0\/instances\/web1/ }, effect: "lose-operation" });
    await assert.rejects(vm.destroy(), /no longer knows its operation "Deleting instance"/);
    assert.notEqual(vm.state, undefined);
    assert.equal((await live()).status, "Stopped");
  });

  it("is recreated when its creation may be incomplete, and never one that others created", async () => {
    two.lab.faults.add({ when: { path: /^\/1\.0\/operations\/.*\/wait/, nth: 1 }, effect: "forget-operation" });
    assert.equal(await vm.up(args()), "created");
    const made = two.lab.lifecycle.map(({ action }) => action).filter((action) => /^instance-(created|deleted)$/.test(action));
    assert.deepEqual(made, ["instance-created", "instance-deleted", "instance-created"]);
    assert.ok(vm.progress.includes("removing what an interrupted creation has left"));
    assert.equal((await live()).status, "Running");
  });

  it("waits for its creation through another connection when its own drops, and does not report its failure as success", async () => {
    two.lab.faults.add({ when: { path: /^\/1\.0\/operations\/.*\/wait/, nth: 1 }, effect: "drop-before" });
    two.lab.faults.add({
      when: { method: "POST", path: /^\/1\.0\/instances\?/, nth: 1 },
      effect: { failOperation: "No space left" },
    });
    await assert.rejects(vm.up(args()), /"Creating instance" failed: No space left/);
  });

  it("keeps the known outputs in state when the connection drops during its creation", async () => {
    two.lab.faults.add({ when: { method: "PUT", path: /\/web1\/state/, nth: 1 }, effect: "drop-before" });
    await assert.rejects(vm.up(args()), /Instance "web1" exists \(Stopped\), but is not finished: .* broke during PUT/);
    assert.equal(state()["location"], "bcn1");
    assert.match(JSON.stringify(state()["macAddresses"]), /eth0.*(\w\w:){5}/);
  });

  it("keeps the former outputs in state when nothing can be read after a failed change", async () => {
    await vm.up(args());
    const known = state()["macAddresses"];
    await stopByHand();
    two.lab.faults.add({ when: { method: "PUT", path: /\/web1\/state/, nth: 1 }, effect: { status: 500, error: "no" } });
    two.lab.faults.add({
      when: { method: "GET", path: /\/web1\?project=default&recursion=1/ },
      effect: { status: 403, error: "no" },
    });
    await assert.rejects(vm.up(args({ description: "new" })));
    assert.deepEqual(state()["macAddresses"], known);
  });

  it("does not force a stop for a change, unless allowRestart permits it", async () => {
    await vm.up(args({ memory: "1GiB" }));
    const refuseToStop = () =>
      two.lab.faults.add({
        when: { method: "PUT", path: /\/web1\/state/, nth: 1 },
        effect: { failOperation: "Failed shutting down" },
      });
    refuseToStop();
    await assert.rejects(
      vm.up(args({ memory: "2GiB", allowRestart: true })),
      /did not stop cleanly .* it still runs and nothing was changed/,
    );
    assert.equal((await live()).status, "Running");
    two.lab.faults.clear();
    refuseToStop();
    await vm.up(args({ memory: "2GiB", allowRestart: "force" }));
    assert.equal((await live()).config["limits.memory"], "2GiB");
  });

  it("refuses to remove a protected instance, and leaves it running", async () => {
    await vm.up(args({ config: { "security.protection.delete": true } }));
    await assert.rejects(vm.destroy(), /protected from deletion \(security\.protection\.delete\)/);
    assert.equal((await live()).status, "Running");
  });
});

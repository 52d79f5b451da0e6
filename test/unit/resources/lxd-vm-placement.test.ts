import assert from "node:assert/strict";
import * as z from "zod";
import type { Flavour } from "../../../lab/simulated/lxd/flavours";
import type { Context } from "../../../provider/engine/lifecycle";
import type { LxdClient } from "../../../provider/lxd/client/client";
import { vmLifecycle, vmSchema } from "../../../provider/resources/lxd-vm";
import { Deadline } from "../../../provider/support/deadline";
import { messageOf } from "../../../provider/support/errors";
import { killedAtTheEnd, Managed, type SimulatedCluster, startMembers, startStandalone } from "./simulated-cluster";

const GIB = 2 ** 30;
const anyObject = z.looseObject({
  roles: z.unknown(),
  description: z.unknown(),
  config: z.unknown(),
  groups: z.unknown(),
  failure_domain: z.unknown(),
});

describe("LxdVm with placement", () => {
  let three: SimulatedCluster;
  let lxd: LxdClient;
  let explained: string[];

  const start = async (flavour: Flavour = "trixie-incus7"): Promise<void> => {
    three = await startMembers({ bcn2: {}, bcn1: {}, bcn3: {} }, { flavour });
    lxd = await three.byHand();
    three.lab.seedImage("bcn2", { alias: "debian" });
    for (const [path, body] of [
      ["/1.0/storage-pools", { name: "default", driver: "dir" }],
      ["/1.0/networks", { name: "lxdbr0", type: "bridge" }],
    ] as const) {
      for (const query of ["?target=bcn2", "?target=bcn1", "?target=bcn3", ""]) {
        await lxd.change("POST", `${path}${query}`, { body });
      }
    }
    const devices = {
      root: { type: "disk", path: "/", pool: "default" },
      eth0: { type: "nic", network: "lxdbr0", name: "eth0" },
    };
    await lxd.change("PUT", "/1.0/profiles/default", { body: { description: "", config: {}, devices } });
    explained = [];
  };
  const argsOf = (name: string, more: object = {}) => ({
    cluster: three.cluster,
    name,
    instanceType: "container",
    image: { alias: "debian" },
    placement: {},
    ...more,
  });
  const contextOf = (name: string, seconds = 60): Context => {
    const deadline = new Deadline(seconds, "the test");
    return {
      deadline,
      urn: `urn:${name}`,
      formerUrn: `urn:${name}`,
      claim: undefined,
      mark: `urn:${name}`,
      progress: (text) => void explained.push(text),
      warn: (text) => assert.fail(text),
      host: () => assert.fail("no host is needed"),
      lxd: () => Promise.resolve(lxd.within(deadline)),
    };
  };
  /** Creates an instance in this operation of the engine. */
  const create = async (name: string, more: object = {}): Promise<string> =>
    (await vmLifecycle.create(contextOf(name), vmSchema.parse(argsOf(name, more)))).outputs.location;
  const createAll = (count: number, more: (index: number) => object): Promise<string[]> =>
    Promise.all(Array.from({ length: count }, (_, index) => create(`web${index}`, more(index))));
  const countsOf = (locations: readonly string[]): Record<string, number> =>
    Object.fromEntries(["bcn1", "bcn2", "bcn3"].map((name) => [name, locations.filter((each) => each === name).length]));
  const change = (method: "PUT" | "POST" | "PATCH", path: string, body: object) => lxd.change(method, path, { body });
  const changeMember = async (name: string, more: object): Promise<void> => {
    await lxd.modify(`/1.0/cluster/members/${name}`, anyObject, ({ roles, description, config, groups, failure_domain }) => ({
      roles,
      description,
      config,
      groups,
      failure_domain,
      ...more,
    }));
  };
  const manage = (name: string) => new Managed(vmLifecycle, name);

  afterEach(async () => {
    const { defects } = three.lab;
    await three.stop();
    assert.deepEqual(defects, []);
  });

  it("spreads nine instances that are made at once over three members, by memory", async () => {
    await start();
    const locations = await createAll(9, () => ({ placement: { policy: "leastMemory" }, memory: "1GiB" }));
    assert.deepEqual(countsOf(locations), { bcn1: 3, bcn2: 3, bcn3: 3 });
  });

  it("fills the member with the least memory in use first", async () => {
    await start();
    three.lab.host("bcn3").usage.memoryBytes = 0.5 * GIB;
    three.lab.host("bcn2").usage.memoryBytes = 12 * GIB;
    const locations = await createAll(4, () => ({ placement: { policy: "leastMemory" }, memory: "1GiB" }));
    assert.deepEqual(countsOf(locations), { bcn1: 1, bcn2: 0, bcn3: 3 });
    assert.match(
      explained.join("\n"),
      /placing on bcn3 \(leastMemory: 0\.5 GiB of 16\.0 GiB memory in use; bcn1: 2\.0 GiB of 16\.0 GiB memory in use; bcn2: 12\.0 GiB/,
    );
  });

  it("takes the member with the least load", async () => {
    await start();
    three.lab.host("bcn1").usage.load = 3;
    three.lab.host("bcn2").usage.load = 2;
    assert.equal(await create("web1", { placement: { policy: "leastCpu" } }), "bcn3");
  });

  it("reads the state of the members once for all instances", async () => {
    await start();
    const since = three.lab.requests.length;
    await createAll(9, () => ({ placement: { policy: "leastCpu" } }));
    await create("late", { placement: { policy: "leastMemory" } });
    const asked = three.lab.requests.slice(since).map(({ path }) => path);
    const count = (pattern: RegExp): number => asked.filter((path) => pattern.test(path)).length;
    assert.equal(count(/\/cluster\/members\/bcn\d\/state/), 3);
    assert.equal(count(/\/1\.0\/resources\?/), 3);
    assert.equal(count(/\/1\.0\/instances\?all-projects/), 1);
    assert.equal(count(/\/storage-pools\/default\/resources/), 3);
    assert.equal(count(/\/storage-pools\/default\?target/), 3);
    assert.equal(count(/\/networks\/lxdbr0\?.*target/), 3);
  });

  it("keeps instances apart that are made at once, and refuses one too many", async () => {
    await start();
    const apart = { placement: { antiAffinity: "db" }, config: { "user.placement": "db" } };
    const locations = await createAll(3, () => apart);
    assert.deepEqual(countsOf(locations), { bcn1: 1, bcn2: 1, bcn3: 1 });
    await assert.rejects(create("web3", apart), (error: unknown) => {
      const text = messageOf(error);
      assert.match(
        text,
        /^placement: no member of the cluster at .* can take instance "web3": bcn1 has an instance with label "db": web\d/,
      );
      assert.match(text, /bcn2 has .*; bcn3 has .*Change placement/);
      return true;
    });
  });

  it("sees the instances that the same operation makes with a target, and not those that it removes", async () => {
    await start();
    const apart = { placement: { antiAffinity: "db" }, config: { "user.placement": "db" } };
    assert.equal(await create("first", apart), "bcn1");
    assert.equal(await create("second", { placement: undefined, target: "bcn2", config: { "user.placement": "db" } }), "bcn2");
    assert.equal(await create("third", apart), "bcn3");
    const state = { ...vmSchema.parse(argsOf("first")), ...(await outputsOf("first")) };
    await vmLifecycle.delete(contextOf("first"), "default/first", state);
    assert.equal(await create("fourth", apart), "bcn1");
  });

  const outputsOf = async (name: string) => {
    const state = { ...vmSchema.parse(argsOf(name)), expandedConfig: {}, expandedDevices: {} } as never;
    const seen = await vmLifecycle.read(contextOf(name), `default/${name}`, state);
    assert.ok(seen);
    return seen.outputs;
  };

  it("takes labels from profiles, and follows an affinity", async () => {
    await start();
    await change("POST", "/1.0/profiles", { name: "db", description: "", config: { "user.placement": "db,ssd" }, devices: {} });
    assert.equal(await create("db1", { placement: undefined, target: "bcn3", profiles: ["default", "db"] }), "bcn3");
    assert.equal(await create("app1", { placement: { affinity: "db" } }), "bcn3");
    assert.equal(await create("app2", { placement: { affinity: "ssd" } }), "bcn3");
  });

  it("gives its member back when the creation fails", async () => {
    await start();
    three.lab.faults.add({
      when: { method: "POST", path: /^\/1\.0\/instances\?/, nth: 1 },
      effect: { failOperation: "no space left" },
    });
    const placement = { policy: "roundRobin" };
    await assert.rejects(create("web1", { placement }), /no space left/);
    assert.equal(await create("web2", { placement }), "bcn1");
    assert.equal(await create("web3", { placement }), "bcn2");
  });

  it("spreads over failure domains", async () => {
    await start();
    for (const [name, domain] of [
      ["bcn1", "rack1"],
      ["bcn2", "rack1"],
      ["bcn3", "rack2"],
    ] as const) {
      await changeMember(name, { failure_domain: domain });
    }
    const locations = await createAll(4, () => ({ placement: { spreadFailureDomains: true } }));
    assert.deepEqual(countsOf(locations), { bcn1: 1, bcn2: 1, bcn3: 2 });
  });

  it("leaves out members that take no instances, each with its reason", async () => {
    await start();
    await changeMember("bcn1", { config: { "scheduler.instance": "manual" } });
    await changeMember("bcn2", { config: { "scheduler.instance": "group" } });
    await lxd.change("POST", "/1.0/cluster/members/bcn3/state", { body: { action: "evacuate" } });
    await assert.rejects(create("web1"), (error: unknown) => {
      assert.match(
        messageOf(error),
        /bcn1 takes only .*manual\); bcn2 takes only .*group\); bcn3 is Evacuated\. Change placement/,
      );
      return true;
    });
    await lxd.change("POST", "/1.0/cluster/members/bcn3/state", { body: { action: "restore" } });
    assert.equal(await create("web1"), "bcn3");
  });

  it("chooses among the members of the group that is the target", async () => {
    await start();
    await change("POST", "/1.0/cluster/groups", { name: "big", description: "", members: ["bcn2", "bcn3"] });
    await changeMember("bcn3", { config: { "scheduler.instance": "group" }, groups: ["big"] });
    const locations = await createAll(4, () => ({ target: "@big" }));
    assert.deepEqual(countsOf(locations), { bcn1: 0, bcn2: 2, bcn3: 2 });
  });

  it("leaves out members outside the groups of a restricted project", async () => {
    await start();
    await change("POST", "/1.0/cluster/groups", { name: "big", description: "", members: ["bcn3"] });
    const config = {
      restricted: "true",
      "restricted.cluster.groups": "big",
      "features.images": "false",
      "features.profiles": "false",
    };
    await change("POST", "/1.0/projects", { name: "shop", description: "", config });
    assert.equal(await create("web1", { project: "shop" }), "bcn3");
  });

  it("leaves out a member without room for the root disk", async () => {
    await start();
    three.lab.host("bcn1").usage.diskBytes = 25 * GIB;
    three.lab.host("bcn2").usage.diskBytes = 15 * GIB;
    const locations = await createAll(3, () => ({ rootDisk: { size: "10GiB" }, placement: { policy: "roundRobin" } }));
    assert.deepEqual(countsOf(locations), { bcn1: 0, bcn2: 1, bcn3: 2 });
    assert.match(explained.join("\n"), /left out: bcn1 has no room: 5\.0 GiB are free in storage pool "default"/);
  });

  it("leaves out members without an interface or network that the instance needs", async () => {
    await start();
    three.lab.host("bcn3").interfaces.set("br9", { type: "bridge", hwaddr: "00:16:3e:00:00:01", addresses: [] });
    const devices = { eth1: { type: "nic", nictype: "bridged", parent: "br9" } };
    assert.equal(await create("web1", { devices }), "bcn3");
    assert.match(explained.join("\n"), /left out: bcn1 lacks what device eth1 needs: "br9" does not exist there; bcn2 lacks/);
    three.lab.host("bcn2").interfaces.set("br9", { type: "bridge", hwaddr: "00:16:3e:00:00:02", addresses: [] });
    assert.equal(await create("web2", { devices }), "bcn2", "what is missing is asked for again");
  });

  it("leaves out members with another architecture than the image's", async () => {
    await start();
    const image = [...(three.lab.host("bcn2").daemon?.database.images.values() ?? [])][0];
    assert.ok(image);
    image.architecture = "aarch64";
    await assert.rejects(create("web1"), /bcn1 cannot run the image: it is for aarch64, and the member runs x86_64, i686; bcn2/);
  });

  it("leaves out members without virtual machines for one", async () => {
    await start();
    Object.assign(three.lab.host("bcn1"), { virtualMachines: false });
    three.lab.seedImage("bcn2", { alias: "vm-image", type: "virtual-machine" });
    assert.equal(await create("web1", { instanceType: "virtual-machine", image: { alias: "vm-image" } }), "bcn2");
    assert.equal(await create("web2"), "bcn1");
  });

  it("does not choose a member that is Offline, and lists it", async () => {
    await start();
    await three.lab.host("bcn1").powerOff();
    assert.equal(await create("web1"), "bcn2");
    assert.match(explained.join("\n"), /left out: bcn1 is Offline/);
  });

  it("leaves out a member that does not answer", async () => {
    await start();
    const path = /\/cluster\/members\/bcn1\/state/;
    three.lab.faults.add({ when: { method: "GET", path }, effect: { status: 500, error: "it is upset" } });
    const { outputs } = await vmLifecycle.create(contextOf("web1", 4), vmSchema.parse(argsOf("web1")));
    assert.equal(outputs.location, "bcn2");
    assert.match(explained.join("\n"), /left out: bcn1 cannot be asked what it has: .*it is upset/);
  });

  it("waits for a member that fails only once", async () => {
    await start();
    const path = /\/cluster\/members\/bcn1\/state/;
    three.lab.faults.add({ when: { method: "GET", path, nth: 1 }, effect: { status: 500, error: "it is upset" } });
    assert.equal(await create("web1"), "bcn1");
  });

  it("needs a server that tells the state of its members, for memory and CPUs", async () => {
    await start("bookworm-lxd");
    await assert.rejects(
      create("web1", { placement: { policy: "leastMemory" } }),
      /needs the API extension cluster_member_state, which LXD on/,
    );
    const locations = await createAll(6, () => ({}));
    assert.deepEqual(countsOf(locations), { bcn1: 2, bcn2: 2, bcn3: 2 });
  });

  it("is explained in a preview, which sees the other previews of its operation", async () => {
    await start();
    const [first, second] = [manage("web1"), manage("web2")];
    await first.preview(argsOf("web1"));
    assert.match(
      first.notes.join("\n"),
      /^Instance "web1" would be placed on bcn1 \(leastInstances: 0 instances; bcn2: 0 instances; .*\)\. The choice/,
    );
    await second.preview(argsOf("web2"));
    assert.match(second.notes.join("\n"), /would be placed on bcn1/, "each is an operation of its own");
    assert.deepEqual([first.warnings, second.warnings], [[], []]);
    lxd = await three.byHand(); // the end of an operation has closed the connection
    const inputs = ["web1", "web2"].map((name) => vmSchema.parse(argsOf(name)));
    const [, note] = await Promise.all(
      inputs.map(async (each) => vmLifecycle.previewCreation?.(contextOf(each.name), each, false)),
    );
    assert.match(note?.join("\n") ?? "", /would be placed on bcn2/);
    assert.equal(await create("web3"), "bcn1", "a creation does not depend on what a preview has said");
  });

  it("announces in a preview what would be refused", async () => {
    await start("bookworm-lxd");
    const vm = manage("web1");
    await vm.preview(argsOf("web1", { placement: { policy: "leastCpu" } }));
    assert.match(
      vm.warnings.join("\n"),
      /^As the cluster is now, pulumi up will refuse this\. placement\.policy: "leastCpu" needs/,
    );
  });

  it("stays where it is when the load or the placement changes", async () => {
    await start();
    const vm = manage("web1");
    assert.equal(await vm.up(argsOf("web1")), "created");
    const { state } = vm as { state: Record<string, unknown> | undefined };
    assert.equal(state?.["location"], "bcn1");
    three.lab.seedInstances(9, { host: "bcn2", prefix: "other", type: "container" });
    three.lab.host("bcn1").usage.memoryBytes = 15 * GIB;
    assert.equal(await vm.up(argsOf("web1")), "same");
    assert.equal(await vm.up(argsOf("web1", { placement: { policy: "leastMemory" } })), "same");
    assert.match(vm.warnings.join("\n"), /stays on its member: placement decides only where it is created/);
    assert.equal(vm.inState("location"), "bcn1");
  });

  it("moves with a target in place of placement, and stays with placement in place of a target", async () => {
    await start();
    const vm = manage("web1");
    await vm.up(argsOf("web1"));
    assert.equal(await vm.up(argsOf("web1", { placement: undefined, target: "bcn3", allowRestart: true })), "updated");
    assert.equal(vm.inState("location"), "bcn3");
    await vm.up(argsOf("web1"));
    assert.equal(vm.inState("location"), "bcn3");
  });

  it("is decided again for a replacement, as its preview says", async () => {
    await start();
    const vm = manage("web1");
    await vm.up(argsOf("web1", { placement: { antiAffinity: "web" }, config: { "user.placement": "web" } }));
    three.lab.seedImage("bcn2", { alias: "newer" });
    const args = argsOf("web1", {
      placement: { antiAffinity: "web" },
      config: { "user.placement": "web" },
      image: { alias: "newer" },
    });
    lxd = await three.byHand();
    const foresee = (isReplacement: boolean) =>
      vmLifecycle.previewCreation?.(contextOf("web1"), vmSchema.parse(args), isReplacement);
    assert.match((await foresee(true))?.join("\n") ?? "", /would be placed on bcn1/);
    assert.deepEqual(await foresee(false), [], "an instance that is there keeps its place");
    assert.equal(await vm.up(args), "replaced");
    assert.equal(vm.inState("location"), "bcn1");
  });

  it("keeps the place of an instance whose creation was interrupted", async () => {
    await start();
    const killed = new Managed(killedAtTheEnd(vmLifecycle), "web1");
    await assert.rejects(killed.up(argsOf("web1")), /killed/);
    three.lab.seedInstances(9, { host: "bcn2", prefix: "other", type: "container" });
    const vm = manage("web1");
    await vm.up(argsOf("web1", { placement: { policy: "roundRobin" } }));
    assert.equal(vm.inState("location"), "bcn1");
  });

  it("is refused with a member as target", async () => {
    await start();
    const faults = await manage("web1").faults(argsOf("web1", { target: "bcn1" }));
    assert.deepEqual(faults, [
      'placement cannot be given together with a member as target ("bcn1"): leave out one of them, or give a group (@group) as target',
    ]);
  });

  it("is refused for a standalone server", async () => {
    three = await startStandalone();
    lxd = await three.byHand();
    three.lab.seedImage("bcn2", { alias: "debian" });
    await lxd.change("POST", "/1.0/storage-pools", { body: { name: "default", driver: "dir" } });
    const devices = { root: { type: "disk", path: "/", pool: "default" } };
    await lxd.change("PUT", "/1.0/profiles/default", { body: { description: "", config: {}, devices } });
    explained = [];
    await assert.rejects(
      create("web1"),
      /^RefusedError: placement: .* is not in a cluster, so there are no members to choose from/,
    );
  });
});

import assert from "node:assert/strict";
import { setTimeout } from "node:timers/promises";
import type { SimulatedHost } from "../../lab/simulated";
import { dynamicProvider } from "../../provider/engine/adapter";
import { getMember } from "../../provider/lxd/cluster/cluster";
import { clusterMemberLifecycle } from "../../provider/resources/lxd-cluster-member";
import { nodeLifecycle } from "../../provider/resources/lxd-node";
import { profileLifecycle } from "../../provider/resources/lxd-profile";
import { messageOf } from "../../provider/support/errors";
import { disconnectAll } from "../../provider/transport/pool";
import { Managed, type SimulatedCluster, startMembers } from "../unit/resources/simulated-cluster";

type Name = "bcn2" | "bcn1" | "bcn3";
const NAMES: readonly Name[] = ["bcn2", "bcn1", "bcn3"];
const [OLD, NEW] = ["5.0.2-5+deb12u6", "5.0.2-5+deb12u7"];

describe("The upgrade of the members of a cluster", () => {
  let cluster: SimulatedCluster;
  let nodes: Record<Name, Managed>;

  const host = (name: Name): SimulatedHost => cluster.lab.host(name);
  const soon = { timeouts: { update: 4, read: 4 } };
  const args = (name: Name, version?: string, more: object = soon): object => ({
    connection: host(name).connection,
    install: { method: "deb", ...(version !== undefined && { version }) },
    adopt: true,
    ...more,
  });
  const versions = (): string[] => NAMES.map((name) => host(name).packages.get("lxd") ?? "none");
  const release = (extensions: readonly string[] = []): void => {
    for (const name of NAMES) {
      host(name).releasePackage(NEW, extensions);
    }
  };
  const refusal = (name: Name, version: string): Promise<string> =>
    nodes[name].up(args(name, version)).then(
      () => assert.fail("it was not refused"),
      (thrown: unknown) => messageOf(thrown),
    );
  const pids = (): (number | undefined)[] => NAMES.map((name) => host(name).daemon?.pid);

  beforeEach(async () => {
    cluster = await startMembers({ bcn2: {}, bcn1: {}, bcn3: {} });
    nodes = { bcn2: manage("bcn2"), bcn1: manage("bcn1"), bcn3: manage("bcn3") };
    for (const name of NAMES) {
      await nodes[name].up(args(name));
    }
  });

  afterEach(async () => {
    assert.deepEqual([cluster.lab.defects, NAMES.flatMap((name) => host(name).unknownCommands)], [[], []]);
    await cluster.stop();
  });

  it("is shown in the preview, made once, and then changes nothing", async () => {
    release();
    assert.equal(await nodes.bcn2.preview(args("bcn2", NEW)), "updated");
    assert.deepEqual(versions(), [OLD, OLD, OLD]);
    assert.ok(
      nodes.bcn2.warnings.some((text) =>
        text.includes(
          `pulumi up will upgrade LXD on 127.0.0.1 from ${OLD} to ${NEW}. Its daemon restarts; instances keep running. The members are upgraded one ` +
            "after the other",
        ),
      ),
      nodes.bcn2.warnings.join("\n"),
    );
    assert.equal(await nodes.bcn2.up(args("bcn2", NEW)), "updated");
    assert.deepEqual(versions(), [NEW, OLD, OLD]);
    assert.equal(nodes.bcn2.inState("packageVersion"), NEW);
    assert.equal(await nodes.bcn2.up(args("bcn2", NEW)), "same");
  });

  it("happens on one member at a time", async () => {
    release();
    cluster.lab.timings.installMs = 100;
    const provider = dynamicProvider(nodeLifecycle, { progress: () => undefined, info: () => undefined, warn: () => undefined });
    const installing: string[] = [];
    let most = 0;
    for (const name of NAMES) {
      const take = host(name).takeInstallTime.bind(host(name));
      host(name).takeInstallTime = async () => {
        installing.push(name);
        most = Math.max(most, installing.length);
        await take();
        installing.splice(installing.indexOf(name), 1);
      };
    }
    await Promise.all(
      NAMES.map(async (name) => {
        const urn = `urn:pulumi:lab::tests::pulumi-nodejs:dynamic/lxd:LxdNode::${name}`;
        const { inputs } = await provider.check({}, { ...args(name, NEW), __urn: urn });
        await provider.update(name, nodes[name].state ?? {}, inputs);
      }),
    );
    await disconnectAll();
    assert.deepEqual([versions(), most], [[NEW, NEW, NEW], 1]);
  });

  it("is refused to an older version, in the preview too, before anything is touched", async () => {
    release();
    await nodes.bcn2.up(args("bcn2", NEW));
    const [before, words] = [pids(), /has the package lxd in version \S+u7, but install\.version is \S+u6, which is older/];
    await nodes.bcn2.preview(args("bcn2", OLD));
    assert.match(nodes.bcn2.warnings.at(-1) ?? "", words);
    assert.match(await refusal("bcn2", OLD), words);
    assert.deepEqual([versions(), pids()], [[NEW, OLD, OLD], before]);
  });

  it("does not start while a member is down, which is named, in the preview too", async () => {
    release();
    await host("bcn3").powerOff();
    const words = /from \S+u6 to \S+u7: member bcn3 is offline\. .*lxc cluster remove --force/;
    await nodes.bcn2.preview(args("bcn2", NEW));
    assert.match(nodes.bcn2.warnings.at(-1) ?? "", words);
    assert.match(await refusal("bcn2", NEW), words);
    assert.deepEqual(versions(), [OLD, OLD, OLD]);
    await host("bcn3").powerOn();
    assert.equal(await nodes.bcn2.up(args("bcn2", NEW)), "updated");
  });

  it("waits for a member that is offline and silent for a moment", async () => {
    release();
    await host("bcn3").powerOff();
    const upgrade = nodes.bcn2.up(args("bcn2", NEW));
    await setTimeout(500);
    assert.deepEqual(versions(), [OLD, OLD, OLD]);
    await host("bcn3").powerOn();
    assert.equal(await upgrade, "updated");
    assert.deepEqual(versions(), [NEW, OLD, OLD]);
  });

  it("does not start while a member is down that the others still show as online", async () => {
    release();
    cluster.lab.timings.missedMs = 1000;
    await host("bcn3").powerOff();
    assert.match(await refusal("bcn2", NEW), /member bcn3 is offline\. /);
    assert.deepEqual(versions(), [OLD, OLD, OLD]);
  });

  it("does not start while an evacuated member is switched off, in the preview too; one that answers does not matter", async () => {
    release();
    await cluster.lab.byHand("bcn2", "POST", "/1.0/cluster/members/bcn3/state", { action: "evacuate" });
    await host("bcn3").powerOff();
    const words = /from \S+u6 to \S+u7: member bcn3 is offline\. .*Start it/;
    await nodes.bcn2.preview(args("bcn2", NEW));
    assert.match(nodes.bcn2.warnings.at(-1) ?? "", words);
    assert.match(await refusal("bcn2", NEW), words);
    assert.deepEqual(versions(), [OLD, OLD, OLD]);
    await host("bcn3").powerOn();
    assert.equal((await getMember(await cluster.byHand(), "bcn3")).status, "Evacuated");
    assert.equal(await nodes.bcn2.up(args("bcn2", NEW)), "updated");
  });

  it("does not start while an evacuated member is down whose heartbeats the others do not miss yet", async () => {
    release();
    await cluster.lab.byHand("bcn2", "POST", "/1.0/cluster/members/bcn3/state", { action: "evacuate" });
    cluster.lab.timings.missedMs = 1000;
    await host("bcn3").powerOff();
    assert.match(await refusal("bcn2", NEW), /member bcn3 is offline\. /);
    assert.deepEqual(versions(), [OLD, OLD, OLD]);
  });

  it("is refused to a version that no package source has, with those that they have", async () => {
    assert.match(
      await refusal("bcn2", "5.0.3-1"),
      /have no version 5\.0\.3-1 of "lxd" \(install\.version\)\. They have 5\.0\.2-5\+deb12u6/,
    );
    assert.deepEqual(versions(), [OLD, OLD, OLD]);
  });

  it("holds the package while a version is pinned, and releases it with the pin or the node", async () => {
    release();
    const { heldPackages: held } = host("bcn2");
    for (const version of [OLD, NEW]) {
      assert.equal(await nodes.bcn2.up(args("bcn2", version)), "updated");
      assert.deepEqual([...held], ["lxd"]);
      assert.equal(await nodes.bcn2.up(args("bcn2", version)), "same");
    }
    const released = { ...args("bcn2"), install: { method: "deb", version: NEW, hold: false } };
    assert.equal(await nodes.bcn2.up(released), "updated");
    assert.deepEqual([...held], []);
    await nodes.bcn2.up(args("bcn2", NEW));
    assert.equal(await nodes.bcn2.up(args("bcn2")), "updated");
    assert.deepEqual([...held], []);
    held.add("lxd"); // by hand
    assert.equal(await nodes.bcn2.up(args("bcn2")), "same");
    await nodes.bcn2.up(args("bcn2", NEW));
    await nodes.bcn2.destroy();
    assert.deepEqual([...held], []);
  });

  it("keeps the hold when it fails", async () => {
    await nodes.bcn2.up(args("bcn2", OLD));
    release();
    host("bcn2").installPackage("ifupdown");
    host("bcn2").packageTrouble.conflicts["lxd"] = ["ifupdown"];
    assert.match(await refusal("bcn2", NEW), /apt would remove ifupdown/);
    assert.deepEqual([...host("bcn2").heldPackages], ["lxd"]);
  });

  describe("to a version with more API extensions", () => {
    it("leaves each one waiting until all have it, and the last one ends that", async () => {
      release(["of_the_future"]);
      await nodes.bcn2.up(args("bcn2", NEW));
      assert.match(
        nodes.bcn2.warnings.at(-1) ?? "",
        /LXD on \S+ was upgraded, and does not answer until the other members are upgraded too\. lxdVersion and apiExtensions are the former ones/,
      );
      assert.deepEqual([nodes.bcn2.inState("packageVersion"), host("bcn2").daemon?.ready], [NEW, false]);
      await nodes.bcn1.up(args("bcn1", NEW));
      assert.equal(host("bcn1").daemon?.ready, false);
      await nodes.bcn3.up(args("bcn3", NEW));
      assert.deepEqual(
        NAMES.map((name) => host(name).daemon?.ready),
        [true, true, true],
      );
      assert.ok((nodes.bcn3.inState("apiExtensions") as string[]).includes("of_the_future"));
      for (const name of NAMES) {
        assert.equal(await nodes[name].up(args(name, NEW)), "same");
      }
      assert.ok((nodes.bcn2.inState("apiExtensions") as string[]).includes("of_the_future"));
    });

    it("goes on after an interruption: a member that waits is read, and is not changed again", async () => {
      release(["of_the_future"]);
      host("bcn2").installPackage("lxd", NEW); // and the process was killed
      const { pid } = host("bcn2").daemon ?? {};
      assert.equal(await nodes.bcn2.up(args("bcn2", NEW)), "updated");
      assert.equal(await nodes.bcn2.up(args("bcn2", NEW)), "same");
      assert.equal(nodes.bcn2.inState("packageVersion"), NEW);
      assert.match(nodes.bcn2.warnings.at(-1) ?? "", /does not answer: .*or it waits until other members are upgraded/);
      assert.equal(host("bcn2").daemon?.pid, pid);
      await nodes.bcn1.up(args("bcn1", NEW));
      await nodes.bcn3.up(args("bcn3", NEW));
      assert.deepEqual(
        NAMES.map((name) => host(name).daemon?.ready),
        [true, true, true],
      );
    });

    it("does not hinder the refresh of members and of what is in the cluster", async () => {
      const endpoints = NAMES.map((name) => host(name).connection);
      const members = NAMES.map((name) => {
        const others = NAMES.filter((each) => each !== name).map((each) => host(each).connection);
        const way = name === "bcn2" ? { peers: others } : { cluster: { endpoints } };
        const member = new Managed(clusterMemberLifecycle as never, name);
        return { member, inputs: { connection: host(name).connection, name, address: host(name).lanAddress, ...way, ...soon } };
      });
      const profile = new Managed(profileLifecycle as never, "web");
      const inputs = { cluster: { endpoints }, name: "web", ...soon };
      await profile.up(inputs);
      for (const each of members) {
        await each.member.up(each.inputs);
      }
      release(["of_the_future"]);
      for (const waiting of ["bcn2", "bcn1"] as const) {
        await nodes[waiting].up(args(waiting, NEW));
        for (const each of members) {
          assert.equal(await each.member.up(each.inputs), "same");
        }
        assert.equal(await profile.up(inputs), "same");
      }
      await nodes.bcn3.up(args("bcn3", NEW));
    });

    it("does not set a changed config meanwhile, and the next up does", async () => {
      release(["of_the_future"]);
      const config = { "core.debug_address": "127.0.0.1:8888" };
      await assert.rejects(nodes.bcn2.up(args("bcn2", NEW, { ...soon, config })), /Its config was not changed/);
      await nodes.bcn1.up(args("bcn1", NEW));
      await nodes.bcn3.up(args("bcn3", NEW));
      assert.equal(await nodes.bcn2.up(args("bcn2", NEW, { ...soon, config })), "updated");
      assert.equal(host("bcn2").daemon?.localConfig["core.debug_address"], "127.0.0.1:8888");
    });
  });
});

describe("The upgrade of a member with install.evacuate", () => {
  const NOTE = "/var/lib/pulumi-lxd-upgrade";
  let cluster: SimulatedCluster;
  let nodes: Record<Name, Managed>;

  const host = (name: Name): SimulatedHost => cluster.lab.host(name);
  const args = (name: Name, version: string): object => ({
    connection: host(name).connection,
    install: { method: "deb", version, evacuate: true },
    adopt: true,
    timeouts: { update: 8, read: 4 },
  });
  const placeOf = (instance: string): string | undefined =>
    host("bcn2").daemon?.database.instances.get(`default/${instance}`)?.member.name;
  const statusOf = async (name: Name): Promise<string> => (await getMember(await cluster.byHand(), name)).status;
  const changeState = (name: Name, action: "evacuate" | "restore"): Promise<unknown> =>
    cluster.lab.byHand("bcn2", "POST", `/1.0/cluster/members/${name}/state`, { action });
  const release = (extensions: readonly string[] = []): void => {
    for (const name of NAMES) {
      host(name).releasePackage(NEW, extensions);
    }
  };

  beforeEach(async () => {
    cluster = await startMembers({ bcn2: {}, bcn1: {}, bcn3: {} });
    for (const name of NAMES) {
      await cluster.lab.byHand(name, "POST", `/1.0/storage-pools?target=${name}`, { name: "default", driver: "dir" });
    }
    await cluster.lab.byHand("bcn2", "POST", "/1.0/storage-pools", { name: "default", driver: "dir" });
    const devices = { root: { type: "disk", path: "/", pool: "default" } };
    cluster.lab.seedInstances(3, { host: "bcn2", prefix: "c", type: "container", devices }); // c1 on bcn1, c3 on bcn2
    nodes = { bcn2: manage("bcn2"), bcn1: manage("bcn1"), bcn3: manage("bcn3") };
    for (const name of NAMES) {
      await nodes[name].up(args(name, OLD));
    }
  });

  afterEach(async () => {
    assert.deepEqual([cluster.lab.defects, NAMES.flatMap((name) => host(name).unknownCommands)], [[], []]);
    await cluster.stop();
  });

  it("moves its instances away and back, as the preview says, and then changes nothing", async () => {
    release();
    await nodes.bcn1.preview(args("bcn1", NEW));
    assert.match(nodes.bcn1.warnings.at(-1) ?? "", /bcn1 is evacuated before that, and restored after it: .*c1/);
    const take = host("bcn1").takeInstallTime.bind(host("bcn1"));
    let during: unknown;
    host("bcn1").takeInstallTime = async () => {
      during = [
        placeOf("c1") === "bcn1",
        await statusOf("bcn1"),
        host("bcn1").files.list("/var/lib").includes(NOTE.replace("/var/lib/", "")),
      ];
      await take();
    };
    assert.equal(await nodes.bcn1.up(args("bcn1", NEW)), "updated");
    assert.deepEqual(during, [false, "Evacuated", true]);
    assert.deepEqual([placeOf("c1"), await statusOf("bcn1")], ["bcn1", "Online"]);
    assert.equal(await nodes.bcn1.up(args("bcn1", NEW)), "same");
    assert.deepEqual([nodes.bcn1.inState("upgradeState"), nodes.bcn1.inState("recommendedAction")], ["up to date", "none"]);
  });

  it("goes on where it was interrupted: a member that was upgraded is restored", async () => {
    release();
    host("bcn1").files.makeSymlink(NOTE, "bcn1");
    await changeState("bcn1", "evacuate");
    host("bcn1").installPackage("lxd", NEW); // and the process was killed
    assert.equal(await nodes.bcn1.preview(args("bcn1", NEW)), "updated");
    assert.equal(await nodes.bcn1.up(args("bcn1", NEW)), "updated");
    assert.deepEqual([placeOf("c1"), await statusOf("bcn1")], ["bcn1", "Online"]);
    assert.equal(await nodes.bcn1.up(args("bcn1", NEW)), "same");
  });

  it("goes on where it was interrupted: a member is restored also when the upgrade was taken back", async () => {
    host("bcn1").files.makeSymlink(NOTE, "bcn1");
    await changeState("bcn1", "evacuate");
    assert.equal(await nodes.bcn1.up(args("bcn1", OLD)), "updated");
    assert.match(
      nodes.bcn1.warnings.join("\n"),
      /\S+ was evacuated for an upgrade, which is not finished\. pulumi up finishes it/,
    );
    assert.deepEqual([placeOf("c1"), await statusOf("bcn1")], ["bcn1", "Online"]);
    assert.equal(await nodes.bcn1.up(args("bcn1", OLD)), "same");
  });

  it("leaves a member evacuated that somebody has evacuated", async () => {
    release();
    await changeState("bcn1", "evacuate");
    await nodes.bcn1.up(args("bcn1", NEW));
    assert.deepEqual([host("bcn1").packages.get("lxd"), await statusOf("bcn1")], [NEW, "Evacuated"]);
    assert.deepEqual([nodes.bcn1.inState("upgradeState"), nodes.bcn1.inState("recommendedAction")], ["evacuated", "none"]);
    assert.equal(await nodes.bcn1.up(args("bcn1", NEW)), "same");
  });

  it("is refused before anything is touched when an instance would be lost", async () => {
    release();
    const instance = host("bcn2").daemon?.database.instances.get("default/c1") ?? assert.fail();
    instance.ephemeral = true;
    await assert.rejects(nodes.bcn1.up(args("bcn1", NEW)), /Member bcn1 is not evacuated: it has ephemeral instances that run/);
    assert.deepEqual([host("bcn1").packages.get("lxd"), await statusOf("bcn1")], [OLD, "Online"]);
  });

  it("goes on where it was interrupted: a member that is evacuated and waits blocks nobody, and is restored", async () => {
    release(["of_the_future"]);
    host("bcn2").files.makeSymlink(NOTE, "bcn2");
    await changeState("bcn2", "evacuate");
    host("bcn2").installPackage("lxd", NEW); // and the process was killed
    for (const name of ["bcn1", "bcn3", "bcn2"] as const) {
      await nodes[name].up(args(name, NEW));
    }
    assert.deepEqual([placeOf("c3"), await statusOf("bcn2")], ["bcn2", "Online"]);
  });

  it("upgrades the others without it while one waits for them, and restores that one once it answers", async () => {
    release(["of_the_future"]);
    await nodes.bcn2.up(args("bcn2", NEW));
    assert.deepEqual([host("bcn2").daemon?.ready, nodes.bcn2.inState("upgradeState")], [false, "restarting"]);
    assert.notEqual(placeOf("c3"), "bcn2");
    for (const name of ["bcn1", "bcn3"] as const) {
      await nodes[name].up(args(name, NEW));
      assert.match(
        nodes[name].warnings.join("\n"),
        new RegExp(`${name} is upgraded without an evacuation: .*bcn2.* does not answer until all members are upgraded`),
      );
    }
    assert.deepEqual([placeOf("c3"), await statusOf("bcn2")], ["bcn2", "Online"]);
    for (const name of NAMES) {
      assert.equal(await nodes[name].up(args(name, NEW)), "same");
    }
  });
});

describe("The upgrade of the snap of a cluster's members", () => {
  let cluster: SimulatedCluster;
  let nodes: Record<Name, Managed>;

  const host = (name: Name): SimulatedHost => cluster.lab.host(name);
  const args = (name: Name, install: object): object => ({
    connection: host(name).connection,
    install: { method: "snap", ...install },
    adopt: true,
    timeouts: { update: 4, read: 4 },
  });
  const revisions = (): (string | undefined)[] => NAMES.map((name) => host(name).snaps.get("lxd")?.revision);
  const [OLD_TRACK, NEW_TRACK] = [{ channel: "5.21/stable" }, { channel: "6/stable" }];

  beforeEach(async () => {
    cluster = await startMembers({ bcn2: { lxd: "snap" }, bcn1: { lxd: "snap" }, bcn3: { lxd: "snap" } });
    nodes = { bcn2: manage("bcn2"), bcn1: manage("bcn1"), bcn3: manage("bcn3") };
    for (const name of NAMES) {
      await nodes[name].up(args(name, OLD_TRACK));
    }
  });

  afterEach(async () => {
    assert.deepEqual([cluster.lab.defects, NAMES.flatMap((name) => host(name).unknownCommands)], [[], []]);
    await cluster.stop();
  });

  it("to another channel is shown in the preview, goes member by member, and the last one ends the wait of all", async () => {
    await nodes.bcn2.preview(args("bcn2", NEW_TRACK));
    assert.match(
      nodes.bcn2.warnings.join("\n"),
      /pulumi up will upgrade LXD on \S+ from 5\.21\.4-\S+ \(revision 33110\) to 6\/stable\. .*one after the other/,
    );
    for (const name of NAMES) {
      await nodes[name].up(args(name, NEW_TRACK));
      assert.equal(host(name).daemon?.ready, name === "bcn3");
    }
    assert.deepEqual(revisions(), ["34850", "34850", "34850"]);
    for (const name of NAMES) {
      assert.equal(await nodes[name].up(args(name, NEW_TRACK)), "same");
      assert.deepEqual([nodes[name].inState("lxdVersion"), nodes[name].inState("upgradeState")], ["6.9", "up to date"]);
    }
  });

  it("to another revision of the channel leaves no member waiting", async () => {
    for (const name of NAMES) {
      host(name).store.release("5.21/stable", { revision: 33999, version: "5.21.4-9b1e0d2", lxd: "lxd-5.21" });
    }
    for (const name of NAMES) {
      assert.equal(await nodes[name].up(args(name, { ...OLD_TRACK, revision: 33999 })), "updated");
      assert.equal(host(name).daemon?.ready, true);
    }
    assert.deepEqual(revisions(), ["33999", "33999", "33999"]);
  });

  it("is refused to an older channel, before anything is touched", async () => {
    await assert.rejects(
      nodes.bcn2.up(args("bcn2", { channel: "5.0/stable" })),
      /install\.channel is 5\.0\/stable, which is older/,
    );
    assert.deepEqual(revisions(), ["33110", "33110", "33110"]);
  });

  it("does not start while a member is down, which is named", async () => {
    await host("bcn3").powerOff();
    await assert.rejects(nodes.bcn2.up(args("bcn2", NEW_TRACK)), /to 6\/stable: member bcn3 is offline\./);
    assert.deepEqual(revisions(), ["33110", "33110", "33110"]);
  });

  it("goes on after an interruption, and changes no member twice", async () => {
    host("bcn2").installSnap("6/stable"); // and the process was killed
    const { pid } = host("bcn2").daemon ?? {};
    for (const name of NAMES) {
      await nodes[name].up(args(name, NEW_TRACK));
    }
    assert.deepEqual([host("bcn2").daemon?.pid, revisions()], [pid, ["34850", "34850", "34850"]]);
    assert.deepEqual(
      NAMES.map((name) => host(name).daemon?.ready),
      [true, true, true],
    );
  });
});

describe("The upgrade of a cluster of Incus 7 to a version with more API extensions", () => {
  it("waits for no member that is still to be upgraded, which is shown as Blocked", async () => {
    const cluster = await startMembers({ bcn2: {}, bcn1: {} }, { flavour: "trixie-incus7" });
    const names = ["bcn2", "bcn1"] as const;
    const [older, newer] = ["7.0.2-3~bpo13+1", "7.0.2-3~bpo13+2"];
    for (const name of names) {
      cluster.lab.host(name).releasePackage(newer, ["of_the_future"]);
      const node = manage(name);
      const args = (version?: string): object => ({
        connection: cluster.lab.host(name).connection,
        install: { method: "deb", server: "incus", serverPackage: "incus-base", ...(version !== undefined && { version }) },
        adopt: true,
      });
      await node.up(args());
      assert.equal(node.inState("packageVersion"), older);
      await node.up(args(newer));
      assert.equal(node.inState("packageVersion"), newer);
      assert.equal(node.warnings.length, 1, node.warnings.join("\n")); // that of the preview
      const { status } = await getMember(await cluster.byHand(), "bcn1");
      assert.equal(status, name === "bcn2" ? "Blocked" : "Online");
    }
    await cluster.stop();
  });
});

function manage(name: string): Managed {
  return new Managed(nodeLifecycle as never, name);
}

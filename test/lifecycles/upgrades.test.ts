import assert from "node:assert/strict";
import type { SimulatedHost } from "../../lab/simulated";
import { dynamicProvider } from "../../provider/engine/adapter";
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

  it("is refused to a version that no package source has, with those that they have", async () => {
    assert.match(
      await refusal("bcn2", "5.0.3-1"),
      /have no version 5\.0\.3-1 of "lxd" \(install\.version\)\. They have 5\.0\.2-5\+deb12u6/,
    );
    assert.deepEqual(versions(), [OLD, OLD, OLD]);
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

function manage(name: string): Managed {
  return new Managed(nodeLifecycle as never, name);
}

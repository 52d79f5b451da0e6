import assert from "node:assert/strict";
import { SimulatedLab } from "../../../lab/simulated";
import { makeCertificate } from "../../../lab/simulated/lxd/certificate";
import { clusterMemberLifecycle } from "../../../provider/resources/lxd-cluster-member";
import { nodeLifecycle } from "../../../provider/resources/lxd-node";
import { profileLifecycle } from "../../../provider/resources/lxd-profile";
import { memberArgs, TWO_SERVERS } from "../../support/two-hosts";
import { Managed } from "./simulated-cluster";

describe("LxdClusterMember whose host and cluster disagree", () => {
  let lab: SimulatedLab;
  let first: Managed;
  let second: Managed;

  const at = (host: string) => lab.host(host).connection;
  const firstArgs = (more: object = {}): object => memberArgs(lab, "bcn2", { peers: [at("bcn1")], ...more });
  const secondArgs = (more: object = {}): object => {
    const cluster = { endpoints: [at("bcn2")], certificateFingerprint: first.inState("certificateFingerprint") };
    return memberArgs(lab, "bcn1", { cluster, ...more });
  };
  const members = (host: string): string[] => lab.host(host).daemon?.database.members.map(({ name }) => name) ?? [];
  const changes = (since: number): string[] => lab.mutations(since).map(({ host, method, path }) => `${host} ${method} ${path}`);
  const wipes = (): string[] =>
    lab.hosts.flatMap(({ commands }) => commands.map((argv) => argv.join(" ")).filter((line) => /^systemctl stop/.test(line)));
  /** `lxc cluster remove bcn2`, on bcn1. */
  const removeFirst = (): Promise<unknown> => lab.byHand("bcn1", "DELETE", "/1.0/cluster/members/bcn2");

  beforeEach(async () => {
    lab = await SimulatedLab.start({
      hosts: TWO_SERVERS,
    });
    first = new Managed(clusterMemberLifecycle as never, "bcn2");
    second = new Managed(clusterMemberLifecycle as never, "bcn1");
    await first.up(firstArgs());
    await second.up(secondArgs());
  });

  afterEach(async () => {
    assert.deepEqual([lab.defects, lab.hosts.flatMap(({ unknownCommands }) => unknownCommands)], [[], []]);
    await lab.stop();
  });

  describe("the first one, removed manually,", () => {
    it("joins its cluster again, and does not bootstrap another", async () => {
      const { certificateFingerprint } = first.state ?? {};
      await removeFirst();
      assert.equal(await first.preview(firstArgs()), "updated");
      assert.equal(first.inState("status"), "Left");
      assert.equal(await first.up(firstArgs()), "updated");
      assert.deepEqual(members("bcn1"), ["bcn1", "bcn2"]);
      assert.equal(first.inState("certificateFingerprint"), certificateFingerprint);
      assert.deepEqual([await first.up(firstArgs()), await second.up(secondArgs())], ["same", "same"]);
    });

    it("joins its cluster again also when the cluster's certificate was renewed meanwhile, which --refresh=false confirms", async () => {
      await removeFirst();
      const { database } = lab.host("bcn1").daemon ?? {};
      assert(database !== undefined);
      database.certificate = makeCertificate("cluster");
      const { fingerprint: certificateFingerprint } = database.certificate;
      await assert.rejects(first.up(firstArgs()), new RegExp(`certificateFingerprint: "${certificateFingerprint}"`));
      assert.equal(await first.up(firstArgs({ certificateFingerprint }), { refresh: false }), "updated");
      assert.deepEqual(members("bcn1"), ["bcn1", "bcn2"]);
      assert.equal(await first.up(firstArgs({ certificateFingerprint })), "same");
    });

    it("does not block the refresh of the others: they are found through themselves, and the answer of the first one is reported", async () => {
      await removeFirst();
      assert.equal(await second.preview(secondArgs()), "same");
      assert.match(second.warnings.join(), /Skipped, .* answers as the server "bcn2", which is in no cluster/);
      assert.equal(second.inState("status"), "Online");
    });

    it("is not mistaken for a renewed certificate: if no other member is known, the error says that it is in no cluster", async () => {
      await removeFirst();
      const endpoints = [at("bcn2")];
      const profile = new Managed(profileLifecycle as never, "web");
      const args = { cluster: { endpoints, certificateFingerprint: first.inState("certificateFingerprint") }, name: "web" };
      await assert.rejects(profile.up(args), (error: Error) => {
        assert.match(
          error.message,
          /which is in no cluster.* The host was removed from its cluster, or its server was reinstalled\. List a host that is/,
        );
        assert.doesNotMatch(error.message, /update-certificate|confirm/);
        return true;
      });
    });

    it("does not bootstrap another cluster when it knows no other host: nothing is changed, and the error says how to join", async () => {
      await first.up(firstArgs({ peers: [] }));
      await removeFirst();
      const since = lab.requests.length;
      const wiped = wipes();
      await assert.rejects(
        first.up(firstArgs({ peers: [] })),
        /^Error: bcn2 \(127\.0\.0\.1\) is no longer in its cluster \w{64}, and does not bootstrap a second one\. .*peers/,
      );
      assert.deepEqual([changes(since), wipes()], [[], wiped]);
    });

    it("does not bootstrap another cluster while the others cannot be asked", async () => {
      await removeFirst();
      await first.preview(firstArgs());
      await lab.host("bcn1").powerOff();
      const [since, wiped] = [lab.requests.length, wipes()];
      await assert.rejects(first.up(firstArgs()), /No host answers as the expected cluster:[^]*cannot be reached by SSH/);
      await assert.rejects(
        first.up(firstArgs(), { refresh: false }),
        /Whether that cluster still exists could not be determined: .*cannot be reached by SSH/,
      );
      assert.deepEqual([changes(since), wipes()], [[], wiped]);
      await lab.host("bcn1").powerOn();
      assert.equal(await first.up(firstArgs()), "updated");
      assert.deepEqual(members("bcn1"), ["bcn1", "bcn2"]);
    });

    it("is not accepted as another cluster made of it: nothing is changed, and both clusters are named", async () => {
      await removeFirst();
      await lab.byHand("bcn2", "PUT", "/1.0/cluster", { server_name: "bcn2", enabled: true });
      const [since, wiped] = [lab.requests.length, wipes()];
      for (const it_ of [first, new Managed(clusterMemberLifecycle as never, "bcn2")]) {
        await assert.rejects(
          it_.up(firstArgs()),
          /is a member of the cluster \w{64}, but must be in the cluster \w{64}\. Nothing was changed/,
        );
      }
      assert.deepEqual([changes(since), wipes()], [[], wiped]);
      assert.deepEqual([members("bcn2"), members("bcn1")], [["bcn2"], ["bcn1"]]);
    });

    it("joins the cluster of this stack also when its state was lost", async () => {
      await removeFirst();
      const again = new Managed(clusterMemberLifecycle as never, "bcn2");
      assert.equal(await again.up(firstArgs()), "created");
      assert.deepEqual(members("bcn1"), ["bcn1", "bcn2"]);
    });
  });

  it("the first one leaves through a remaining member", async () => {
    const since = lab.requests.length;
    await first.destroy();
    assert.deepEqual(
      changes(since).filter((change) => change.includes("DELETE")),
      ["bcn1 DELETE /1.0/cluster/members/bcn2"],
    );
    assert.deepEqual(members("bcn1"), ["bcn1"]);
    assert.deepEqual(first.warnings, []);
  });

  it("the first one leaves also when it knows no other host, even if its daemon ends meanwhile", async () => {
    await first.up(firstArgs({ peers: [] }));
    await first.destroy();
    assert.deepEqual(members("bcn1"), ["bcn1"]);
    assert.equal(lab.host("bcn2").daemon?.database.clustered, false);
  });

  it("the last one leaves without a message about hosts that left before", async () => {
    await second.destroy();
    await first.destroy();
    assert.deepEqual([first.warnings, second.warnings], [[], []]);
    assert.equal(await first.up(firstArgs()), "created");
  });

  describe("reinstalled while the cluster still lists it,", () => {
    beforeEach(() => lab.host("bcn1").reinstall());

    it("shows as drift, and joins again in place of the empty member", async () => {
      assert.equal(await second.preview(secondArgs()), "updated");
      assert.equal(second.inState("status"), "Reinstalled");
      assert.match(second.warnings.join(), /127\.0\.0\.1 no longer has its membership as bcn1: it was reinstalled/);
      assert.equal(await second.up(secondArgs()), "updated");
      assert.deepEqual(
        [members("bcn2"), members("bcn1")],
        [
          ["bcn2", "bcn1"],
          ["bcn2", "bcn1"],
        ],
      );
      assert.equal(await second.up(secondArgs()), "same");
      assert.equal(second.inState("status"), "Online");
    });

    it("does not replace a member that holds anything", async () => {
      const { database } = lab.host("bcn2").daemon ?? {};
      assert(database !== undefined);
      await lab.byHand("bcn2", "POST", "/1.0/storage-pools?target=bcn2", { name: "default", driver: "dir" });
      await lab.byHand("bcn2", "POST", "/1.0/storage-pools?target=bcn1", { name: "default", driver: "dir" });
      const pool = database.pools.get("default");
      assert(pool !== undefined);
      pool.customVolumes.push({
        name: "data",
        member: database.member("bcn1"),
        project: "default",
        config: {},
        description: "",
        contentType: "filesystem",
        snapshots: [],
      });
      const since = lab.requests.length;
      await assert.rejects(
        second.up(secondArgs()),
        /remove the old member and all that it held: lxc cluster remove --force bcn1/,
      );
      await assert.rejects(second.destroy(), /Member bcn1 is not empty/);
      assert.deepEqual(members("bcn2"), ["bcn2", "bcn1"]);
      assert.deepEqual(
        changes(since).filter((change) => / DELETE \/1\.0\/cluster/.test(change)),
        [],
      );
    });

    it("shows as drift also when it is in its own cluster by now, does not join again, and its removal keeps that cluster", async () => {
      await lab.byHand("bcn1", "PATCH", "/1.0", { config: { "core.https_address": "192.168.1.101:8443" } });
      await lab.byHand("bcn1", "PUT", "/1.0/cluster", { server_name: "theirs", enabled: true });
      assert.equal(await second.preview(secondArgs()), "updated");
      assert.equal(second.inState("status"), "Reinstalled");
      assert.match(second.warnings.join(), /it is in another cluster, as "theirs", with the certificate \w{64}/);
      const [since, wiped] = [lab.requests.length, wipes()];
      await assert.rejects(
        second.up(secondArgs()),
        /is a member of another cluster, as "theirs"\. Remove it there, or wipe the host/,
      );
      assert.deepEqual(changes(since), []);
      await second.destroy();
      assert.deepEqual([members("bcn2"), members("bcn1"), wipes()], [["bcn2"], ["theirs"], wiped]);
    });

    it("is removed without manual force", async () => {
      await second.destroy({ refresh: true });
      assert.deepEqual(members("bcn2"), ["bcn2"]);
    });

    it("is treated like an offline one while its host cannot be asked", async () => {
      await lab.host("bcn1").powerOff();
      assert.equal(await second.preview(secondArgs()), "same");
      assert.equal(second.inState("status"), "Offline");
      await assert.rejects(second.destroy(), /Member bcn1 is offline .* cannot leave its cluster/);
    });
  });

  it("leaves its cluster although that has no recent heartbeat of it", async () => {
    lab.host("bcn1").daemon?.delayHeartbeat(700);
    await second.destroy();
    assert.deepEqual(members("bcn2"), ["bcn2"]);
    assert.deepEqual(members("bcn1"), ["none"]);
  });

  it("does not report a join token that was just revoked", async () => {
    await second.destroy();
    const joining = lab.faults.add({
      when: { host: "bcn1", method: "PUT", path: /^\/1\.0\/cluster$/, nth: 1 },
      effect: { failOperation: "Failed to join cluster: i/o timeout" },
    });
    await assert.rejects(second.up(secondArgs()), /The join token was revoked$/);
    joining.remove();
    const before = second.warnings.length;
    assert.equal(await second.up(secondArgs()), "created");
    assert.deepEqual(second.warnings.slice(before), []);
  });

  it("reports soon that its LXD ended before it had joined, and joins the next time", async () => {
    await second.destroy();
    const fault = lab.faults.add({
      when: { host: "bcn1", method: "PUT", path: /^\/1\.0\/cluster$/, nth: 1 },
      effect: "lose-operation",
    });
    const since = performance.now();
    await assert.rejects(second.up(secondArgs()), /bcn1 .*did not join the cluster: .*The join token was revoked$/);
    assert.ok(performance.now() - since < 25_000, "it was waited for as for a restart, which has 30 s");
    assert.equal(fault.hits, 1);
    assert.equal(await second.up(secondArgs()), "created");
    assert.deepEqual(members("bcn2"), ["bcn2", "bcn1"]);
  });

  const notYet = { status: 500, error: "Failed to get dqlite client: dial unix @lxd: connection refused" };
  for (const [what, effect] of [
    ["has no database yet", notYet],
    ["restarts", "daemon-restart"],
  ] as const) {
    it(`waits, before a host joins, for a member that ${what}`, async () => {
      await second.destroy();
      const when = { host: "bcn2", path: /^\/1\.0\/cluster\/members\?/, nth: 1 };
      const fault = lab.faults.add({ when, effect });
      assert.equal(await second.up(secondArgs()), "created");
      assert.equal(fault.hits, 1);
      assert.deepEqual(members("bcn2"), ["bcn2", "bcn1"]);
    });
  }

  it("waits, before a host leaves, for a member that its peers do not find yet", async () => {
    const fault = lab.faults.add({
      when: { host: "bcn2", path: /^\/1\.0\?target=bcn1/, nth: 1 },
      effect: { status: 500, error: "Missing event connection with target cluster member" },
    });
    await second.destroy();
    assert.equal(fault.hits, 1);
    assert.deepEqual(members("bcn2"), ["bcn2"]);
  });

  it("waits for an LXD that restarts when it is asked whether it is ready", async () => {
    const node = new Managed(nodeLifecycle as never, "bcn1");
    const fault = lab.faults.add({ when: { host: "bcn1", path: /^\/internal\/ready/, nth: 1 }, effect: "daemon-restart" });
    assert.equal(await node.up({ connection: at("bcn1"), install: { method: "deb" }, adopt: true }), "created");
    assert.equal(fault.hits, 1);
  });
});

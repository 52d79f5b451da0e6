import assert from "node:assert/strict";
import { join } from "node:path";
import type { RealLab } from "../../lab/real";
import { installOf } from "../../lab/real/flavours";
import { LxdClient } from "../../provider/lxd/client/client";
import { endpointOf } from "../../provider/lxd/client/endpoint";
import { joinCluster, mintJoinToken } from "../../provider/lxd/cluster/join";
import { getServer } from "../../provider/lxd/server";
import { clusterMemberLifecycle } from "../../provider/resources/lxd-cluster-member";
import { profileLifecycle } from "../../provider/resources/lxd-profile";
import { Deadline } from "../../provider/support/deadline";
import { connectionSchema } from "../../provider/transport/connection";
import { connect, disconnectAll } from "../../provider/transport/pool";
import { figure } from "../support/figure";
import { attachOrSkip, createResource, isInLab } from "../support/real-lab";
import { Managed } from "../unit/resources/simulated-cluster";

const ADDRESSES = { bcn2: "192.168.1.102", bcn1: "192.168.1.101", bcn3: "192.168.1.103" } as const;
type HostName = keyof typeof ADDRESSES;

/**
 * States of hosts and a cluster after interrupted joins. Each is created on purpose and then passed to a plain create.
 */
describe("Half joins on real LXD", () => {
  let lab: RealLab;
  let recognised = 0;

  const to = (host: HostName): object => ({ host: ADDRESSES[host], privateKeyPath: join(lab.home, ".ssh", "id_ed25519") });
  const node = (host: HostName, more: object = {}): object => ({
    connection: to(host),
    install: installOf(lab.flavour),
    ...more,
  });
  const member = (host: HostName): object => ({
    connection: to(host),
    name: host,
    address: ADDRESSES[host],
    ...(host === "bcn2" ? {} : { cluster: { endpoints: [to("bcn2")] } }),
    timeouts: { create: 300 },
  });

  const create = createResource;
  const refusal = async (kind: string, args: object): Promise<string> =>
    create(kind, args).then(
      () => assert.fail("it was not refused"),
      (error: unknown) => (error as Error).message,
    );

  /** Runs a script inside a host. It must succeed. */
  const onHost = async (host: HostName, script: string): Promise<string> => {
    const { stdout, stderr, exitCode } = await lab.hostExec(host, ["sh", "-c", script]);
    assert.equal(exitCode, 0, `${host}: ${script}: ${stderr}`);
    return stdout.trim();
  };
  const client = (): string => lab.flavour.client;
  const data = (): string => lab.flavour.dataDirectory;
  const admin = (): string => lab.flavour.admin.join(" ");
  /** A script that empties the server's data directory, as a reinstallation of the host does. */
  const reinstalled = (): string => {
    const { dataDirectory, units } = lab.flavour;
    const [stop, start] = [`systemctl stop ${units.join(" ")}`, `systemctl start ${units.join(" ")}`];
    const unmount = `for mount in shmounts devlxd guestapi; do umount -l ${dataDirectory}/$mount 2>/dev/null; done`;
    return `${stop}; ${unmount}; find ${dataDirectory} -xdev -mindepth 1 -delete; ${start}; ${admin()} waitready`;
  };
  const members = async (): Promise<string[]> =>
    (await onHost("bcn2", `${client()} cluster list --format=csv`)).split("\n").map((line) => line.split(",", 1)[0] ?? "");
  /** The certificates that the cluster trusts. */
  const certificates = async () =>
    JSON.parse(await onHost("bcn2", `${client()} query '/1.0/certificates?recursion=1'`)) as Record<
      "name" | "fingerprint" | "certificate",
      string
    >[];
  const trusted = async (): Promise<string[]> => (await certificates()).map(({ name }) => name).sort();
  const rows = (): Promise<string> => onHost("bcn2", `${admin()} sql global 'SELECT name, state FROM nodes'`);

  const clientOf = async (host: HostName): Promise<LxdClient> => {
    const deadline = new Deadline(60, "the test");
    return new LxdClient(await endpointOf(await connect(connectionSchema.parse(to(host)), { deadline }), deadline), deadline);
  };

  /** Leaves bcn1 half joined. It must be the second member: a third would join differently, as a voter. */
  const cutOffJoin = async (): Promise<void> => {
    await onHost("bcn2", `${client()} cluster add bcn1`); // an issued token that was never used
    // A firewall that lets bcn1 connect out, and blocks connections to it, holds the join halfway for some seconds.
    await onHost(
      "bcn1",
      "nft add table inet t; nft add chain inet t in '{ type filter hook input priority 0; }'; nft add rule inet t in tcp dport 8443 drop",
    );
    const joining = refusal("LxdClusterMember", member("bcn1"));
    await onHost(
      "bcn1",
      `until test -e ${data()}/cluster.crt && test -z "$(ls ${data()}/database/global)"; do sleep 0.1; done; systemctl kill -s KILL ${lab.flavour.units[1]}; nft delete table inet t`,
    );
    assert.match(await joining, /^bcn1 \(root@192\.168\.1\.101\) did not join the cluster: /);
  };

  before(async function () {
    lab = await attachOrSkip(this);
    await lab.resetHosts();
    await Promise.all((["bcn2", "bcn1", "bcn3"] as const).map((host) => create("LxdNode", node(host))));
    // Half a bootstrap: the addresses are set, nothing more.
    await onHost(
      "bcn2",
      `${client()} config set core.https_address=${ADDRESSES.bcn2}:8443 cluster.https_address=${ADDRESSES.bcn2}:8443`,
    );
    await create("LxdClusterMember", member("bcn2"));
    recognised += 1;
  });

  afterEach(() => disconnectAll());

  after(async () => {
    if (isInLab) {
      await lab.resetHosts();
      figure("half-joined states recognized on real LXD", recognised);
    }
  });

  it("adopts a cluster whose state was lost", async () => {
    await create("LxdClusterMember", { ...member("bcn2"), adopt: true });
    assert.deepEqual(await members(), ["bcn2"]);
    recognised += 1;
  });

  it("joins a host although its certificate is trusted under a name that was refused, and it trusts a member already", async () => {
    const [cluster, host] = [await clientOf("bcn2"), await clientOf("bcn3")];
    const { certificate } = (await getServer(cluster)).environment;
    const token = await mintJoinToken(cluster, "bcn2");
    // As a power cut during a join leaves it. Alone, it makes LXD refuse every further join.
    for (const own of await certificates()) {
      const values = `'${own.fingerprint}', 2, '${own.name}', '${own.certificate}', 0`;
      await onHost(
        "bcn3",
        `${admin()} sql global "INSERT INTO certificates (fingerprint, type, name, certificate, restricted) VALUES (${values})"`,
      );
    }
    const wrong = { name: "bcn2", address: `${ADDRESSES.bcn3}:8443`, token, certificate, memberConfig: [] };
    await assert.rejects(joinCluster(host, wrong), /already has a member with name/);
    await create("LxdClusterMember", member("bcn3"));
    assert.deepEqual(await members(), ["bcn2", "bcn3"]);
    recognised += 1;
  });

  describe("a member that was removed by force while it was off", () => {
    before(async () => {
      await lab.powerOff("bcn3");
      await onHost("bcn2", `echo yes | ${client()} cluster remove --force bcn3`);
      await lab.boot("bcn3");
      await onHost("bcn3", `mkdir -p ${data()}/storage-pools/old/containers/c1 ${data()}/storage-pools/old/custom/default_data`);
      await disconnectAll();
      assert.deepEqual(await members(), ["bcn2"]);
    });

    it("is refused while its host has data on its disk", async () => {
      assert.equal(
        await refusal("LxdClusterMember", member("bcn3")),
        "LXD on root@192.168.1.103 considers itself a member of the cluster at root@192.168.1.102, which does not know it: it was removed by force, or " +
          "its join was interrupted. On its disk are instances c1; custom-volumes old/data. Save what you need, then wipe the host: give its LxdNode " +
          'resetPolicy: ["cluster", "instances", "custom-volumes"], and replace the LxdNode if it exists already (pulumi up --replace URN)',
      );
      assert.equal(await onHost("bcn3", `ls ${data()}/storage-pools/old/containers`), "c1");
      recognised += 1;
    });

    it("is created again when its node may wipe the named objects", async () => {
      await create("LxdNode", node("bcn3", { resetPolicy: ["cluster", "instances", "custom-volumes"] }));
      assert.equal(await onHost("bcn3", `ls ${data()}/storage-pools`), "");
      recognised += 1;
    });
  });

  describe("a join that was interrupted halfway", () => {
    before(cutOffJoin);

    it("leaves a pending row that LXD does not list, and a silent host, which LxdNode refuses without permission to wipe", async () => {
      assert.deepEqual(await members(), ["bcn2"]);
      assert.match(await rows(), /bcn1\s*\|\s*1/);
      assert.equal(
        await refusal("LxdNode", node("bcn1")),
        "LXD on root@192.168.1.101 does not answer. It has the certificate of a cluster. If it is a member: Look at: journalctl --unit lxd. If it was " +
          'left half joined, or was removed by force, wipe it: resetPolicy: ["cluster"]',
      );
      recognised += 1;
    });

    it("is repaired, and leaves no token, row, certificate or replica that blocks the next member", async () => {
      await create("LxdClusterMember", member("bcn1"));
      await create("LxdClusterMember", member("bcn3"));
      assert.deepEqual(await members(), ["bcn1", "bcn2", "bcn3"]);
      assert.doesNotMatch(await rows(), /\|\s*1\s*\|/);
      assert.equal(await onHost("bcn2", `${client()} cluster list-tokens --format=csv`), "");
      assert.deepEqual(await trusted(), ["bcn1", "bcn2", "bcn3"]);
      recognised += 3;
    });
  });

  describe("a host that was reinstalled under the same name", () => {
    it("joins and replaces its former member", async () => {
      await onHost("bcn1", reinstalled());
      await create("LxdClusterMember", member("bcn1"));
      assert.deepEqual(await members(), ["bcn1", "bcn2", "bcn3"]);
      assert.deepEqual(await trusted(), ["bcn1", "bcn2", "bcn3"]);
      recognised += 1;
    });
  });

  describe("hosts and a cluster that disagree", () => {
    const first = new Managed(clusterMemberLifecycle as never, "bcn2");
    const third = new Managed(clusterMemberLifecycle as never, "bcn3");
    const profile = new Managed(profileLifecycle as never, "web");
    const firstArgs = (): object => ({ ...member("bcn2"), peers: [to("bcn1"), to("bcn3")], adopt: true });
    const thirdArgs = (): object => ({ ...member("bcn3"), cluster: { endpoints: [to("bcn1"), to("bcn2")] }, adopt: true });
    const profileArgs = (): object => ({ cluster: { endpoints: [to("bcn2"), to("bcn1")] }, name: "web", description: "ours" });
    const removeFirst = (): Promise<string> => onHost("bcn1", `${client()} cluster remove bcn2`);
    const left = (): Promise<string> =>
      onHost("bcn2", `until ${client()} query /1.0 | grep -q '"server_clustered": false'; do sleep 0.2; done`);
    const listed = async (): Promise<string[]> =>
      (await onHost("bcn1", `${client()} cluster list --format=csv`)).split("\n").map((line) => line.split(",", 1)[0] ?? "");

    it("a first member that was removed joins again with its old certificate", async () => {
      await first.up(firstArgs());
      await profile.up(profileArgs());
      const { certificateFingerprint } = first.state ?? {};
      assert.equal(profile.inState("clusterFingerprint"), certificateFingerprint);
      await removeFirst();
      await left();
      assert.equal(await first.preview(firstArgs()), "updated");
      assert.equal(first.inState("status"), "Left");
      assert.equal(await first.up(firstArgs()), "updated");
      assert.equal(first.inState("certificateFingerprint"), certificateFingerprint);
      assert.deepEqual(await listed(), ["bcn1", "bcn2", "bcn3"]);
      recognised += 1;
    });

    it("a reinstalled member shows as drift when it is missing in the cluster, and joins again", async () => {
      await third.up(thirdArgs());
      await onHost("bcn3", reinstalled());
      await onHost("bcn1", `until ${client()} cluster list --format=csv | grep bcn3 | grep -q OFFLINE; do sleep 0.5; done`);
      assert.equal(await third.preview(thirdArgs()), "updated");
      assert.equal(third.inState("status"), "Reinstalled");
      assert.equal(await third.up(thirdArgs()), "updated");
      assert.deepEqual(await listed(), ["bcn1", "bcn2", "bcn3"]);
      recognised += 1;
    });

    it("a member that was removed by force while it ran is gone, and is created again", async () => {
      await onHost("bcn1", `echo yes | ${client()} cluster remove --force bcn3`);
      assert.equal(await third.preview(thirdArgs()), "created");
      assert.equal(await third.up(thirdArgs()), "created");
      assert.deepEqual(await listed(), ["bcn1", "bcn2", "bcn3"]);
      recognised += 1;
    });

    it("a first member leaves through a remaining one", async () => {
      await first.destroy();
      assert.deepEqual(await listed(), ["bcn1", "bcn3"]);
      await onHost(
        "bcn2",
        `${client()} config set core.https_address=${ADDRESSES.bcn2}:8443; ${client()} cluster enable bcn2; ${client()} profile create web`,
      );
      recognised += 1;
    });

    it("another server at the first endpoint is skipped with its reason, and neither read nor changed", async () => {
      assert.equal(await profile.preview(profileArgs()), "same");
      assert.match(
        profile.warnings.join(),
        /root@192\.168\.1\.102 is not the expected cluster, .* it answers as the member "bcn2" of the cluster/,
      );
      await profile.destroy();
      assert.match(await onHost("bcn2", `${client()} profile list --format=csv`), /^web,/m);
      assert.doesNotMatch(await onHost("bcn1", `${client()} profile list --format=csv`), /^web,/m);
      recognised += 1;
    });
  });
});

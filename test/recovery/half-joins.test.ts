import assert from "node:assert/strict";
import { isIPv6 } from "node:net";
import { LxdClient } from "../../provider/lxd/client/client";
import { endpointOf } from "../../provider/lxd/client/endpoint";
import { joinCluster, mintJoinToken } from "../../provider/lxd/cluster/join";
import { getServer } from "../../provider/lxd/server";
import { clusterMemberLifecycle } from "../../provider/resources/lxd-cluster-member";
import { profileLifecycle } from "../../provider/resources/lxd-profile";
import { Deadline } from "../../provider/support/deadline";
import { connectionSchema } from "../../provider/transport/connection";
import { connect, disconnectAll } from "../../provider/transport/pool";
import { bareHosts, PLACES, type Place } from "../support/bare-hosts";
import { figure } from "../support/figure";
import { createResource, isInLab } from "../support/real-lab";
import { Managed } from "../unit/resources/simulated-cluster";

/**
 * States of hosts and a cluster after interrupted joins. Each is created on purpose and then passed to a plain create.
 */
describe("Half joins on real LXD", () => {
  const hosts = bareHosts();
  const { at, to, node, member, inShell, membersOf } = hosts;
  let recognised = 0;

  const name = (place: Place): string => at(place).name;
  const inUrl = (place: Place): string => {
    const { address } = at(place);
    return isIPv6(address) ? `[${address}]` : address;
  };
  const listener = (place: Place): string => `${inUrl(place)}:8443`;
  /** A host as messages name it. */
  const reached = (place: Place): string => `${hosts.lab.shape.user}@${inUrl(place)}`;
  /** As lists have them. */
  const names = (...places: Place[]): string[] => places.map(name).sort();

  const create = createResource;
  const refusal = async (kind: string, args: object): Promise<string> =>
    create(kind, args).then(
      () => assert.fail("it was not refused"),
      (error: unknown) => (error as Error).message,
    );

  const client = (): string => hosts.lab.flavour.client;
  const product = (): string => hosts.lab.flavour.product;
  const data = (): string => hosts.lab.flavour.dataDirectory;
  const admin = (): string => hosts.lab.flavour.admin.join(" ");
  /** A script that empties the server's data directory, as a reinstallation of the host does. */
  const reinstalled = (): string => {
    const { dataDirectory, units } = hosts.lab.flavour;
    const [stop, start] = [`systemctl stop ${units.join(" ")}`, `systemctl start ${units.join(" ")}`];
    const unmount = `for mount in shmounts devlxd guestapi; do umount -l ${dataDirectory}/$mount 2>/dev/null; done`;
    return `${stop}; ${unmount}; find ${dataDirectory} -xdev -mindepth 1 -delete; ${start}; ${admin()} waitready`;
  };
  const members = (): Promise<string[]> => membersOf("first");
  /** The certificates that the cluster trusts. */
  const certificates = async () =>
    JSON.parse(await inShell("first", `${client()} query '/1.0/certificates?recursion=1'`)) as Record<
      "name" | "fingerprint" | "certificate",
      string
    >[];
  const trusted = async (): Promise<string[]> => (await certificates()).map((each) => each.name).sort();
  /** The members' rows in the database, between the bars of LXD's tables. Incus draws others. */
  const rows = async (): Promise<string> =>
    (await inShell("first", `${admin()} sql global 'SELECT name, state FROM nodes'`)).replaceAll("│", "|");

  const clientOf = async (host: Place): Promise<LxdClient> => {
    const deadline = new Deadline(60, "the test");
    return new LxdClient(await endpointOf(await connect(connectionSchema.parse(to(host)), { deadline }), deadline), deadline);
  };

  /**
   * Leaves the second host half joined: kills its server at the moment at which it has removed its own database. Some tenths of a second
   * later the cluster would list it. A firewall in its way would stop only a host whose address sorts before the leader's: LXD of Debian 12
   * looks for the leader at one address after the other. It must be the second member: a third would join differently, as a voter.
   */
  const cutOffJoin = async (): Promise<void> => {
    await inShell("first", `${client()} cluster add ${name("second")}`); // an issued token that was never used
    const pid = await inShell("second", `systemctl show --property=MainPID --value ${hosts.lab.flavour.units[1]}`);
    const script = `until (-e "${data()}/cluster.crt" and not (my @left = glob "${data()}/database/global/*")) { select undef, undef, undef, 0.001 } kill "KILL", ${pid} or die`;
    const killed = hosts.lab.hostExec(name("second"), ["perl", "-e", script]);
    // All of this time passes: the server is started again and does not answer.
    const said = await refusal("LxdClusterMember", { ...member("second"), timeouts: { create: 120 } });
    assert.ok(said.startsWith(`${name("second")} (${reached("second")}) did not join the cluster: `), said);
    assert.equal((await killed).exitCode, 0);
  };

  before(async () => {
    await Promise.all(PLACES.map((host) => create("LxdNode", node(host))));
    // Half a bootstrap: the addresses are set, nothing more.
    await inShell(
      "first",
      `${client()} config set core.https_address=${listener("first")} cluster.https_address=${listener("first")}`,
    );
    await create("LxdClusterMember", member("first"));
    recognised += 1;
  });

  after(() => {
    if (isInLab) {
      figure("half-joined states recognized on real LXD", recognised);
    }
  });

  it("adopts a cluster whose state was lost", async () => {
    await create("LxdClusterMember", { ...member("first"), adopt: true });
    assert.deepEqual(await members(), names("first"));
    recognised += 1;
  });

  it("joins a host although its certificate is trusted under a name that was refused, and it trusts a member already", async () => {
    const [cluster, host] = [await clientOf("first"), await clientOf("third")];
    const { certificate } = (await getServer(cluster)).environment;
    // Incus makes no token for a name that a member has. It lets a server join with it under another name.
    const token = await mintJoinToken(cluster, "spare");
    // As a power cut during a join leaves it. Alone, it makes LXD refuse every further join.
    for (const own of await certificates()) {
      const values = `'${own.fingerprint}', 2, '${own.name}', '${own.certificate}', 0`;
      await inShell(
        "third",
        `${admin()} sql global "INSERT INTO certificates (fingerprint, type, name, certificate, restricted) VALUES (${values})"`,
      );
    }
    const wrong = { name: name("first"), address: listener("third"), token, certificate, memberConfig: [] };
    await assert.rejects(joinCluster(host, wrong), /already has a member with name/);
    assert.deepEqual(await trusted(), names("first", "first"));
    await create("LxdClusterMember", member("third"));
    assert.deepEqual(await members(), names("first", "third"));
    recognised += 1;
  });

  describe("a member that was removed by force while it was off", () => {
    before(async () => {
      await hosts.lab.powerOff(name("third"));
      await inShell("first", `echo yes | ${client()} cluster remove --force ${name("third")}`);
      await hosts.lab.boot(name("third"));
      await inShell(
        "third",
        `mkdir -p ${data()}/storage-pools/old/containers/c1 ${data()}/storage-pools/old/custom/default_data`,
      );
      await disconnectAll();
      assert.deepEqual(await members(), names("first"));
    });

    it("is refused while its host has data on its disk", async () => {
      assert.equal(
        await refusal("LxdClusterMember", member("third")),
        `${product()} on ${reached("third")} considers itself a member of the cluster at ${reached("first")}, which does not know it: it was removed by force, or ` +
          "its join was interrupted. On its disk are instances c1; custom-volumes old/data. Save what you need, then wipe the host: give its LxdNode " +
          'resetPolicy: ["cluster", "instances", "custom-volumes"], and replace the LxdNode if it exists already (pulumi up --replace URN)',
      );
      assert.equal(await inShell("third", `ls ${data()}/storage-pools/old/containers`), "c1");
      recognised += 1;
    });

    it("is created again when its node may wipe the named objects", async () => {
      await create("LxdNode", node("third", { resetPolicy: ["cluster", "instances", "custom-volumes"] }));
      assert.equal(await inShell("third", `ls ${data()}/storage-pools`), "");
      recognised += 1;
    });
  });

  describe("a join that was interrupted halfway", () => {
    before(cutOffJoin);

    it("leaves a pending row that LXD does not list, and a silent host, which LxdNode refuses without permission to wipe", async () => {
      assert.deepEqual(await members(), names("first"));
      assert.match(await rows(), new RegExp(`${name("second")}\\s*\\|\\s*1`));
      assert.equal(
        await refusal("LxdNode", node("second")),
        `${product()} on ${reached("second")} does not answer. It has the certificate of a cluster. If it is a member: Look at: journalctl --unit ` +
          `${hosts.lab.flavour.server}. If it was ` +
          'left half joined, or was removed by force, wipe it: resetPolicy: ["cluster"]',
      );
      recognised += 1;
    });

    it("is repaired, and leaves no token, row, certificate or replica that blocks the next member", async () => {
      await create("LxdClusterMember", member("second"));
      await create("LxdClusterMember", member("third"));
      assert.deepEqual(await members(), names("first", "second", "third"));
      assert.doesNotMatch(await rows(), /\|\s*1\s*\|/);
      assert.equal(await inShell("first", `${client()} cluster list-tokens --format=csv`), "");
      assert.deepEqual(await trusted(), names("first", "second", "third"));
      recognised += 3;
    });
  });

  describe("a host that was reinstalled under the same name", () => {
    it("joins and replaces its former member", async () => {
      await inShell("second", reinstalled());
      await create("LxdClusterMember", member("second"));
      assert.deepEqual(await members(), names("first", "second", "third"));
      assert.deepEqual(await trusted(), names("first", "second", "third"));
      recognised += 1;
    });
  });

  describe("hosts and a cluster that disagree", () => {
    const first = new Managed(clusterMemberLifecycle as never, "first");
    const third = new Managed(clusterMemberLifecycle as never, "third");
    const profile = new Managed(profileLifecycle as never, "web");
    const firstArgs = (): object => ({ ...member("first"), peers: [to("second"), to("third")], adopt: true });
    const thirdArgs = (): object => ({ ...member("third"), cluster: { endpoints: [to("second"), to("first")] }, adopt: true });
    const profileArgs = (): object => ({ cluster: { endpoints: [to("first"), to("second")] }, name: "web", description: "ours" });
    const removeFirst = (): Promise<string> => inShell("second", `${client()} cluster remove ${name("first")}`);
    const left = (): Promise<string> =>
      inShell("first", `until ${client()} query /1.0 | grep -q '"server_clustered": false'; do sleep 0.2; done`);
    const listed = (): Promise<string[]> => membersOf("second");

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
      assert.deepEqual(await listed(), names("first", "second", "third"));
      recognised += 1;
    });

    it("a reinstalled member shows as drift when it is missing in the cluster, and joins again", async () => {
      await third.up(thirdArgs());
      await inShell("third", reinstalled());
      await inShell(
        "second",
        `until ${client()} cluster list --format=csv | grep ${name("third")} | grep -q OFFLINE; do sleep 0.5; done`,
      );
      assert.equal(await third.preview(thirdArgs()), "updated");
      assert.equal(third.inState("status"), "Reinstalled");
      assert.equal(await third.up(thirdArgs()), "updated");
      assert.deepEqual(await listed(), names("first", "second", "third"));
      recognised += 1;
    });

    it("a member that was removed by force while it ran is gone, and is created again", async () => {
      await inShell("second", `echo yes | ${client()} cluster remove --force ${name("third")}`);
      assert.equal(await third.preview(thirdArgs()), "created");
      assert.equal(await third.up(thirdArgs()), "created");
      assert.deepEqual(await listed(), names("first", "second", "third"));
      recognised += 1;
    });

    it("a first member leaves through a remaining one", async () => {
      await first.destroy();
      assert.deepEqual(await listed(), names("second", "third"));
      await inShell(
        "first",
        `${client()} config set core.https_address=${listener("first")}; ${client()} cluster enable ${name("first")}; ${client()} profile create web`,
      );
      recognised += 1;
    });

    it("another server at the first endpoint is skipped with its reason, and neither read nor changed", async () => {
      assert.equal(await profile.preview(profileArgs()), "same");
      const warnings = profile.warnings.join();
      assert.ok(warnings.includes(`${reached("first")} is not the expected cluster, `), warnings);
      assert.ok(warnings.includes(` it answers as the member "${name("first")}" of the cluster`), warnings);
      await profile.destroy();
      assert.match(await inShell("first", `${client()} profile list --format=csv`), /^web,/m);
      assert.doesNotMatch(await inShell("second", `${client()} profile list --format=csv`), /^web,/m);
      recognised += 1;
    });
  });
});

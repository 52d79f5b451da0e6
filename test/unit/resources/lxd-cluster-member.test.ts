import assert from "node:assert/strict";
import { SimulatedLab } from "../../../lab/simulated";
import { setServerConfig } from "../../../provider/lxd/server";
import { clusterMemberLifecycle } from "../../../provider/resources/lxd-cluster-member";
import { byHand } from "../../engine/cluster-program";
import { memberArgs, TWO_SERVERS } from "../../support/two-hosts";
import { killedAtTheEnd, Managed } from "./simulated-cluster";

describe("LxdClusterMember", () => {
  let lab: SimulatedLab;
  let first: Managed;
  let second: Managed;

  const at = (host: string) => lab.host(host).connection;
  const nameOf = (host: string): string => `root@127.0.0.1:${lab.host(host).port}`;
  const firstArgs = (more?: object): object => memberArgs(lab, "bcn2", more);
  const secondArgs = (more?: object): object => memberArgs(lab, "bcn1", more);
  const changesSince = (since: number): string[] =>
    lab.mutations(since).map(({ method, path }) => `${method} ${path.split("?")[0] ?? ""}`);
  const members = (): string[] => lab.host("bcn2").daemon?.database.members.map(({ name }) => name) ?? [];
  const refusalOf = async (work: Promise<unknown>): Promise<string> => {
    const error = await work.then(
      () => assert.fail("it was not refused"),
      (thrown: unknown) => thrown as Error,
    );
    return error.message;
  };
  const makeCluster = async (): Promise<void> => {
    await first.up(firstArgs());
    await second.up(secondArgs());
  };

  const makePool = (): Promise<void> =>
    byHand(lab, "bcn2", async (lxd) => {
      for (const target of members()) {
        await lxd.change("POST", "/1.0/storage-pools", { query: { target }, body: { name: "default", driver: "dir" } });
      }
      await lxd.change("POST", "/1.0/storage-pools", { body: { name: "default", driver: "dir" } });
    });

  beforeEach(async () => {
    lab = await SimulatedLab.start({ hosts: TWO_SERVERS });
    first = new Managed(clusterMemberLifecycle as never, "bcn2");
    second = new Managed(clusterMemberLifecycle as never, "bcn1");
  });

  afterEach(async () => {
    assert.deepEqual([lab.defects, lab.hosts.flatMap(({ unknownCommands }) => unknownCommands)], [[], []]);
    await lab.stop();
  });

  it("bootstraps the first host and joins the other, and a second up changes nothing", async () => {
    assert.equal(await first.up(firstArgs()), "created");
    assert.equal(await second.up(secondArgs()), "created");
    assert.deepEqual(members(), ["bcn2", "bcn1"]);
    assert.deepEqual([first.inState("address"), second.inState("status")], ["192.168.1.102:8443", "Online"]);
    assert.equal(first.inState("certificateFingerprint"), second.inState("certificateFingerprint"));
    const since = lab.requests.length;
    assert.deepEqual([await first.up(firstArgs()), await second.up(secondArgs())], ["same", "same"]);
    assert.deepEqual(lab.mutations(since), []);
  });

  it("accepts a host that is already a member, so that a lost answer has no effect", async () => {
    await first.up(firstArgs());
    await assert.rejects(new Managed(killedAtTheEnd(clusterMemberLifecycle) as never, "bcn1").up(secondArgs()), /killed/);
    const since = lab.requests.length;
    assert.equal(await second.up(secondArgs()), "created");
    assert.deepEqual(changesSince(since), ["PUT /1.0/cluster/members/bcn1", "PUT /1.0/cluster/members/bcn1"]); // its mark
  });

  it("sets config and failure domain, shows their drift, and repairs it", async () => {
    await makeCluster();
    const wanted = secondArgs({ failureDomain: "rack2", config: { "scheduler.instance": "manual" } });
    assert.equal(await second.up(wanted), "updated");
    assert.equal(await second.up(wanted), "same");
    await byHand(lab, "bcn2", (lxd) =>
      lxd.change("PUT", "/1.0/cluster/members/bcn1", {
        body: { roles: [], failure_domain: "rack3", description: "", config: {}, groups: ["default"] },
      }),
    );
    assert.equal(await second.preview(wanted), "updated");
    assert.equal(second.inState("failureDomain"), "rack3");
    assert.equal(await second.up(wanted), "updated");
    assert.equal(await second.up(wanted), "same");
  });

  it("assigns the roles of the program beside those of the database, and shows and repairs their drift", async () => {
    await makeCluster();
    const wanted = secondArgs({ manualRoles: ["event-hub"] });
    assert.equal(await second.up(wanted), "updated");
    assert.deepEqual(second.inState("roles"), ["event-hub", "database-standby"]);
    assert.equal(await second.up(wanted), "same");
    const byPerson = (roles: string[]): Promise<void> =>
      byHand(lab, "bcn2", (lxd) =>
        lxd.change("PUT", "/1.0/cluster/members/bcn1", {
          body: { roles, failure_domain: "default", description: "", config: {}, groups: ["default"] },
        }),
      );
    await byPerson(["ovn-chassis"]);
    assert.equal(await second.preview(wanted), "updated");
    assert.deepEqual(second.inState("manualRoles"), ["ovn-chassis"]);
    assert.equal(await second.up(wanted), "updated");
    assert.deepEqual(second.inState("roles"), ["event-hub", "database-standby"]);
    assert.equal(await second.up(secondArgs()), "updated");
    assert.deepEqual(second.inState("roles"), ["event-hub", "database-standby"], "they stay");
    assert.equal(await second.up(secondArgs({ manualRoles: [] })), "updated");
    assert.deepEqual(second.inState("roles"), ["database-standby"]);
  });

  it("joins by the cluster's trust password, which is used at the join alone", async () => {
    const password = "correct horse battery";
    await first.up(firstArgs());
    await byHand(lab, "bcn2", (lxd) => setServerConfig(lxd, { "core.trust_password": password }));
    assert.equal(await second.up(secondArgs({ trustPassword: password })), "created");
    assert.deepEqual(members(), ["bcn2", "bcn1"]);
    assert.ok(
      !lab.requests.some(({ method, path }) => method === "POST" && path === "/1.0/cluster/members"),
      "no token was made",
    );
    assert.equal(await second.up(secondArgs({ trustPassword: "another one" })), "same");
    assert.equal(await second.up(secondArgs()), "same");
  });

  it("says that the trust password is another one, without the password", async () => {
    await first.up(firstArgs());
    await byHand(lab, "bcn2", (lxd) => setServerConfig(lxd, { "core.trust_password": "correct horse battery" }));
    assert.equal(
      await refusalOf(second.up(secondArgs({ trustPassword: "wrong horse" }))),
      `bcn1 (${nameOf("bcn1")}) did not join the cluster: Failed to setup cluster trust: Failed to add server cert to cluster: not authorized — ` +
        "trustPassword is not the core.trust_password of the cluster",
    );
    assert.deepEqual(members(), ["bcn2"]);
    assert.equal(await second.up(secondArgs()), "created"); // by a token
  });

  describe("refuses, before anything is touched,", () => {
    it("a trust password for a cluster that has none, as the preview says", async () => {
      await first.up(firstArgs());
      const why =
        `The cluster at ${nameOf("bcn2")} has no trust password: core.trust_password is not set. Set it, for instance by an LxdServerConfig. Or: ` +
        "Leave trustPassword out: the host then joins by a token that is made for it";
      const wanted = secondArgs({ trustPassword: "correct horse battery" });
      const since = lab.requests.length;
      assert.equal(await second.preview(wanted), "created");
      assert.deepEqual(second.notes, [`Member "bcn1": ${why}. Unless that changes before, pulumi up will refuse this`]);
      assert.equal(await refusalOf(second.up(wanted)), `bcn1 (${nameOf("bcn1")}) cannot join by trustPassword: ${why}`);
      assert.deepEqual(changesSince(since), []);
    });

    for (const [flavour, why] of [
      ["lxd-6", /LXD at root@127\.0\.0\.1:\d+ no longer has a trust password/],
      ["trixie-incus7", /Incus has no trust password/],
    ] as const) {
      it(`a trust password on ${flavour}`, async () => {
        await lab.stop();
        lab = await SimulatedLab.start({ hosts: TWO_SERVERS, flavour });
        await first.up(firstArgs());
        const since = lab.requests.length;
        await assert.rejects(second.up(secondArgs({ trustPassword: "correct horse battery" })), why);
        assert.deepEqual(changesSince(since), []);
      });
    }

    it("roles that the server does not have, as the preview says", async () => {
      await first.up(firstArgs());
      const why = `Member "bcn1": LXD at ${nameOf("bcn1")} does not have the role control-plane, database-client of manualRoles`;
      const wanted = secondArgs({ manualRoles: ["event-hub", "control-plane", "database-client"] });
      const since = lab.requests.length;
      assert.equal(await second.preview(wanted), "created");
      assert.deepEqual(second.notes, [
        `${why.replace(nameOf("bcn1"), nameOf("bcn2"))}. Unless that changes before, pulumi up will refuse this`,
      ]);
      assert.equal(await refusalOf(second.up(wanted)), why);
      assert.deepEqual(changesSince(since), []);
    });

    it("to join while all members are evacuated", async () => {
      await first.up(firstArgs({ evacuated: true }));
      const since = lab.requests.length;
      assert.match(
        await refusalOf(second.up(secondArgs())),
        /^bcn1 cannot join the cluster at \S+: all its members are evacuated \(bcn2\), .*lxc cluster restore bcn2/,
      );
      assert.deepEqual(changesSince(since), []);
      await first.up(firstArgs());
      assert.equal(await second.up(secondArgs()), "created");
    });

    it("to join through a host that is in no cluster", async () => {
      assert.equal(
        await refusalOf(second.up(secondArgs())),
        `${nameOf("bcn2")} is not in a cluster, so bcn1 cannot join it. Bootstrap it first (LxdClusterMember without cluster)`,
      );
      assert.deepEqual(changesSince(0), []);
    });

    it("a name or an address that a member already has", async () => {
      await first.up(firstArgs());
      const since = lab.requests.length;
      const has = `The cluster at ${nameOf("bcn2")} already has the member "bcn2" with the address https://192.168.1.102:8443`;
      assert.equal(
        await refusalOf(second.up(secondArgs({ name: "bcn2" }))),
        `${has}, and this one would be "bcn2" with https://192.168.1.101:8443. Choose another name or address`,
      );
      assert.equal(
        await refusalOf(second.up(secondArgs({ address: "192.168.1.102" }))),
        `${has}, and this one would be "bcn1" with https://192.168.1.102:8443. Choose another name or address`,
      );
      assert.deepEqual(changesSince(since), []);
    });

    it("a host that is in the cluster under another name", async () => {
      await makeCluster();
      const again = new Managed(clusterMemberLifecycle as never, "other");
      assert.equal(
        await refusalOf(again.up(secondArgs({ name: "bcn9" }))),
        `LXD on ${nameOf("bcn1")} is already in a cluster, as "bcn1". Use that name, or rename it there (lxc cluster rename bcn1 bcn9)`,
      );
    });

    it("a host that is in another cluster", async () => {
      await first.up(firstArgs());
      await new Managed(clusterMemberLifecycle as never, "alone", "prod").up({
        connection: at("bcn1"),
        name: "bcn1",
        address: "192.168.1.101",
      });
      assert.match(
        await refusalOf(second.up(secondArgs())),
        /^LXD on root@127\.0\.0\.1:\d+ is a member of another cluster, as "bcn1"\. Remove it there, or wipe the host: give its LxdNode resetPolicy: \["cluster"\]/,
      );
    });

    it("a host that is in the cluster of this stack, when the cluster to join is another: the message does not suggest a wipe", async () => {
      await first.up(firstArgs());
      await new Managed(clusterMemberLifecycle as never, "alone").up({ ...secondArgs(), cluster: undefined });
      const since = lab.requests.length;
      const message = await refusalOf(second.up(secondArgs()));
      assert.match(
        message,
        /^LXD on .* is in the cluster that this stack made \(members: bcn1\), but .* is in another one\. Nothing was changed/,
      );
      assert.doesNotMatch(message, /resetPolicy/);
      assert.deepEqual(changesSince(since), []);
    });

    it("a host that listens on every address", async () => {
      await first.up(firstArgs());
      await byHand(lab, "bcn1", (lxd) => lxd.change("PATCH", "/1.0", { body: { config: { "core.https_address": ":8443" } } }));
      assert.equal(
        await refusalOf(second.up(secondArgs())),
        `LXD on ${nameOf("bcn1")} listens on every address (core.https_address is ":8443"), and this version cannot join a cluster then. Set ` +
          'it to "192.168.1.101:8443" (config of its LxdNode)',
      );
    });

    it("a host whose kernel has the cluster's bridge of a former LXD, with the command to remove it", async () => {
      await first.up(firstArgs());
      await byHand(lab, "bcn2", (lxd) => lxd.change("POST", "/1.0/networks", { body: { name: "lxdbr0", type: "bridge" } }));
      lab.host("bcn1").interfaces.set("lxdbr0", { type: "bridge", hwaddr: "00:16:3e:00:00:02", addresses: [] });
      const since = lab.requests.length;
      assert.equal(
        await refusalOf(second.up(secondArgs())),
        `${nameOf("bcn1")} has the network interface lxdbr0, which LXD does not manage, and the cluster at ${nameOf("bcn2")} has a bridge of ` +
          "that name, which would be made on the host. It is probably left from an earlier installation. If nothing uses it: ip link delete lxdbr0",
      );
      assert.deepEqual(changesSince(since), []);
      lab.host("bcn1").interfaces.delete("lxdbr0");
      assert.equal(await second.up(secondArgs()), "created");
    });

    it("a host that holds something, which would be lost", async () => {
      await first.up(firstArgs());
      await byHand(lab, "bcn1", (lxd) => lxd.change("POST", "/1.0/storage-pools", { body: { name: "mine", driver: "dir" } }));
      assert.equal(
        await refusalOf(second.up(secondArgs())),
        `LXD on ${nameOf("bcn1")} holds storage-pools mine, and only an empty server can join a cluster, here as bcn1. Remove that, or wipe it: give ` +
          'its LxdNode resetPolicy: ["storage-pools"]',
      );
    });

    it("values for a key that the cluster's pool does not have", async () => {
      await first.up(firstArgs());
      await makePool();
      const memberConfig = { pools: { default: { "zfs.pool_name": "tank" } } };
      assert.equal(
        await refusalOf(second.up(secondArgs({ memberConfig }))),
        'memberConfig.pools.default.zfs.pool_name is not a member-specific key of "default", which has source',
      );
      assert.deepEqual(members(), ["bcn2"]);
    });

    it("a disk that the host does not have, with the pool that would be on it", async () => {
      await first.up(firstArgs());
      await makePool();
      assert.equal(
        await refusalOf(second.up(secondArgs({ memberConfig: { pools: { default: { source: "/dev/sdx" } } } }))),
        `memberConfig.pools.default.source is /dev/sdx, and ${nameOf("bcn1")} has no such disk, file or directory. Give what storage pool "default" uses ` +
          "there",
      );
      assert.deepEqual(members(), ["bcn2"]);
    });

    it("an interface that the host does not have, given or as on the existing member", async () => {
      await first.up(firstArgs());
      const lan = { type: "physical" as const, hwaddr: "00:16:3e:00:00:02", addresses: [] };
      lab.host("bcn2").interfaces.set("eno1", lan);
      const body = { name: "lan", type: "macvlan", config: { parent: "eno1" } };
      await byHand(lab, "bcn2", (lxd) => lxd.change("POST", "/1.0/networks", { body }));
      const refusal = (name: string, rest: string): string =>
        `${nameOf("bcn1")} has no network interface "${name}" for network "lan" (parent${rest}). Give the one that it has: memberConfig: { networks: { ` +
        '"lan": { "parent": "..." } } }';
      assert.equal(await refusalOf(second.up(secondArgs())), refusal("eno1", ", as on another member"));
      const given = secondArgs({ memberConfig: { networks: { lan: { parent: "enp3s0" } } } });
      assert.equal(await refusalOf(second.up(given)), refusal("enp3s0", ""));
      lab.host("bcn1").interfaces.set("enp3s0", lan);
      assert.equal(await second.up(given), "created");
    });
  });

  it("warns of values for a pool that the cluster does not have, and of a storage driver that the host may lack", async () => {
    await first.up(firstArgs());
    await byHand(lab, "bcn2", (lxd) => lxd.change("POST", "/1.0/storage-pools", { body: { name: "default", driver: "btrfs" } }));
    Object.assign(lab.host("bcn1").daemon ?? {}, { drivers: ["dir"] });
    assert.equal(await second.up(secondArgs({ memberConfig: { pools: { defualt: { source: "/dev/sdb" } } } })), "created");
    assert.deepEqual(second.warnings.slice(-2), [
      "memberConfig.pools.defualt has no effect: the cluster has no such storage pool with values of members. Did you mean default?",
      `LXD on ${nameOf("bcn1")} did not have the storage driver btrfs when it last looked, and storage pool "default" needs it. If the join fails, install ` +
        "what the driver needs there, for instance by install.packages of its LxdNode",
    ]);
  });

  for (const [memberConfig, fault] of [
    [
      { pools: { fast: { sauce: "/dev/sdb" } } },
      /^memberConfig\.pools\.fast\.sauce is no key with a value for each member\. Did you mean source\?/,
    ],
    [
      { pools: { fast: { "rsync.bwlimit": "1MB" } } },
      /^memberConfig\.pools\.fast\.rsync\.bwlimit has one value for all members; set it in config of the LxdStoragePool/,
    ],
    [{ pools: { fast: { size: "lots" } } }, /^memberConfig\.pools\.fast\.size is not a size such as "20GiB"/],
    [{ networks: { lan: { parents: "eno1" } } }, /^memberConfig\.networks\.lan\.parents is no key .* Did you mean parent\?/],
    [
      { networks: { lan: { "ipv4.address": "auto" } } },
      /^memberConfig\.networks\.lan\.ipv4\.address has one value for all members; set it in config of the LxdNetwork/,
    ],
  ] as const) {
    it(`refuses in check what no member has of its own: ${JSON.stringify(memberConfig)}`, async () => {
      const faults = await second.faults(secondArgs({ memberConfig }));
      assert.equal(faults.length, 1, faults.join("\n"));
      assert.match(faults[0] ?? "", fault);
    });
  }

  it("joins from a host that listens on every address, where LXD can", async () => {
    await lab.stop();
    lab = await SimulatedLab.start({ hosts: TWO_SERVERS, flavour: "lxd-6" });
    await first.up(firstArgs());
    await byHand(lab, "bcn1", (lxd) => lxd.change("PATCH", "/1.0", { body: { config: { "core.https_address": ":8443" } } }));
    assert.equal(await second.up(secondArgs()), "created");
    assert.equal(lab.host("bcn1").daemon?.localConfig["core.https_address"], ":8443");
  });

  it("revokes the join token when the join fails, reports LXD's reason, and joins the next time", async () => {
    await first.up(firstArgs());
    const fault = lab.faults.add({
      when: { host: "bcn1", method: "PUT", path: /^\/1\.0\/cluster$/, nth: 1 },
      effect: { failOperation: "Failed to join cluster: dial tcp 192.168.1.102:8443: i/o timeout" },
    });
    const since = lab.requests.length;
    const message = await refusalOf(second.up(secondArgs()));
    assert.equal(fault.hits, 1);
    assert.ok(
      message.startsWith(
        `bcn1 (${nameOf("bcn1")}) did not join the cluster: Failed to join cluster: dial tcp 192.168.1.102:8443: i/o timeout — the hosts must reach ` +
          "each other on their cluster addresses (TCP 8443).",
      ),
      message,
    );
    assert.ok(message.endsWith(". The join token was revoked"), message);
    assert.equal(changesSince(since).filter((change) => /^DELETE \/1\.0\/operations\//.test(change)).length, 1);
    assert.equal(await second.up(secondArgs()), "created");
  });

  describe("when it is removed", () => {
    it("leaves the cluster and a host that can join again", async () => {
      await makeCluster();
      await second.destroy();
      assert.deepEqual(members(), ["bcn2"]);
      assert.equal(await second.up(secondArgs()), "created");
      assert.deepEqual(members(), ["bcn2", "bcn1"]);
    });

    for (const [what, config, address] of [
      ["and does not listen on the network when it did not before", {}, "192.168.1.101"],
      ["and listens where it did before", { "core.https_address": "192.168.1.101:8443" }, "192.168.1.101"],
      [
        "and listens where it did before, which was elsewhere",
        { "core.https_address": "192.168.1.101:9443" },
        "192.168.1.101:8443",
      ],
    ] as const) {
      it(`keeps the host's own config, ${what}`, async () => {
        await first.up(firstArgs());
        await byHand(lab, "bcn1", (lxd) => setServerConfig(lxd, { ...config, "core.debug_address": "127.0.0.1:8444" }));
        await second.up(secondArgs({ address }));
        await second.destroy();
        assert.deepEqual(lab.host("bcn1").daemon?.localConfig, { ...config, "core.debug_address": "127.0.0.1:8444" });
      });
    }

    it("as the last one, becomes a standalone server", async () => {
      await first.up(firstArgs());
      await first.destroy();
      assert.equal(lab.host("bcn2").daemon?.database.clustered, false);
      assert.equal(await first.up(firstArgs()), "created");
    });

    it("is refused while instances are on it, by name", async () => {
      await makeCluster();
      const root = { type: "disk", path: "/", pool: "default" };
      await makePool();
      lab.seedInstances(2, { host: "bcn2", type: "container", running: false, devices: { root } });
      const message = await refusalOf(second.destroy());
      assert.match(
        message,
        /^Member bcn1 is not empty: instances vm\d\. Nothing was changed\. Move these to other members \(leaving: "migrate" moves the instances\), or remove them$/,
      );
      assert.deepEqual(members(), ["bcn2", "bcn1"]);
    });
  });

  describe("that still has instances", () => {
    const told =
      "Member bcn1 is not empty: instances vm1, vm3; custom-volumes default/data. pulumi up refuses to remove it from the cluster until " +
      "these are moved to another member or removed";
    const saidBy = async (it: Managed, given: object): Promise<string[]> => {
      const [before, since] = [it.warnings.length, lab.requests.length];
      await it.preview(given);
      assert.deepEqual(changesSince(since), []);
      return it.warnings.slice(before);
    };
    beforeEach(async () => {
      await first.up(firstArgs({ peers: [at("bcn1")] }));
      await second.up(secondArgs());
    });
    const fill = async (): Promise<void> => {
      await makePool();
      const devices = { root: { type: "disk", path: "/", pool: "default" } };
      lab.seedInstances(4, { host: "bcn2", type: "container", running: false, devices });
      await lab.byHand("bcn1", "POST", "/1.0/storage-pools/default/volumes/custom?target=bcn1", { name: "data" });
    };

    it("is reported by the preview, with its content, when its host is removed from the program", async () => {
      assert.deepEqual(await saidBy(first, firstArgs()), []);
      await fill();
      assert.deepEqual(await saidBy(first, firstArgs({ peers: [at("bcn1")], failureDomain: "rack2" })), []);
      assert.deepEqual(await saidBy(first, firstArgs()), [`${told}, unless its own leaving evacuates it`]);
      await lab.host("bcn1").powerOff();
      assert.deepEqual(await saidBy(first, firstArgs()), []); // the LxdNode reports a host that does not answer
    });

    it("is reported by the preview, with its content, when it will be replaced", async () => {
      await fill();
      const said = await saidBy(second, secondArgs({ address: "192.168.1.111" }));
      assert.ok(said.includes(told));
      assert.match(
        said.join("\n"),
        /The address of bcn1 for the other members cannot change while the cluster runs\..*"A member with a new address" in docs\/guide\/recovery\.md/,
      );
    });
  });

  it("reports in check what is wrong, by property", async () => {
    assert.deepEqual(
      await second.faults(secondArgs({ name: "bcn/1", address: "0.0.0.0", cluster: { endpoints: [] }, failureDomain: "" })),
      [
        "name is not a valid name of a member: letters, digits, and . _ ~ @ : + - in them, not beginning with @",
        'address must be one address of the host, such as "192.168.1.102", not a wildcard',
        "cluster.endpoints needs at least one host",
        "failureDomain must not be empty",
      ],
    );
    const roles = "event-hub, ovn-chassis, control-plane, database-client";
    assert.deepEqual(await second.faults(secondArgs({ manualRoles: ["database-leader", "hub"] })), [
      `manualRoles.0 must be one of ${roles}: the server alone assigns the roles of its database, which are in the output roles`,
      `manualRoles.1 must be one of ${roles}`,
    ]);
    assert.deepEqual(await first.faults(firstArgs({ trustPassword: "sekret" })), [
      "trustPassword is only for a member that joins a cluster",
    ]);
  });
});

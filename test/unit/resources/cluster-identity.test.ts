import assert from "node:assert/strict";
import { makeCertificate } from "../../../lab/simulated/lxd/certificate";
import { LxdClient } from "../../../provider/lxd/client/client";
import { clusterEndpoint } from "../../../provider/lxd/client/cluster-endpoint";
import { withClusterLock } from "../../../provider/lxd/cluster/cluster-lock";
import { withInstanceLock } from "../../../provider/lxd/instances/instance-lock";
import { profileLifecycle } from "../../../provider/resources/lxd-profile";
import { vmLifecycle } from "../../../provider/resources/lxd-vm";
import { Deadline } from "../../../provider/support/deadline";
import { type Connection, connectionSchema } from "../../../provider/transport/connection";
import { disconnectAll } from "../../../provider/transport/pool";
import { Managed, type SimulatedCluster, startStandalone, startTwoMembers } from "./simulated-cluster";

describe("The identity of a cluster", () => {
  let two: SimulatedCluster;
  let it_: Managed;

  const profile = (more: object = {}): object => ({ cluster: two.cluster, name: "web", ...more });
  const fingerprint = (host: string): string => {
    const { daemon } = two.lab.host(host);
    assert(daemon !== undefined);
    return (daemon.database.certificate ?? daemon.certificate).fingerprint;
  };
  const profiles = (host: string): string[] =>
    [...(two.lab.host(host).daemon?.database.profiles.values() ?? [])].map(({ name }) => name);
  const mutationsOn = (host: string, since: number): string[] =>
    two.lab.mutations(since).flatMap((request) => (request.host === host ? [`${request.method} ${request.path}`] : []));
  /** `lxc cluster remove bcn2`, on bcn1. */
  const remove = (): Promise<unknown> => two.lab.byHand("bcn1", "DELETE", "/1.0/cluster/members/bcn2");
  /** Creates another cluster on the removed host. */
  const makeRival = async (): Promise<void> => {
    await remove();
    await two.lab.byHand("bcn2", "PUT", "/1.0/cluster", { server_name: "bcn2", enabled: true });
  };

  beforeEach(async () => {
    two = await startTwoMembers();
    it_ = new Managed(profileLifecycle as never, "web");
  });
  afterEach(async () => {
    assert.deepEqual(two.lab.defects, []);
    await two.stop();
  });

  it("is found when a resource is created, and stored in its state", async () => {
    await it_.up(profile());
    assert.equal(it_.inState("clusterFingerprint"), fingerprint("bcn2"));
    assert.equal(await it_.up(profile()), "same");
    assert.deepEqual(it_.warnings, []);
  });

  it("is the program's value if set, and then stored in state", async () => {
    const certificateFingerprint = fingerprint("bcn2");
    await it_.up(profile());
    assert.equal(await it_.up(profile({ cluster: { ...two.cluster, certificateFingerprint } })), "same");
    assert.equal(await it_.up(profile({ cluster: { ...two.cluster, certificateFingerprint }, description: "x" })), "updated");
    assert.equal(it_.inState("clusterFingerprint"), undefined);
    assert.equal(await it_.up(profile({ description: "y" })), "updated");
    assert.equal(it_.inState("clusterFingerprint"), certificateFingerprint);
  });

  it("is read once for each endpoint in a process", async () => {
    const since = two.lab.requests.length;
    const deadline = new Deadline(30, "the test");
    const cluster = { ...two.cluster, certificateFingerprint: fingerprint("bcn2") };
    for (let time = 0; time < 5; time += 1) {
      await clusterEndpoint(cluster, { deadline, patient: false, warn: (text) => assert.fail(text) });
    }
    assert.deepEqual(
      two.lab.requests.slice(since).map(({ host, path }) => `${host} ${path}`),
      ["bcn2 /1.0"],
    );
  });

  it("is undefined for a server that is in no cluster, which may join one", async () => {
    const alone = await startStandalone();
    try {
      await it_.up({ cluster: alone.cluster, name: "web" });
      assert.equal(it_.inState("clusterFingerprint"), undefined);
      await alone.lab.byHand("bcn2", "PATCH", "/1.0", { config: { "core.https_address": "192.168.1.101:8443" } });
      await alone.lab.byHand("bcn2", "PUT", "/1.0/cluster", { server_name: "bcn2", enabled: true });
      assert.equal(await it_.up({ cluster: alone.cluster, name: "web" }), "same");
      assert.notEqual(it_.inState("clusterFingerprint"), undefined);
    } finally {
      await alone.stop();
    }
  });

  for (const [what, arrange, reason] of [
    [
      "a rival cluster",
      makeRival,
      /: root@.* is not the expected cluster, whose certificate is \w{64}: it answers as the member "bcn2" of the cluster with/,
    ],
    [
      "a server that was removed from it",
      remove,
      /it answers as the server "bcn2", which is in no cluster, with the certificate/,
    ],
  ] as const) {
    describe(`keeps a resource away from ${what}, even if it is the first endpoint:`, () => {
      beforeEach(async () => {
        await it_.up(profile({ description: "ours" }));
        await arrange();
        await two.lab.byHand("bcn2", "POST", "/1.0/profiles", { name: "web", description: "theirs" });
      });

      it("it is read from the right cluster, and the skipped endpoint is named with its reason", async () => {
        assert.equal(await it_.preview(profile({ description: "ours" })), "same");
        assert.equal(it_.warnings.length, 1);
        assert.match(it_.warnings[0] ?? "", reason);
        assert.match(it_.warnings[0] ?? "", new RegExp(`:${two.lab.host("bcn2").port} `));
      });

      it("a change and a removal use the real cluster", async () => {
        const since = two.lab.requests.length;
        assert.equal(await it_.up(profile({ description: "changed" })), "updated");
        await it_.destroy();
        assert.deepEqual(mutationsOn("bcn2", since), []);
        assert.deepEqual([profiles("bcn1"), profiles("bcn2")], [["default"], ["default", "web"]]);
      });

      it("also where state has no identity yet, unless two clusters answer: then nothing is done", async () => {
        delete it_.state?.["clusterFingerprint"];
        const since = two.lab.requests.length;
        const outcome = it_.up(profile({ description: "changed" }));
        if (arrange === makeRival) {
          await assert.rejects(
            outcome,
            /^Error: The endpoints do not belong to one cluster, and certificateFingerprint is not given:\n {2}- root@.*\n {2}- root@.*\nNothing was done\. .*certificateFingerprint/,
          );
          assert.deepEqual(two.lab.mutations(since), []);
        } else {
          assert.equal(await outcome, "updated");
        }
        assert.deepEqual(mutationsOn("bcn2", since), []);
      });
    });
  }

  it("prevents the use of a machine with the same name on another cluster", async () => {
    const root = { type: "disk", path: "/", pool: "default" };
    for (const target of ["bcn2", "bcn1"]) {
      await two.lab.byHand("bcn2", "POST", `/1.0/storage-pools?target=${target}`, { name: "default", driver: "dir" });
    }
    await two.lab.byHand("bcn2", "POST", "/1.0/storage-pools", { name: "default", driver: "dir" });
    two.lab.seedImage("bcn2", { alias: "debian" });
    const vm = new Managed(vmLifecycle as never, "web1");
    const args = {
      cluster: two.cluster,
      name: "web1",
      instanceType: "container",
      image: { alias: "debian" },
      devices: { root },
      target: "bcn1",
    };
    await vm.up(args);
    await makeRival();
    await two.lab.byHand("bcn2", "POST", "/1.0/storage-pools", { name: "default", driver: "dir" });
    two.lab.seedInstances(1, { host: "bcn2", prefix: "web", type: "container", devices: { root } });
    const since = two.lab.requests.length;
    assert.equal(await vm.up(args), "same");
    await vm.destroy();
    assert.deepEqual(mutationsOn("bcn2", since), []);
    assert.deepEqual([...(two.lab.host("bcn2").daemon?.database.instances.keys() ?? [])], ["default/web1"]);
    assert.equal(two.lab.host("bcn1").daemon?.database.instances.size, 0);
  });

  it("names a host that was skipped for its changed host key, and not one that does not answer", async () => {
    await it_.up(profile());
    const [bcn2, bcn1] = two.cluster.endpoints;
    assert(bcn2 !== undefined && bcn1 !== undefined);
    const state = structuredClone(it_.state);
    const preview = async (endpoints: readonly Connection[]): Promise<string> => {
      it_.state = { ...structuredClone(state), cluster: { endpoints } };
      return it_.preview(profile({ cluster: { endpoints } }));
    };
    assert.equal(await preview([{ ...bcn2, port: 1 }, bcn1]), "same");
    assert.deepEqual(it_.warnings, []);
    const changed = connectionSchema.parse({ ...bcn2, hostKey: two.lab.publicKey });
    assert.equal(await preview([changed, bcn1]), "same");
    assert.match(
      it_.warnings.join(),
      /^Skipped, and another host of the cluster is used: root@.* was not trusted: the host presented the key/,
    );
  });

  it("is found through another member when the first one's sshd accepts the login and then opens no channel", async () => {
    await it_.up(profile());
    it_.state = { ...it_.state, timeouts: { read: 8 } };
    two.lab.faults.add({ when: { host: "bcn2", ssh: "channel" }, effect: "hang" });
    assert.equal(await it_.preview(profile({ timeouts: { read: 8 } })), "same");
  });

  describe("While the first member's LXD starts", () => {
    const restart = (...hosts: string[]): void => {
      for (const host of hosts) {
        two.lab.host(host).controlUnit("restart", "lxd.service");
      }
    };

    beforeEach(async () => {
      await it_.up(profile());
      two.lab.timings.daemonStartMs = 1500;
    });

    it("it is found through another member, without a wait and without a warning", async () => {
      restart("bcn2");
      const since = two.lab.requests.length;
      assert.equal(await it_.preview(profile()), "same");
      const there = two.lab.requests.slice(since).filter(({ host }) => host === "bcn2");
      assert.deepEqual(
        there.map(({ path, answer }) => `${path} ${answer?.status}`),
        ["/1.0 503"],
      );
      assert.deepEqual(it_.warnings, []);
    });

    it("it is waited for when the others start, too, or do not answer", async () => {
      restart("bcn2", "bcn1");
      assert.equal(await it_.preview(profile()), "same");
      await two.lab.host("bcn1").powerOff();
      restart("bcn2");
      assert.equal(await it_.preview(profile()), "same");
      assert.deepEqual(it_.warnings, []);
    });
  });

  for (const user of ["root", "operator"]) {
    it(`is found through another member by ${user}, too, when LXD has ended on the first, which is said`, async () => {
      const endpoints = two.cluster.endpoints.map((endpoint) => ({ ...endpoint, user })).reverse(); // bcn2 has the database
      for (const host of two.lab.hosts) {
        host.login = { ...host.login, users: [user] };
      }
      const there = profile({ cluster: { endpoints } });
      await it_.up(there);
      for (const unit of ["lxd.socket", "lxd.service"]) {
        two.lab.host("bcn1").controlUnit("stop", unit);
      }
      const since = two.lab.requests.length;
      assert.equal(await it_.preview(there), "same");
      assert.deepEqual([...new Set(two.lab.requests.slice(since).map(({ host }) => host))], ["bcn2"]);
      assert.match(it_.warnings.join(), new RegExp(`^Skipped, .*: Neither LXD nor Incus runs on ${user}@`));
    });
  }

  it("must be confirmed when the cluster's certificate was renewed: the error names both and what to set, and nothing is done before", async () => {
    await it_.up(profile());
    const old = fingerprint("bcn2");
    const { database } = two.lab.host("bcn2").daemon ?? {};
    assert(database !== undefined);
    database.certificate = makeCertificate("cluster");
    const renewed = fingerprint("bcn2");
    const since = two.lab.requests.length;
    await assert.rejects(it_.up(profile({ description: "x" })), (error: Error) => {
      assert.match(error.message, /^No host answers as the expected cluster:\n/);
      assert.ok(error.message.includes(old));
      assert.match(
        error.message,
        new RegExp(`If the cluster's certificate was renewed .* certificateFingerprint: "${renewed}", next to endpoints`),
      );
      assert.match(error.message, /pulumi up --refresh=false once$/);
      return true;
    });
    assert.deepEqual(two.lab.mutations(since), []);
    const confirmed = profile({ cluster: { ...two.cluster, certificateFingerprint: renewed }, description: "x" });
    assert.equal(await it_.up(confirmed, { refresh: false }), "updated");
    assert.equal(await it_.up(confirmed), "same");
  });

  it("is refused if it is malformed", async () => {
    assert.deepEqual(await it_.faults(profile({ cluster: { ...two.cluster, certificateFingerprint: "SHA256:abc" } })), [
      "cluster.certificateFingerprint must be the SHA-256 of a certificate, 64 hexadecimal digits: certificate_fingerprint in `lxc info` or `incus info`",
    ]);
  });

  describe("is the key of what protects a cluster, so that", () => {
    const clients = async (): Promise<LxdClient[]> => {
      const deadline = new Deadline(30, "the test");
      const options = { deadline, patient: false, warn: () => undefined };
      const found = await Promise.all(
        two.cluster.endpoints.map((endpoint) => clusterEndpoint({ endpoints: [endpoint] }, options)),
      );
      return found.map(({ endpoint }) => new LxdClient(endpoint, deadline));
    };
    const mostAtOnce = async (begin: (lxd: LxdClient, work: () => Promise<void>) => Promise<void>): Promise<number> => {
      let [running, most] = [0, 0];
      const work = async (): Promise<void> => {
        running += 1;
        most = Math.max(most, running);
        await new Promise((resolve) => setImmediate(resolve));
        running -= 1;
      };
      const all = await clients();
      await Promise.all([...all, ...all].map((lxd) => begin(lxd, work)));
      await disconnectAll();
      return most;
    };

    it("operations that LXD cannot run concurrently in a cluster are not started through two members at once", async () => {
      assert.equal(await mostAtOnce((lxd, work) => withClusterLock(lxd, work)), 1);
    });

    it("work on an instance is not started through two members at once", async () => {
      assert.equal(await mostAtOnce((lxd, work) => withInstanceLock({ lxd, project: "default", name: "web1" }, work)), 1);
    });
  });
});

import assert from "node:assert/strict";
import { SimulatedLab } from "../../lab/simulated";
import { makeCertificate } from "../../lab/simulated/lxd/certificate";
import { clusterMemberLifecycle } from "../../provider/resources/lxd-cluster-member";
import { nodeLifecycle } from "../../provider/resources/lxd-node";
import { FAILED_REQUESTS } from "../support/failed-requests";
import { figure } from "../support/figure";
import { memberArgs, TWO_SERVERS } from "../support/two-hosts";
import { Managed } from "../unit/resources/simulated-cluster";

/** The state of a host and its cluster after joins that were interrupted at each step. */
describe("A host that is half in a cluster", () => {
  let lab: SimulatedLab;
  let second: Managed;
  let recognised = 0;
  const DATA = "/var/lib/lxd";

  const at = (host: string) => lab.host(host).connection;
  const nameOf = (host: string): string => `root@127.0.0.1:${lab.host(host).port}`;
  const args = (more: object = {}): object => ({
    connection: at("bcn1"),
    name: "bcn1",
    address: "192.168.1.101",
    cluster: { endpoints: [at("bcn2")] },
    timeouts: { create: 8, read: 4 }, // half of it is the time for a daemon to answer
    ...more,
  });
  const nodeArgs = (more: object = {}): object => ({ connection: at("bcn1"), install: { method: "deb" }, ...more });
  const cluster = () => {
    const database = lab.host("bcn2").daemon?.database;
    assert.ok(database);
    return database;
  };
  const daemon = () => {
    const found = lab.host("bcn1").daemon;
    assert.ok(found);
    return found;
  };
  const members = (): string[] => cluster().members.map(({ name }) => name);
  const put = (path: string): void => lab.host("bcn1").files.makeDirectory(`${DATA}/${path}`, { parents: true });
  const refusal = (work: Promise<unknown>): Promise<string> =>
    work.then(
      () => assert.fail("it was not refused"),
      (error: unknown) => (error as Error).message,
    );
  const removeByForce = async (): Promise<void> => {
    await second.up(args());
    await lab.host("bcn1").powerOff();
    await lab.byHand("bcn2", "DELETE", "/1.0/cluster/members/bcn1?force=1");
    await lab.host("bcn1").powerOn();
  };

  beforeEach(async () => {
    lab = await SimulatedLab.start({
      hosts: TWO_SERVERS,
    });
    const first = new Managed(clusterMemberLifecycle as never, "bcn2");
    await first.up(memberArgs(lab, "bcn2"));
    second = new Managed(clusterMemberLifecycle as never, "bcn1");
  });

  afterEach(async function () {
    const unknown = lab.hosts.flatMap(({ unknownCommands }) => unknownCommands);
    await lab.stop();
    assert.deepEqual([lab.defects, unknown], [[], []]);
    recognised += this.currentTest?.state === "passed" ? 1 : 0;
  });

  after(() => figure("half-joined states recognized on simulated hosts", recognised));

  describe("is joined,", () => {
    afterEach(() => assert.deepEqual(members(), ["bcn2", "bcn1"]));

    it("after a token was issued and not used, which is reported", async () => {
      await lab.byHand("bcn2", "POST", "/1.0/cluster/members", { server_name: "bcn1" });
      await second.up(args());
      assert.deepEqual(second.warnings, [
        'A join token for bcn1 existed, from an interrupted attempt or from "lxc cluster add bcn1". It is now invalid',
      ]);
    });

    it("with a pending row", async () => {
      cluster().pendingMembers.push({ id: 2, name: "bcn1", address: "192.168.1.101:8443" });
      await second.up(args());
      assert.deepEqual(cluster().pendingMembers, []);
    });

    it("with a replica of the database that no host serves, on which every join would wait", async () => {
      cluster().strayReplicas.add("192.168.1.101:8443");
      await second.up(args());
      assert.deepEqual(second.warnings, [
        "A replica of the cluster's database at 192.168.1.101:8443, left by an interrupted join of bcn1, was removed",
      ]);
    });

    it("with its former certificate trusted, which is reported", async () => {
      const former = { ...makeCertificate("bcn1"), name: "bcn1", type: "server" as const, restricted: false, projects: [] };
      cluster().certificates.set(former.fingerprint, former);
      await second.up(args());
      assert.deepEqual(second.warnings, [
        "A former certificate of bcn1, left by an interrupted join, was removed from the cluster's trust store",
      ]);
      assert.equal(cluster().certificates.has(former.fingerprint), false);
    });

    it("with its certificate trusted under a name that was refused", async () => {
      const { certificate } = daemon();
      const trusted = { ...certificate, name: "bcn2", type: "server" as const, restricted: false, projects: [] };
      cluster().certificates.set(certificate.fingerprint, trusted);
      await second.up(args());
      assert.equal(cluster().certificates.get(certificate.fingerprint)?.name, "bcn1");
    });

    it("although it trusts the cluster's members already, which is reported", async () => {
      for (const [fingerprint, certificate] of cluster().certificates) {
        daemon().database.certificates.set(fingerprint, certificate);
      }
      await second.up(args());
      assert.deepEqual(second.warnings, [
        `The cluster's certificates, left by an interrupted join of bcn1, were removed from the trust store of ${nameOf("bcn1")}`,
      ]);
    });

    it("whose LXD does not answer, and has this cluster's certificate", async () => {
      daemon().cutOffJoin(cluster().certificate?.pem ?? "");
      await second.up(args());
      assert.deepEqual(second.warnings, [
        `LXD on ${nameOf("bcn1")} was left half joined, or its member was removed by force. The cluster does not list it and it holds no ` +
          "data, so it is wiped and joins again",
      ]);
    });

    it("that was removed by force while it was off", async () => {
      await removeByForce();
      assert.equal(await second.up(args()), "created");
    });
  });

  describe("is refused, and keeps its data,", () => {
    it("when it was removed by force and has instances and volumes on its disk", async () => {
      await removeByForce();
      put("storage-pools/old/containers/c1");
      put("storage-pools/old/custom/default_data");
      assert.equal(
        await refusal(second.up(args())),
        `LXD on ${nameOf("bcn1")} considers itself a member of the cluster at ${nameOf("bcn2")}, which does not know it: it was removed by force, or its ` +
          "join was interrupted. On its disk are instances c1; custom-volumes old/data. Save what you need, then wipe the host: give its LxdNode " +
          'resetPolicy: ["cluster", "instances", "custom-volumes"], and replace the LxdNode if it exists already (pulumi up --replace URN)',
      );
      assert.ok(lab.host("bcn1").files.exists(`${DATA}/storage-pools/old/containers/c1`));
    });

    it("when its volumes are on another disk, behind a link", async () => {
      await removeByForce();
      const { files } = lab.host("bcn1");
      files.makeDirectory("/srv/pools/old/custom/default_data", { parents: true });
      files.remove(`${DATA}/storage-pools`, true);
      files.makeSymlink(`${DATA}/storage-pools`, "/srv/pools");
      assert.match(await refusal(second.up(args())), /On its disk are custom-volumes old\/data\. Save what you need/);
      assert.ok(files.exists("/srv/pools/old/custom/default_data"));
    });

    it("when it has a pool that cannot be read", async () => {
      daemon().cutOffJoin(cluster().certificate?.pem ?? "");
      lab.host("bcn1").files.writeFile(`${DATA}/disks/fast.img`, "");
      assert.match(await refusal(second.up(args())), /On its disk are custom-volumes fast\/\* \(the pool is not mounted\)/);
      assert.ok(lab.host("bcn1").files.exists(`${DATA}/disks/fast.img`));
    });

    it("when its LXD is silent with the certificate of another cluster", async () => {
      daemon().cutOffJoin(daemon().certificate.pem);
      assert.equal(
        await refusal(second.up(args())),
        `LXD on ${nameOf("bcn1")} does not answer. It has the certificate of another cluster, which is gone or cannot be reached. Bring that cluster ` +
          'back, or wipe the host: give its LxdNode resetPolicy: ["cluster"], and replace the LxdNode if it exists already (pulumi up --replace URN)',
      );
    });

    it("when its LXD is silent and the cluster has it as a member", async () => {
      await second.up(args());
      lab.faults.add({ when: { host: "bcn1" }, effect: "hang" });
      const again = new Managed(clusterMemberLifecycle as never, "bcn1");
      assert.equal(
        await refusal(again.up(args())),
        `LXD on ${nameOf("bcn1")} does not answer, and the cluster at ${nameOf("bcn2")} lists it as the member "bcn1" (Online). Look at: journalctl ` +
          "--unit lxd. If it cannot be repaired, remove the member with all that it held: lxc cluster remove --force bcn1",
      );
    });
  });

  describe("as a node whose LXD does not answer", () => {
    beforeEach(() => daemon().cutOffJoin(cluster().certificate?.pem ?? ""));

    it("is wiped when resetPolicy names the cluster, and nothing else is on its disk", async () => {
      const node = new Managed(nodeLifecycle as never, "bcn1");
      await node.up(nodeArgs({ resetPolicy: ["cluster"], timeouts: { create: 8 } }));
      assert.ok(node.progress.includes(`wiping LXD on ${nameOf("bcn1")}: cluster that it does not answer for`));
    });

    it("is not wiped when there are instances on its disk that resetPolicy does not name", async () => {
      put("storage-pools/old/containers/web_c1");
      const node = new Managed(nodeLifecycle as never, "bcn1");
      assert.equal(
        await refusal(node.up(nodeArgs({ resetPolicy: ["cluster"], timeouts: { create: 8 } }))),
        `LXD on ${nameOf("bcn1")} does not answer. It has the certificate of a cluster, and on its disk are instances web/c1. If it is a member: Look ` +
          "at: journalctl --unit lxd. If it was left half joined, or was removed by force, wipe it: " +
          'resetPolicy: ["cluster", "instances"]',
      );
      assert.ok(lab.host("bcn1").files.exists(`${DATA}/storage-pools/old/containers/web_c1`));
    });
  });

  describe("as a node whose cluster cannot be asked, and may be this stack's own,", () => {
    let node: Managed;
    const wipes = (): object => nodeArgs({ resetPolicy: ["cluster"], timeouts: { create: 4, update: 4 } });
    const isUntouched = (): void => {
      const stops = lab.host("bcn1").commands.filter((argv) => /^(systemctl stop|perl|unshare)/.test(argv.join(" ")));
      assert.deepEqual([stops, members(), daemon().database.clustered], [[], ["bcn2", "bcn1"], true]);
    };
    const WAYS = { "is created without its state": false, "has another resetPolicy": true };

    beforeEach(async () => {
      await second.up(args());
      node = new Managed(nodeLifecycle as never, "bcn1");
    });

    for (const [way, isInState] of Object.entries(WAYS)) {
      for (const [what, { effect, lasts }] of Object.entries(FAILED_REQUESTS)) {
        it(`keeps its data when it ${way} and the request for the members ${what}`, async () => {
          if (isInState) {
            await node.up(nodeArgs({ adopt: true }));
          }
          const question = { host: "bcn1", method: "GET", path: /^\/1\.0\/cluster\/members/, ...(lasts ? {} : { nth: 1 }) };
          const fault = lab.faults.add({ when: question, effect });
          const outcome = await node.up(wipes()).catch((error: unknown) => error as Error);
          assert.ok(fault.hits > 0);
          fault.remove();
          isUntouched();
          if (lasts) {
            assert.ok(outcome instanceof Error);
          } else if (isInState) {
            assert.equal(outcome, "updated");
          } else {
            assert.match(String(outcome), /is a member of the cluster that this stack made, so resetPolicy does not wipe it/);
          }
        });
      }
    }

    for (const [what, { effect }] of Object.entries(FAILED_REQUESTS).filter(([, failure]) => failure.lasts)) {
      it(`keeps its data when it has another resetPolicy, and every request ${what}`, async () => {
        await node.up(nodeArgs({ adopt: true }));
        lab.faults.add({ when: { host: "bcn1", method: "GET" }, effect });
        assert.ok((await node.up(wipes(), { refresh: false }).catch((error: unknown) => error)) instanceof Error);
        isUntouched();
      });
    }

    it("reports that, and what to do", async () => {
      lab.faults.add({
        when: { host: "bcn1", path: /^\/1\.0\/cluster\/members/ },
        effect: { status: 403, error: "not authorized" },
      });
      assert.equal(
        await refusal(node.up(wipes())),
        `LXD on ${nameOf("bcn1")} is in a cluster and cannot list its members (LXD on ${nameOf("bcn1")} answered GET ` +
          "/1.0/cluster/members?recursion=1 with 403: not authorized): the cluster is down, or the host was removed by force. Nothing was changed. Ask " +
          "another member: lxc cluster list. If it lists this host, or none answers, bring the cluster back. Otherwise restart LXD here (systemctl " +
          "restart lxd), after which it does not answer, and set resetPolicy on a new LxdNode, which wipes it",
      );
      isUntouched();
    });

    it("is wiped when it was removed by force while it ran, and LXD was restarted since", async () => {
      await lab.byHand("bcn2", "DELETE", "/1.0/cluster/members/bcn1?force=1");
      await assert.rejects(
        node.up(nodeArgs({ resetPolicy: ["cluster"], timeouts: { create: 4 } })),
        /Failed to begin transaction/,
      );
      daemon().cutOffJoin(cluster().certificate?.pem ?? ""); // the effect of a restart
      assert.equal(await node.up(nodeArgs({ resetPolicy: ["cluster"], timeouts: { create: 8 } })), "created");
      assert.equal(daemon().database.clustered, false);
    });
  });
});

import assert from "node:assert/strict";
import { SimulatedLab } from "../../../lab/simulated";
import { clusterMemberLifecycle } from "../../../provider/resources/lxd-cluster-member";
import { TWO_SERVERS } from "../../support/two-hosts";
import { Managed } from "./simulated-cluster";

const ADDRESS = "192.168.1.101:8443";

/** New uses of bcn1 after it was a member, and their description in the warning. */
const USES: readonly { title: string; says: RegExp; refusal?: RegExp; act: (lab: SimulatedLab) => unknown }[] = [
  {
    title: "a cluster of its own with an image",
    says: /is in another cluster, as "theirs", with the certificate \w{64}/,
    refusal: /is a member of another cluster/,
    act: async (lab) => {
      await lab.byHand("bcn1", "PUT", "/1.0/cluster", { server_name: "theirs", enabled: true });
      lab.seedImage("bcn1", { alias: "theirs" });
    },
  },
  {
    title: "a cluster of its own with nothing in it yet",
    says: /is in another cluster, as "bcn1"/,
    refusal: /is a member of another cluster/,
    act: (lab) => lab.byHand("bcn1", "PUT", "/1.0/cluster", { server_name: "bcn1", enabled: true }),
  },
  {
    title: "a server with an image",
    says: /holds images theirs/,
    refusal: /only an empty server can join/,
    act: (lab) => lab.seedImage("bcn1", { alias: "theirs" }),
  },
  {
    title: "a server with a pool",
    says: /holds storage-pools theirs/,
    refusal: /only an empty server can join/,
    act: (lab) => lab.byHand("bcn1", "POST", "/1.0/storage-pools", { name: "theirs", driver: "dir" }),
  },
  {
    title: "a server with a pool and a network that have the names of the cluster's, at another address",
    says: /holds storage-pools default; networks lxdbr0/,
    refusal: /only an empty server can join/,
    act: async (lab) => {
      lab.host("bcn1").reinstall();
      await lab.byHand("bcn1", "POST", "/1.0/storage-pools", { name: "default", driver: "dir" });
      await lab.byHand("bcn1", "POST", "/1.0/networks", { name: "lxdbr0", type: "bridge" });
    },
  },
  {
    title: "a server with a network",
    says: /holds networks theirs/,
    refusal: /only an empty server can join/,
    act: (lab) => lab.byHand("bcn1", "POST", "/1.0/networks", { name: "theirs", type: "bridge" }),
  },
  {
    title: "a server with a profile",
    says: /holds profiles theirs/,
    act: (lab) => lab.byHand("bcn1", "POST", "/1.0/profiles", { name: "theirs" }),
  },
  {
    title: "a server whose default profile is set up",
    says: /holds profiles default/,
    act: (lab) => lab.byHand("bcn1", "PATCH", "/1.0/profiles/default", { config: { "user.theirs": "1" } }),
  },
  {
    title: "a server with a project",
    says: /holds projects theirs/,
    act: (lab) => lab.byHand("bcn1", "POST", "/1.0/projects", { name: "theirs" }),
  },
];

describe("LxdClusterMember whose host has another use after it was a member", () => {
  let lab: SimulatedLab;
  let second: Managed;

  const at = (host: string) => lab.host(host).connection;
  const args = (): object => ({ connection: at("bcn1"), name: "bcn1", address: ADDRESS, cluster: { endpoints: [at("bcn2")] } });
  /** Everything that LXD on a host stores, and its daemon. */
  const dataOf = (host: string): unknown => {
    const { daemon } = lab.host(host);
    assert(daemon !== undefined);
    const { database, certificate, localConfig } = daemon;
    const { members, images, pools, networks, profiles, projects, instances } = database;
    const names = [images, pools, networks, profiles, projects, instances].map((map) => [...map.keys()]);
    return structuredClone([
      certificate.fingerprint,
      database.certificate?.fingerprint,
      localConfig,
      members.map(({ name }) => name),
      names,
      [...profiles.values()].map(({ config }) => config),
    ]);
  };
  const wipes = (): number =>
    lab.hosts.flatMap(({ commands }) => commands.filter((argv) => argv.join(" ").startsWith("systemctl stop"))).length;

  beforeEach(async () => {
    lab = await SimulatedLab.start({
      hosts: TWO_SERVERS,
    });
    await new Managed(clusterMemberLifecycle as never, "bcn2").up({
      ...args(),
      connection: at("bcn2"),
      name: "bcn2",
      address: "192.168.1.102",
      cluster: undefined,
    });
    second = new Managed(clusterMemberLifecycle as never, "bcn1");
    await second.up(args());
    for (const path of ["?target=bcn2", "?target=bcn1", ""]) {
      await lab.byHand("bcn2", "POST", `/1.0/storage-pools${path}`, { name: "default", driver: "dir" });
      await lab.byHand("bcn2", "POST", `/1.0/networks${path}`, { name: "lxdbr0", type: "bridge" });
    }
  });

  afterEach(async () => {
    assert.deepEqual([lab.defects, lab.hosts.flatMap(({ unknownCommands }) => unknownCommands)], [[], []]);
    await lab.stop();
  });

  for (const { title, says, refusal, act } of USES) {
    describe(title, () => {
      let before: unknown;
      let stops: number;

      beforeEach(async () => {
        await lab.byHand("bcn2", "DELETE", "/1.0/cluster/members/bcn1");
        await act(lab);
        [before, stops] = [dataOf("bcn1"), wipes()];
      });
      afterEach(() => {
        assert.deepEqual(dataOf("bcn1"), before);
        assert.equal(wipes(), stops);
      });

      for (const refresh of [false, true]) {
        it(`is unchanged by destroy ${refresh ? "with" : "without"} a refresh, which says so`, async () => {
          await second.destroy({ refresh });
          assert.equal(second.state, undefined);
          if (!refresh) {
            assert.match(second.warnings.join(), says);
            assert.match(second.warnings.join(), /It was not changed/);
          }
        });
        if (refusal !== undefined) {
          it(`does not join again by up ${refresh ? "with" : "without"} a refresh`, async () => {
            await assert.rejects(second.up({ ...args(), failureDomain: "rack1" }, { refresh }), refusal);
          });
        }
      }
    });
  }

  it("which is in its cluster under another name is unchanged by destroy, which says so", async () => {
    await lab.byHand("bcn2", "POST", "/1.0/cluster/members/bcn1", { server_name: "old1" });
    const [before, stops] = [dataOf("bcn1"), wipes()];
    await second.destroy();
    assert.match(second.warnings.join(), /is in its cluster as "old1"\. It was not changed/);
    assert.deepEqual([dataOf("bcn1"), wipes()], [before, stops]);
  });

  for (const { what, lacks } of [
    { what: "", lacks: [] },
    { what: ", also where an older state does not tell which cluster it was in", lacks: ["certificateFingerprint"] },
  ]) {
    it(`which does not answer, and is of no cluster, is not cleaned: destroy fails and says where to look${what}`, async () => {
      await lab.byHand("bcn2", "DELETE", "/1.0/cluster/members/bcn1");
      const stops = wipes();
      const fault = lab.faults.add({ when: { host: "bcn1" }, effect: "hang" });
      const kept = Object.entries(second.state ?? {}).filter(([name]) => !lacks.includes(name));
      second.state = { ...Object.fromEntries(kept), timeouts: { delete: 16 } }; // half of it is the time for a daemon to answer
      await assert.rejects(
        second.destroy(),
        /does not answer, so its present use is unknown\. It was not cleaned\. Look at: journalctl/,
      );
      assert.equal(wipes(), stops);
      fault.remove();
      await second.destroy();
      assert.deepEqual(second.warnings, []);
      assert.equal(wipes(), stops + 1);
    });
  }
});

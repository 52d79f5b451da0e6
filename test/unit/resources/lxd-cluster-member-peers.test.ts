import assert from "node:assert/strict";
import { SimulatedLab } from "../../../lab/simulated";
import { clusterMemberLifecycle } from "../../../provider/resources/lxd-cluster-member";
import { memberArgs, TWO_SERVERS } from "../../support/two-hosts";
import { Managed } from "./simulated-cluster";

type Act = (lab: SimulatedLab) => unknown;

const notYet = { status: 500, error: "Failed to get dqlite client: dial unix @lxd: connection refused" };

/** States of a host that joins later, when the first one is created. */
const NEW_HOSTS: readonly { title: string; act: Act }[] = [
  { title: "have an LXD that is in no cluster", act: () => undefined },
  { title: "have no LXD", act: (lab) => lab.host("bcn1").removePackage("lxd", true) },
  { title: "had LXD, which was removed with its data left", act: (lab) => lab.host("bcn1").removePackage("lxd", false) },
  {
    title: "have an LXD that just starts",
    act: (lab) => lab.faults.add({ when: { host: "bcn1", path: /^\/1\.0/, nth: 1 }, effect: "daemon-restart" }),
  },
  {
    title: "have an LXD that has no database yet",
    act: (lab) => lab.faults.add({ when: { host: "bcn1", path: /^\/1\.0/, nth: 1 }, effect: notYet }),
  },
  {
    title: "have an LXD that fails, and no certificate of a cluster",
    act: (lab) => lab.faults.add({ when: { host: "bcn1", path: /^\/1\.0/ }, effect: { status: 400, error: "broken" } }),
  },
  {
    title: "have an LXD that does not answer, and no certificate of a cluster",
    act: (lab) => lab.faults.add({ when: { host: "bcn1" }, effect: "hang" }),
  },
];

/** Reasons why a member of the stack's cluster cannot report it, and the remedy if a simulated host has one. */
const SILENT_MEMBERS: readonly { title: string; says: RegExp; act: Act; mend?: Act }[] = [
  {
    title: "is off",
    says: /cannot be reached by SSH/,
    act: (lab) => lab.host("bcn1").powerOff(),
    mend: (lab) => lab.host("bcn1").powerOn(),
  },
  {
    title: "has lost its LXD, and kept the data",
    says: /Neither LXD nor Incus runs on/,
    act: (lab) => lab.host("bcn1").removePackage("lxd", false),
  },
  ...(
    [
      ["does not answer for itself", /^\/1\.0$/, "hang", /does not answer/],
      ["refuses to tell who it is", /^\/1\.0$/, { status: 403, error: "not authorized" }, /not authorized/],
      ["refuses to list the members", /^\/1\.0\/cluster\/members/, { status: 403, error: "not authorized" }, /not authorized/],
    ] as const
  ).map(([title, path, effect, says]) => ({
    title,
    says,
    act: (lab: SimulatedLab) => lab.faults.add({ when: { host: "bcn1", path }, effect }),
    mend: (lab: SimulatedLab) => lab.faults.clear(),
  })),
];

describe("The first LxdClusterMember without state, whose peers", () => {
  let lab: SimulatedLab;
  let first: Managed;

  const at = (host: string) => lab.host(host).connection;
  const args = (more: object = {}): object => memberArgs(lab, "bcn2", { peers: [at("bcn1")], timeouts: { create: 8 }, ...more });
  const secondArgs = (): object => {
    const cluster = { endpoints: [at("bcn2")], certificateFingerprint: first.inState("certificateFingerprint") };
    return memberArgs(lab, "bcn1", { cluster });
  };
  const members = (host: string): string[] => lab.host(host).daemon?.database.members.map(({ name }) => name) ?? [];

  beforeEach(async () => {
    lab = await SimulatedLab.start({
      hosts: TWO_SERVERS,
    });
    first = new Managed(clusterMemberLifecycle as never, "bcn2");
  });

  afterEach(async () => {
    assert.deepEqual([lab.defects, lab.hosts.flatMap(({ unknownCommands }) => unknownCommands)], [[], []]);
    await lab.stop();
  });

  for (const { title, act } of NEW_HOSTS) {
    it(`${title} bootstraps the cluster`, async () => {
      await act(lab);
      assert.equal(await first.up(args({ timeouts: { create: 16 } })), "created");
      assert.deepEqual(members("bcn2"), ["bcn2"]);
      assert.deepEqual(first.warnings, []);
    });
  }

  it("is off does not bootstrap one, and says what to do", async () => {
    await lab.host("bcn1").powerOff();
    const since = lab.requests.length;
    await assert.rejects(
      first.up(args()),
      /^Error: bcn2 \(127\.0\.0\.1\) does not bootstrap a cluster, .* Bring it back, or, if it is lost, remove it from peers/,
    );
    assert.deepEqual(lab.mutations(since), []);
    assert.equal(await first.up(args({ peers: [] })), "created");
  });

  for (const [what, arrange] of [
    ["removed manually", () => lab.byHand("bcn1", "DELETE", "/1.0/cluster/members/bcn2")],
    [
      "removed by force and reinstalled",
      async () => {
        await lab.byHand("bcn1", "DELETE", "/1.0/cluster/members/bcn2?force=1");
        lab.host("bcn2").reinstall();
      },
    ],
  ] as const) {
    describe(`are its cluster from which it was ${what},`, () => {
      let cluster: unknown;

      beforeEach(async () => {
        await first.up(args());
        cluster = first.inState("certificateFingerprint");
        await new Managed(clusterMemberLifecycle as never, "bcn1").up(secondArgs());
        await arrange();
      });

      it("is kept in state as Left, and joins again, also where no member has this stack's mark", async () => {
        const { database } = lab.host("bcn1").daemon ?? {};
        assert(database !== undefined);
        database.member("bcn1").config = {};
        assert.equal(await first.preview(args()), "updated");
        assert.equal(first.inState("status"), "Left");
        assert.equal(await first.up(args()), "updated");
        assert.deepEqual(members("bcn1"), ["bcn1", "bcn2"]);
        assert.equal(first.inState("certificateFingerprint"), cluster);
        assert.equal(await first.up(args()), "same");
      });

      it("is not kept in state when its host cannot be reached: it may be gone permanently", async () => {
        await lab.host("bcn2").powerOff();
        assert.equal(await first.preview(args()), "created");
      });

      it("is kept in state as Left, and can be destroyed", async () => {
        await first.preview(args());
        await first.destroy({ refresh: true });
        assert.equal(first.state, undefined);
        assert.deepEqual(members("bcn1"), ["bcn1"]);
      });

      for (const { title, says, act, mend } of SILENT_MEMBERS) {
        it(`creates no second cluster while a peer ${title}`, async () => {
          await act(lab);
          const since = lab.requests.length;
          first = new Managed(clusterMemberLifecycle as never, "bcn2");
          await assert.rejects(first.up(args()), (error: Error) => {
            assert.match(
              error.message,
              /does not bootstrap a cluster, because a peer may already be in one of this stack\. Could not be asked: /,
            );
            assert.match(error.message, says);
            return true;
          });
          assert.deepEqual(lab.mutations(since), []);
          if (mend === undefined) {
            return;
          }
          await mend(lab);
          assert.equal(await first.up(args()), "created");
          assert.deepEqual(members("bcn1"), ["bcn1", "bcn2"]);
        });
      }
    });
  }
});

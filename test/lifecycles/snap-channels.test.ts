import assert from "node:assert/strict";
import { type SimulatedHost, SimulatedLab } from "../../lab/simulated";
import { nodeLifecycle } from "../../provider/resources/lxd-node";
import { messageOf } from "../../provider/support/errors";
import { disconnectAll } from "../../provider/transport/pool";
import { Managed } from "../unit/resources/simulated-cluster";

/** Tracks of the simulated store, older content first. */
const AGES: Readonly<Record<string, number>> = { "5.0": 0, "5.21": 1, "6": 2, latest: 2 };
const TRACKS = Object.keys(AGES);

/** Their revisions in the store, older ones first. */
const REVISIONS: Readonly<Record<string, number>> = { "5.0": 31333, "5.21": 33110, "6": 34850, latest: 34851 };

interface Case {
  readonly installed: string;
  readonly wanted: string;
  readonly adopt: boolean;
  readonly inUse: boolean;
}

const CASES: readonly Case[] = TRACKS.flatMap((installed) =>
  TRACKS.flatMap((wanted) =>
    [true, false].flatMap((adopt) => [true, false].map((inUse) => ({ installed, wanted, adopt, inUse }))),
  ),
);

describe("LxdNode on a host with the snap", () => {
  let lab: SimulatedLab;
  let host: SimulatedHost;

  before(async () => {
    lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", snapd: true, lanAddress: "192.168.1.102" }] });
    host = lab.host("bcn2");
  });
  afterEach(async () => {
    await disconnectAll();
    assert.deepEqual([lab.defects, host.unknownCommands], [[], []]);
  });
  after(() => lab.stop());

  const start = async ({ installed, inUse }: Case): Promise<void> => {
    host.removeSnap("lxd");
    host.installSnap(`${installed}/stable`);
    if (inUse) {
      await lab.byHand("bcn2", "POST", "/1.0/storage-pools", { name: "default", driver: "dir" });
      lab.seedInstances(1, { host: "bcn2", devices: { root: { type: "disk", path: "/", pool: "default" } } });
    }
  };
  const ageOf = (track: string): number => AGES[track] ?? Number.NaN;
  const channel = (): string | undefined => host.snaps.get("lxd")?.channel;

  for (const one of CASES) {
    const { installed, wanted, adopt, inUse } = one;
    const older = ageOf(wanted) < ageOf(installed);
    const refused = older || (inUse && !adopt);
    const title =
      `from ${installed}${inUse ? " that is in use" : ""}, with ${wanted} wanted${adopt ? " and adopt" : ""}, ` +
      (refused ? "is refused before anything is touched" : adopt ? "is taken as it is" : "is brought there");
    it(title, async () => {
      await start(one);
      const node = new Managed(nodeLifecycle as never, "bcn2");
      const args = { connection: host.connection, adopt, install: { method: "snap", channel: `${wanted}/stable` } };
      const before = { snap: structuredClone(host.snaps.get("lxd")), pid: host.daemon?.pid };
      const since = lab.requests.length;
      if (refused) {
        const message = await node.up(args).then(
          () => assert.fail("it was not refused"),
          (error: unknown) => messageOf(error),
        );
        assert.match(
          message,
          older ? /but install\.channel is \S+, which is older\. LXD does not start/ : /is in use: instances vm1/,
        );
      } else {
        assert.equal(await node.up(args), "created");
      }
      if (refused || adopt) {
        assert.deepEqual(lab.mutations(since), []);
        assert.deepEqual({ snap: host.snaps.get("lxd"), pid: host.daemon?.pid }, before);
      }
      if (!refused) {
        // The preview shows what the adoption did not change, and then it is done.
        assert.equal(await node.up(args), adopt ? "updated" : "same");
        assert.equal(channel(), `${wanted}/stable`);
        assert.equal(host.snaps.get("lxd")?.held, true);
        assert.equal(host.daemon?.database.instances.size, inUse ? 1 : 0);
      }
    });
  }

  for (const installed of TRACKS) {
    for (const wanted of TRACKS.filter((track) => track !== installed)) {
      const older = ageOf(wanted) < ageOf(installed);
      it(`that is changed from ${installed} to ${wanted} ${older ? "warns in the preview, and is refused" : "is moved there"}`, async () => {
        await start({ installed, wanted, adopt: false, inUse: false });
        const node = new Managed(nodeLifecycle as never, "bcn2");
        const args = (track: string) => ({
          connection: host.connection,
          install: { method: "snap", channel: `${track}/stable` },
        });
        await node.up(args(installed));
        const warned = node.warnings.length;
        assert.equal(await node.preview(args(wanted)), "updated");
        assert.equal(
          node.warnings.slice(warned).some((text) => /will refuse this.*which is older/.test(text)),
          older && wanted !== "latest",
        );
        if (older) {
          await assert.rejects(node.up(args(wanted)), /which is older/);
          assert.equal(channel(), `${installed}/stable`);
        } else {
          assert.equal(await node.up(args(wanted)), "updated");
          assert.equal(channel(), `${wanted}/stable`);
        }
      });
    }
  }

  const pinned = (track: string, revision: number, more: object = {}): object => ({
    connection: host.connection,
    install: { method: "snap", channel: `${track}/stable`, revision },
    ...more,
  });
  const refusal = (work: Promise<unknown>): Promise<string> =>
    work.then(
      () => assert.fail("it was not refused"),
      (error: unknown) => messageOf(error),
    );

  for (const installed of TRACKS) {
    for (const wanted of TRACKS) {
      for (const [uploaded, revision] of Object.entries(REVISIONS)) {
        const older = ageOf(wanted) < ageOf(installed) || revision < (REVISIONS[installed] ?? 0);
        const title = `from ${installed}, with ${wanted} wanted in revision ${revision}, which is of ${uploaded}, `;
        it(`${title}${older ? "is refused before anything is touched" : "gets that revision"}`, async () => {
          await start({ installed, wanted, adopt: false, inUse: false });
          const node = new Managed(nodeLifecycle as never, "bcn2");
          const before = structuredClone(host.snaps.get("lxd"));
          const since = lab.requests.length;
          if (older) {
            assert.match(
              await refusal(node.up(pinned(wanted, revision))),
              /install\.(channel|revision) is \S+, which is older\. LXD does not/,
            );
            assert.deepEqual([lab.mutations(since), host.snaps.get("lxd")], [[], before]);
          } else {
            assert.equal(await node.up(pinned(wanted, revision)), "created");
            assert.deepEqual([channel(), host.snaps.get("lxd")?.revision], [`${wanted}/stable`, String(revision)]);
          }
        });

        it(`${title}${older ? "warns in the preview, and is refused, when it is changed to that" : "is moved there when it is changed to that"}`, async () => {
          await start({ installed, wanted, adopt: false, inUse: false });
          const node = new Managed(nodeLifecycle as never, "bcn2");
          await node.up({ connection: host.connection, install: { method: "snap", channel: `${installed}/stable` } });
          const before = structuredClone(host.snaps.get("lxd"));
          const warned = node.warnings.length;
          const plan = await node.preview(pinned(wanted, revision));
          assert.equal(
            node.warnings.slice(warned).some((text) => /will refuse this.*older/.test(text)),
            older && (revision < (REVISIONS[installed] ?? 0) || wanted !== "latest"),
          );
          if (older) {
            assert.match(await refusal(node.up(pinned(wanted, revision))), /older/);
            assert.deepEqual(host.snaps.get("lxd"), before);
          } else {
            assert.equal(await node.up(pinned(wanted, revision)), plan);
            assert.equal(host.snaps.get("lxd")?.revision, String(revision));
          }
        });
      }
    }
  }

  describe("and a fix for an old track, whose revision is higher than those of newer ones,", () => {
    const FIX = { revision: 35000, version: "5.0.6-e0e7f7b", lxd: "bookworm-lxd" } as const;
    before(() => host.store.release("5.0/candidate", FIX));
    after(() => host.store.channels.delete("5.0/candidate"));

    for (const installed of ["5.21", "6", "latest"]) {
      it(`refuses that on ${installed}, whatever channel it is wanted from`, async () => {
        for (const wanted of TRACKS) {
          await start({ installed, wanted, adopt: false, inUse: false });
          const node = new Managed(nodeLifecycle as never, "bcn2");
          assert.match(await refusal(node.up(pinned(wanted, FIX.revision))), /which is older|the older revision 35000/);
          assert.equal(host.snaps.get("lxd")?.revision, String(REVISIONS[installed]));
          await disconnectAll();
        }
      });
    }

    it("moves from that to a newer track, whose revision is lower", async () => {
      host.removeSnap("lxd");
      host.installSnap("5.0/candidate");
      const node = new Managed(nodeLifecycle as never, "bcn2");
      assert.equal(await node.up(pinned("5.21", 33110)), "created");
      assert.equal(host.snaps.get("lxd")?.revision, "33110");
    });
  });
});

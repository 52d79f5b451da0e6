/**
 * The library's requirements of snapd, in one suite that the simulated and the real snapd must both pass, as far as it goes without
 * Canonical's store: every request of provider/host/snapd*.ts, and every field and kind of error that it reads. Only an installation
 * from the store cannot succeed on real hosts: nobody has signed the snap. The tests run in order.
 */
import assert from "node:assert/strict";
import * as z from "zod";
import { applySnapSettings, findSnapSettings } from "../../../provider/host/snap-settings";
import {
  bringSnap,
  control,
  findSnap,
  installAgain,
  judgeSnap,
  purgeSnap,
  snapToKeep,
  startSnap,
} from "../../../provider/host/snapd";
import { SNAP, Snapd } from "../../../provider/host/snapd-api";
import { isOlder } from "../../../provider/host/snapd-channels";
import { Deadline } from "../../../provider/support/deadline";
import { connectionSchema } from "../../../provider/transport/connection";
import { connect, disconnectAll } from "../../../provider/transport/pool";
import type { SshConnection } from "../../../provider/transport/ssh";

/** A host with snapd and without LXD. */
export interface SnapdHarness {
  /** For root, and for a user with sudo. */
  readonly connections: readonly object[];
  /** Of snapd, such as "2.57.6". */
  readonly version: string;
  /**
   * Installs LXD 5.21.1-abcdef0 from a file. The store has a newer 5.21 in 5.21/stable and 5.21/candidate. Its daemon has a plug
   * `mount-observe`, which snapd does not connect by itself. Its hook refuses the option `wrong`.
   */
  installFromFile(): Promise<void>;
  isActive(): Promise<boolean>;
  stop(): Promise<void>;
}

const CHOICE = { channel: "5.21/stable", cohort: true, hold: false };
const STEP_SECONDS = 400;

/** Adds the suite for one type of hosts. */
export function snapdContract(name: string, makeHarness: (context: Mocha.Context) => Promise<SnapdHarness>): void {
  describe(`snapd on ${name}`, function () {
    this.bail(true); // later tests would fail as a consequence
    let harness: SnapdHarness | undefined;
    let deadline: Deadline;
    let patience: { deadline: Deadline; progress(text: string): void };

    const current = (): SnapdHarness => {
      assert.ok(harness, "the host did not start");
      return harness;
    };
    const ssh = (connection = current().connections[0]): Promise<SshConnection> =>
      connect(connectionSchema.parse(connection), { deadline });
    const snapd = async (): Promise<Snapd> => Snapd.require(await ssh(), patience);
    const act = async (body: Record<string, unknown>): Promise<void> => (await snapd()).change(SNAP, body);
    const isFromFile = { channel: "", version: "5.21.1-abcdef0", revision: undefined };
    /** snapd 2.58 holds a snap, and does not say so. */
    const told = (held: boolean): boolean | undefined => (current().version === "2.58" ? undefined : held);
    const found = async (connection?: object): Promise<unknown> => {
      const { held: _, ...snap } = (await findSnap(await ssh(connection), deadline)) ?? {};
      return snap;
    };

    before(async function () {
      harness = await makeHarness(this);
    });

    beforeEach(() => {
      deadline = new Deadline(STEP_SECONDS, "the test");
      patience = { deadline, progress: () => undefined };
    });

    after(async () => {
      await disconnectAll();
      await harness?.stop();
    });

    describe("without LXD", () => {
      it("reports none, without an error", async () => {
        assert.equal(await findSnap(await ssh(), deadline), undefined);
      });

      it("reports a channel that the store does not have by the kind of the error", async () => {
        const wanted = { ...CHOICE, channel: "7/stable" };
        await assert.rejects(bringSnap(await ssh(), wanted, patience), { code: "snapd", kind: "snap-channel-not-available" });
      });

      it("reports a revision that the store does not have by the kind of the error", async () => {
        const wanted = { action: "install", channel: "5.21/stable", revision: "4711" };
        await assert.rejects(act(wanted), { code: "snapd", kind: "snap-revision-not-available" });
      });

      it("takes a revision or a cohort, and not both", async () => {
        const wanted = { action: "install", channel: "5.21/stable", revision: "4711", "cohort-key": "+" };
        await assert.rejects(act(wanted), { code: "snapd", status: 400 });
      });

      it("refuses to remove, refresh or start it", async () => {
        // Some versions give no kind.
        for (const action of ["remove", "refresh"]) {
          await assert.rejects(act({ action }), { code: "snapd" });
        }
        await assert.rejects(startSnap(await ssh(), patience), { code: "snapd" });
      });

      it("has no settings of it to restore", async () => {
        assert.deepEqual(await (await snapd()).get(`${SNAP}/conf`, z.unknown()), {});
      });
    });

    describe("with LXD from a file", () => {
      before(() => current().installFromFile());

      it("describes it, for root and for another user", async () => {
        for (const connection of current().connections) {
          assert.deepEqual(await found(connection), isFromFile);
        }
      });

      it("reports that it is not held", async () => {
        assert.equal((await findSnap(await ssh(), deadline))?.held, told(false));
      });

      it("cannot install it again, and does not move it to a channel by itself", async () => {
        await assert.rejects(snapToKeep(await ssh(), patience), { code: "refused", message: /was installed from a file/ });
        await assert.rejects(bringSnap(await ssh(), CHOICE, patience), { code: "refused", message: /snap refresh --amend lxd/ });
      });

      it("refuses to install it twice", async () => {
        await assert.rejects(act({ action: "install", channel: "5.21/stable" }), {
          code: "snapd",
          kind: "snap-already-installed",
        });
      });

      it("switches its channel without a restart, and refuses an older one", async () => {
        await act({ action: "switch", channel: "5.21/stable" });
        assert.deepEqual(await found(), { ...isFromFile, channel: "5.21/stable" });
        await judgeSnap(await ssh(), { ...CHOICE, channel: "5.21/candidate" }, patience);
        await assert.rejects(judgeSnap(await ssh(), { ...CHOICE, channel: "5.0/stable" }, patience), {
          code: "refused",
          message: /has the LXD snap 5\.21\.1-abcdef0 .* but install\.channel is 5\.0\/stable, which is older/,
        });
      });

      it("holds it and says so, or is too old to hold it", async () => {
        const hold = (held: boolean): Promise<boolean> =>
          ssh().then((host) => bringSnap(host, { ...CHOICE, hold: held }, patience));
        if (isOlder(current().version, "2.58")) {
          await assert.rejects(hold(true), { code: "failed", message: /is older than 2\.58 and cannot hold a snap/ });
          await assert.rejects(act({ action: "hold", time: "forever", "hold-level": "general" }), { code: "snapd", status: 400 });
          return;
        }
        for (const held of [true, true, false, false]) {
          await hold(held);
          assert.equal((await findSnap(await ssh(), deadline))?.held, told(held));
        }
      });

      it("stops and starts its services", async () => {
        await control(await snapd(), "stop");
        assert.equal(await current().isActive(), false);
        for (const _twice of [1, 2]) {
          await startSnap(await ssh(), patience);
          assert.equal(await current().isActive(), true);
        }
      });
    });

    describe("with settings of LXD", () => {
      const linkTo = (plug: string) => ({ plug: { snap: "lxd", plug }, slot: { snap: "snapd", slot: plug } });
      const config = { ceph: { external: true }, daemon: { group: "lxd" } };
      const isSet = { config, links: [linkTo("mount-observe")] };

      it("has none at first", async () => {
        assert.equal(await findSnapSettings(await ssh(), patience), undefined);
      });

      it("sets them, also again, and runs LXD", async () => {
        for (const _twice of [1, 2]) {
          await applySnapSettings(await ssh(), isSet, "", patience);
          assert.deepEqual(await findSnapSettings(await ssh(), patience), isSet);
        }
        assert.equal(await current().isActive(), true);
      });

      it("reports a connection that cannot be made", async () => {
        const wanted = { plug: { snap: "lxd", plug: "gone" }, slot: { snap: "snapd", slot: "gone" } };
        await assert.rejects(applySnapSettings(await ssh(), { config: {}, links: [wanted] }, "Do this.", patience), {
          code: "snapd",
          message: /no plug named "gone"\. This was to restore what "snap connect lxd:gone snapd:gone" had set\. Do this\.$/,
        });
      });

      it("reports an option that the snap refuses, without its value, and keeps the others", async () => {
        const wrong = { wrong: "hunter2", ceph: { external: false } };
        await assert.rejects(applySnapSettings(await ssh(), { config: wrong, links: [] }, "Do this.", patience), {
          code: "snapd",
          message: /PUT \/v2\/snaps\/lxd\/conf failed: the reply is not shown, .* what "snap set lxd" had set\. Do this\.$/,
        });
        assert.deepEqual(await findSnapSettings(await ssh(), patience), isSet);
      });

      it("loses them with the snap, which is removed with its data", async () => {
        await purgeSnap(await ssh(), patience);
        assert.equal(await findSnap(await ssh(), deadline), undefined);
        await purgeSnap(await ssh(), patience); // nothing is left to do
        await current().installFromFile();
        assert.equal(await findSnapSettings(await ssh(), patience), undefined);
        await installAgain(await ssh(), { channel: "5.21/stable", held: false }, patience);
        assert.equal(await current().isActive(), true);
      });
    });
  });
}

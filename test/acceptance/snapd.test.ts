import assert from "node:assert/strict";
import type { Server } from "node:http";
import { mountsBelow } from "../../provider/host/mounts";
import { bringSnap, findSnap, installAgain, purgeSnap, startSnap } from "../../provider/host/snapd";
import { Deadline } from "../../provider/support/deadline";
import { hasCode, messageOf } from "../../provider/support/errors";
import { connectionSchema } from "../../provider/transport/connection";
import { connect } from "../../provider/transport/pool";
import type { SshConnection } from "../../provider/transport/ssh";
import { snapdContract } from "../contract/snapd/snapd-contract";
import { bareHosts } from "../support/bare-hosts";
import { isInLab } from "../support/real-lab";
import { eventually } from "./support/eventually";
import { bringSnapd, INSTALL_FROM_FILE, openStore } from "./support/snapd-host";

const HOST = "bcn3";
const CHOICE = { channel: "5.21/stable", cohort: true, hold: false };
const DATA = "/var/snap/lxd/common";

/** Verifies the library's use of snapd's API against the real daemon, as far as possible without a store. */
describe("the real snapd", () => {
  const hosts = bareHosts([HOST], ` --hosts ${HOST}`);
  let store: Server;
  let deadline: Deadline;
  let seen: string[] = [];
  let patience: { deadline: Deadline; progress(text: string): void };

  const connection = (user = "root"): object => hosts.to(HOST, { user });
  const ssh = (): Promise<SshConnection> => connect(connectionSchema.parse(connection()), { deadline });
  const onHost = (...argv: string[]): Promise<string> => hosts.onHost(HOST, ...argv);
  const isHowFar = (text: string): boolean => /Download snap "lxd" \(40000\) from channel "5\.21\/stable": \d+ %$/.test(text);
  const isActive = async (): Promise<boolean> =>
    (await hosts.lab.hostExec(HOST, ["systemctl", "is-active", "--quiet", "snap.lxd.daemon.service"])).exitCode === 0;

  before(async () => {
    store = await openStore(() => seen.some(isHowFar));
    await bringSnapd(hosts.lab, HOST);
  });

  beforeEach(() => {
    seen = [];
    deadline = new Deadline(400, "the test");
    patience = { deadline, progress: (text) => void seen.push(text) };
  });

  after(() => {
    if (isInLab) {
      store.closeAllConnections();
      store.close();
    }
  });

  // First of all: newer ones keep what they have downloaded.
  describe("before anything was downloaded", () => {
    it("shows the progress of a download, and quotes snapd's error when it fails", async () => {
      const error = await bringSnap(await ssh(), CHOICE, patience).then(
        () => assert.fail("nobody has signed it"),
        (thrown: unknown) => thrown,
      );
      assert.ok(hasCode(error, "snapd"), messageOf(error));
      assert.match(messageOf(error), /POST \/v2\/snaps\/lxd \(install\) failed: cannot perform the following tasks:/);
      assert.ok(seen.some(isHowFar), seen.join("\n"));
      assert.equal(await findSnap(await ssh(), deadline), undefined);
    });
  });

  snapdContract("real hosts", async () => ({
    version: (await onHost("dpkg-query", "--show", "--showformat=${Version}", "snapd")).split(/[-+]/)[0] ?? "",
    connections: [connection("root"), connection("operator")],
    installFromFile: async () => {
      await onHost(...INSTALL_FROM_FILE);
    },
    isActive,
    stop: () => Promise.resolve(),
  }));

  describe("with LXD from a file", () => {
    it("waits while snapd works for another client", async () => {
      const changes = async (): Promise<number> => (await onHost("snap", "changes")).split("\n").length;
      const before = await changes();
      const begun = onHost("snap", "restart", "lxd");
      await eventually("snapd has begun to restart it", async () => (await changes()) > before);
      await startSnap(await ssh(), patience);
      await begun;
      assert.equal(await isActive(), true);
    });

    it("removes it with its data, and nothing that is mounted below it", async () => {
      const target = `${DATA}/lxd/devices/c1/disk.my data`;
      await onHost("mkdir", "-p", "/srv/precious", target);
      await onHost("sh", "-c", "printf alive > /srv/precious/canary");
      await onHost("mount", "--bind", "/srv/precious", target);
      await purgeSnap(await ssh(), patience);
      await assert.rejects(installAgain(await ssh(), { channel: "5.21/stable", held: false }, patience), { code: "snapd" });
      assert.equal(await findSnap(await ssh(), deadline), undefined);
      assert.equal(await onHost("cat", "/srv/precious/canary"), "alive");
      assert.deepEqual(await mountsBelow(await ssh(), "/var/snap/lxd", deadline), []);
      assert.equal((await hosts.lab.hostExec(HOST, ["test", "-e", DATA])).exitCode, 1);
    });
  });

  describe("without LXD", () => {
    it("installs another revision when the store has withdrawn that of a wipe", async () => {
      // Up to the signature, which is missing: a withdrawn revision alone would have another kind of error.
      await assert.rejects(installAgain(await ssh(), { channel: "5.21/stable", revision: 4711, held: false }, patience), {
        code: "snapd",
        message: /cannot perform the following tasks:/,
      });
    });

    it("is not considered absent when snapd does not listen", async () => {
      await onHost("systemctl", "stop", "snapd.socket", "snapd.service");
      await assert.rejects(findSnap(await ssh(), deadline), {
        code: "refused",
        message: /snapd is installed on .* but does not listen on \/run\/snapd\.socket/,
      });
    });
  });
});

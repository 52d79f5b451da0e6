import assert from "node:assert/strict";
import type { Server } from "node:http";
import { join } from "node:path";
import type { RealLab } from "../../lab/real";
import { mountsBelow } from "../../provider/host/mounts";
import { applySnapSettings, findSnapSettings } from "../../provider/host/snap-settings";
import { bringSnap, findSnap, installAgain, judgeSnap, purgeSnap, snapToKeep, startSnap } from "../../provider/host/snapd";
import { Deadline } from "../../provider/support/deadline";
import { hasCode, messageOf } from "../../provider/support/errors";
import { connectionSchema } from "../../provider/transport/connection";
import { connect, disconnectAll } from "../../provider/transport/pool";
import type { SshConnection } from "../../provider/transport/ssh";
import { attachOrSkip, isInLab } from "../support/real-lab";
import { eventually } from "./support/eventually";
import { bringSnapd, INSTALL_FROM_FILE, openStore } from "./support/snapd-host";

const HOST = "bcn3";
const CHOICE = { channel: "5.21/stable", cohort: true, hold: false };
const DATA = "/var/snap/lxd/common";

/** Verifies the library's use of snapd's API against the real daemon, as far as possible without a store. */
describe("the real snapd", () => {
  let lab: RealLab;
  let store: Server;
  let deadline: Deadline;
  let seen: string[] = [];
  let patience: { deadline: Deadline; progress(text: string): void };

  const ssh = (user = "root"): Promise<SshConnection> => {
    const found = lab.hosts.find(({ name }) => name === HOST);
    const key = { host: found?.address, hostKey: found?.hostKey, privateKeyPath: join(lab.home, ".ssh", "id_ed25519") };
    return connect(connectionSchema.parse({ ...key, user }), { deadline });
  };
  const onHost = async (...argv: string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await lab.hostExec(HOST, argv);
    assert.equal(exitCode, 0, `${argv.join(" ")}: ${stderr}`);
    return stdout.trim();
  };
  const isHowFar = (text: string): boolean => /Download snap "lxd" \(40000\) from channel "5\.21\/stable": \d+ %$/.test(text);
  const isFromFile = { channel: "", version: "5.21.1-abcdef0", revision: undefined, held: false };

  before(async function () {
    lab = await attachOrSkip(this, " --hosts bcn3");
    await lab.resetHosts([HOST]);
    store = await openStore(() => seen.some(isHowFar));
    await bringSnapd(lab, HOST);
  });

  beforeEach(() => {
    seen = [];
    deadline = new Deadline(400, "the test");
    patience = { deadline, progress: (text) => void seen.push(text) };
  });

  after(async () => {
    if (isInLab) {
      await disconnectAll();
      store.closeAllConnections();
      store.close();
      await lab.resetHosts([HOST]);
    }
  });

  it("reports no LXD, without an error", async () => {
    assert.equal(await findSnap(await ssh(), deadline), undefined);
  });

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

  it("reports a missing channel by its error kind", async () => {
    const wanted = { ...CHOICE, channel: "7/stable" };
    await assert.rejects(bringSnap(await ssh(), wanted, patience), { code: "snapd", kind: "snap-channel-not-available" });
  });

  it("describes a snap from a file, as root and as another user, and that it could not be installed again", async () => {
    await onHost(...INSTALL_FROM_FILE);
    for (const user of ["root", "operator"]) {
      assert.deepEqual(await findSnap(await ssh(user), deadline), isFromFile);
    }
    await assert.rejects(snapToKeep(await ssh(), patience), { code: "refused", message: /was installed from a file/ });
    await assert.rejects(bringSnap(await ssh(), CHOICE, patience), {
      code: "refused",
      message: /snap refresh --amend lxd/,
    });
  });

  it("reports the channel of a snap, and refuses an older one", async () => {
    await onHost("snap", "switch", "--channel=5.21/stable", "lxd");
    assert.deepEqual(await findSnap(await ssh(), deadline), { ...isFromFile, channel: "5.21/stable" });
    await judgeSnap(await ssh(), { ...CHOICE, channel: "5.21/candidate" }, patience);
    await assert.rejects(judgeSnap(await ssh(), { ...CHOICE, channel: "5.0/stable" }, patience), {
      code: "refused",
      message: /has the LXD snap 5\.21\.1-abcdef0 .* but install\.channel is 5\.0\/stable, which is older/,
    });
  });

  it("reports that this version cannot hold snaps", async () => {
    await assert.rejects(bringSnap(await ssh(), { ...CHOICE, hold: true }, patience), {
      code: "failed",
      message: /is older than 2\.58 and cannot hold a snap/,
    });
  });

  it("starts the services of a snap", async () => {
    await onHost("snap", "stop", "lxd");
    await startSnap(await ssh(), patience);
    assert.equal(await onHost("systemctl", "is-active", "snap.lxd.daemon.service"), "active");
  });

  it("waits while snapd works for another client", async () => {
    const changes = async (): Promise<number> => (await onHost("snap", "changes")).split("\n").length;
    const before = await changes();
    const begun = onHost("snap", "restart", "lxd");
    await eventually("snapd has begun to restart it", async () => (await changes()) > before);
    await startSnap(await ssh(), patience);
    await begun;
    assert.equal(await onHost("systemctl", "is-active", "snap.lxd.daemon.service"), "active");
  });

  it("loses manual connections with a snap, and restores them", async () => {
    const linkTo = (name: string) => ({ plug: { snap: "lxd", plug: name }, slot: { snap: "snapd", slot: name } });
    const isSet = { config: {}, links: [linkTo("mount-observe")] };
    assert.equal(await findSnapSettings(await ssh(), patience), undefined);
    await onHost("snap", "connect", "lxd:mount-observe");
    assert.deepEqual(await findSnapSettings(await ssh(), patience), isSet);
    await onHost("snap", "remove", "--purge", "lxd");
    await onHost(...INSTALL_FROM_FILE);
    assert.equal(await findSnapSettings(await ssh(), patience), undefined);
    for (const _twice of [1, 2]) {
      await applySnapSettings(await ssh(), isSet, "", patience);
      assert.deepEqual(await findSnapSettings(await ssh(), patience), isSet);
    }
    assert.equal(await onHost("systemctl", "is-active", "snap.lxd.daemon.service"), "active");
  });

  it("reports connections that cannot be made, and no configuration that the snap rejects", async () => {
    const wanted = { plug: { snap: "lxd", plug: "gone" }, slot: { snap: "snapd", slot: "gone" } };
    await assert.rejects(applySnapSettings(await ssh(), { config: {}, links: [wanted] }, "Do this.", patience), {
      code: "snapd",
      message: /no plug named "gone"\. This was to restore what "snap connect lxd:gone snapd:gone" had set\. Do this\.$/,
    });
    const config = { daemon: { preseed: "hunter2" } };
    await assert.rejects(applySnapSettings(await ssh(), { config, links: [] }, "Do this.", patience), {
      code: "snapd",
      message: /PUT \/v2\/snaps\/lxd\/conf failed: the reply is not shown, .* what "snap set lxd" had set\. Do this\.$/,
    });
  });

  it("removes a snap with its data, and nothing that is mounted below it", async () => {
    const target = `${DATA}/lxd/devices/c1/disk.my data`;
    await onHost("mkdir", "-p", "/srv/precious", target);
    await onHost("sh", "-c", "printf alive > /srv/precious/canary");
    await onHost("mount", "--bind", "/srv/precious", target);
    await purgeSnap(await ssh(), patience);
    await assert.rejects(installAgain(await ssh(), { channel: "5.21/stable", held: false }, patience), { code: "snapd" });
    assert.equal(await findSnap(await ssh(), deadline), undefined);
    assert.equal(await onHost("cat", "/srv/precious/canary"), "alive");
    assert.deepEqual(await mountsBelow(await ssh(), "/var/snap/lxd", deadline), []);
    assert.equal((await lab.hostExec(HOST, ["test", "-e", DATA])).exitCode, 1);
  });

  it("is not considered absent when it does not listen", async () => {
    await onHost("systemctl", "stop", "snapd.socket", "snapd.service");
    await assert.rejects(findSnap(await ssh(), deadline), {
      code: "refused",
      message: /snapd is installed on .* but does not listen on \/run\/snapd\.socket/,
    });
  });
});

import assert from "node:assert/strict";
import { SimulatedLab } from "../../../lab/simulated";
import { readNote, writeNote } from "../../../provider/host/notes";
import { finishReset, hasLeftoverClusterCertificate, isResetUnfinished, resetLxd } from "../../../provider/host/reset-lxd";
import { Deadline } from "../../../provider/support/deadline";
import { connectionSchema } from "../../../provider/transport/connection";
import { connect, disconnectAll } from "../../../provider/transport/pool";
import type { SshConnection } from "../../../provider/transport/ssh";

describe("wiping LXD on a host", () => {
  let lab: SimulatedLab;
  let ssh: SshConnection;
  const deadline = new Deadline(30, "the test");

  const start = async (lxd: "deb" | "snap"): Promise<string[]> => {
    lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", lxd }] });
    ssh = await connect(connectionSchema.parse(lab.host("bcn2").connection), { deadline });
    lab.seedImage("bcn2", { alias: "debian" });
    await resetLxd(ssh, lxd, deadline);
    return lab.host("bcn2").commands.map((argv) => argv.join(" "));
  };

  afterEach(async () => {
    await disconnectAll();
    assert.deepEqual([lab.defects, lab.host("bcn2").unknownCommands], [[], []]);
    await lab.stop();
  });

  it("of the Debian package stops the socket with the service, removes all data, and starts both", async () => {
    const commands = await start("deb");
    const stop = commands.findIndex((line) => line.startsWith("systemctl stop lxd.socket lxd.service"));
    const wipe = commands.findIndex((line) => line.startsWith("find /var/lib/lxd -xdev -mindepth 1 -delete"));
    const again = commands.findIndex((line) => line.startsWith("systemctl start lxd.socket lxd.service"));
    assert.ok(stop >= 0 && stop < wipe && wipe < again, commands.join("\n"));
    assert.equal(lab.host("bcn2").daemon?.database.images.size, 0);
  });

  it("of the snap removes it with its data and installs it again from the same channel", async () => {
    const commands = await start("snap");
    const remove = commands.indexOf("snap remove --purge lxd");
    const install = commands.findIndex((line) => line.startsWith("snap install lxd --channel=5.21/stable"));
    assert.ok(remove >= 0 && remove < install, commands.join("\n"));
    assert.equal(lab.host("bcn2").daemon?.database.images.size, 0);
  });

  it("finds the certificate that an interrupted join has left, and takes it away", async () => {
    await start("deb");
    const { files } = lab.host("bcn2");
    assert.equal(await hasLeftoverClusterCertificate(ssh, "deb", deadline), false);
    files.writeFile("/var/lib/lxd/cluster.crt", "");
    assert.equal(await hasLeftoverClusterCertificate(ssh, "deb", deadline), true);
    await resetLxd(ssh, "deb", deadline);
    assert.equal(await hasLeftoverClusterCertificate(ssh, "deb", deadline), false);
  });

  describe("that was interrupted", () => {
    const interrupt = async (): Promise<void> => {
      await start("deb");
      await writeNote(ssh, "pulumi-lxd-https-address", "192.168.1.102:8443", deadline);
      await writeNote(ssh, "pulumi-lxd-wipe", JSON.stringify({ packaging: "deb", config: {} }), deadline);
    };
    const areNotesGone = async (): Promise<boolean> =>
      !(await isResetUnfinished(ssh, deadline)) && (await readNote(ssh, "pulumi-lxd-https-address", deadline)) === undefined;

    it("is finished", async () => {
      await interrupt();
      lab.seedImage("bcn2", { alias: "debian" });
      assert.equal(await finishReset(ssh, deadline), true);
      assert.equal(lab.host("bcn2").daemon?.database.images.size, 0);
      assert.ok(await areNotesGone());
    });

    it("is as good as finished when LXD is used again, and then its config is the host's own", async () => {
      await interrupt();
      await lab.byHand("bcn2", "POST", "/1.0/storage-pools", { name: "default", driver: "dir" });
      lab.seedInstances(1, { host: "bcn2", devices: { root: { type: "disk", path: "/", pool: "default" } } });
      assert.equal(await finishReset(ssh, deadline), false);
      assert.equal(lab.host("bcn2").daemon?.database.instances.size, 1);
      assert.ok(await areNotesGone());
    });
  });
});

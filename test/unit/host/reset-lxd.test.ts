import assert from "node:assert/strict";
import { SimulatedLab } from "../../../lab/simulated";
import { readNote, writeNote } from "../../../provider/host/notes";
import { finishReset, hasLeftoverClusterCertificate, isResetUnfinished, resetLxd } from "../../../provider/host/reset-lxd";
import { LxdClient } from "../../../provider/lxd/client/client";
import { endpointOf } from "../../../provider/lxd/client/endpoint";
import { takeInventory } from "../../../provider/lxd/inventory";
import { Deadline } from "../../../provider/support/deadline";
import { connectionSchema } from "../../../provider/transport/connection";
import { connect, disconnectAll } from "../../../provider/transport/pool";
import type { SshConnection } from "../../../provider/transport/ssh";
import { FAILED_REQUESTS } from "../../support/failed-requests";

describe("wiping LXD on a host", () => {
  let lab: SimulatedLab;
  let ssh: SshConnection;
  let deadline: Deadline;
  let patience: { deadline: Deadline; progress(text: string): void };

  const start = async (lxd: "deb" | "snap"): Promise<string[]> => {
    lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", lxd }] });
    ssh = await connect(connectionSchema.parse(lab.host("bcn2").connection), { deadline });
    lab.seedImage("bcn2", { alias: "debian" });
    await resetLxd(ssh, lxd, patience);
    return lab.host("bcn2").commands.map((argv) => argv.join(" "));
  };

  beforeEach(() => {
    deadline = new Deadline(30, "the test");
    patience = { deadline, progress: () => undefined };
  });

  afterEach(async () => {
    await disconnectAll();
    assert.deepEqual([lab.defects, lab.host("bcn2").unknownCommands], [[], []]);
    await lab.stop();
  });

  it("of the Debian package stops the socket with the service, removes all data, and starts both", async () => {
    const commands = await start("deb");
    const stop = commands.findIndex((line) => line.startsWith("systemctl stop lxd.socket lxd.service"));
    const wipe = commands.findIndex((line) => /^perl -e rename.* \/var\/lib\/lxd \/var\/lib\/lxd\.pulumi-lxd-wiped$/.test(line));
    const again = commands.findIndex((line) => line.startsWith("systemctl start lxd.socket lxd.service"));
    assert.ok(stop >= 0 && stop < wipe && wipe < again, commands.join("\n"));
    assert.equal(lab.host("bcn2").daemon?.database.images.size, 0);
  });

  it("kills a daemon that does not stop in order, as Incus while it waits for its cluster", async () => {
    const commands = await start("deb");
    const [stops, kills] = [/^systemctl stop lxd\.socket/, /^systemctl kill --signal=KILL lxd\.service/];
    const since = commands.length;
    lab.faults.add({ when: { exec: /timeout 60 systemctl stop/, nth: 1 }, effect: { status: 124, error: "" } });
    await resetLxd(ssh, "deb", patience);
    const run = lab
      .host("bcn2")
      .commands.slice(since)
      .map((argv) => argv.join(" "));
    const order = run.flatMap((line) => (stops.test(line) ? ["stop"] : kills.test(line) ? ["kill"] : []));
    assert.deepEqual(order, ["kill", "stop", "kill"]); // the fault takes the place of the first stop
    assert.equal(lab.host("bcn2").daemon?.database.images.size, 0);
  });

  it("of the snap removes it with its data and installs it again from the same channel", async () => {
    await start("snap");
    const asked = lab.mutations().map(({ method, path }) => `${method} ${path}`);
    assert.deepEqual(asked, ["POST /v2/snaps/lxd", "POST /v2/snaps/lxd"]);
    assert.equal(lab.host("bcn2").snaps.get("lxd")?.channel, "5.21/stable");
    assert.equal(lab.host("bcn2").daemon?.database.images.size, 0);
  });

  it("finds and removes the certificate of an interrupted join", async () => {
    await start("deb");
    const { files } = lab.host("bcn2");
    assert.equal(await hasLeftoverClusterCertificate(ssh, "deb", deadline), false);
    files.writeFile("/var/lib/lxd/cluster.crt", "");
    assert.equal(await hasLeftoverClusterCertificate(ssh, "deb", deadline), true);
    await resetLxd(ssh, "deb", patience);
    assert.equal(await hasLeftoverClusterCertificate(ssh, "deb", deadline), false);
  });

  it("refuses to delete anything while a mount below cannot be unmounted, and continues when it can", async () => {
    await start("deb");
    const { files, mounts } = lab.host("bcn2");
    files.makeDirectory("/srv/precious");
    files.writeFile("/srv/precious/canary", "alive");
    files.makeDirectory("/var/lib/lxd/devices/c1/disk.my data", { parents: true });
    mounts.push({ target: "/var/lib/lxd/devices/c1/disk.my data", source: "/srv/precious" });
    const busy = lab.faults.add({ when: { exec: /^umount/ }, effect: { status: 32, error: "umount: target is busy." } });
    await assert.rejects(resetLxd(ssh, "deb", patience), {
      code: "failed", // LXD was stopped for it
      message:
        `${ssh.name} still has mounts below /var/lib/lxd: "/var/lib/lxd/devices/c1/disk.my data" (umount: target is busy.). Nothing is deleted ` +
        "while they are mounted. Unmount them there, then run pulumi up again",
    });
    assert.ok(files.exists("/var/lib/lxd/server.crt"));
    assert.ok(await isResetUnfinished(ssh, deadline));
    busy.remove();
    assert.equal(await finishReset(ssh, patience, []), true);
    assert.equal(files.readText("/srv/precious/canary"), "alive");
    assert.deepEqual(mounts, [{ target: "/" }]);
  });

  it("of the snap removes its bridges from the kernel, which removing the snap does not", async () => {
    await start("snap");
    await lab.byHand("bcn2", "POST", "/1.0/networks", { name: "lxdbr0", type: "bridge" });
    assert.ok(lab.host("bcn2").interfaces.has("lxdbr0"));
    await resetLxd(ssh, "snap", patience);
    assert.equal(lab.host("bcn2").interfaces.has("lxdbr0"), false);
    assert.ok(lab.host("bcn2").interfaces.has("br0"));
  });

  it("starts what it has stopped, also when another run finishes it", async () => {
    await start("deb");
    const units = ["lxd.socket", "lxd.service", "lxd-containers.service"];
    const active = (): string[] => units.filter((unit) => lab.host("bcn2").unitActive(unit));
    assert.deepEqual(active(), units);
    const cut = lab.faults.add({ when: { exec: /^unshare/, nth: 1 }, effect: "drop-before" });
    await assert.rejects(resetLxd(ssh, "deb", patience));
    assert.deepEqual([cut.hits, active()], [1, []]);
    await disconnectAll();
    ssh = await connect(connectionSchema.parse(lab.host("bcn2").connection), { deadline });
    assert.equal(await finishReset(ssh, patience, []), true);
    assert.deepEqual(active(), units);
    assert.equal(lab.host("bcn2").files.exists("/var/lib/lxd.pulumi-lxd-wiped"), false);
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
      assert.equal(await finishReset(ssh, patience, []), true);
      assert.equal(lab.host("bcn2").daemon?.database.images.size, 0);
      assert.ok(await areNotesGone());
    });

    it("counts as finished when LXD is used again, and then its config is the host's own", async () => {
      await interrupt();
      await lab.byHand("bcn2", "POST", "/1.0/storage-pools", { name: "default", driver: "dir" });
      lab.seedInstances(1, { host: "bcn2", devices: { root: { type: "disk", path: "/", pool: "default" } } });
      assert.equal(await finishReset(ssh, patience, []), false);
      assert.equal(lab.host("bcn2").daemon?.database.instances.size, 1);
      assert.ok(await areNotesGone());
    });
  });

  describe("that was interrupted, on a host where something was created since", () => {
    const HOLDINGS = "/var/lib/lxd/storage-pools/default/virtual-machines/vm1";
    const use = async (): Promise<void> => {
      await start("deb");
      await lab.byHand("bcn2", "POST", "/1.0/storage-pools", { name: "default", driver: "dir" });
      lab.seedInstances(1, { host: "bcn2", devices: { root: { type: "disk", path: "/", pool: "default" } } });
      lab.host("bcn2").files.makeDirectory(HOLDINGS, { parents: true });
    };
    const interrupted = (phase: object): Promise<void> => {
      const units = ["lxd.socket", "lxd.service"];
      return writeNote(ssh, "pulumi-lxd-wipe", JSON.stringify({ packaging: "deb", config: {}, units, ...phase }), deadline);
    };
    const again = async (): Promise<void> => {
      await disconnectAll();
      ssh = await connect(connectionSchema.parse(lab.host("bcn2").connection), { deadline });
    };

    const PHASES = { "before its data was gone": {}, "when its data was gone": { cleared: true } };
    for (const [when, phase] of Object.entries(PHASES)) {
      for (const [what, { effect, lasts }] of Object.entries(FAILED_REQUESTS)) {
        it(`${when}, deletes nothing when a request ${what}`, async () => {
          await use();
          const since = lab.requests.length;
          await takeInventory(new LxdClient(await endpointOf(ssh, deadline), deadline));
          const asked = lab.requests.slice(since).map(({ path }) => path);
          assert.equal(asked.length, 6);
          for (const path of asked) {
            await interrupted(phase);
            await again();
            const fault = lab.faults.add({
              when: { method: "GET", path: new RegExp(`^${path.replace(/[.?]/g, "\\$&")}$`), ...(lasts ? {} : { nth: 1 }) },
              effect,
            });
            const patient = { ...patience, deadline: new Deadline(lasts ? 2 : 60, "the test") };
            const outcome = await finishReset(ssh, patient, []).catch((error: unknown) => error as Error);
            assert.ok(fault.hits > 0, path);
            fault.remove();
            assert.equal(lab.host("bcn2").daemon?.database.instances.size, 1, path);
            assert.ok(lab.host("bcn2").files.exists(HOLDINGS), path);
            assert.ok(lasts ? outcome instanceof Error : outcome === false, `${path}: ${String(outcome)}`);
            await again();
            assert.equal(await isResetUnfinished(ssh, deadline), lasts, path);
            assert.equal(await finishReset(ssh, patience, []), false, path);
          }
        });
      }
    }

    it("reports what it cannot find out, and what to do", async () => {
      await use();
      await interrupted({});
      lab.faults.add({ when: { path: /^\/1\.0\/projects/ }, effect: { status: 403, error: "not authorized" } });
      await assert.rejects(finishReset(ssh, patience, []), {
        code: "refused",
        message:
          `The wipe of LXD on ${ssh.name} was interrupted. LXD runs again, but does not report what it holds (LXD on ${ssh.name} answered GET ` +
          "/1.0/projects?recursion=1 with 403: not authorized). On its disk are instances vm1, which may be newer than the wipe, so nothing was " +
          "deleted. Repair LXD and run pulumi up again. To keep what is on the disk: rm /var/lib/pulumi-lxd-wipe. To finish the wipe without an " +
          'answer: stop LXD there (systemctl stop lxd.socket lxd.service), give its LxdNode resetPolicy: ["instances"], and run pulumi up again',
      });
    });

    const stop = (): void => ["lxd.socket", "lxd.service"].forEach((unit) => lab.host("bcn2").controlUnit("stop", unit));

    it("is kept when LXD does not run, unless the policy permits its deletion, and both options are named", async () => {
      await use();
      await interrupted({});
      stop();
      await assert.rejects(finishReset(ssh, patience, ["custom-volumes"]), {
        code: "refused",
        message:
          `The wipe of LXD on ${ssh.name} was interrupted, and LXD does not run. On its disk are instances vm1, which may be newer than the wipe, ` +
          "so nothing was deleted. To keep them: rm /var/lib/pulumi-lxd-wipe, start LXD there, and run pulumi up again. To finish the wipe: " +
          'give its LxdNode resetPolicy: ["instances"], and run pulumi up again',
      });
      assert.ok(lab.host("bcn2").files.exists(HOLDINGS));
      assert.equal(await finishReset(ssh, patience, ["instances"]), true);
      assert.equal(lab.host("bcn2").files.exists(HOLDINGS), false);
    });

    it("is looked for in pools that did not exist when the wipe began, and that cannot be read", async () => {
      await start("deb");
      const { files } = lab.host("bcn2");
      stop();
      for (const pool of ["default", "since"]) {
        files.makeDirectory(`/var/lib/lxd/storage-pools/${pool}`, { parents: true });
      }
      await interrupted({ pools: ["default"] });
      await assert.rejects(
        finishReset(ssh, patience, ["instances"]),
        /On its disk are custom-volumes since\/\* \(the pool is not mounted\), which may/,
      );
      await interrupted({ pools: ["default", "since"] });
      assert.equal(await finishReset(ssh, patience, []), true);
    });

    for (const [title, doIt, isWiped] of [
      [
        "is kept when the marker is removed, as the message says",
        () => lab.host("bcn2").files.remove("/var/lib/pulumi-lxd-wipe"),
        false,
      ],
      ["is deleted when LXD is stopped and the policy names it, as the message says", stop, true],
    ] as const) {
      it(`what may have been made since ${title}`, async () => {
        await use();
        await interrupted({});
        lab.faults.add({ when: { path: /^\/1\.0\/projects/ }, effect: { status: 403, error: "not authorized" } });
        await assert.rejects(finishReset(ssh, patience, []), { code: "refused" });
        doIt();
        await again();
        lab.faults.clear();
        assert.equal(await finishReset(ssh, patience, ["instances"]), isWiped);
        assert.equal(lab.host("bcn2").daemon?.database.instances.size, isWiped ? 0 : 1);
        assert.equal(lab.host("bcn2").files.exists(HOLDINGS), !isWiped);
      });
    }

    it("continues when LXD cannot report its content, and the disk holds nothing of value", async () => {
      await start("deb");
      await interrupted({});
      lab.faults.add({ when: { path: /^\/1\.0\/projects/ }, effect: { status: 500, error: "no such table: projects" } });
      assert.equal(await finishReset(ssh, { ...patience, deadline: new Deadline(12, "the test") }, []), true);
    });

    for (const lxd of ["deb", "snap"] as const) {
      it(`notes with the ${lxd} that the data is gone before LXD starts on new data, and then deletes nothing any more`, async () => {
        await start(lxd);
        const first = lxd === "deb" ? { exec: /^systemctl start/, nth: 1 } : { method: "POST", path: /^\/v2\/snaps/, nth: 2 };
        const cut = lab.faults.add({ when: first, effect: "drop-after" });
        await assert.rejects(resetLxd(ssh, lxd, patience));
        assert.equal(cut.hits, 1);
        lab.faults.clear();
        await again();
        assert.equal(
          (JSON.parse((await readNote(ssh, "pulumi-lxd-wipe", deadline)) ?? "") as { cleared: boolean }).cleared,
          true,
        );
        lab.seedImage("bcn2", { alias: "debian" });
        const since = [lab.host("bcn2").commands.length, lab.requests.length] as const;
        assert.equal(await finishReset(ssh, patience, []), true);
        const run = lab
          .host("bcn2")
          .commands.slice(since[0])
          .map((argv) => argv.join(" "));
        assert.deepEqual(
          run.filter((line) => /^(systemctl stop|systemctl kill|pkill|perl|unshare|ip link delete)/.test(line)),
          [],
        );
        assert.equal(lab.host("bcn2").daemon?.database.images.size, 1);
        assert.equal(await isResetUnfinished(ssh, deadline), false);
      });
    }
  });
});

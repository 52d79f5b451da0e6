import assert from "node:assert/strict";
import { inspect } from "node:util";
import { type SimulatedHost, type SimulatedHostOptions, SimulatedLab } from "../../../lab/simulated";
import { finishReset, isResetUnfinished, resetLxd } from "../../../provider/host/reset-lxd";
import { bringSnap, findSnap, startSnap } from "../../../provider/host/snapd";
import { Deadline } from "../../../provider/support/deadline";
import { hasCode, messageOf } from "../../../provider/support/errors";
import { connectionSchema } from "../../../provider/transport/connection";
import { connect, disconnectAll } from "../../../provider/transport/pool";
import type { SshConnection } from "../../../provider/transport/ssh";

const CHOICE = { channel: "5.21/stable", cohort: true, hold: true };

describe("snapd on a host", () => {
  let lab: SimulatedLab;
  let host: SimulatedHost;
  let ssh: SshConnection;
  let seen: string[];
  let deadline: Deadline;
  let patience: { deadline: Deadline; progress(text: string): void };

  const start = async (options: Partial<SimulatedHostOptions> = {}, installMs = 0): Promise<void> => {
    lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", lxd: "snap", ...options }], timings: { installMs } });
    host = lab.host("bcn2");
    seen = [];
    deadline = new Deadline(60, "the test");
    patience = { deadline, progress: (text) => void seen.push(text) };
    ssh = await again();
  };
  const again = async (): Promise<SshConnection> => {
    await disconnectAll();
    return connect(connectionSchema.parse(host.connection), { deadline });
  };
  const failure = (doing: Promise<unknown>): Promise<unknown> =>
    doing.then(
      () => assert.fail("it did not fail"),
      (error: unknown) => error,
    );
  const posts = (): string[] => lab.mutations().map(({ method, path }) => `${method} ${path}`);
  /** A failure of snapd in another language, with its `kind` unchanged. */
  const inOtherWords = (real: string): string => real.replace(/"message":"[^"]*"/, '"message":"nie znaleziono"');

  afterEach(async () => {
    await disconnectAll();
    assert.deepEqual([lab.defects, host.unknownCommands], [[], []]);
    await lab.stop();
  });

  describe("reads of a snap", () => {
    it("its whole channel, however long, its version and revision", async () => {
      await start();
      const channel = "5.21/stable/ubuntu-24.04-with-a-fix-for-a-few";
      host.installSnap(channel);
      const { held: _, ...found } = (await findSnap(ssh, deadline)) ?? {};
      assert.deepEqual(found, { channel, version: "5.21.4-8a3cf61", revision: 33110 });
    });

    it("the same as a user other than root", async () => {
      await start({ user: "operator" });
      assert.equal((await findSnap(ssh, deadline))?.channel, "5.21/stable");
    });

    it("that it follows no channel and has no revision of the store when it is from a file", async () => {
      await start();
      host.snaps.set("lxd", { channel: "", held: false, version: "5.21.1-abcdef0", revision: "x1" });
      assert.deepEqual(await findSnap(ssh, deadline), {
        channel: "",
        version: "5.21.1-abcdef0",
        revision: undefined,
        held: false,
      });
    });

    it("that it is not installed, in any language", async () => {
      await start({ lxd: "deb", snapd: true });
      lab.faults.add({
        when: { path: /snaps\/lxd/ },
        effect: { answer: (response, real) => void response.writeHead(404).end(inOtherWords(real)) },
      });
      assert.equal(await findSnap(ssh, deadline), undefined);
    });

    for (const [version, held, told] of [
      ["2.57.6", false, false],
      ["2.58", true, undefined],
      ["2.58", false, undefined],
      ["2.58.1", true, true],
      ["2.58.1", false, false],
      ["2.77.1", true, true],
      ["2.77.1", false, false],
    ] as const) {
      it(`whether it is ${held ? "" : "not "}held: snapd ${version} says ${told ?? "nothing"}`, async () => {
        await start({ snapdVersion: version });
        Object.assign(host.snaps.get("lxd") ?? {}, { held });
        assert.equal((await findSnap(ssh, deadline))?.held, told);
      });
    }

    it("nothing when there is no snapd, without an error", async () => {
      await start({ lxd: "deb" });
      assert.equal(await findSnap(ssh, deadline), undefined);
    });

    it("an error when snapd is installed and does not listen", async () => {
      await start({ lxd: "deb" });
      host.files.makeDirectory("/usr/lib/snapd", { parents: true });
      host.files.writeFile("/usr/lib/snapd/snapd", "");
      const message = `snapd is installed on ${ssh.name} but does not listen on /run/snapd.socket. Start it: systemctl start snapd.socket`;
      await assert.rejects(findSnap(ssh, deadline), { code: "refused", message });
    });

    it("an error when something else answers on its socket", async () => {
      await start();
      lab.faults.add({
        when: { path: /snaps\/lxd/ },
        effect: { answer: (response) => void response.writeHead(200).end("<html>") },
      });
      await assert.rejects(findSnap(ssh, deadline), { code: "response-shape", message: /GET \/v2\/snaps\/lxd/ });
    });
  });

  describe("installs a snap", () => {
    it("and shows its progress", async () => {
      await start({ lxd: "deb", snapd: true }, 800);
      host.removePackage("lxd", true);
      await bringSnap(ssh, CHOICE, patience);
      const shown = [...new Set(seen)].filter((text) => text.includes("Download"));
      assert.equal(shown[0], `snapd on ${ssh.name}: Download snap "lxd" (33110) from channel "5.21/stable": 0 %`);
      assert.ok(shown.length >= 3, shown.join("\n"));
    });

    it("when snapd has finished its own setup", async () => {
      await start({ lxd: "deb", snapd: true });
      host.removePackage("lxd", true);
      host.snapDaemon.model.seeded = false;
      const pending = bringSnap(ssh, CHOICE, {
        deadline,
        progress: (text) => {
          seen.push(text);
          host.snapDaemon.model.seeded = true;
        },
      });
      await pending;
      assert.equal(seen[0], `waiting for snapd on ${ssh.name} to install its preinstalled snaps`);
      assert.equal(host.snaps.get("lxd")?.channel, "5.21/stable");
    });

    it("when an automatic refresh of it has ended, which is reported", async () => {
      await start();
      const end = host.snapDaemon.model.startAutoRefresh("lxd");
      const more = {
        deadline,
        progress: (text: string) => {
          seen.push(text);
          end();
        },
      };
      await bringSnap(ssh, { ...CHOICE, channel: "6/stable" }, more);
      const waiting = `waiting for snapd on ${ssh.name} to finish another change: Download snap "lxd" from channel "stable": 25 %`;
      assert.equal(seen[0], waiting);
      assert.equal(host.snaps.get("lxd")?.channel, "6/stable");
    });

    it("also when another change began between its check and its request", async () => {
      await start();
      const end = host.snapDaemon.model.startAutoRefresh("lxd");
      const look = { method: "GET", path: /in-progress/, nth: 1 };
      const nothing = JSON.stringify({ type: "sync", "status-code": 200, status: "OK", result: [] });
      lab.faults.add({ when: look, effect: { answer: (response) => void response.writeHead(200).end(nothing) } });
      const more = { deadline, progress: () => end() };
      await bringSnap(ssh, { ...CHOICE, channel: "6/stable", hold: false }, more);
      assert.deepEqual(posts(), ["POST /v2/snaps/lxd", "POST /v2/snaps/lxd"]);
      assert.equal(host.snaps.get("lxd")?.channel, "6/stable");
    });

    it("while snapd restarts in between, as it does for a new snapd", async () => {
      await start();
      for (const nth of [1, 2]) {
        lab.faults.add({ when: { path: /changes\/\d+$/, nth }, effect: "daemon-restart" });
      }
      await bringSnap(ssh, { ...CHOICE, channel: "6/stable", hold: false }, patience);
      assert.ok(seen.includes(`snapd on ${ssh.name} is restarting`));
    });

    it("in the wanted revision, although the channel has another by now", async () => {
      await start({ lxd: "deb", snapd: true });
      host.removePackage("lxd", true);
      host.store.release("5.21/stable", { revision: 33999, version: "5.21.4-9b1e0d2", lxd: "lxd-5.21" });
      await bringSnap(ssh, { ...CHOICE, revision: 33110 }, patience);
      assert.equal(host.snaps.get("lxd")?.revision, "33110");
    });

    it("and quotes snapd when that fails", async () => {
      await start();
      lab.faults.add({ when: { method: "POST", path: /snaps\/lxd/ }, effect: "fail-operation" });
      const error = await failure(bringSnap(ssh, { ...CHOICE, channel: "6/stable" }, patience));
      assert.ok(hasCode(error, "snapd"));
      assert.match(
        messageOf(error),
        /^snapd on root@.*: POST \/v2\/snaps\/lxd \(refresh\) failed: cannot perform.*simulated failure/s,
      );
    });

    it("from a channel that does not exist: snapd's own message", async () => {
      await start();
      await assert.rejects(bringSnap(ssh, { ...CHOICE, channel: "7/stable" }, patience), {
        code: "snapd",
        kind: "snap-channel-not-available",
        message: /POST \/v2\/snaps\/lxd failed with 404/,
      });
      assert.equal(host.snaps.get("lxd")?.channel, "5.21/stable");
    });

    it("and refuses a hold that this snapd does not support, with the remedy", async () => {
      await start({ snapdVersion: "2.57.6" });
      const message =
        `snapd on ${ssh.name} is older than 2.58 and cannot hold a snap. Upgrade it (snap install snapd), or set hold: false in install; LXD is ` +
        "then upgraded with its channel";
      await assert.rejects(bringSnap(ssh, CHOICE, patience), { code: "failed", message });
      await bringSnap(ssh, { ...CHOICE, hold: false }, patience);
    });

    it("and does not move one from a file to a channel: a user must do that", async () => {
      await start();
      host.snaps.set("lxd", { channel: "", held: true, version: "5.21.1-abcdef0", revision: "x1" });
      await assert.rejects(bringSnap(ssh, CHOICE, patience), { code: "refused", message: /snap refresh --amend lxd/ });
    });
  });

  it("starts the services of a snap", async () => {
    await start();
    host.daemon?.stop();
    await startSnap(ssh, patience);
    assert.equal(host.daemon?.answers, true);
  });

  it("starts them when another change began at the same moment, which snapd refuses without a kind", async () => {
    await start();
    host.daemon?.stop();
    const error = 'snap "lxd" has "service-control" change in progress';
    lab.faults.add({ when: { method: "POST", path: /^\/v2\/apps/, nth: 1 }, effect: { status: 400, error } });
    await startSnap(ssh, patience);
    assert.equal(host.daemon?.answers, true);
  });

  it("quotes snapd's refusal to start, when no other change runs", async () => {
    await start();
    const refusal = lab.faults.add({
      when: { method: "POST", path: /^\/v2\/apps/ },
      effect: { status: 400, error: "no such service" },
    });
    await assert.rejects(startSnap(ssh, patience), {
      code: "snapd",
      message: /\/v2\/apps failed with 400: no such service/,
    });
    assert.equal(refusal.hits, 2);
  });

  describe("wipes a snap", () => {
    const LONG = "5.21/stable/ubuntu-24.04-with-a-fix-for-a-few";
    const held = async (): Promise<void> => {
      await start();
      host.installSnap(LONG);
      Object.assign(host.snaps.get("lxd") ?? {}, { held: true });
      lab.seedImage("bcn2", { alias: "debian" });
      host.store.release("5.21/stable", { revision: 33999, version: "5.21.4-9b1e0d2", lxd: "lxd-5.21" });
    };
    const isBack = async (): Promise<void> => {
      const { channel, revision, held: isHeld } = host.snaps.get("lxd") ?? {};
      assert.deepEqual([channel, revision, isHeld], [LONG, "33110", true]);
      assert.equal(host.daemon?.database.images.size, 0);
      assert.equal(await isResetUnfinished(ssh, deadline), false);
    };

    it("and the same channel and revision come back, held as they were", async () => {
      await held();
      await resetLxd(ssh, "snap", patience);
      await isBack();
    });

    it("and every unit is active that was, also when another run finishes it", async () => {
      const active = (): string[] => host.unitNames().filter((unit) => host.unitActive(unit));
      await held();
      const before = active();
      assert.ok(before.includes("snap.lxd.daemon.service"));
      await resetLxd(ssh, "snap", patience);
      assert.deepEqual(active(), before);
      lab.faults.add({ when: { method: "POST", path: /^\/v2\/snaps/, nth: 2 }, effect: "drop-before" });
      await assert.rejects(resetLxd(ssh, "snap", patience));
      assert.deepEqual(active(), []);
      lab.faults.clear();
      ssh = await again();
      await finishReset(ssh, patience, []);
      assert.deepEqual(active(), before);
    });

    for (const [nth, what] of [
      [1, "removal"],
      [2, "installation"],
      [3, "hold"],
    ] as const) {
      it(`and continues where it was interrupted, at its ${what}`, async () => {
        for (const effect of ["drop-before", "drop-after", "fail-operation"] as const) {
          await held();
          lab.faults.add({ when: { method: "POST", path: /^\/v2\//, nth }, effect });
          await assert.rejects(resetLxd(ssh, "snap", patience));
          lab.faults.clear();
          ssh = await again();
          assert.equal(await isResetUnfinished(ssh, deadline), true);
          await finishReset(ssh, patience, []);
          await isBack();
          await (effect === "fail-operation" ? undefined : lab.stop());
        }
      });
    }

    describe("with user settings", () => {
      const SECRET = "hunter2-of-the-preseed";
      const KEPT = "/var/lib/pulumi-lxd-wipe-snap";
      const config = () => ({ ceph: { external: true }, daemon: { group: "lxd", preseed: `core.trust_password: ${SECRET}` } });
      const connections = () =>
        [
          { plug: { snap: "lxd", plug: "ceph-conf" }, slot: { snap: "microceph", slot: "ceph-conf" }, manual: true },
          { plug: { snap: "lxd", plug: "lxd-support" }, slot: { snap: "snapd", slot: "lxd-support" } },
          { plug: { snap: "lxd", plug: "network-bind" }, slot: { snap: "snapd", slot: "network-bind" } },
        ].sort(byPlug);
      const byPlug = (a: { plug: { plug: string } }, b: { plug: { plug: string } }): number =>
        a.plug.plug.localeCompare(b.plug.plug);
      const set = async (): Promise<void> => {
        await held();
        Object.assign(host.snaps.get("lxd") ?? {}, { config: config(), connections: connections() });
        seen = [];
      };
      const isSetAgain = async (): Promise<void> => {
        await isBack();
        const snap = host.snaps.get("lxd");
        assert.deepEqual([snap?.config, [...(snap?.connections ?? [])].sort(byPlug)], [config(), connections()]);
        assert.deepEqual([host.files.exists(KEPT), host.files.exists(`${KEPT}.new`)], [false, false]);
        for (const text of [...host.commands.flat(), ...seen]) {
          assert.ok(!text.includes(SECRET), text);
        }
      };
      const works = () =>
        lab
          .mutations()
          .map(({ method, path }) => `${method} ${path}`)
          .slice(-3);

      it("which are set again, before LXD is used, with a restart that applies them", async () => {
        await set();
        await resetLxd(ssh, "snap", patience);
        await isSetAgain();
        assert.deepEqual(works(), [...["POST /v2/interfaces", "PUT /v2/snaps/lxd/conf", "POST /v2/apps"]]);
      });

      for (const [what, when] of [
        ["removal", { method: "POST", path: /^\/v2\/snaps/, nth: 1 }],
        ["installation", { method: "POST", path: /^\/v2\/snaps/, nth: 2 }],
        ["connection", { method: "POST", path: /^\/v2\/interfaces/, nth: 1 }],
        ["configuration", { method: "PUT", path: /^\/v2\//, nth: 1 }],
        ["restart", { method: "POST", path: /^\/v2\/apps/, nth: 1 }],
      ] as const) {
        it(`which are set again by the next run when this one was interrupted at its ${what}`, async () => {
          for (const effect of ["drop-before", "drop-after", "fail-operation"] as const) {
            await set();
            const cut = lab.faults.add({ when, effect });
            await assert.rejects(resetLxd(ssh, "snap", patience));
            assert.equal(cut.hits, 1);
            lab.faults.clear();
            assert.deepEqual([host.files.get(KEPT)?.mode, host.files.get(KEPT)?.uid], [0o600, 0]);
            ssh = await again();
            assert.equal(await finishReset(ssh, patience, []), true);
            await isSetAgain();
            await (effect === "fail-operation" ? undefined : lab.stop());
          }
        });
      }

      it("and a setting that the snap now refuses is reported without its value, with a remedy", async () => {
        await set();
        lab.faults.add({ when: { method: "PUT", path: /conf$/ }, effect: { quote: (body) => `cannot use ${body}` } });
        const error = await failure(resetLxd(ssh, "snap", patience));
        assert.ok(hasCode(error, "snapd") && !inspect(error, { depth: 9 }).includes(SECRET), inspect(error));
        assert.match(
          messageOf(error),
          /PUT \/v2\/snaps\/lxd\/conf failed with 400: .*what "snap set lxd" had set\. .*type there: rm \/var\/lib\/pulumi-lxd-wipe-snap$/,
        );
        host.files.remove(KEPT);
        assert.equal(await finishReset(ssh, patience, []), true);
        assert.deepEqual([host.snaps.get("lxd")?.config, await isResetUnfinished(ssh, deadline)], [undefined, false]);
      });

      it("and a connected snap that is gone is named with snapd's error", async () => {
        await set();
        const error = 'snap "microceph" is not installed';
        lab.faults.add({ when: { method: "POST", path: /interfaces$/ }, effect: { status: 400, error } });
        await assert.rejects(resetLxd(ssh, "snap", patience), {
          code: "snapd",
          message: /snap "microceph" is not installed\. .*"snap connect lxd:ceph-conf microceph:ceph-conf"/,
        });
      });

      it("and does not quote an unreadable file of its settings", async () => {
        await set();
        lab.faults.add({ when: { method: "PUT", path: /conf$/ }, effect: "fail-operation" });
        await assert.rejects(resetLxd(ssh, "snap", patience));
        host.files.writeFile(KEPT, `${SECRET}}`);
        await assert.rejects(finishReset(ssh, patience, []), (error: unknown) => {
          assert.ok(hasCode(error, "failed") && !inspect(error, { depth: 9 }).includes(SECRET), inspect(error));
          return true;
        });
      });
    });

    it("and keeps everything mounted below its data", async () => {
      await held();
      const { files, mounts } = host;
      const target = "/var/snap/lxd/common/lxd/devices/c1/disk.my data";
      files.makeDirectory("/srv/precious");
      files.writeFile("/srv/precious/canary", "alive");
      files.makeDirectory(target, { parents: true });
      mounts.push({ target, source: "/srv/precious" });
      const busy = lab.faults.add({ when: { exec: /^umount/ }, effect: { status: 32, error: "umount: target is busy." } });
      await assert.rejects(resetLxd(ssh, "snap", patience), { code: "failed", message: /disk\.my data.*Nothing is deleted/ });
      assert.deepEqual(posts(), ["POST /v2/apps"]);
      busy.remove();
      assert.equal(await finishReset(ssh, patience, []), true);
      assert.equal(files.readText("/srv/precious/canary"), "alive");
      assert.deepEqual(mounts, [{ target: "/" }]);
      await isBack();
    });

    it("and reports what it waits for", async () => {
      await start({}, 1500);
      seen = [];
      await resetLxd(ssh, "snap", patience);
      assert.ok(
        seen.some((text) => text.startsWith("snapd on ")),
        seen.join("\n"),
      );
    });

    it("not when the store does not answer, because LXD could not be reinstalled", async () => {
      await held();
      host.store.reachable = false;
      await assert.rejects(resetLxd(ssh, "snap", patience), {
        code: "refused",
        message: /is not removed, because the store does not answer there \(.*\) and the snap could not be installed again/,
      });
      assert.deepEqual([posts(), await isResetUnfinished(ssh, deadline), host.daemon?.database.images.size], [[], false, 1]);
    });

    it("not when it is from a file, because it could not be reinstalled", async () => {
      await held();
      host.snaps.set("lxd", { channel: "", held: false, version: "5.21.1-abcdef0", revision: "x1" });
      await assert.rejects(resetLxd(ssh, "snap", patience), { code: "refused", message: /was installed from a file/ });
      assert.deepEqual([posts(), await isResetUnfinished(ssh, deadline)], [[], false]);
    });

    it("and installs the channel's revision when the store has withdrawn its own", async () => {
      await held();
      host.store.withdraw(33110);
      await resetLxd(ssh, "snap", patience);
      assert.deepEqual([host.snaps.get("lxd")?.channel, host.snaps.get("lxd")?.revision], [LONG, "33999"]);
    });
  });
});

import assert from "node:assert/strict";
import type { FaultEffect } from "../../lab/simulated/faults";
import { vmUserLifecycle } from "../../provider/resources/machine-user";
import { isThorough } from "../support/breadth";
import { Managed, type SimulatedCluster, startWithInstance } from "../unit/resources/simulated-cluster";

const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxhcHRvcGxhcHRvcGxhcHRvcGxhcHRvcGxhcHRvcDEy laptop";
const MOUNTINFO = "/proc/self/mountinfo";

describe("VmUser's home", () => {
  let one: SimulatedCluster;
  let alice: Managed;

  const files = () => one.lab.guestFiles("bcn2", "web1");
  const args = (more: object = {}) => ({
    cluster: one.cluster,
    instance: "web1",
    name: "alice",
    uid: 1500,
    home: "/home/alice",
    authorizedKeys: [KEY],
    ...more,
  });
  const mount = (target: string) =>
    files().writeFile(MOUNTINFO, `${files().readText(MOUNTINFO)}37 36 98:0 /srv ${target} rw - ext4 /dev/sdb rw\n`);
  const passwd = (user: string) =>
    files()
      .readText("/etc/passwd")
      .split("\n")
      .find((line) => line.startsWith(`${user}:`))
      ?.split(":");
  const addToPasswd = (line: string) => files().writeFile("/etc/passwd", `${files().readText("/etc/passwd")}${line}\n`);
  const removeBob = () =>
    files().writeFile(
      "/etc/passwd",
      files()
        .readText("/etc/passwd")
        .replace(/^bob.*\n/m, ""),
    );

  /** Everything in the guest, with the content of files. */
  const everything = () =>
    files()
      .tree("/")
      .sort()
      .map((path) => {
        const { type, uid, gid, mode, content } = files().get(path, false) ?? {};
        return [path, type, uid, gid, mode, content?.toString()];
      });

  beforeEach(async () => {
    one = await startWithInstance("container");
    alice = new Managed(vmUserLifecycle, "alice");
    await alice.up(args());
    files().writeFile("/home/alice/letter", "dear bob", { uid: 1500, gid: 1500 });
  });

  afterEach(async () => {
    assert.deepEqual([one.lab.unknownGuestCommands, one.lab.defects], [[], []]);
    await one.stop();
  });

  const livesAt = (home: string, uid = 1500): void => {
    assert.deepEqual([passwd("alice")?.[5], passwd("alice")?.[2]], [home, String(uid)]);
    assert.equal(files().readText(`${home}/letter`), "dear bob");
    assert.equal(files().readText(`${home}/.ssh/authorized_keys`), `${KEY}\n`);
    for (const path of files().tree(home)) {
      assert.equal(files().get(path, false)?.uid, uid, path);
    }
    assert.equal(files().exists("/home/alice"), home === "/home/alice");
    assert.equal(files().exists("/srv/alice"), home === "/srv/alice");
  };

  for (const [what, home, spoil, reason, cure] of [
    [
      "is a directory with files in it",
      "/srv/alice",
      () => {
        files().makeDirectory("/srv/alice", { uid: 1500 });
        files().writeFile("/srv/alice/other", "");
      },
      /\/srv\/alice exists and is not empty/,
      () => files().remove("/srv/alice", true),
    ],
    [
      "is an empty directory of root",
      "/srv/alice",
      () => files().makeDirectory("/srv/alice"),
      /\/srv\/alice exists and belongs to user "root"/,
      () => files().remove("/srv/alice"),
    ],
    [
      "is a file",
      "/srv/alice",
      () => void files().writeFile("/srv/alice", ""),
      /\/srv\/alice exists and is not a directory/,
      () => files().remove("/srv/alice"),
    ],
    [
      "is a link",
      "/srv/alice",
      () => files().makeSymlink("/srv/alice", "/tmp"),
      /\/srv\/alice exists and is not a directory/,
      () => files().remove("/srv/alice"),
    ],
    [
      "is in a directory that does not exist",
      "/data/alice",
      () => undefined,
      /there is no directory \/data\. Type there: mkdir -p \/data/,
      () => files().makeDirectory("/data"),
    ],
    [
      "is in a file",
      "/data/alice",
      () => void files().writeFile("/data", ""),
      /there is no directory \/data\./,
      () => {
        files().remove("/data");
        files().makeDirectory("/data");
      },
    ],
    [
      "is on another mount",
      "/srv/alice",
      () => void mount("/srv"),
      /that is on another file system \(\/srv\)/,
      () => void files().writeFile(MOUNTINFO, "36 35 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"),
    ],
    [
      "is a mount",
      "/srv/alice",
      () => {
        files().makeDirectory("/srv/alice", { uid: 1500 });
        mount("/srv/alice");
      },
      /"\/srv\/alice" is mounted there/,
      () => void files().writeFile(MOUNTINFO, "36 35 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"),
    ],
    [
      "would leave behind the mounts in the present one",
      "/srv/alice",
      () => void mount("/home/alice/my\\040data"),
      /"\/home\/alice\/my data" is mounted there/,
      () => void files().writeFile(MOUNTINFO, "36 35 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"),
    ],
    ["is in the present one", "/home/alice/new", () => undefined, /that is inside of it/, undefined],
    [
      "belongs to another user",
      "/srv/bob",
      () => addToPasswd("bob:x:1600:1600::/srv/bob:/bin/sh"),
      /that is the home of user "bob"/,
      undefined,
    ],
    [
      "would move another user's home with it",
      "/srv/alice",
      () => addToPasswd("bob:x:1600:1600::/home/alice:/bin/sh"),
      /user "bob" has its home at \/home\/alice, which would also move/,
      removeBob,
    ],
    [
      "would move another user's home inside it",
      "/srv/alice",
      () => addToPasswd("bob:x:1600:1600::/home/alice/bob:/bin/sh"),
      /user "bob" has its home at \/home\/alice\/bob/,
      removeBob,
    ],
    [
      "is to be made of one that belongs to root",
      "/srv/alice",
      () => void Object.assign(files().get("/home/alice") ?? {}, { uid: 0 }),
      /\/home\/alice belongs to user "root"\. If it is the user's, type there: chown alice \/home\/alice/,
      () => void Object.assign(files().get("/home/alice") ?? {}, { uid: 1500 }),
    ],
    [
      "is to be made of a missing one",
      "/srv/alice",
      () => files().rename("/home/alice", "/tmp/away"),
      /there is no \/home\/alice to move\. .*install -d -m 700 -o 1500 -g 1500 \/srv\/alice/,
      () => files().rename("/tmp/away", "/home/alice"),
    ],
    [
      "is to be made of a link",
      "/srv/alice",
      () => {
        files().rename("/home/alice", "/tmp/away");
        files().makeSymlink("/home/alice", "/tmp/away");
      },
      /\/home\/alice is not a directory/,
      () => {
        files().remove("/home/alice");
        files().rename("/tmp/away", "/home/alice");
      },
    ],
  ] as const) {
    it(`that ${what} is refused in the preview and by up, and nothing is touched`, async () => {
      spoil();
      const before = everything();
      assert.equal(await alice.preview(args({ home })), "updated");
      assert.match(alice.warnings.join("\n"), /pulumi up will refuse this\. The home of user "alice"/);
      assert.match(alice.warnings.join("\n"), reason);
      await assert.rejects(alice.up(args({ home, groups: ["adm"] })), reason);
      assert.deepEqual(everything(), before);
      if (cure !== undefined) {
        cure();
        assert.equal(await alice.up(args({ home })), "updated");
        livesAt(home);
        assert.equal(await alice.preview(args({ home })), "same");
      }
    });
  }

  it("is moved, also onto an empty directory of the user's own, and back", async () => {
    files().makeDirectory("/srv/alice", { uid: 1500 });
    for (const home of ["/srv/alice", "/home/alice", "/srv/alice2", "/home/alice"]) {
      assert.equal(await alice.up(args({ home })), "updated");
      livesAt(home);
      assert.equal(await alice.preview(args({ home })), "same");
    }
  });

  it("is not touched while the user is logged in", async () => {
    files().makeDirectory("/proc/4711", { uid: 1500 });
    const before = everything();
    for (const change of [{ home: "/srv/alice" }, { uid: 1600 }, { home: "/srv/alice", uid: 1600 }]) {
      await assert.rejects(alice.up(args(change)), /runs processes, so its uid or home cannot change now \(process 4711\)/);
    }
    assert.deepEqual(everything(), before);
    files().remove("/proc/4711");
    assert.equal(await alice.up(args({ home: "/srv/alice", uid: 1600 })), "updated");
    livesAt("/srv/alice", 1600);
  });

  it("is not moved when usermod fails, for instance because the user has just logged in", async () => {
    const fault = one.lab.faults.add({ when: { guest: /^usermod/ }, effect: { status: 8, error: "used by process 1" } });
    await assert.rejects(alice.up(args({ home: "/srv/alice" })), /runs processes/);
    livesAt("/home/alice");
    fault.remove();
    assert.equal(await alice.up(args({ home: "/srv/alice" })), "updated");
    livesAt("/srv/alice");
  });

  it("is the path in passwd after a manual edit: the old files become the user's home again", async () => {
    for (const elsewhere of [() => undefined, () => files().makeDirectory("/srv/of-root")]) {
      elsewhere();
      files().writeFile("/etc/passwd", files().readText("/etc/passwd").replace(":/home/alice:", ":/srv/of-root:"));
      assert.equal(await alice.up(args()), "updated");
      livesAt("/home/alice");
    }
  });

  it("that is missing is created again for the keys", async () => {
    files().remove("/home/alice", true);
    assert.equal(await alice.preview(args()), "updated");
    assert.deepEqual(alice.warnings, []);
    assert.equal(await alice.up(args()), "updated");
    files().writeFile("/home/alice/letter", "dear bob", { uid: 1500 });
    livesAt("/home/alice");
    assert.equal(files().get("/home/alice")?.mode, 0o700);
  });

  it("that remains of a user with another uid is given to the new user of that name", async () => {
    await alice.destroy();
    assert.equal(await alice.up(args({ uid: 1700 })), "created");
    livesAt("/home/alice", 1700);
  });

  const unmount = () => files().writeFile(MOUNTINFO, "36 35 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n");
  it("with a mounted host directory keeps its owner, because the host's files would change owner, too", async () => {
    mount("/home/alice/my\\040data");
    const before = everything();
    const reason = /cannot be given to the uid 1600: "\/home\/alice\/my data" is mounted there/;
    assert.equal(await alice.preview(args({ uid: 1600 })), "updated");
    assert.match(alice.warnings.join("\n"), reason);
    await assert.rejects(alice.up(args({ uid: 1600, groups: ["adm"] })), reason);
    assert.deepEqual(everything(), before);
    assert.equal(await alice.up(args({ shell: "/bin/sh" })), "updated");
    unmount();
    assert.equal(await alice.up(args({ uid: 1600 })), "updated");
    livesAt("/home/alice", 1600);
  });

  it("cannot be a link when the uid changes: usermod would change passwd, and leave the files", async () => {
    files().rename("/home/alice", "/srv/al");
    files().makeSymlink("/home/alice", "/srv/al");
    await assert.rejects(
      alice.up(args({ uid: 1600 })),
      /cannot be given to the uid 1600: that is a link\. Set home to the directory/,
    );
    assert.equal(passwd("alice")?.[2], "1500");
    assert.equal(await alice.up(args({ uid: 1600, home: "/srv/al" })), "updated");
    assert.deepEqual(
      files()
        .tree("/srv/al")
        .map((path) => files().get(path, false)?.uid)
        .filter((uid) => uid !== 1600),
      [],
    );
  });

  it("that is itself a mount, such as a volume, changes its owner", async () => {
    mount("/home/alice");
    assert.equal(await alice.up(args({ uid: 1600 })), "updated");
    livesAt("/home/alice", 1600);
  });

  it("that remains of a user with another uid keeps its owner while something is mounted in it", async () => {
    await alice.destroy();
    mount("/home/alice/data");
    const before = everything();
    await assert.rejects(
      alice.up(args({ uid: 1700 })),
      /cannot be given to the uid 1700: "\/home\/alice\/data" is mounted there/,
    );
    assert.deepEqual(everything(), before);
    assert.equal(await alice.up(args()), "created");
  });

  it("is not removed while something is mounted in it, through any links", async () => {
    files().rename("/home", "/srv/home");
    files().makeSymlink("/home", "/srv/home");
    mount("/srv/home/alice/data");
    assert.equal(await alice.up(args({ homeOnDelete: "remove" })), "updated");
    await assert.rejects(alice.destroy(), /has mounts \("\/srv\/home\/alice\/data"\)/);
    assert.equal(files().readText("/srv/home/alice/letter"), "dear bob");
    unmount();
    await alice.destroy();
  });

  for (const [what, spoil, reason] of [
    [
      "belongs to another user",
      () => files().makeDirectory("/srv/al", { uid: 1 }),
      /\/srv\/al exists and belongs to the user "daemon"/,
    ],
    ["belongs to root", () => files().makeDirectory("/srv/al"), /\/srv\/al exists and belongs to the user "root"/],
    ["is a file", () => void files().writeFile("/srv/al", "", { uid: 1500 }), /\/srv\/al exists and is not a directory/],
    ["is a link", () => files().makeSymlink("/srv/al", "/home"), /\/srv\/al exists and is not a directory/],
  ] as const) {
    it(`of a new user that ${what} is refused, with a given uid, too`, async () => {
      await alice.destroy();
      spoil();
      const before = everything();
      for (const uid of [undefined, 1500]) {
        await assert.rejects(alice.up(args({ home: "/srv/al", uid })), reason);
      }
      assert.deepEqual(everything(), before);
    });
  }

  const whole = { home: "/srv/alice", uid: 1600, shell: "/bin/sh", groups: ["adm"] };
  for (const [what, change, effect, isKilled] of [
    ["the home", { home: "/srv/alice" }, "drop-after", false],
    ["the uid", { uid: 1600 }, "drop-after", false],
    ["home, uid, shell and groups", whole, "drop-before", false],
    ["home, uid, shell and groups", whole, "drop-after", false],
    ["home, uid, shell and groups", whole, "drop-after", true],
    ["home, uid, shell and groups", whole, "lose-operation", false],
    ["home, uid, shell and groups", whole, "forget-operation", false],
    ["home, uid, shell and groups", whole, { failOperation: "websocket: bad handshake" }, false],
    ["home, uid, shell and groups", whole, { status: 500, error: "Failed to connect to lxd-agent" }, false],
  ] as [string, { home?: string; uid?: number }, FaultEffect, boolean][]) {
    const end = isKilled ? "Pulumi is killed" : JSON.stringify(effect);
    it(`a change of ${what} is completed or reverted after ${end} at any command`, async () => {
      const wanted = args(change);
      const { home = "/home/alice", uid = 1500 } = change;
      let interrupted = 0;
      for (const goesBack of [false, true]) {
        for (let nth = 1; ; nth += isThorough ? 1 : 3) {
          const known = structuredClone(alice.state);
          const fault = one.lab.faults.add({ when: { path: /\/exec/, method: "POST", nth }, effect });
          await alice.up({ ...wanted, timeouts: { update: 5 } }).catch(() => undefined);
          fault.remove();
          if (fault.hits === 0) {
            break;
          }
          interrupted += 1;
          if (isKilled) {
            alice.state = known; // the killed process recorded nothing
          }
          if (!goesBack) {
            await alice.up(wanted);
            livesAt(home, uid);
            assert.equal(await alice.preview(wanted), "same", `at ${nth}`);
          }
          await alice.up(args());
          livesAt("/home/alice");
          assert.equal(await alice.preview(args()), "same", `back at ${nth}`);
        }
        await alice.up(args());
      }
      assert.ok(interrupted >= (isThorough ? 6 : 2), String(interrupted));
    }).timeout(120_000);
  }
});

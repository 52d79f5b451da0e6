import assert from "node:assert/strict";
import * as z from "zod";
import { leftoverHint } from "../../../provider/lxd/storage-and-networks/creation";
import { storagePoolLifecycle } from "../../../provider/resources/lxd-storage-pool";
import { hasCode } from "../../../provider/support/errors";
import { Managed, type SimulatedCluster, startMembers, startStandalone, startTwoMembers } from "./simulated-cluster";

const shown = z.looseObject({ config: z.record(z.string(), z.string()), description: z.string(), status: z.string() });

describe("LxdStoragePool", () => {
  let two: SimulatedCluster;
  let pool: Managed;

  beforeEach(async () => {
    two = await startTwoMembers();
    pool = new Managed(storagePoolLifecycle, "fast");
  });
  afterEach(() => two.stop());

  const args = (more: object = {}) => ({ cluster: two.cluster, name: "fast", driver: "btrfs", ...more });
  const live = async (target?: string) => (await two.byHand()).get("/1.0/storage-pools/fast", shown, { target });

  it("is defined on each member with its own keys, then created on all", async () => {
    assert.equal(await pool.up(args({ memberConfig: { bcn1: { size: "1GiB" }, bcn2: { source: "/dev/sdb" } } })), "created");
    assert.deepEqual(pool.inState("memberStatus"), { bcn2: "Created", bcn1: "Created" });
    assert.equal((await live("bcn1")).config["size"], "1GiB");
    assert.deepEqual(pool.progress, ["defining it on bcn2", "defining it on bcn1", "creating it on bcn2, bcn1"]);
  });

  it("shows no difference where LXD rewrote source and size", async () => {
    const given = args({ memberConfig: { bcn1: { size: "1073741824" }, bcn2: { source: "/dev/sdb" } } });
    await pool.up(given);
    const before = two.lab.requests.length;
    assert.equal(await pool.up(given), "same");
    assert.deepEqual(two.lab.mutations(before), []);
  });

  it("repairs a key that was changed manually, and keeps keys that the program does not set", async () => {
    const given = args({ description: "quick", config: { "user.team": "a" } });
    await pool.up(given);
    const { config, description } = await live();
    await (await two.byHand()).change("PUT", "/1.0/storage-pools/fast", {
      body: { description, config: { ...config, "user.team": "b", "user.other": "hand" } },
    });
    assert.equal(await pool.preview(given), "updated");
    assert.equal(await pool.up(given), "updated");
    assert.equal((await live()).config["user.team"], "a");
    assert.equal((await live()).config["user.other"], "hand");
    assert.equal(await pool.up(given), "same");
  });

  it("unsets a key that is removed from the program, and keeps its ownership mark", async () => {
    await pool.up(args({ config: { "user.team": "a" } }));
    await pool.up(args());
    assert.deepEqual(Object.keys((await live()).config), ["user.pulumi.urn"]);
  });

  it("stays in state as unfinished when one member fails, names it, and is finished by the next up", async () => {
    const given = args({ memberConfig: { bcn1: { source: "/dev/sdx" } }, config: { "user.team": "a" } });
    await assert.rejects(
      pool.up(given),
      /Storage pool "fast" could not be created on bcn1; it is created on bcn2\. LXD on root@/,
    );
    assert.equal(pool.inState("status"), "Errored");
    assert.deepEqual(pool.inState("memberStatus"), { bcn2: "Created", bcn1: "Pending" });
    assert.equal(await pool.preview(given), "updated");
    const cured = args({ memberConfig: { bcn1: { source: "/dev/sdb" } }, config: { "user.team": "b" } });
    assert.equal(await pool.up(cured), "updated");
    assert.equal((await live()).status, "Created");
    assert.equal((await live()).config["user.team"], "b");
    assert.equal(await pool.up(cured), "same");
  });

  it("continues from members that are already defined, with the current keys", async () => {
    const lxd = await two.byHand();
    const body = { name: "fast", driver: "btrfs", config: { size: "3GiB" } };
    await lxd.change("POST", "/1.0/storage-pools", { query: { target: "bcn1" }, body });
    await pool.up(args({ memberConfig: { bcn1: { size: "1GiB" } } }));
    assert.equal((await live("bcn1")).config["size"], "1GiB");
  });

  it("refuses a pool that others created, and adopts it with adopt", async () => {
    await pool.up(args());
    const other = new Managed(storagePoolLifecycle, "other");
    await assert.rejects(other.up(args()), /already exists .* belongs to the Pulumi resource "fast" of stack "lab"/);
    assert.equal(await other.up(args({ adopt: true })), "created");
  });

  it("refuses a member that the cluster does not have", async () => {
    await assert.rejects(
      pool.up(args({ memberConfig: { bcn9: { size: "1GiB" } } })),
      /memberConfig names "bcn9", which is not a member of the cluster of .* \(bcn2, bcn1\)/,
    );
    assert.equal(pool.state, undefined);
  });

  it("leaves a driver that it does not know to the server", async () => {
    assert.deepEqual(await pool.faults(args({ driver: "tape", config: { "tape.drive": "0", size: "1GiB" } })), []);
    await assert.rejects(
      pool.up(args({ driver: "tape" })),
      /^Error: bcn2 does not have the storage driver tape; it has btrfs, ceph, dir, lvm, zfs\. Install there /,
    );
    assert.equal(pool.state, undefined);
  });

  it("refuses a loop file that is larger than all disks of a member, also in the preview", async () => {
    const large = args({ config: { size: "10GiB" }, memberConfig: { bcn1: { size: "3TiB" } } });
    const refusal = /memberConfig\.bcn1\.size is 3TiB, and all disks of bcn1 together have 2048GiB\. Give a size that fits/;
    await pool.preview(large);
    assert.match(pool.notes.join("\n"), refusal);
    await assert.rejects(pool.up(large), refusal);
    assert.equal(pool.state, undefined);
    await assert.rejects(pool.up(args({ config: { size: "3TiB" } })), /config\.size is 3TiB, and all disks of bcn2/);
  });

  it("passes the config of a driver that all members share", async () => {
    await pool.up(args({ driver: "ceph", config: { "ceph.osd.pool_name": "lxd", source: "lxd" } }));
    assert.equal((await live()).config["ceph.osd.pool_name"], "lxd");
    assert.equal((await live("bcn1")).config["source"], "lxd");
    assert.equal(await pool.up(args({ driver: "ceph", config: { "ceph.osd.pool_name": "lxd", source: "lxd" } })), "same");
  });

  describe("with a driver that one member does not have", () => {
    beforeEach(async () => {
      await two.stop();
      two = await startMembers({ bcn2: {}, bcn1: { packages: ["btrfs-progs"] } });
    });

    it("is refused before anything is created, and names the member", async () => {
      await assert.rejects(
        pool.up(args({ driver: "zfs" })),
        /^Error: bcn1 does not have the storage driver zfs; it has btrfs, ceph, dir\. Install there /,
      );
      assert.equal(pool.state, undefined);
    });

    it("is announced in the preview", async () => {
      assert.equal(await pool.preview(args({ driver: "zfs" })), "created");
      assert.match(pool.notes.join("\n"), /bcn1 does not have the storage driver zfs/);
    });

    it("is created once the programs of the driver are there and the server was started again", async () => {
      two.lab.host("bcn1").installPackage("zfsutils-linux");
      await assert.rejects(pool.up(args({ driver: "zfs" })), /restart the server there/);
      two.lab.host("bcn1").daemon?.stop();
      two.lab.host("bcn1").daemon?.start();
      assert.equal(await pool.up(args({ driver: "zfs" })), "created");
    });
  });

  it("tells in a preview what a replacement would take", async () => {
    await pool.up(args());
    const lxd = await two.byHand();
    for (const name of ["data1", "data2", "data3", "data4"]) {
      await lxd.change("POST", "/1.0/storage-pools/fast/volumes/custom", { query: { target: "bcn1" }, body: { name } });
    }
    await pool.preview(args({ memberConfig: { bcn1: { source: "/dev/sdb" } } }));
    assert.match(pool.warnings.join("\n"), /Storage pool "fast" is used by 4 volumes \(data1, data2, data3, \.\.\.\)/);
    pool.warnings.length = 0;
    await pool.preview(args({ driver: "dir" }));
    assert.match(pool.warnings.join("\n"), /Storage pool "fast" is used by 4 volumes/);
    pool.warnings.length = 0;
    await pool.preview(args({ description: "other" }));
    assert.deepEqual(pool.warnings, []);
  });

  it("refuses to resize where LXD would only store the number", async () => {
    await pool.up(args({ memberConfig: { bcn1: { size: "1GiB" } } }));
    await assert.rejects(
      pool.up(args({ memberConfig: { bcn1: { size: "2GiB" } } })),
      /has 1GiB on bcn1, and LXD 5\.0\.2 cannot resize/,
    );
  });

  it("refuses to resize a member's part before it makes the missing part of another member", async () => {
    const given = (size: string, source: string) => args({ memberConfig: { bcn2: { size }, bcn1: { source } } });
    await assert.rejects(pool.up(given("1GiB", "/dev/sdx")), /could not be created on bcn1; it is created on bcn2/);
    await assert.rejects(pool.up(given("2GiB", "/dev/sdb")), /has 1GiB on bcn2, and LXD 5\.0\.2 cannot resize/);
    assert.equal(pool.inState("status"), "Errored");
    assert.equal(await pool.up(given("1GiB", "/dev/sdb")), "updated");
    assert.equal((await live()).status, "Created");
  });

  it("fails, and is not refused, when somebody removes it right after its creation", async () => {
    two.lab.faults.add({
      when: { method: "GET", path: /^\/1\.0\/storage-pools\/fast$/, nth: 2 },
      effect: {
        answer: (response) => {
          two.lab.host("bcn2").daemon?.database.pools.delete("fast");
          response.end(JSON.stringify({ type: "error", error_code: 404, error: "Storage pool not found", metadata: null }));
        },
      },
    });
    const message = /Storage pool "fast" was created on .*, and then removed by someone else\. Run pulumi up again$/;
    await assert.rejects(pool.up(args()), (error: Error) => {
      assert.match(error.message, message);
      return hasCode(error.cause, "failed");
    });
  });

  it("is replaced, with a warning, when a member's source changes", async () => {
    await pool.up(args({ memberConfig: { bcn1: { source: "/dev/sdb" } } }));
    assert.equal(await pool.preview(args({ memberConfig: { bcn1: { source: "/dev/sdc" } } })), "replaced");
    assert.match(pool.warnings[0] ?? "", /is on \/dev\/sdb at bcn1 and cannot be moved/);
  });

  it("is recreated when it was removed manually, and a second removal succeeds", async () => {
    await pool.up(args());
    await (await two.byHand()).change("DELETE", "/1.0/storage-pools/fast");
    assert.equal(await pool.preview(args()), "created");
    await pool.up(args());
    const { state } = pool;
    await pool.destroy();
    pool.state = state;
    await assert.doesNotReject(pool.destroy());
  });

  it("is still read when a member is offline, whose keys are assumed unchanged", async () => {
    const given = args({ memberConfig: { bcn1: { size: "1GiB" } } });
    await pool.up(given);
    await two.lab.host("bcn1").powerOff();
    assert.equal(await pool.up(given), "same");
    assert.deepEqual(pool.inState("memberStatus"), { bcn2: "Created", bcn1: "Offline" });
  });

  it("is created on a member without a recent heartbeat that answers, and not on one that is off", async () => {
    const bcn1 = two.lab.host("bcn1");
    bcn1.daemon?.delayHeartbeat(700);
    await pool.up(args());
    assert.deepEqual(pool.inState("memberStatus"), { bcn2: "Created", bcn1: "Created" });
    await pool.destroy();
    await bcn1.powerOff();
    await assert.rejects(pool.up(args()), /is created on all members at once, and bcn1 is offline\. Bring it back/);
  });

  it("reports its users when LXD does not remove it", async () => {
    await pool.up(args());
    const devices = { root: { type: "disk", path: "/", pool: "fast" } };
    await (await two.byHand()).change("POST", "/1.0/profiles", { body: { name: "web", devices } });
    await assert.rejects(pool.destroy(), /says "The storage pool is currently in use"\. It is used by profile web$/);
  });

  describe("with a member's key in config", () => {
    const putSize = async (size: string, target: string): Promise<void> => {
      const { config, description } = await live(target);
      const body = { description, config: { ...config, size } };
      await (await two.byHand()).change("PUT", "/1.0/storage-pools/fast", { query: { target }, body });
    };

    it("gives it to every member", async () => {
      const given = args({ driver: "zfs", config: { size: "1GiB", "user.team": "a" } });
      assert.equal(await pool.up(given), "created");
      for (const member of ["bcn1", "bcn2"]) {
        assert.equal((await live(member)).config["size"], "1GiB");
      }
      assert.equal((await live()).config["user.team"], "a");
      const before = two.lab.requests.length;
      assert.equal(await pool.up(given), "same");
      assert.deepEqual(two.lab.mutations(before), []);
    });

    it("gives a member that differs its own, and none to one with its own source", async () => {
      const given = args({ config: { size: "1GiB" }, memberConfig: { bcn1: { size: "2GiB" } } });
      await pool.up(given);
      assert.deepEqual([(await live("bcn2")).config["size"], (await live("bcn1")).config["size"]], ["1GiB", "2GiB"]);
      assert.equal(await pool.up(given), "same");
      await pool.destroy();
      const onDisk = args({ config: { size: "1GiB" }, memberConfig: { bcn1: { source: "/dev/sdb" } } });
      await pool.up(onDisk);
      assert.deepEqual([(await live("bcn2")).config["size"], (await live("bcn1")).config["size"]], ["1GiB", undefined]);
      assert.equal(await pool.up(onDisk), "same");
    });

    it("shows drift on one member in the form of the program, and repairs it", async () => {
      const given = args({ config: { size: "1GiB" } });
      await pool.up(given);
      await putSize("1024MiB", "bcn2");
      await putSize("2GiB", "bcn1");
      assert.equal(await pool.preview(given), "updated");
      assert.deepEqual(pool.inState("config"), { size: "1GiB" });
      assert.deepEqual(pool.inState("memberConfig"), { bcn1: { size: "2GiB" } });
      await assert.rejects(pool.up(given), /has 2GiB on bcn1, and LXD 5\.0\.2 cannot resize a pool \(config\.size\)/);
    });

    it("is the same pool when the key moves between config and memberConfig", async () => {
      await pool.up(args({ memberConfig: { bcn1: { size: "1GiB" }, bcn2: { size: "1GiB" } } }));
      const before = two.lab.requests.length;
      assert.equal(await pool.up(args({ config: { size: "1GiB" } })), "same");
      assert.deepEqual(two.lab.mutations(before), []);
    });

    it("leaves the key to LXD when it is removed", async () => {
      await pool.up(args({ config: { size: "1GiB" } }));
      assert.equal(await pool.up(args()), "same");
      assert.equal((await live("bcn1")).config["size"], "1GiB");
    });

    it("is replaced when the source of all members changes", async () => {
      await pool.up(args({ config: { source: "/dev/sdb" } }));
      assert.deepEqual(pool.inState("sources"), { bcn2: "/dev/sdb", bcn1: "/dev/sdb" });
      assert.equal(await pool.preview(args({ config: { source: "/dev/sdc" } })), "replaced");
    });
  });

  it("is enlarged on every member where LXD can do that, and shrunk on none", async () => {
    await two.stop();
    two = await startTwoMembers({ flavour: "lxd-6" });
    await pool.up(args({ config: { size: "1GiB" } }));
    assert.equal(await pool.up(args({ config: { size: "2GiB" } })), "updated");
    assert.deepEqual([(await live("bcn2")).config["size"], (await live("bcn1")).config["size"]], ["2GiB", "2GiB"]);
    const smaller = args({ config: { size: "2GiB" }, memberConfig: { bcn1: { size: "1GiB" } } });
    assert.equal(await pool.preview(smaller), "updated");
    assert.match(pool.warnings.at(-1) ?? "", /has 2GiB on bcn1, and a pool cannot be shrunk \(memberConfig\.bcn1\.size\)/);
    await assert.rejects(pool.up(smaller), /cannot shrink a pool/);
  });

  for (const [title, wrong, message] of [
    ["an invalid size, for all members", { config: { size: "1 elephant" } }, /^config\.size is not a size such as "20GiB"/],
    [
      "a key of another driver, for all members",
      { config: { "lvm.vg_name": "x" } },
      /^config\.lvm\.vg_name is a key of driver lvm/,
    ],
    [
      "a common key in memberConfig",
      { memberConfig: { bcn1: { "user.x": "y" } } },
      /^memberConfig\.bcn1\.user\.x has one value for all members/,
    ],
    [
      "an invalid size",
      { memberConfig: { bcn1: { size: "1 elephant" } } },
      /^memberConfig\.bcn1\.size is not a size such as "20GiB"/,
    ],
    [
      "a key of another driver",
      { memberConfig: { bcn1: { "zfs.pool_name": "x" } } },
      /^memberConfig\.bcn1\.zfs\.pool_name is a key of driver zfs/,
    ],
    [
      "a size for a directory",
      { driver: "dir", memberConfig: { bcn1: { size: "1GiB" } } },
      /^memberConfig\.bcn1\.size cannot be set/,
    ],
    ["a misspelt driver", { driver: "brtfs" }, /^driver is no storage driver of LXD or Incus\. Did you mean btrfs\?/],
    ["what is no name of a driver", { driver: "Btrfs pool" }, /^driver must be the name of a storage driver, such as "btrfs"/],
    [
      "a key of Ceph for a local driver",
      { config: { "ceph.osd.pool_name": "x" } },
      /^config\.ceph\.osd\.pool_name is a key of driver ceph, and the pool's driver is btrfs/,
    ],
    [
      "a size for Ceph",
      { driver: "ceph", config: { size: "1GiB" } },
      /^config\.size cannot be set: a ceph pool is as large as its Ceph cluster allows/,
    ],
    ["a key that LXD writes", { config: { "volatile.x": "y" } }, /^config\.volatile\.x is written by the server/],
  ] as const) {
    it(`refuses ${title} in check`, async () => {
      const faults = await pool.faults(args(wrong));
      assert.equal(faults.length, 1, faults.join("\n"));
      assert.match(faults[0] ?? "", message);
    });
  }
});

describe("LxdStoragePool on a standalone server", () => {
  let one: SimulatedCluster;

  beforeEach(async () => {
    one = await startStandalone();
  });
  afterEach(() => one.stop());

  it("is created at once, with the keys of that server, and unchanged by a second up", async () => {
    const pool = new Managed(storagePoolLifecycle, "fast");
    const args = { cluster: one.cluster, name: "fast", driver: "btrfs", memberConfig: { bcn2: { source: "/dev/sdb" } } };
    assert.equal(await pool.up(args), "created");
    assert.deepEqual(pool.inState("sources"), { bcn2: "/dev/sdb" });
    const before = one.lab.requests.length;
    assert.equal(await pool.up(args), "same");
    assert.deepEqual(one.lab.mutations(before), []);
  });

  it("takes its keys from config, too", async () => {
    const pool = new Managed(storagePoolLifecycle, "fast");
    const args = { cluster: one.cluster, name: "fast", driver: "btrfs", config: { size: "1GiB", "user.team": "a" } };
    assert.equal(await pool.up(args), "created");
    const before = one.lab.requests.length;
    assert.equal(await pool.up(args), "same");
    assert.deepEqual(one.lab.mutations(before), []);
    const { config, description } = await (await one.byHand()).get("/1.0/storage-pools/fast", shown);
    assert.deepEqual([config["size"], config["user.team"]], ["1GiB", "a"]);
    const body = { description, config: { ...config, size: "2GiB", "user.team": "b" } };
    await (await one.byHand()).change("PUT", "/1.0/storage-pools/fast", { body });
    assert.equal(await pool.preview(args), "updated");
    assert.deepEqual(pool.inState("config"), { size: "1GiB", "user.team": "b" });
    assert.deepEqual(pool.inState("memberConfig"), { bcn2: { size: "2GiB" } });
  });

  it("leaves nothing in state when LXD creates nothing", async () => {
    const pool = new Managed(storagePoolLifecycle, "fast");
    const args = { cluster: one.cluster, name: "fast", driver: "dir", memberConfig: { bcn2: { source: "/nowhere" } } };
    await assert.rejects(pool.up(args), /\/nowhere/);
    assert.equal(pool.state, undefined);
  });
});

describe("the hint at a leftover file", () => {
  it("names the file and the members on which it may lie", () => {
    const reply =
      "failed to notify peer 192.168.1.101:8443: Failed to format sparse file: Failed to run: mkfs.btrfs -L b3 /var/lib/lxd/disks/b3.img: " +
      "exit status 1 (ERROR: /var/lib/lxd/disks/b3.img appears to contain an existing filesystem (btrfs)";
    assert.match(
      leftoverHint(reply, ["bcn1"]),
      /^\. The file \/var\/lib\/lxd\/disks\/b3\.img on bcn1 was left by an earlier attempt/,
    );
  });

  it("is absent for other failures", () => {
    assert.equal(leftoverHint("losetup --show /var/lib/lxd/disks/b3.img: cannot find an unused loop device", ["bcn1"]), "");
  });
});

import assert from "node:assert/strict";
import * as z from "zod";
import type { Flavour } from "../../../lab/simulated/lxd/flavours";
import { findVolumeShared } from "../../../provider/lxd/storage-and-networks/volumes";
import { storageVolumeLifecycle } from "../../../provider/resources/lxd-storage-volume";
import { Managed, type SimulatedCluster, startStandalone, startTwoMembers } from "./simulated-cluster";

const PATH = "/1.0/storage-pools/fast/volumes/custom";

const shown = z.looseObject({
  config: z.record(z.string(), z.string()),
  description: z.string(),
  location: z.string(),
  content_type: z.string(),
});

describe("LxdStorageVolume", () => {
  let two: SimulatedCluster;
  let volume: Managed;

  const makePool = async (name: string, driver: string): Promise<void> => {
    for (const target of ["?target=bcn2", "?target=bcn1", ""]) {
      await two.lab.byHand("bcn2", "POST", `/1.0/storage-pools${target}`, { name, driver });
    }
  };

  beforeEach(async () => {
    two = await startTwoMembers();
    await makePool("fast", "btrfs");
    volume = new Managed(storageVolumeLifecycle as never, "data");
  });

  afterEach(async () => {
    const { defects } = two.lab;
    await two.stop();
    assert.deepEqual(defects, []);
  });

  const args = (more: object = {}) => ({ cluster: two.cluster, name: "data", pool: "fast", target: "bcn1", ...more });
  const live = async (target = "bcn1", name = "data") => (await two.byHand()).find(`${PATH}/${name}`, shown, { target });
  const byHand = (method: string, path: string, body?: object) => two.lab.byHand("bcn2", method, path, body);
  const attach = (target = "bcn1"): Promise<unknown> => {
    const source = { type: "image", alias: "debian" };
    const data = { type: "disk", pool: "fast", source: "data", path: "/srv" };
    const devices = { root: { type: "disk", path: "/", pool: "fast" }, data };
    two.lab.seedImage("bcn2", { alias: "debian" });
    return byHand("POST", `/1.0/instances?target=${target}`, { name: "db", type: "container", source, profiles: [], devices });
  };

  it("is made on its member, marked as its own, and then left alone", async () => {
    const given = (size: string) =>
      args({ description: "orders", config: { size, "snapshots.schedule": "@daily", "security.shifted": true } });
    assert.equal(await volume.up(given("4GiB")), "created");
    const { config, description, location, content_type } = (await live()) ?? assert.fail();
    const { "user.pulumi.urn": mark, ...others } = config;
    assert.deepEqual(others, { size: "4GiB", "snapshots.schedule": "@daily", "security.shifted": "true" });
    assert.match(mark ?? "", /::data \[[0-9a-f]{16}\]$/);
    assert.deepEqual([description, location, content_type], ["orders", "bcn1", "filesystem"]);
    assert.equal(volume.inState("location"), "bcn1");
    const since = two.lab.requests.length;
    assert.equal(await volume.up(given("4096MiB")), "same");
    assert.deepEqual(two.lab.mutations(since), []);
  });

  it("changes in place: description and keys, of which those of LXD and others stay", async () => {
    await volume.up(args({ description: "orders", config: { size: "4GiB", "snapshots.expiry": "2w" } }));
    const { config = {} } = (await live()) ?? {};
    const others = { "security.shifted": "true", "volatile.idmap.last": "[]" };
    await byHand("PUT", `${PATH}/data?target=bcn1`, { description: "hand", config: { ...config, size: "8GiB", ...others } });
    const wanted = args({ description: "orders", config: { size: "16GiB" } });
    assert.equal(await volume.preview(wanted), "updated");
    assert.deepEqual(volume.inState("config"), { size: "8GiB", "snapshots.expiry": "2w" });
    assert.equal(await volume.up(wanted), "updated");
    const { "user.pulumi.urn": _, ...after } = (await live())?.config ?? {};
    assert.deepEqual(after, { size: "16GiB", ...others });
    assert.equal((await live())?.description, "orders");
    assert.equal(await volume.up(wanted), "same");
  });

  it("needs a member on a pool that is local to each member, and takes none on one that all share", async () => {
    await assert.rejects(
      volume.up(args({ target: undefined })),
      /each member has its own part of the pool, because its driver is btrfs\. Set target to one of bcn2, bcn1/,
    );
    await assert.rejects(volume.up(args({ target: "bcn7" })), /target is "bcn7", which is not a member of the cluster/);
    await makePool("shared", "ceph");
    const shared = { pool: "shared", deleteData: true };
    await assert.rejects(volume.up(args(shared)), /all members share the pool, because its driver is ceph\. Leave out target/);
    assert.equal(await volume.up(args({ ...shared, target: undefined })), "created");
    assert.equal(volume.inState("location"), "");
    assert.equal(await volume.up(args({ ...shared, target: "" })), "same");
    await volume.destroy();
    assert.deepEqual(await byHand("GET", "/1.0/storage-pools/shared/volumes/custom"), []);
  });

  it("may have the name of a volume of another member, which stays", async () => {
    const other = new Managed(storageVolumeLifecycle as never, "other");
    await other.up(args({ target: "bcn2", description: "other" }));
    assert.equal(await volume.up(args({ deleteData: true })), "created");
    assert.equal(await volume.up(args({ deleteData: true, description: "mine" })), "updated");
    assert.equal((await live("bcn2"))?.description, "other");
    await volume.destroy();
    assert.equal(await live("bcn1"), undefined);
    assert.equal(await other.up(args({ target: "bcn2", description: "other" })), "same");
  });

  it("stays where it is when the program no longer names its member", async () => {
    await volume.up(args());
    const free = args({ target: undefined });
    assert.equal(await volume.up(free), "same");
    assert.equal(await volume.up({ ...free, description: "x" }), "updated");
    assert.equal((await live("bcn1"))?.description, "x");
  });

  it("is read in one request for all volumes of a pool, and while its member is down", async () => {
    await volume.up(args());
    await two.lab.host("bcn1").powerOff();
    const since = two.lab.requests.length;
    assert.equal(await volume.preview(args()), "same");
    assert.equal(two.lab.requests.slice(since).filter(({ path }) => path.includes("/volumes/")).length, 1);
  });

  it("is read with fifty others of its pool, of both members, in one request", async () => {
    const names = Array.from({ length: 50 }, (_, index) => `v${index}`);
    for (const [index, name] of names.entries()) {
      await byHand("POST", `${PATH}?target=${index % 2 === 0 ? "bcn1" : "bcn2"}`, { name });
    }
    const lxd = await two.byHand();
    const since = two.lab.requests.length;
    const found = await Promise.all(names.map((name) => findVolumeShared(lxd, { project: "default", pool: "fast", name })));
    assert.deepEqual(
      found.map((each) => each?.name),
      names,
    );
    assert.equal(two.lab.requests.length - since, 1);
  });

  it("with blocks grows, and is not shrunk, which the preview says", async () => {
    const blocks = (size: string) => args({ contentType: "block", config: { size } });
    await volume.up(blocks("4GiB"));
    assert.equal(await volume.up(blocks("8GiB")), "updated");
    const why = /Storage volume "data" of pool "fast" on bcn1 has 8GiB, and a block volume cannot be shrunk \(config\.size\)/;
    assert.equal(await volume.preview(blocks("2GiB")), "updated");
    assert.match(volume.warnings.join(), why);
    await assert.rejects(volume.up(blocks("2GiB")), why);
    assert.equal((await live())?.config["size"], "8GiB");
  });

  it("is not removed while it may hold data, until deleteData allows it", async () => {
    await volume.up(args());
    await assert.rejects(
      volume.destroy(),
      /Storage volume "data" of pool "fast" on bcn1 on root@127\.0\.0\.1:\d+ is not removed, because it may hold data.* set deleteData: true and run pulumi up before/,
    );
    assert.ok(await live());
    const since = two.lab.requests.length;
    assert.equal(await volume.up(args({ deleteData: true })), "updated");
    assert.deepEqual(two.lab.mutations(since), []);
    await volume.destroy();
    assert.equal(await live(), undefined);
    await volume.up(args());
    await byHand("DELETE", `${PATH}/data?target=bcn1`);
    await volume.destroy();
  });

  it("names its snapshots when it is not removed, and when a replacement would take them", async () => {
    await volume.up(args());
    for (const name of ["monday", "tuesday"]) {
      await byHand("POST", `${PATH}/data/snapshots?target=bcn1`, { name });
    }
    await assert.rejects(volume.destroy(), /it may hold data, which would be lost with its 2 snapshots \(monday, tuesday\)\. To/);
    await volume.preview(args({ contentType: "block" }));
    assert.match(volume.warnings.join("\n"), /Storage volume "data" of pool "fast" on bcn1 has 2 snapshots \(monday, tuesday\)/);
    await volume.up(args({ deleteData: true, target: undefined }));
    await volume.destroy();
    assert.equal(await live(), undefined);
  });

  it("is not removed while it is in use, even with deleteData, and the users are named", async () => {
    const given = args({ deleteData: true });
    await volume.up(given);
    await attach();
    await assert.rejects(
      volume.destroy(),
      /is not removed, because it is used by instance db\. Remove its disk device there first/,
    );
    await byHand("DELETE", "/1.0/instances/db");
    const profile = { name: "web", devices: { data: { type: "disk", pool: "fast", source: "data", path: "/srv" } } };
    await byHand("POST", "/1.0/profiles", profile);
    await assert.rejects(volume.destroy(), /it is used by profile web/);
    await byHand("DELETE", "/1.0/profiles/web");
    Object.assign(two.lab.host("bcn1").daemon?.localConfig ?? {}, { "storage.backups_volume": "fast/data" });
    await assert.rejects(volume.destroy(), /it is used by the server itself, for its backups or images/);
    assert.ok(await live());
  });

  it("is replaced with its loss announced: refused without deleteData, and while it is in use", async () => {
    await volume.up(args());
    const blocks = args({ contentType: "block" });
    assert.equal(await volume.preview(blocks), "replaced");
    const announced =
      /This is a replacement, because contentType changes\. .* will be removed with its snapshots and all its data/;
    assert.match(volume.warnings.join("\n"), announced);
    assert.match(volume.warnings.join("\n"), /pulumi up will refuse this\. .*set deleteData: true/);
    await assert.rejects(volume.up(blocks), /is not removed, because it may hold data/);
    await volume.up(args({ deleteData: true }));
    await attach();
    volume.warnings.length = 0;
    assert.equal(await volume.preview(args({ contentType: "block", deleteData: true })), "replaced");
    assert.match(volume.warnings.join("\n"), /pulumi up will refuse this\. .* it is used by instance db/);
    assert.doesNotMatch(volume.warnings.join("\n"), /set deleteData/);
    await byHand("DELETE", "/1.0/instances/db");
    assert.equal(await volume.up(args({ contentType: "block", deleteData: true })), "replaced");
    assert.equal((await live())?.content_type, "block");
  });

  it("is not taken from others without adopt, and never with other contents", async () => {
    await byHand("POST", `${PATH}?target=bcn1`, { name: "data", config: { size: "4GiB" } });
    await assert.rejects(volume.up(args()), /already exists on .* \(a filesystem volume on bcn1, used by nothing\)\. Set adopt/);
    const blocks = args({ contentType: "block", adopt: true });
    await assert.rejects(
      volume.up(blocks),
      /already exists on .* with contentType filesystem, not block\. It cannot be converted/,
    );
    volume.notes.length = 0;
    await volume.preview(args({ adopt: true, config: { size: "8GiB" } }));
    assert.deepEqual(volume.notes, ['Adopts the existing object: would change config.size "4GiB" -> "8GiB"']);
    assert.equal(await volume.up(args({ adopt: true, target: undefined })), "created");
    assert.equal(volume.inState("location"), "bcn1");
  });

  it("names the members that have one, when the program does not say which", async () => {
    for (const target of ["bcn1", "bcn2"]) {
      await byHand("POST", `${PATH}?target=${target}`, { name: "data" });
    }
    await assert.rejects(
      volume.up(args({ adopt: true, target: undefined })),
      /Storage volume "data" of pool "fast" exists on several members: (bcn1, bcn2|bcn2, bcn1)\. Set target to one of them/,
    );
  });

  it("tells in check what is wrong, by property", async () => {
    assert.deepEqual(await volume.faults(args({ name: "a/b", target: "a b", contentType: "iso" })), [
      'name is not a valid name of a storage volume: it must not be empty, "." or "..", or have control characters or slashes',
      "target is not a valid name of a member: letters, digits, and . _ ~ @ : + - in them, not beginning with @",
      'contentType must be "filesystem" or "block"',
    ]);
    assert.deepEqual(await volume.faults(args({ config: { size: "lots", "volatile.uuid": "x" } })), [
      'config.size is not a size such as "20GiB"',
      "config.volatile.uuid is written by the server or by this package, and cannot be set",
    ]);
    const [schedule = "", expiry = ""] = await volume.faults(
      args({ config: { "snapshots.schedule": "daily", "snapshots.expiry": "2 weeks", "snapshots.pattern": "a/b" } }),
    );
    assert.match(schedule, /^config\.snapshots\.schedule must be a cron expression of five fields such as "0 6 \* \* \*"/);
    assert.match(expiry, /^config\.snapshots\.expiry must be a time such as "2w" or "1d 12H"/);
    await volume.preview(args({ config: { "snapshots.shedule": "@daily" } }));
    assert.match(volume.warnings.join(), /config\.snapshots\.shedule is not a known key .*Did you mean snapshots\.schedule\?/);
  });
});

describe("LxdStorageVolume, moved", () => {
  let two: SimulatedCluster;
  let volume: Managed;

  const start = async (flavour: Flavour): Promise<void> => {
    two = await startTwoMembers({ flavour });
    for (const name of ["fast", "slow", "shared"]) {
      for (const target of ["?target=bcn2", "?target=bcn1", ""]) {
        const driver = name === "shared" ? "ceph" : "dir";
        await two.lab.byHand("bcn2", "POST", `/1.0/storage-pools${target}`, { name, driver });
      }
    }
    volume = new Managed(storageVolumeLifecycle as never, "data");
  };
  const args = (more: object = {}) => ({ cluster: two.cluster, name: "data", pool: "fast", target: "bcn1", ...more });
  /** Where there are volumes: pool and member. */
  const places = async (): Promise<string[]> => {
    const lists = ["fast", "slow", "shared"].map(async (pool) => {
      const path = `/1.0/storage-pools/${pool}/volumes/custom?recursion=1`;
      const found = (await two.lab.byHand("bcn2", "GET", path)) as { name: string; location: string }[];
      return found.filter(({ name }) => !name.includes("/")).map(({ location }) => `${pool} ${location}`.trim());
    });
    return (await Promise.all(lists)).flat();
  };

  afterEach(async () => {
    const { defects } = two.lab;
    await two.stop();
    assert.deepEqual(defects, []);
  });

  it("goes to another pool of its member, on every server, and other changes with it", async () => {
    await start("bookworm-lxd");
    await volume.up(args({ config: { size: "4GiB" } }));
    const wanted = args({ pool: "slow", config: { size: "8GiB" } });
    assert.equal(await volume.preview(wanted), "updated");
    assert.match(
      volume.warnings.join(),
      /Storage volume "data" of pool "fast" on bcn1 will be moved: the server copies it with its/,
    );
    assert.equal(await volume.up(wanted), "updated");
    assert.deepEqual(volume.progress, ['moving it to pool "slow" on bcn1']);
    assert.deepEqual(await places(), ["slow bcn1"]);
    const [found] = (await two.lab.byHand("bcn2", "GET", "/1.0/storage-pools/slow/volumes/custom?recursion=1")) as [Found];
    assert.equal(found.config["size"], "8GiB");
    assert.match(found.config["user.pulumi.urn"] ?? "", /::data \[[0-9a-f]{16}\]$/);
    assert.equal(await volume.up(wanted), "same");
    assert.equal(
      await volume.up(args({ pool: "slow", target: undefined, deleteData: true, config: { size: "8GiB" } })),
      "updated",
    );
    await volume.destroy();
    assert.deepEqual(await places(), []);
  });

  it("goes to a pool that all members share, and back to the member that is named", async () => {
    await start("trixie-incus7");
    await volume.up(args());
    assert.equal(await volume.up(args({ pool: "shared", target: undefined })), "updated");
    assert.deepEqual([await places(), volume.inState("location")], [["shared"], ""]);
    await assert.rejects(volume.up(args({ target: undefined })), /Set target to one of bcn2, bcn1/);
    assert.equal(await volume.up(args({ target: "bcn2" })), "updated");
    assert.deepEqual([await places(), volume.inState("location")], [["fast bcn2"], "bcn2"]);
  });

  for (const flavour of ["bookworm-lxd", "trixie-lxd", "trixie-incus7", "lxd-5.21", "lxd-6"] as const) {
    it(`goes to another member on ${flavour}, with its snapshots, and other changes with it`, async () => {
      await start(flavour);
      await volume.up(args({ config: { size: "4GiB", "user.k": "v" }, description: "orders" }));
      const snapshot = { name: "monday", expires_at: "2100-01-01T00:00:00Z" };
      await two.lab.byHand("bcn2", "POST", `${PATH}/data/snapshots?target=bcn1`, snapshot);
      const wanted = args({ target: "bcn2", config: { size: "8GiB" }, description: "orders" });
      volume.warnings.length = 0;
      assert.equal(await volume.preview(wanted), "updated");
      assert.deepEqual(volume.warnings, [
        'Storage volume "data" of pool "fast" on bcn1 will be moved: the server copies it with its snapshots, then removes the original',
      ]);
      assert.equal(await volume.up(wanted), "updated");
      assert.deepEqual(volume.progress, ['copying it to pool "fast" on bcn2', "removing the original on bcn1"]);
      assert.deepEqual([await places(), volume.inState("location")], [["fast bcn2"], "bcn2"]);
      const copied = await two.lab.byHand("bcn2", "GET", `${PATH}/data/snapshots/monday?target=bcn2`);
      assert.equal((copied as typeof snapshot).expires_at, snapshot.expires_at);
      const found = (await two.lab.byHand("bcn2", "GET", "/1.0/storage-pools/fast/volumes/custom/data?target=bcn2")) as Found;
      const { "user.pulumi.urn": mark, ...config } = found.config;
      assert.deepEqual(config, { size: "8GiB" });
      assert.match(mark ?? "", /::data \[[0-9a-f]{16}\]$/);
      assert.equal(await volume.up(wanted), "same");
    });
  }

  it("goes to another pool of another member", async () => {
    await start("bookworm-lxd");
    await volume.up(args());
    assert.equal(await volume.up(args({ target: "bcn2", pool: "slow" })), "updated");
    assert.deepEqual(await places(), ["slow bcn2"]);
    assert.equal(await volume.up(args({ target: "bcn2", pool: "slow" })), "same");
  });

  it("is copied anew when the run that copied it was killed, and a volume of others stays", async () => {
    await start("trixie-incus7");
    await volume.up(args({ config: { "user.k": "v" } }));
    const path = "/1.0/storage-pools/fast/volumes/custom";
    const { config } = (await two.lab.byHand("bcn2", "GET", `${path}/data?target=bcn1`)) as Found;
    const mark = config["user.pulumi.urn"]?.replace(/\]$/, " creating]");
    await two.lab.byHand("bcn2", "POST", `${path}?target=bcn2`, { name: "data", config: { "user.old": "x" } });
    const wanted = args({ target: "bcn2", config: { "user.k": "v" } });
    const why =
      /is not moved to pool "fast" on bcn2, because a volume of that name is there already\. Remove it, or choose another/;
    await volume.preview(wanted);
    assert.match(volume.warnings.join("\n"), why);
    await assert.rejects(volume.up(wanted), why);
    await two.lab.byHand("bcn2", "PUT", `${path}/data?target=bcn2`, {
      config: { "user.old": "x", "user.pulumi.urn": mark, "user.pulumi.copy-of": "default/fast/data on bcn1" },
    });
    volume.progress.length = 0;
    assert.equal(await volume.up(wanted), "updated");
    assert.equal(volume.progress[0], "removing the unfinished copy on bcn2");
    assert.deepEqual(await places(), ["fast bcn2"]);
    const found = (await two.lab.byHand("bcn2", "GET", `${path}/data?target=bcn2`)) as Found;
    assert.deepEqual(Object.keys(found.config).sort(), ["user.k", "user.pulumi.urn"]);
  });

  it("is made anew in place of an unfinished copy that its state does not have, but not in place of another's", async () => {
    await start("trixie-incus7");
    await volume.up(args({ deleteData: true }));
    const path = "/1.0/storage-pools/fast/volumes/custom";
    const { config } = (await two.lab.byHand("bcn2", "GET", `${path}/data?target=bcn1`)) as Found;
    const mark = config["user.pulumi.urn"]?.replace(/\]$/, " creating]") ?? "";
    const left = { name: "data", config: { "user.pulumi.copy-of": "default/fast/data on bcn1", "user.old": "x" } };
    const post = (own: string) =>
      two.lab.byHand("bcn2", "POST", `${path}?target=bcn2`, { ...left, config: { ...left.config, "user.pulumi.urn": own } });
    await volume.destroy();
    await post(mark.replace("::data ", "::other "));
    const there = args({ target: "bcn2", deleteData: true });
    await assert.rejects(
      volume.up({ ...there, adopt: true }),
      /is an unfinished copy of default\/fast\/data on bcn1\. Remove it first/,
    );
    await two.lab.byHand("bcn2", "DELETE", `${path}/data?target=bcn2`);
    await post(mark);
    assert.equal(await volume.up(there), "created");
    const found = (await two.lab.byHand("bcn2", "GET", `${path}/data?target=bcn2`)) as Found;
    assert.deepEqual(Object.keys(found.config), ["user.pulumi.urn"]);
  });

  it("stays on its member while the other one is offline, which the preview says", async () => {
    await start("trixie-incus7");
    await volume.up(args({ target: "bcn2" }));
    await two.lab.host("bcn1").powerOff();
    const why = /is not moved to pool "fast" on bcn1, because bcn1 is offline\. Start it first/;
    assert.equal(await volume.preview(args()), "updated");
    assert.match(volume.warnings.join("\n"), why);
    await assert.rejects(volume.up(args()), why);
    assert.deepEqual(await places(), ["fast bcn2"]);
  });

  it("is made as a copy of another volume, once, with that one's size and the program's keys", async () => {
    await start("bookworm-lxd");
    const original = {
      name: "old",
      config: { size: "4GiB", "user.k": "v", "snapshots.schedule": "@daily", "security.shifted": "true" },
    };
    const path = "/1.0/storage-pools/slow/volumes/custom";
    await two.lab.byHand("bcn2", "POST", `${path}?target=bcn2`, original);
    await two.lab.byHand("bcn2", "POST", `${path}/old/snapshots?target=bcn2`, { name: "s" });
    const copied = (more: object = {}) => args({ source: { pool: "slow", volume: "old", snapshots: true }, ...more });
    assert.equal(await volume.up(copied({ config: { "user.c": 1 } })), "created");
    const found = (await two.lab.byHand("bcn2", "GET", "/1.0/storage-pools/fast/volumes/custom/data?target=bcn1")) as Found;
    const { "user.pulumi.urn": mark, ...config } = found.config;
    assert.deepEqual(config, { size: "4GiB", "user.c": "1", "security.shifted": "true" });
    assert.match(mark ?? "", /::data \[[0-9a-f]{16}\]$/);
    assert.equal(await volume.up(copied({ config: { "user.c": 1 } })), "same");
    assert.equal(await volume.up(args({ config: { "user.c": 1 } })), "same");
    assert.equal(await volume.preview(copied({ source: { pool: "slow", volume: "other" } })), "replaced");
    assert.deepEqual((await places()).sort(), ["fast bcn1", "slow bcn2"]);
    assert.ok(await two.lab.byHand("bcn2", "GET", `${PATH}/data/snapshots/s?target=bcn1`));
  });

  it("is not made of a source that does not fit, and the reason is told", async () => {
    await start("bookworm-lxd");
    const path = "/1.0/storage-pools/slow/volumes/custom";
    const source = { pool: "slow", volume: "old" };
    await assert.rejects(
      volume.up(args({ source })),
      /"data" of pool "fast" on bcn1 is not created, because its source, Storage volume "old" of pool "slow", does not exist on/,
    );
    for (const target of ["bcn1", "bcn2"]) {
      await two.lab.byHand("bcn2", "POST", `${path}?target=${target}`, {
        name: "old",
        content_type: "block",
        config: { size: "4GiB" },
      });
    }
    await assert.rejects(volume.up(args({ source })), /exists on several members: .*\. Set source\.member to one of them/);
    const chosen = { ...source, member: "bcn2" };
    await assert.rejects(volume.up(args({ source: chosen })), /has contentType block, not filesystem/);
    const small = args({ source: chosen, contentType: "block", config: { size: "1GiB" } });
    await assert.rejects(
      volume.up(small),
      /has 4GiB, and a block volume cannot be shrunk \(config\.size\)\. Give at least the size/,
    );
    assert.deepEqual((await places()).sort(), ["slow bcn1", "slow bcn2"]);
    const profile = { name: "web", devices: { data: { type: "disk", pool: "slow", source: "old" } } };
    await two.lab.byHand("bcn2", "POST", "/1.0/profiles", profile);
    assert.equal(await volume.up(args({ source: chosen, contentType: "block" })), "created");
    assert.match(volume.warnings.join(), /Storage volume "old" of pool "slow" on bcn2 is copied while it is used by profile web/);
  });

  it("stays while it is used, which the preview says", async () => {
    await start("trixie-incus7");
    await volume.up(args());
    const profile = { name: "web", devices: { data: { type: "disk", pool: "fast", source: "data", path: "/srv" } } };
    await two.lab.byHand("bcn2", "POST", "/1.0/profiles", profile);
    for (const more of [{ target: "bcn2" }, { pool: "slow" }]) {
      volume.warnings.length = 0;
      const why =
        /is not moved to pool "(fast" on bcn2|slow" on bcn1), because it is used by profile web\. Remove its disk device/;
      assert.equal(await volume.preview(args(more)), "updated");
      assert.match(volume.warnings.join("\n"), why);
      await assert.rejects(volume.up(args(more)), why);
    }
    await assert.rejects(volume.up(args({ target: "bcn7" })), /target is "bcn7", which is not a member of the cluster/);
    assert.deepEqual(await places(), ["fast bcn1"]);
  });

  it("is found at its new place when the run that moved it was killed", async () => {
    await start("trixie-incus7");
    await volume.up(args());
    const { state } = volume;
    await volume.up(args({ pool: "slow" }));
    const path = "/1.0/storage-pools/slow/volumes/custom/data?target=bcn1";
    const { config } = (await two.lab.byHand("bcn2", "GET", path)) as Found;
    const mark = config["user.pulumi.urn"]?.replace(/\]$/, " creating]");
    await two.lab.byHand("bcn2", "PUT", path, { config: { ...config, "user.pulumi.urn": mark } });
    volume.state = state;
    assert.equal(await volume.up(args({ pool: "slow" })), "created");
    assert.deepEqual(await places(), ["slow bcn1"]);
    assert.equal(await volume.up(args({ pool: "slow" })), "same");
  });
});

interface Found {
  readonly config: Record<string, string>;
}

describe("LxdStorageVolume on a standalone server", () => {
  it("has no member, and refuses one", async () => {
    const one = await startStandalone();
    await one.lab.byHand("bcn2", "POST", "/1.0/storage-pools", { name: "fast", driver: "dir" });
    const volume = new Managed(storageVolumeLifecycle as never, "data");
    const given = { cluster: one.cluster, name: "data", pool: "fast", deleteData: true };
    await assert.rejects(volume.up({ ...given, target: "bcn2" }), /is not a member of a cluster\. Leave out target/);
    assert.equal(await volume.up(given), "created");
    assert.equal(volume.inState("location"), "");
    assert.equal(await volume.up(given), "same");
    await volume.destroy();
    assert.deepEqual(one.lab.defects, []);
    await one.stop();
  });
});

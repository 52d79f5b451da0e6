import assert from "node:assert/strict";
import { storageVolumeLifecycle } from "../../../provider/resources/lxd-storage-volume";
import { vmLifecycle } from "../../../provider/resources/lxd-vm";
import { Managed, type SimulatedCluster, startTwoMembers } from "./simulated-cluster";

describe("An LxdVm that attaches a volume of a local pool", () => {
  let two: SimulatedCluster;

  beforeEach(async () => {
    two = await startTwoMembers();
    for (const target of ["bcn2", "bcn1"]) {
      await two.lab.byHand("bcn2", "POST", `/1.0/storage-pools?target=${target}`, { name: "default", driver: "dir" });
    }
    await two.lab.byHand("bcn2", "POST", "/1.0/storage-pools", { name: "default", driver: "dir" });
    two.lab.seedImage("bcn2", { alias: "debian-12", type: "virtual-machine" });
  });
  afterEach(async () => {
    assert.deepEqual(two.lab.defects, []);
    await two.stop();
  });

  const volume = (more: object = {}): Promise<unknown> => {
    const args = { cluster: two.cluster, name: "orders", pool: "default", target: "bcn1", ...more };
    return new Managed(storageVolumeLifecycle, "orders").up(args);
  };
  const vm = (name: string) => new Managed(vmLifecycle, name);
  const DISK = { type: "disk", pool: "default", source: "orders", path: "/srv/orders" };
  const args = (name: string, target: string | undefined, data: object | null = DISK, more: object = {}) => ({
    ...{ cluster: two.cluster, name, target, image: { alias: "debian-12" }, rootDisk: { pool: "default" } },
    ...{ devices: data === null ? {} : { data }, ...more },
  });

  it("of another member is refused before anything is made, and in the preview, with the instance that has it", async () => {
    await volume();
    await vm("first").up(args("db1", "bcn1"));
    const second = vm("second");
    const message =
      /devices\.data: Storage volume "orders" of pool "default" is on bcn1 \(attached by instance db1\), and instance "db2" is to be on bcn2\. .* target: "bcn1"/;
    await second.preview(args("db2", "bcn2"));
    assert.match(second.warnings.join("\n"), message);
    const before = two.lab.requests.length;
    await assert.rejects(second.up(args("db2", "bcn2")), message);
    assert.deepEqual(two.lab.mutations(before), []);
    assert.equal(second.state, undefined);
    assert.equal(await second.up(args("db2", "bcn1")), "created");
  });

  it("of another member is refused as a new device too, and those that are there are not judged again", async () => {
    await volume();
    const second = vm("second");
    await second.up(args("db2", "bcn2", null));
    await second.preview(args("db2", "bcn2"));
    assert.match(second.warnings.join("\n"), /As the cluster is now, pulumi up will refuse this\. devices\.data: .* is on bcn1/);
    const restarted = args("db2", "bcn2", DISK, { allowRestart: true });
    await assert.rejects(second.up(restarted), /is on bcn1, and instance "db2" is to be on bcn2/);
    const first = vm("first");
    await first.up(args("db1", "bcn1"));
    const before = two.lab.requests.length;
    assert.equal(await first.up(args("db1", "bcn1", DISK, { description: "x" })), "updated");
    assert.deepEqual(
      two.lab.requests.slice(before).filter(({ path }) => path.includes("/volumes/custom")),
      [],
    );
  });

  it("that several members have is its own member's", async () => {
    await volume();
    await two.lab.byHand("bcn2", "POST", "/1.0/storage-pools/default/volumes/custom?target=bcn2", { name: "orders" });
    assert.equal(await vm("second").up(args("db2", "bcn2")), "created");
  });

  it("that does not exist yet is no fault in a preview", async () => {
    const first = vm("first");
    await first.preview(args("db1", "bcn1"));
    assert.deepEqual(first.warnings, []);
  });

  describe("with blocks", () => {
    const BLOCKS = { type: "disk", pool: "default", source: "orders" };

    it("is refused while another instance that runs attaches them, which it names", async () => {
      await volume({ contentType: "block" });
      const first = vm("first");
      await first.up(args("db1", "bcn1", BLOCKS));
      const second = vm("second");
      const message =
        /devices\.data: Storage volume "orders" of pool "default" on bcn1 has blocks, and instance db1 attaches it already and runs\. .*security\.shared/;
      await second.preview(args("db2", "bcn1", BLOCKS));
      assert.match(second.warnings.join("\n"), message);
      await assert.rejects(second.up(args("db2", "bcn1", BLOCKS)), message);
      assert.equal(await second.up(args("db2", "bcn1", { ...BLOCKS, readonly: true })), "created");
    });

    it("attaches them when the volume is for several, or only one of the two runs", async () => {
      await volume({ contentType: "block" });
      const [orders] = two.lab.host("bcn2").daemon?.database.pools.get("default")?.customVolumes ?? [];
      assert.ok(orders);
      orders.config["security.shared"] = "true"; // LXD 5.0 does not have the key
      await vm("first").up(args("db1", "bcn1", BLOCKS));
      assert.equal(await vm("second").up(args("db2", "bcn1", BLOCKS)), "created");
      await volume({ name: "logs", contentType: "block" });
      const logs = { ...BLOCKS, source: "logs" };
      await vm("third").up(args("db3", "bcn1", logs));
      assert.equal(await vm("fourth").up(args("db4", "bcn1", logs, { running: false })), "created");
    });
  });
});

import assert from "node:assert/strict";
import { dynamicProvider } from "../../../provider/engine/adapter";
import { Program } from "../../../provider/engine/program";
import { compareVolumes, partOfInstance, partOfVolume } from "../../../provider/lxd/instances/volumes-in-program";
import { storageVolumeLifecycle } from "../../../provider/resources/lxd-storage-volume";
import { vmLifecycle } from "../../../provider/resources/lxd-vm";

const CLUSTER = { endpoints: [{ host: "192.168.1.102" }] } as never;
const PLACE = { cluster: CLUSTER, project: "default" };
const DISK = { type: "disk", pool: "fast", source: "orders" };

const volume = (target: string | undefined, more: object = {}) =>
  partOfVolume({ ...PLACE, name: "orders", target, pool: "fast", contentType: "filesystem", config: {}, ...more });
const blocks = (target: string | undefined, config: Record<string, string> = {}) =>
  volume(target, { contentType: "block", config });
const vm = (name: string, target: string | undefined, disk: Record<string, string> = DISK, more: object = {}) =>
  partOfInstance({ ...PLACE, name, target, running: true, devices: { data: disk, eth0: { type: "nic" } }, ...more }) ??
  assert.fail();

describe("Instances and volumes of one program", () => {
  it("are no fault on one member, in either order", () => {
    for (const [own, other] of [
      [vm("db1", "bcn1"), volume("bcn1")],
      [volume("bcn1"), vm("db1", "bcn1")],
    ] as const) {
      assert.deepEqual(compareVolumes(own, [other]), { failures: [], warnings: [] });
    }
  });

  it("warn of an instance on another member than its volume, with the others that attach it, in either order", () => {
    const text =
      'devices.data of instance "db2" attaches Storage volume "orders" of pool "fast", which this program puts on bcn1, and the instance on bcn2 ' +
      '("db1" attaches it, too). pulumi up will refuse this, unless bcn2 has a volume of that name. Give the instance target: "bcn1"';
    assert.deepEqual(compareVolumes(vm("db2", "bcn2"), [volume("bcn1"), vm("db1", "bcn1")]).warnings, [text]);
    assert.deepEqual(compareVolumes(volume("bcn1"), [vm("db1", "bcn1"), vm("db2", "bcn2")]).warnings, [text]);
    assert.deepEqual(compareVolumes(vm("db3", "bcn1"), [volume("bcn1"), vm("db2", "bcn2")]).warnings, []);
  });

  it("are not judged where it is not known which volume is meant", () => {
    const others: [string, Parameters<typeof compareVolumes>[1]][] = [
      ["a volume on each", [volume("bcn1"), volume("bcn2")]],
      ["a volume of all members", [volume(undefined)]],
      ["a volume of another pool", [volume("bcn1", { pool: "slow" })]],
      ["a volume of another project", [volume("bcn1", { project: "shop" })]],
      ["a volume of another cluster", [volume("bcn1", { cluster: { endpoints: [{ host: "10.0.0.1" }] } })]],
      ["no volume", [vm("db1", "bcn1")]],
    ];
    for (const [what, parts] of others) {
      assert.deepEqual(compareVolumes(vm("db2", "bcn2"), parts).warnings, [], what);
    }
    assert.deepEqual(compareVolumes(vm("db2", "@fast"), [volume("bcn1")]).warnings, []);
    assert.deepEqual(compareVolumes(vm("db2", undefined), [volume("bcn1")]).warnings, []);
  });

  it("fail when two instances write the same blocks", () => {
    for (const target of ["bcn1", undefined]) {
      const { failures } = compareVolumes(vm("db2", target), [blocks(target), vm("db1", target)]);
      assert.equal(failures.length, 1);
      assert.equal(failures[0]?.property, "devices.data");
      assert.match(
        failures[0].reason,
        /^attaches Storage volume "orders" .*, which instance "db1" of this program attaches, too\. .*security\.shared: true/,
      );
    }
  });

  it("do not fail when the blocks are for several, one only reads or does not run, or they may be different volumes", () => {
    const db1 = vm("db1", "bcn1");
    const cases: [string, Parameters<typeof compareVolumes>[0], Parameters<typeof compareVolumes>[1]][] = [
      ["shared", vm("db2", "bcn1"), [blocks("bcn1", { "security.shared": "true" }), db1]],
      ["a file system", vm("db2", "bcn1"), [volume("bcn1"), db1]],
      ["read only", vm("db2", "bcn1", { ...DISK, readonly: "true" }), [blocks("bcn1"), db1]],
      ["stopped", vm("db2", "bcn1", DISK, { running: false }), [blocks("bcn1"), db1]],
      ["two members", vm("db2", "bcn2"), [blocks("bcn1"), blocks("bcn2"), db1]],
      ["of an unknown content", vm("db2", "bcn1"), [db1]],
    ];
    for (const [what, own, others] of cases) {
      assert.deepEqual(compareVolumes(own, others).failures, [], what);
    }
  });

  it("are no part of the comparison without a volume", () => {
    const devices = { root: { type: "disk", path: "/", pool: "fast" }, data: { type: "disk", source: "/srv", path: "/srv" } };
    assert.equal(partOfInstance({ ...PLACE, name: "web", running: true, devices }), undefined);
  });

  it("are compared by check, for as long as they are in the program", async () => {
    const warnings: string[] = [];
    const log = {
      progress: () => undefined,
      info: () => undefined,
      warn: (_urn: string, text: string) => void warnings.push(text),
    };
    const program = new Program();
    const cluster = { endpoints: [{ host: "192.0.2.1", port: 1, dialErrorLimit: 1, perDialTimeout: 1 }] };
    const check = (kind: "volume" | "vm", name: string, args: object) =>
      dynamicProvider((kind === "vm" ? vmLifecycle : storageVolumeLifecycle) as never, log, program).check(
        {},
        { cluster, name, ...args, __urn: `urn:pulumi:lab::tests::${kind}::${name}` },
      );
    const disk = { type: "disk", pool: "fast", source: "orders" };
    const instance = { image: { alias: "x" }, target: "bcn1", devices: { data: disk } };
    await check("volume", "orders", { pool: "fast", target: "bcn1", contentType: "block" });
    assert.deepEqual((await check("vm", "db1", instance)).failures, []);
    const { failures } = await check("vm", "db2", instance);
    assert.match(
      failures[0]?.reason ?? "",
      /^devices\.data attaches Storage volume "orders" of pool "fast" on bcn1, which instance "db1"/,
    );
    await check("vm", "db1", { ...instance, devices: {} });
    assert.deepEqual((await check("vm", "db2", instance)).failures, []);
    await check("vm", "db3", { ...instance, target: "bcn2" });
    assert.match(warnings.join("\n"), /this program puts on bcn1, and the instance on bcn2 \("db2" attaches it, too\)/);
  });
});

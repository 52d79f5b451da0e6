import assert from "node:assert/strict";
import type { MemberConfigKey } from "../../../provider/lxd/cluster/cluster";
import { type MemberConfig, memberConfigFromKeys, workOutMemberConfig } from "../../../provider/lxd/cluster/member-config";
import { ApiServer, done } from "./api-server";

const pool = (name: string, key: string, value = ""): MemberConfigKey => ({ entity: "storage-pool", name, key, value });
const network = (name: string, key: string, value = ""): MemberConfigKey => ({ entity: "network", name, key, value });

describe("the values of a joining member", () => {
  let server: ApiServer;

  beforeEach(async () => {
    server = await ApiServer.start();
  });

  afterEach(() => server.stop());

  const workOut = (keys: readonly MemberConfigKey[], given: MemberConfig = {}): Promise<MemberConfigKey[]> =>
    workOutMemberConfig(server.client(), keys, given, "bcn1", "bcn2");

  it("are none when the cluster asks for none", async () => {
    assert.deepEqual(await workOut([]), []);
    assert.deepEqual(server.lines, []);
  });

  it("are the user's, without a request to LXD", async () => {
    const given = { pools: { fast: { source: "/dev/sdb" } } };
    assert.deepEqual(await workOut([pool("fast", "source")], given), [pool("fast", "source", "/dev/sdb")]);
    assert.deepEqual(server.lines, []);
  });

  it("leave it to LXD where LXD chose the location on the existing member, with the same size", async () => {
    const loop = done({ driver: "btrfs", config: { source: "/var/lib/lxd/disks/local.img", size: "5GiB" } });
    server.next(loop, loop);
    assert.deepEqual(await workOut([pool("local", "source"), pool("local", "size")]), [
      pool("local", "source"),
      pool("local", "size", "5GiB"),
    ]);
    assert.deepEqual(server.lines, ["GET /1.0/storage-pools/local?target=bcn2", "GET /1.0/storage-pools/local?target=bcn2"]);
  });

  for (const [what, config] of [
    ["a directory of LXD's", { source: "/var/snap/lxd/common/lxd/storage-pools/local" }],
    ["nothing", {}],
  ] as const) {
    it(`leave it to LXD where the pool is on ${what}`, async () => {
      server.next(done({ driver: "dir", config }));
      assert.deepEqual(await workOut([pool("local", "source")]), [pool("local", "source")]);
    });
  }

  it("must be set by the user where the pool is on a disk: LXD does not know the other host's disk", async () => {
    server.next(done({ driver: "zfs", config: { source: "/dev/sdb" } }));
    await assert.rejects(workOut([pool("fast", "source")]), {
      code: "refused",
      message:
        'Pool "fast" (zfs) uses /dev/sdb on bcn2. Give what it uses on bcn1: memberConfig: { pools: { "fast": { source: "/dev/..." } } }. ' +
        "Without it, the pool would be a file on the root disk",
    });
  });

  it("copy the parent of a network, because hosts of a cluster usually name interfaces alike", async () => {
    server.next(done({ config: { parent: "eno1" } }));
    assert.deepEqual(await workOut([network("lan", "parent"), network("lan", "bgp.ipv4.nexthop")]), [
      network("lan", "parent", "eno1"),
      network("lan", "bgp.ipv4.nexthop"),
    ]);
    assert.deepEqual(server.lines, ["GET /1.0/networks/lan?target=bcn2"]);
  });

  it("are refused for a key that the cluster does not have, which LXD would ignore silently", async () => {
    await assert.rejects(workOut([pool("local", "source")], { pools: { local: { sauce: "/dev/sdb" } } }), {
      code: "refused",
      message: 'memberConfig.pools.local.sauce is not a member-specific key of "local", which has source',
    });
  });

  it("may name a network that the cluster does not have yet, for a later join", async () => {
    assert.deepEqual(await workOut([], { networks: { lan: { parent: "eno1" } } }), []);
  });
});

describe("the list of keys that LXD has, and that states of version 1 kept", () => {
  it("becomes the values by pool and network", () => {
    const keys = [pool("fast", "source", "/dev/sdb"), pool("fast", "size"), network("lan", "parent", "eno1")];
    assert.deepEqual(memberConfigFromKeys(keys), {
      pools: { fast: { source: "/dev/sdb", size: "" } },
      networks: { lan: { parent: "eno1" } },
    });
    assert.deepEqual(memberConfigFromKeys([]), {});
  });
});

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { INCUS_KEYS, isKnownKey, matches, serversKeys } from "../../../provider/lxd/config-keys";
import { ApiServer, done } from "./api-server";

type Version = "6.0.4" | "7.0.2";

/** Names of groups, parts and keys in the metadata of Debian's packages of Incus, without groups that are far from what the library asks for. */
const METADATA = JSON.parse(readFileSync(join(__dirname, "incus-metadata.json"), "utf8")) as Record<
  Version,
  Record<string, Record<string, string>>
>;

const OWNERS = ["instance", "pool", "volume", "network", "project", "member"] as const;
const DEVICES = [
  "disk",
  "nic",
  "gpu",
  "infiniband",
  "pci",
  "proxy",
  "tpm",
  "unix-block",
  "unix-char",
  "unix-hotplug",
  "usb",
  "none",
];

describe("the keys that Incus tells", () => {
  let server: ApiServer;

  before(async () => {
    server = await ApiServer.start();
  });

  after(() => server.stop());

  async function keysOf(version: Version): ReturnType<typeof serversKeys> {
    const configs = Object.entries(METADATA[version]).map(([group, parts]) => [
      group,
      Object.fromEntries(
        Object.entries(parts).map(([part, keys]) => [part, { keys: keys.split(" ").map((key) => ({ [key]: {} })) }]),
      ),
    ]);
    server.next(
      done({ api_extensions: ["metadata_configuration"], environment: { server_version: version } }),
      done({ configs: Object.fromEntries(configs) as unknown }),
    );
    return serversKeys(server.client());
  }

  it("are those of the asked owner, also where the groups have other names than LXD's", async () => {
    const keys = await keysOf("7.0.2");
    assert.deepEqual(keys("device", "pci"), ["address", "firmware"]);
    assert.equal(keys("device", "nic")?.includes("queue.discipline"), true);
    assert.equal(keys("device", "nic")?.includes("readonly"), false);
    assert.equal(keys("pool")?.includes("ceph.rbd.backend"), true);
    assert.equal(keys("pool")?.includes("snapshots.schedule"), false, "a key of volumes");
    assert.equal(keys("network")?.includes("ipv6.ra"), true);
    assert.equal(keys("network")?.includes("target_address"), false, "a key of forwards");
    assert.deepEqual(keys("member"), ["scheduler.instance", "user.*"]);
    assert.deepEqual(
      OWNERS.filter((owner) => keys(owner) === undefined),
      [],
    );
    assert.deepEqual(
      DEVICES.filter((type) => keys("device", type) === undefined),
      ["none"],
    );
  });

  it("are not told of pools, networks and most devices by Incus 6.0", async () => {
    const keys = await keysOf("6.0.4");
    assert.deepEqual(
      OWNERS.filter((owner) => keys(owner) !== undefined),
      ["instance", "project", "member"],
    );
    assert.deepEqual(
      DEVICES.filter((type) => keys("device", type) !== undefined),
      ["disk", "unix-block", "unix-char", "unix-hotplug", "usb"],
    );
  });

  it("are all in the lists", async () => {
    for (const version of ["6.0.4", "7.0.2"] as const) {
      const keys = await keysOf(version);
      for (const [owner, told] of [
        ...OWNERS.map((each) => [each, keys(each)] as const),
        ...DEVICES.map((type) => ["device", keys("device", type)] as const),
      ]) {
        const missing = (told ?? []).filter((key) => !isKnownKey(owner, key) && !matches(INCUS_KEYS[owner], key));
        assert.deepEqual(missing, [], `${owner} of Incus ${version}`);
      }
    }
  });

  it("may have any text in brackets", async () => {
    const keys = (await keysOf("7.0.2"))("instance") ?? [];
    assert.equal(matches(keys, "initial.nvram.8be4df61.BootOrder"), true);
    assert.equal(matches(keys, "initial.nvrm.8be4df61.BootOrder"), false);
  });
});

import assert from "node:assert/strict";
import { SimulatedLab } from "../../../lab/simulated";
import { dynamicProvider } from "../../../provider/engine/adapter";
import type { Lifecycle } from "../../../provider/engine/lifecycle";
import { isKnownKey, matches } from "../../../provider/lxd/config-keys";
import { networkLifecycle } from "../../../provider/resources/lxd-network";
import { profileLifecycle } from "../../../provider/resources/lxd-profile";
import { projectLifecycle } from "../../../provider/resources/lxd-project";
import { storagePoolLifecycle } from "../../../provider/resources/lxd-storage-pool";
import { disconnectAll } from "../../../provider/transport/pool";

type Properties = Record<string, unknown>;

describe("a key of LXD's config in a preview", () => {
  let lab: SimulatedLab;

  before(async () => {
    const hosts = [
      { name: "old", lxd: "deb" },
      { name: "new", lxd: "deb", flavour: "lxd-6" },
      { name: "incus", lxd: "deb", flavour: "trixie-incus" },
      { name: "incus7", lxd: "deb", flavour: "trixie-incus7" },
    ] as const;
    lab = await SimulatedLab.start({ hosts });
  });

  after(async () => {
    await disconnectAll();
    await lab.stop();
  });

  async function warningsOf<Inputs extends object, Outputs extends object>(
    lifecycle: Lifecycle<Inputs, Outputs>,
    host: number,
    inputs: Properties,
    olds: Properties = {},
  ): Promise<string[]> {
    const warnings: string[] = [];
    const log = {
      progress: () => undefined,
      info: () => undefined,
      warn: (_urn: string, text: string) => void warnings.push(text),
    };
    const connection = lab.hosts[host]?.connection;
    const { failures } = await dynamicProvider(lifecycle, log).check(olds, { cluster: { endpoints: [connection] }, ...inputs });
    assert.deepEqual(failures, []);
    return warnings;
  }

  const profile = {
    name: "web",
    config: { "limits.memroy": "1GiB" },
    devices: { root: { type: "disk", path: "/", pol: "default" } },
  };

  it("is compared with those that the server has, where it tells them", async () => {
    assert.deepEqual(
      await warningsOf(profileLifecycle, 1, { ...profile, config: { ...profile.config, "limits.nothing": "1" } }),
      [
        "config.limits.memroy is not a key of this server; pulumi up will fail. Did you mean limits.memory?",
        "config.limits.nothing is not a key of this server; pulumi up will fail",
        "devices.root.pol is not a key of this server; pulumi up will fail. Did you mean pool?",
      ],
    );
  });

  it("is compared by spelling elsewhere, where one that resembles none is let pass", async () => {
    assert.deepEqual(
      await warningsOf(profileLifecycle, 0, { ...profile, config: { ...profile.config, "limits.nothing": "1" } }),
      [
        "config.limits.memroy is not a known key of LXD or Incus. Did you mean limits.memory?",
        "devices.root.pol is not a known key of LXD or Incus. Did you mean pool?",
      ],
    );
  });

  it("is compared with those that Incus tells, which are all from Incus 7 on", async () => {
    const devices = { ...profile.devices, eth0: { type: "nic", netwrk: "lxdbr0" } };
    const [root, nic, network] = ["devices.root.pol", "devices.eth0.netwrk", "config.ipv4.adress"];
    for (const [host, isTold] of [
      [2, false],
      [3, true],
    ] as const) {
      const wrong = "is not a key of this server; pulumi up will fail.";
      const unknown = isTold ? wrong : "is not a known key of LXD or Incus.";
      assert.deepEqual(
        [
          ...(await warningsOf(profileLifecycle, host, { ...profile, devices })),
          ...(await warningsOf(networkLifecycle, host, { name: "br1", config: { "ipv4.adress": "none", "ipv6.ra": true } })),
        ],
        [
          `config.limits.memroy ${wrong} Did you mean limits.memory?`,
          `${root} ${wrong} Did you mean pool?`,
          `${nic} ${unknown} Did you mean network?`,
          `${network} ${unknown} Did you mean ipv4.address?`,
        ],
      );
    }
  });

  it("that only Incus has is a mistake on LXD, where that tells its keys", async () => {
    const inputs = { name: "web", config: { "limits.memory.hotplug": true } };
    assert.deepEqual(await warningsOf(profileLifecycle, 0, inputs), []);
    assert.deepEqual(await warningsOf(profileLifecycle, 1, inputs), [
      "config.limits.memory.hotplug is not a key of this server; pulumi up will fail",
    ]);
    assert.deepEqual(await warningsOf(profileLifecycle, 3, inputs), []);
  });

  it("is found in pools, networks and projects, too", async () => {
    const known = "is not a known key of LXD or Incus. Did you mean";
    assert.deepEqual(
      [
        await warningsOf(storagePoolLifecycle, 0, { name: "fast", driver: "zfs", config: { "zfs.poolname": "x" } }),
        await warningsOf(networkLifecycle, 0, { name: "br1", config: { "ipv4.adress": "none" } }),
        await warningsOf(projectLifecycle, 0, { name: "shop", config: { "feature.images": true } }),
      ].flat(),
      [
        `config.zfs.poolname ${known} zfs.pool_name?`,
        `config.ipv4.adress ${known} ipv4.address?`,
        `config.feature.images ${known} features.images?`,
      ],
    );
  });

  it("is not looked at again when it was there before, and the server is not asked about known keys", async () => {
    const since = lab.requests.length;
    const good = { name: "web", config: { "limits.memory": "1GiB", "user.note": "", "limits.kernel.nofile": 1 } };
    assert.deepEqual(await warningsOf(profileLifecycle, 1, profile, profile), []);
    assert.deepEqual(await warningsOf(profileLifecycle, 1, good), []);
    const asked = lab.requests.slice(since).filter(({ route }) => route === "/1.0/metadata/configuration");
    assert.deepEqual(asked, []);
  });
});

describe("the list of keys", () => {
  it("has keys with any text in them", () => {
    for (const key of ["user.a.b", "limits.hugepages.2MB", "ipv4.address", "linux.sysctl.net.ipv4.ip_forward"]) {
      assert.equal(isKnownKey(key.startsWith("ipv4") ? "network" : "instance", key), true, key);
    }
    assert.equal(matches(["bgp.peers.NAME.asn"], "bgp.peers.up.asn"), true);
    assert.equal(matches(["bgp.peers.NAME.asn"], "bgp.peers.up.as"), false);
  });
});

import assert from "node:assert/strict";
import { type Output, output } from "@pulumi/pulumi";
import { type ClusterHostArgs, LxdCluster, VmGroup, VmProfiles } from "../../components/index";
import { mapValues } from "../../components/map-values";
import { LxdImage, LxdNode, type LxdNodeArgs } from "../../provider/index";
import { IMAGE_FINGERPRINT, known, record, SNAP_REVISION, unwrapped } from "./program";

const host = (name: string, number: number): ClusterHostArgs => ({
  name,
  address: `192.168.1.${number}`,
  connection: { host: `192.168.1.${number}`, privateKeyPath: "~/.ssh/id_ed25519" },
});
const bcn2 = host("bcn2", 102);
const bcn1 = host("bcn1", 101);
const bcn3 = host("bcn3", 103);
const cluster = { endpoints: [bcn2.connection] };

const pools = { default: { driver: "dir" as const } };
const networks = { lxdbr0: { config: { "ipv4.address": "192.168.100.1/24" } } };

describe("LxdCluster", () => {
  it("hands each host's arguments to its node and its member", async () => {
    const full: ClusterHostArgs = {
      ...bcn1,
      node: {
        install: false,
        config: { "core.https_address": "192.168.1.101:8443" },
        resetPolicy: ["cluster"],
        adopt: false,
        timeouts: { create: 3600 },
      },
      member: {
        memberConfig: { pools: { default: { source: "/dev/sdb" } } },
        failureDomain: "desk",
        config: { "scheduler.instance": "manual" },
        adopt: true,
        timeouts: { create: 600 },
      },
    };
    const { find } = await record("test", () => new LxdCluster("lab", { hosts: [bcn2, full] }));
    assert.deepEqual(find("LxdNode lab-bcn1").inputs, {
      connection: bcn1.connection,
      install: false,
      config: { "core.https_address": "192.168.1.101:8443" },
      resetPolicy: ["cluster"],
      adopt: false,
      timeouts: { create: 3600 },
    });
    assert.deepEqual(find("LxdClusterMember lab-bcn1").inputs, {
      connection: bcn1.connection,
      name: "bcn1",
      address: "192.168.1.101",
      adopt: true,
      timeouts: { create: 600 },
      cluster: { endpoints: [bcn2.connection] },
      memberConfig: { pools: { default: { source: "/dev/sdb" } } },
      failureDomain: "desk",
      config: { "scheduler.instance": "manual" },
    });
  });

  it("gives a host that is only a voter no instances, and keeps the rest of its config", async () => {
    const voter: ClusterHostArgs = { ...bcn3, voterOnly: true, member: { config: { "user.note": "small" } } };
    const { find } = await record("test", () => new LxdCluster("lab", { hosts: [bcn2, bcn1, voter] }));
    assert.deepEqual(unwrapped(find("LxdClusterMember lab-bcn3").inputs["config"]), {
      "user.note": "small",
      "scheduler.instance": "manual",
    });
    assert.equal(find("LxdClusterMember lab-bcn1").inputs["config"], undefined);
  });

  it("refuses a host that is only a voter and takes instances", async () => {
    const both: ClusterHostArgs = { ...bcn1, voterOnly: true, member: { config: { "scheduler.instance": "all" } } };
    await assert.rejects(
      record("test", () => new LxdCluster("lab", { hosts: [bcn2, both] })),
      /bcn1 has voterOnly, which contradicts its scheduler\.instance/,
    );
  });

  it("prepares all hosts before the first member is made, which asks the others", async () => {
    const { find } = await record("test", () => {
      const prepared = new LxdNode("prepared", { connection: bcn1.connection });
      return new LxdCluster("lab", { hosts: [bcn2, { ...bcn1, dependsOn: [prepared] }] });
    });
    assert.deepEqual(find("LxdClusterMember lab-bcn2").dependsOn, ["LxdNode lab-bcn2", "LxdNode prepared"]);
  });

  it("lets a third host join through the primary, and changes nothing of pools and networks but the ways to reach them", async () => {
    const two = await record("test", () => new LxdCluster("lab", { hosts: [bcn2, bcn1], pools, networks }));
    const three = await record("test", () => new LxdCluster("lab", { hosts: [bcn2, bcn1, bcn3], pools, networks }));
    assert.deepEqual(three.find("LxdClusterMember lab-bcn3").dependsOn, ["LxdClusterMember lab-bcn2", "LxdNode lab-bcn3"]);
    const { inputs: first, ...rest } = two.find("LxdClusterMember lab-bcn2");
    const { inputs: firstOfThree, ...same } = three.find("LxdClusterMember lab-bcn2");
    assert.deepEqual([{ ...firstOfThree, peers: first["peers"] }, same], [first, rest]);
    assert.deepEqual(firstOfThree["peers"], [bcn1.connection, bcn3.connection]);
    for (const id of ["LxdClusterMember lab-bcn1", "LxdNode lab-bcn2", "LxdNode lab-bcn1"]) {
      assert.deepEqual(three.find(id), two.find(id));
    }
    for (const id of ["LxdStoragePool lab-default", "LxdNetwork lab-lxdbr0"]) {
      const { cluster: before, ...contents } = two.find(id).inputs;
      const { cluster: after, ...sameContents } = three.find(id).inputs;
      assert.deepEqual(sameContents, contents);
      assert.deepEqual(before, { endpoints: [bcn2.connection, bcn1.connection] });
      assert.deepEqual(after, { endpoints: [bcn2.connection, bcn1.connection, bcn3.connection] });
    }
  });

  describe("gives a further host", () => {
    const snap = { method: "snap" as const, channel: "5.21/stable" };
    const deb = { method: "deb" as const };
    type Install = LxdNodeArgs["install"];
    const cases: { title: string; first?: Install; wanted?: Install; expected: unknown }[] = [
      {
        title: "the revision of the first one's snap",
        first: snap,
        wanted: snap,
        expected: { ...snap, revision: SNAP_REVISION },
      },
      { title: "that without an install of its own", expected: { method: "snap", revision: SNAP_REVISION } },
      { title: "the revision that the program names", wanted: { ...snap, revision: 5 }, expected: { ...snap, revision: 5 } },
      ...[deb, false as const, { ...snap, cohort: false }, { ...snap, hold: false }].map((wanted) => {
        return { title: `nothing besides ${JSON.stringify(wanted)}`, wanted, expected: wanted };
      }),
      { title: "no revision when the first one has no snap", first: deb, wanted: snap, expected: snap },
    ];
    for (const { title, first, wanted, expected } of cases) {
      it(title, async () => {
        const install = (value: Install) => (value === undefined ? {} : { node: { install: value } });
        const hosts = [
          { ...bcn2, ...install(first) },
          { ...bcn1, ...install(wanted) },
        ];
        const { find } = await record("test", () => new LxdCluster("lab", { hosts }));
        assert.deepEqual(find("LxdNode lab-bcn2").inputs["install"], first);
        assert.deepEqual(find("LxdNode lab-bcn1").inputs["install"], expected);
      });
    }
  });

  it("installs all hosts in the same way, unless a host has its own", async () => {
    const install = { method: "deb" as const, version: "5.0.2-5" };
    const own = { method: "deb" as const, version: "5.0.2-6" };
    const hosts = [bcn2, { ...bcn1, node: { install: own } }];
    const { find } = await record("test", () => new LxdCluster("lab", { hosts, install }));
    assert.deepEqual(find("LxdNode lab-bcn2").inputs["install"], install);
    assert.deepEqual(find("LxdNode lab-bcn1").inputs["install"], own);
  });

  it("tells what the upgrade of each member has reached, and what comes next", async () => {
    const seen: Output<unknown>[] = [];
    await record("test", () => void seen.push(new LxdCluster("lab", { hosts: [bcn2, bcn1] }).upgrades));
    const [upgrades] = seen;
    assert.ok(upgrades);
    const upToDate = { state: "up to date", recommendedAction: "none" };
    assert.deepEqual(await known(upgrades), { bcn2: upToDate, bcn1: upToDate });
  });

  it("knows the way to the cluster in a preview already", async () => {
    const seen: Output<unknown>[] = [];
    const program = (): void => {
      seen.push(new LxdCluster("lab", { hosts: [bcn2, bcn1], pools, networks, images: { "debian-12": {} } }).connection);
    };
    await record("test", program, { preview: true });
    const [connection] = seen;
    assert.ok(connection);
    assert.deepEqual(await known(connection), { endpoints: [bcn2.connection, bcn1.connection] });
  });

  it("hands on which cluster it is, to all that is on it and to whoever has its connection", async () => {
    const certificateFingerprint = "c1".repeat(32);
    const endpoints = [bcn2.connection, bcn1.connection];
    const seen: Output<unknown>[] = [];
    const program = (): void => {
      seen.push(new LxdCluster("lab", { hosts: [bcn2, bcn1], pools, networks, images: { "debian-12": {} } }).connection);
    };
    const { resources, find } = await record("test", program, { certificateFingerprint });
    const [connection] = seen;
    assert.ok(connection);
    assert.deepEqual(await known(connection), { endpoints, certificateFingerprint });
    assert.deepEqual(find("LxdClusterMember lab-bcn1").inputs["cluster"], {
      endpoints: [bcn2.connection],
      certificateFingerprint,
    });
    const others = resources.filter(({ id, inputs }) => "cluster" in inputs && !id.startsWith("LxdClusterMember"));
    assert.deepEqual(
      others.map(({ id, inputs }) => [id, inputs["cluster"]]),
      ["LxdStoragePool lab-default", "LxdNetwork lab-lxdbr0", "LxdImage lab-debian-12"].map((id) => [
        id,
        { endpoints, certificateFingerprint },
      ]),
    );
  });

  it("makes images when the pools that LXD unpacks them into are there, under the alias that is their key", async () => {
    const images = { "24.04": { source: { server: "https://cloud-images.ubuntu.com/releases/", alias: "24.04" } } };
    const { find } = await record("test", () => new LxdCluster("lab", { hosts: [bcn2], pools, images }));
    const image = find("LxdImage lab-24.04");
    assert.deepEqual(image.inputs["aliases"], ["24.04"]);
    assert.deepEqual(image.dependsOn, ["LxdClusterMember lab-bcn2", "LxdStoragePool lab-default"]);
  });

  it("refuses to be without hosts, and hosts with the same name or address", () => {
    assert.throws(() => new LxdCluster("none", { hosts: [] }), { message: "hosts: a cluster needs at least one host" });
    const twins = [bcn2, { ...bcn1, name: "bcn2" }];
    assert.throws(() => new LxdCluster("names", { hosts: twins }), {
      message: 'hosts: two of them have the name "bcn2". Each needs its own',
    });
    for (const address of ["192.168.1.102", "192.168.1.102:8443"]) {
      assert.throws(() => new LxdCluster("addresses", { hosts: [bcn2, { ...bcn1, address }] }), {
        message: 'hosts: two of them have the address "192.168.1.102". Each needs its own',
      });
    }
  });
});

describe("VmProfiles", () => {
  it("has the NICs, the resources and no GPU by default", async () => {
    const { resources, find } = await record("test", () => new VmProfiles("profiles", { cluster }));
    assert.deepEqual(
      resources.map(({ id }) => id),
      ["VmProfiles profiles", "LxdProfile profiles-vm-networks", "LxdProfile profiles-vm-resources"],
    );
    assert.deepEqual(find("LxdProfile profiles-vm-networks").inputs, {
      cluster,
      name: "vm-networks",
      description: "eth0 on a network of the cluster, eth1 on the LAN",
      config: {},
      devices: {
        eth0: { type: "nic", name: "eth0", network: "lxdbr0" },
        eth1: { type: "nic", name: "eth1", nictype: "bridged", parent: "br0" },
      },
    });
    assert.deepEqual(find("LxdProfile profiles-vm-resources").inputs, {
      cluster,
      name: "vm-resources",
      description: "CPU, memory and root disk",
      config: { "limits.cpu": 4, "limits.memory": "4GiB" },
      devices: { root: { type: "disk", path: "/", pool: "default" } },
    });
  });

  it("takes what is given in place of its defaults", async () => {
    const args = {
      cluster,
      project: "web",
      networks: { network: "ovn0", bridge: "br1" },
      resources: { cpu: "0-3", memory: "1GiB", pool: "fast", diskSize: "20GiB", config: { "boot.autostart": true } },
      gpu: { config: { "security.secureboot": "false" } },
    };
    const { find } = await record("test", () => new VmProfiles("profiles", args));
    const { eth0, eth1 } = find("LxdProfile profiles-vm-networks").inputs["devices"] as Record<string, Record<string, string>>;
    assert.deepEqual([eth0?.["network"], eth1?.["parent"]], ["ovn0", "br1"]);
    const { config, devices, project } = find("LxdProfile profiles-vm-resources").inputs;
    assert.deepEqual(config, { "limits.cpu": "0-3", "limits.memory": "1GiB", "boot.autostart": true });
    assert.deepEqual(devices, { root: { type: "disk", path: "/", pool: "fast", size: "20GiB" } });
    assert.equal(project, "web");
    const gpu = find("LxdProfile profiles-vm-gpu").inputs;
    assert.deepEqual([gpu["config"], gpu["devices"]], [{ "security.secureboot": "false" }, {}]);
  });
});

describe("Two VmProfiles of one stack", () => {
  it("have profiles of the names that each is given", async () => {
    const program = (): void => {
      new VmProfiles("profiles", { cluster, gpu: {} });
      const names = { networks: { name: "gpu-networks" }, resources: { name: "gpu-resources" }, gpu: { name: "gpu" } };
      new VmProfiles("large", { cluster, ...names });
    };
    const { resources } = await record("test", program);
    const names = resources.filter(({ id }) => id.startsWith("LxdProfile ")).map(({ inputs }) => inputs["name"]);
    assert.deepEqual(names, ["vm-networks", "vm-resources", "vm-gpu", "gpu-networks", "gpu-resources", "gpu"]);
  });
});

describe("VmGroup", () => {
  const defaults = { image: { alias: "debian-12" }, memory: "1GiB", profiles: ["default"], users: [{ name: "thinkube" }] };

  it("lets a value of a VM take the place of the whole default", async () => {
    const vms = [
      { name: "a" },
      { name: "b", memory: "2GiB", profiles: ["b"], users: [{ name: "other", sudo: "password" as const }] },
    ];
    const { resources, find } = await record("test", () => new VmGroup("vms", { cluster, defaults, vms }));
    assert.deepEqual(find("LxdVm vms-a").inputs, {
      cluster,
      name: "a",
      image: { alias: "debian-12" },
      memory: "1GiB",
      profiles: ["default"],
    });
    assert.deepEqual(find("LxdVm vms-b").inputs["profiles"], ["b"]);
    assert.deepEqual(
      resources.filter(({ id }) => id.startsWith("VmUser ")).map(({ inputs }) => [inputs["instance"], inputs["name"]]),
      [
        ["a", "thinkube"],
        ["b", "other"],
      ],
    );
  });

  it("places VMs by the policy of the defaults, except those with a member or a placement of their own", async () => {
    const later = <Value>(value: Value): Output<Value> => output(Promise.resolve(value)) as Output<Value>;
    const placement = { policy: "leastMemory", antiAffinity: "web" } as const;
    const placesIn = async (shared: object, vms: readonly { name: string }[]): Promise<unknown[]> => {
      const args = { cluster, defaults: { ...defaults, ...shared }, vms: [...vms] };
      const { find } = await record("test", () => new VmGroup("vms", args));
      return vms.map(({ name }) => {
        const { target, placement: policy } = find(`LxdVm vms-${name}`).inputs;
        return [target, policy];
      });
    };
    const own = { policy: "roundRobin" } as const;
    assert.deepEqual(
      await placesIn({ placement }, [
        { name: "a" },
        { name: "b", target: "bcn1" },
        { name: "c", target: "@big" },
        { name: "d", placement: own },
        { name: "e", target: later("bcn1") },
        { name: "f", target: later("@big") },
      ] as { name: string }[]),
      [
        [undefined, placement],
        ["bcn1", undefined],
        ["@big", placement],
        [undefined, own],
        ["bcn1", undefined],
        ["@big", placement],
      ],
    );
    assert.deepEqual(await placesIn({ target: "bcn2" }, [{ name: "a" }, { name: "b", placement } as { name: string }]), [
      ["bcn2", undefined],
      [undefined, placement],
    ]);
    assert.deepEqual(await placesIn({ target: "@big" }, [{ name: "a" }, { name: "b", placement } as { name: string }]), [
      ["@big", undefined],
      ["@big", placement],
    ]);
    assert.deepEqual(await placesIn({ target: "@big", placement }, [{ name: "a" }]), [["@big", placement]]);
  });

  it("merges config, devices and cloudInit of a VM into the defaults key by key", async () => {
    const later = <Value>(value: Value): Output<Value> => output(Promise.resolve(value)) as Output<Value>;
    const general = {
      ...defaults,
      config: { "limits.cpu": 2, "boot.autostart": true },
      devices: {
        root: { type: "disk", path: "/", pool: "default", size: "10GiB" },
        eth0: { type: "nic", network: "lxdbr0" },
        eth1: { type: "nic", nictype: "bridged", parent: "br0" },
      },
      cloudInit: { userData: "#cloud-config\n", vendorData: "#cloud-config\n" },
    };
    const own = {
      config: { "limits.cpu": 4 },
      devices: { root: { size: "20GiB" }, eth1: { type: "none" }, data: { type: "disk", path: "/srv", pool: "fast" } },
      cloudInit: { userData: "#cloud-config\npackages: [vim]\n" },
    };
    const vms = [
      { name: "a" },
      { name: "b", ...own },
      { name: "c", ...mapValues(own, later), devices: { ...own.devices, root: later(own.devices.root) } },
    ];
    for (const shared of [general, { ...general, ...mapValues(own, (_own, key) => later(general[key as keyof typeof own])) }]) {
      const { find } = await record("test", () => new VmGroup("vms", { cluster, defaults: shared, vms }));
      const { config, devices, cloudInit } = general;
      const of = (id: string): unknown[] => {
        const { inputs } = find(id);
        return [inputs["config"], inputs["devices"], unwrapped(inputs["cloudInit"])];
      };
      assert.deepEqual(of("LxdVm vms-a"), [config, devices, cloudInit]);
      const merged = [
        { ...config, "limits.cpu": 4 },
        { ...devices, root: { ...devices.root, size: "20GiB" }, eth1: { type: "none" }, data: own.devices.data },
        { ...cloudInit, ...own.cloudInit },
      ];
      assert.deepEqual(of("LxdVm vms-b"), merged);
      assert.deepEqual(of("LxdVm vms-c"), merged);
    }
  });

  it("takes an LxdImage as the image, by its fingerprint, and waits for it", async () => {
    const source = { server: "https://cloud-images.ubuntu.com/releases/", alias: "24.04" };
    const program = (): void => {
      const image = new LxdImage("ubuntu", { cluster, source });
      new VmGroup("vms", { cluster, defaults: { image }, vms: [{ name: "a" }] });
    };
    const { find } = await record("test", program);
    assert.deepEqual(find("LxdVm vms-a").inputs["image"], { fingerprint: IMAGE_FINGERPRINT });
    assert.deepEqual(find("LxdVm vms-a").dependsOn, ["LxdImage ubuntu"]);
  });

  it("takes the former fingerprints of an LxdImage that the cluster replaces by newer ones", async () => {
    const source = { server: "https://cloud-images.ubuntu.com/releases/", alias: "24.04" };
    const former = "ef".repeat(32);
    const program = (): void => {
      const image = new LxdImage("ubuntu", { cluster, source, aliases: ["ubuntu"], autoUpdate: true });
      new VmGroup("vms", { cluster, defaults: { image }, vms: [{ name: "a" }] });
    };
    const { find } = await record("test", program, { formerFingerprints: [former] });
    assert.deepEqual(find("LxdVm vms-a").inputs["image"], { fingerprint: IMAGE_FINGERPRINT, formerFingerprints: [former] });
  });

  it("puts VMs and users into its project", async () => {
    const { find } = await record("test", () => new VmGroup("vms", { cluster, project: "web", defaults, vms: [{ name: "a" }] }));
    assert.equal(find("LxdVm vms-a").inputs["project"], "web");
    assert.equal(find("VmUser vms-a-thinkube").inputs["project"], "web");
  });

  it("joins the network's description with what else cloud-init is told", async () => {
    const network = { eth0: { addresses: ["fd00::2/64"], nameservers: ["fd00::1"], searchDomains: ["lan"], optional: true } };
    const vms = [{ name: "a", cloudInit: { userData: "#cloud-config\n" }, network }];
    const { find } = await record("test", () => new VmGroup("vms", { cluster, defaults, vms }));
    const { userData, networkConfig } = unwrapped(find("LxdVm vms-a").inputs["cloudInit"]) as Record<string, string>;
    assert.equal(userData, "#cloud-config\n");
    assert.equal(
      networkConfig,
      [
        "version: 2",
        "ethernets:",
        "  eth0:",
        "    dhcp4: false",
        "    dhcp6: false",
        "    addresses:",
        "      - fd00::2/64",
        "    nameservers:",
        "      addresses:",
        "        - fd00::1",
        "      search:",
        "        - lan",
        "    optional: true",
        "",
      ].join("\n"),
    );
  });

  it("refuses VMs with the same name, and one without an image", () => {
    assert.throws(() => new VmGroup("twins", { cluster, defaults, vms: [{ name: "a" }, { name: "a" }] }), {
      message: "vms: two instances have the same name",
    });
    assert.throws(() => new VmGroup("bare", { cluster, vms: [{ name: "a" }] }), {
      message: 'vms: instance "a" has no image, and defaults.image is not given',
    });
  });
});

import assert from "node:assert/strict";
import { PUBLIC_KEY, withHome } from "./home";
import { type Recording, record, recordStack, runProgram, SNAP_REVISION, unwrapped } from "./program";

const PRIVATE_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nnot a real one\n";

describe("the programs of the stacks", () => {
  withHome({
    ".ssh/id_ed25519": PRIVATE_KEY,
    "lxd-images/debian-12/metadata.tar.xz": "metadata",
    "lxd-images/debian-12/rootfs.squashfs": "rootfs",
  });

  describe("with Pulumi.lab.yaml", () => {
    let lab: Recording;
    before(async () => {
      lab = await recordStack("stacks/index.ts", "Pulumi.lab.yaml");
    });

    it("registers each resource below its component", () => {
      assert.deepEqual(lab.resources.map(({ id, parent }) => `${parent ?? "-"} > ${id}`).sort(), [
        "- > LxdCluster cluster",
        "- > VmGroup vms",
        "- > VmProfiles profiles",
        "LxdCluster cluster > LxdClusterMember cluster-bcn1",
        "LxdCluster cluster > LxdClusterMember cluster-bcn2",
        "LxdCluster cluster > LxdImage cluster-debian-12",
        "LxdCluster cluster > LxdNetwork cluster-lxdbr0",
        "LxdCluster cluster > LxdNode cluster-bcn1",
        "LxdCluster cluster > LxdNode cluster-bcn2",
        "LxdCluster cluster > LxdStoragePool cluster-default",
        "VmGroup vms > LxdVm vms-dns1",
        "VmGroup vms > LxdVm vms-tkw1",
        "VmGroup vms > VmUser vms-dns1-thinkube",
        "VmGroup vms > VmUser vms-tkw1-thinkube",
        "VmProfiles profiles > LxdProfile profiles-vm-networks",
        "VmProfiles profiles > LxdProfile profiles-vm-resources",
      ]);
    });

    it("has fixed type tokens, which are in the state of every stack", () => {
      const types = new Set(lab.resources.map(({ type }) => type));
      assert.deepEqual([...types].sort(), [
        "lxd-cluster:index:LxdCluster",
        "lxd-cluster:index:VmGroup",
        "lxd-cluster:index:VmProfiles",
        ...["LxdClusterMember", "LxdImage", "LxdNetwork", "LxdNode", "LxdProfile", "LxdStoragePool", "LxdVm", "VmUser"].map(
          (kind) => `pulumi-nodejs:dynamic/lxd:${kind}`,
        ),
      ]);
    });

    it("installs Debian's package on both hosts, bootstraps bcn2 and joins bcn1 to it", () => {
      const connection = { host: "192.168.1.102", user: "root", privateKeyPath: "~/.ssh/id_ed25519" };
      assert.deepEqual(lab.find("LxdNode cluster-bcn2").inputs, {
        connection,
        install: { method: "deb", packages: ["btrfs-progs"] },
      });
      assert.deepEqual(lab.find("LxdClusterMember cluster-bcn2").inputs, {
        connection,
        name: "bcn2",
        address: "192.168.1.102",
        peers: [{ ...connection, host: "192.168.1.101" }],
      });
      assert.deepEqual(lab.find("LxdClusterMember cluster-bcn1").inputs, {
        connection: { ...connection, host: "192.168.1.101" },
        name: "bcn1",
        address: "192.168.1.101",
        cluster: { endpoints: [connection] },
      });
    });

    it("makes each resource when what it needs is there, and so removes it before", () => {
      const nodes = ["LxdNode cluster-bcn1", "LxdNode cluster-bcn2"];
      const members = ["LxdClusterMember cluster-bcn1", "LxdClusterMember cluster-bcn2"];
      const furniture = ["LxdNetwork cluster-lxdbr0", "LxdStoragePool cluster-default"];
      const image = "LxdImage cluster-debian-12";
      const profiles = ["LxdProfile profiles-vm-networks", "LxdProfile profiles-vm-resources"];
      const needs = (id: string) => lab.find(id).dependsOn;
      assert.deepEqual(needs(nodes[0] ?? ""), []);
      assert.deepEqual(needs("LxdClusterMember cluster-bcn2"), ["LxdNode cluster-bcn2"]);
      assert.deepEqual(needs("LxdClusterMember cluster-bcn1"), ["LxdClusterMember cluster-bcn2", "LxdNode cluster-bcn1"]);
      assert.deepEqual(needs("LxdStoragePool cluster-default"), members);
      assert.deepEqual(needs("LxdNetwork cluster-lxdbr0"), members);
      assert.deepEqual(needs(image), [...members, ...furniture].sort());
      assert.deepEqual(needs("LxdProfile profiles-vm-networks"), [...members, ...furniture, image].sort());
      assert.deepEqual(needs("LxdVm vms-dns1"), [...members, ...furniture, image, ...profiles].sort());
      assert.deepEqual(
        needs("VmUser vms-dns1-thinkube"),
        [...members, ...furniture, image, ...profiles, "LxdVm vms-dns1"].sort(),
      );
      assert.equal(lab.find("VmUser vms-dns1-thinkube").deletedWith, "LxdVm vms-dns1");
    });

    it("gives everything on the cluster both hosts to reach it by, the primary first", () => {
      for (const id of ["LxdStoragePool cluster-default", "LxdProfile profiles-vm-networks", "LxdVm vms-tkw1"]) {
        const { endpoints } = lab.find(id).inputs["cluster"] as { endpoints: { host: string }[] };
        assert.deepEqual(
          endpoints.map(({ host }) => host),
          ["192.168.1.102", "192.168.1.101"],
        );
      }
    });

    it("describes VMs with their own values over the defaults of all", () => {
      const { cluster: _, cloudInit, ...dns1 } = lab.find("LxdVm vms-dns1").inputs;
      assert.deepEqual(
        { ...dns1, cloudInit: unwrapped(cloudInit) },
        {
          name: "dns1",
          target: "bcn2",
          memory: "256MiB",
          instanceType: "container",
          image: { alias: "debian-12" },
          profiles: ["vm-networks", "vm-resources"],
          waitFor: [{ for: "cloud-init" }, { for: "ipv4", nic: "eth0" }, { for: "ipv4", nic: "eth1" }],
          cloudInit: {
            networkConfig: [
              "version: 2",
              "ethernets:",
              "  eth0:",
              "    dhcp4: true",
              "    dhcp6: false",
              "  eth1:",
              "    dhcp4: false",
              "    dhcp6: false",
              "    addresses:",
              "      - 192.168.1.100/24",
              "",
            ].join("\n"),
          },
        },
      );
      assert.equal(lab.find("LxdVm vms-tkw1").inputs["memory"], undefined);
    });

    it("gives each VM the user with the key from the workstation's file", () => {
      const { cluster: _, ...user } = lab.find("VmUser vms-tkw1-thinkube").inputs;
      assert.deepEqual(user, { instance: "tkw1", name: "thinkube", sudo: "passwordless", authorizedKeys: [PUBLIC_KEY] });
    });
  });

  describe("with Pulumi.thinkube.yaml", () => {
    let thinkube: Recording;
    before(async () => {
      thinkube = await recordStack("stacks/index.ts", "Pulumi.thinkube.yaml");
    });

    it("installs the same snap on both hosts, in the revision that the first one got, and keeps it", () => {
      const install = { method: "snap", channel: "5.21/stable", cohort: true, hold: true };
      assert.deepEqual(thinkube.find("LxdNode cluster-bcn2").inputs["install"], install);
      assert.deepEqual(thinkube.find("LxdNode cluster-bcn1").inputs["install"], { ...install, revision: SNAP_REVISION });
    });

    it("has the three virtual machines where the seed has them, those for computing with a GPU", () => {
      const vms = thinkube.resources.filter(({ id }) => id.startsWith("LxdVm "));
      assert.deepEqual(
        vms.map(({ inputs }) => [inputs["name"], inputs["target"], inputs["instanceType"], inputs["cpu"], inputs["memory"]]),
        [
          ["dns1", "bcn2", "virtual-machine", 1, "2GiB"],
          ["tkc", "bcn2", "virtual-machine", 12, "48GiB"],
          ["tkw1", "bcn1", "virtual-machine", 12, "48GiB"],
        ],
      );
      assert.deepEqual(thinkube.find("LxdVm vms-tkc").inputs["profiles"], ["vm-networks", "vm-resources", "vm-gpu"]);
      // LXD gives a virtual machine one GPU for each device: one that two GPUs fit does not start.
      const card = { type: "gpu", gputype: "physical" };
      assert.deepEqual(thinkube.find("LxdProfile profiles-vm-gpu").inputs["devices"], {});
      assert.deepEqual(thinkube.find("LxdVm vms-dns1").inputs["devices"], undefined);
      assert.deepEqual(thinkube.find("LxdVm vms-tkc").inputs["devices"], {
        gpu0: { ...card, vendorid: "10de", productid: "1b06" },
      });
      assert.deepEqual(thinkube.find("LxdVm vms-tkw1").inputs["devices"], {
        gpu0: { ...card, pci: "0000:01:00.0" },
        gpu1: { ...card, pci: "0000:02:00.0" },
      });
    });

    it("gives static addresses with a default route that every version of cloud-init understands", () => {
      const { networkConfig } = unwrapped(thinkube.find("LxdVm vms-tkw1").inputs["cloudInit"]) as { networkConfig: string };
      assert.match(networkConfig, /enp6s0:\n(.*\n)*? {4}addresses:\n {6}- 192\.168\.1\.111\/24\n/);
      assert.match(networkConfig, /routes:\n {6}- to: 0\.0\.0\.0\/0\n {8}via: 192\.168\.1\.1\n/);
    });
  });

  describe("with commands that prepare a host", () => {
    const config = {
      "lxd-cluster:hosts": [
        {
          name: "bcn2",
          address: "192.168.1.102",
          connection: {
            user: "operator",
            privateKeyPath: "~/.ssh/id_ed25519",
            hostKey: PUBLIC_KEY,
            proxy: { host: "jump", privateKeyPath: "~/.ssh/id_ed25519" },
          },
          prepare: ["sudo apt-get install -y zfsutils-linux", "sudo modprobe zfs"],
        },
      ],
    };

    it("runs them one after the other by @pulumi/command, with the key's contents as a secret, before LXD is installed", async () => {
      const { find } = await record("lxd-cluster", () => runProgram("stacks/index.ts", config));
      const first = find("Command prepare-bcn2-1");
      assert.equal(first.type, "command:remote:Command");
      const connection = first.inputs["connection"];
      assert.deepEqual(Object.keys(connection as object), ["secret"]);
      assert.deepEqual(unwrapped(connection), {
        host: "192.168.1.102",
        user: "operator",
        privateKey: PRIVATE_KEY,
        hostKey: PUBLIC_KEY,
        port: 22,
        dialErrorLimit: 10,
        perDialTimeout: 15,
        proxy: { host: "jump", privateKey: PRIVATE_KEY, port: 22, user: "root", dialErrorLimit: 10, perDialTimeout: 15 },
      });
      assert.equal(first.inputs["create"], "sudo apt-get install -y zfsutils-linux");
      assert.deepEqual(find("Command prepare-bcn2-2").dependsOn, ["Command prepare-bcn2-1"]);
      assert.deepEqual(find("LxdNode cluster-bcn2").dependsOn, ["Command prepare-bcn2-2"]);
      assert.equal("prepare" in find("LxdNode cluster-bcn2").inputs, false);
    });

    it("does not load @pulumi/command without any, so that its plugin is not asked for", async () => {
      const path = require.resolve("@pulumi/command");
      delete require.cache[path];
      await recordStack("stacks/index.ts", "Pulumi.lab.yaml");
      assert.equal(path in require.cache, false);
    });
  });

  describe("of three members", () => {
    let three: Recording;
    before(async () => {
      three = await recordStack("stacks/three-members/index.ts", "stacks/three-members/Pulumi.lab.yaml", "lxd-three-members");
    });

    it("gives each member its disk, for the pool and for the join, and its rack", () => {
      const disks = { bcn2: "/dev/loop20", bcn1: "/dev/loop21", bcn3: "/dev/loop22" };
      assert.deepEqual(
        three.find("LxdStoragePool cluster-data").inputs["memberConfig"],
        Object.fromEntries(Object.entries(disks).map(([host, source]) => [host, { source }])),
      );
      for (const [host, source] of Object.entries(disks)) {
        const { failureDomain, memberConfig } = three.find(`LxdClusterMember cluster-${host}`).inputs;
        assert.equal(failureDomain, host === "bcn3" ? "rack2" : "rack1");
        const outside = { "bridge.external_interfaces": host === "bcn2" ? "ext0" : "" };
        assert.deepEqual(memberConfig, { pools: { data: { source } }, networks: { web: outside } });
      }
    });

    it("lets a policy place nine instances on the members of a group", () => {
      const vms = three.resources.filter(({ id }) => id.startsWith("LxdVm "));
      assert.equal(vms.length, 9);
      for (const { inputs } of vms) {
        assert.equal(inputs["target"], "@web");
        assert.deepEqual(inputs["placement"], { policy: "leastInstances" });
      }
      assert.deepEqual(three.find("LxdClusterGroup web").inputs["members"], ["bcn2", "bcn1", "bcn3"]);
    });

    it("has a volume of the same name on two members", () => {
      for (const member of ["bcn2", "bcn3"]) {
        const { name, target } = three.find(`LxdStorageVolume database-${member}`).inputs;
        assert.deepEqual({ name, target }, { name: "database", target: member });
      }
    });
  });

  describe("of a tenant", () => {
    it("puts a VM with a user on the cluster of the stack that it refers to", async () => {
      const cluster = { endpoints: [{ host: "192.168.1.102", privateKeyPath: "~/.ssh/id_ed25519" }] };
      const config = {
        "lxd-tenant:clusterStack": "organization/lxd-cluster/lab",
        "lxd-tenant:vm": "web1",
        "lxd-tenant:target": "bcn1",
        "lxd-tenant:instanceType": "container",
        "lxd-tenant:image": "debian-12",
        "lxd-tenant:publicKey": PUBLIC_KEY,
      };
      const { find } = await record("lxd-tenant", () => runProgram("stacks/tenant/index.ts", config), {
        stackOutputs: { cluster },
      });
      const vm = find("LxdVm tenant-web1");
      assert.deepEqual(vm.inputs["cluster"], cluster);
      assert.equal(vm.inputs["target"], "bcn1");
      assert.equal(vm.parent, "VmGroup tenant");
      assert.deepEqual(find("VmUser tenant-web1-tenant").dependsOn, [
        "LxdVm tenant-web1",
        "StackReference organization/lxd-cluster/lab",
      ]);
    });
  });
});

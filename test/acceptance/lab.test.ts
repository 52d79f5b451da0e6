import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { RealLab } from "../../lab/real";
import { bareHosts } from "../support/bare-hosts";
import { installByHand } from "../support/real-lab";
import { runInGuest } from "./support/guest-commands";
import { statesOnceHeard } from "./support/member-states";

const GUEST_ADDRESS = "192.168.1.111";

const BOOTSTRAP = `
config:
  core.https_address: 192.168.1.102:8443
cluster:
  server_name: bcn2
  enabled: true
storage_pools:
- name: default
  driver: btrfs
  config: {size: 4GiB}
networks:
- name: lxdbr0
  type: bridge
  config: {ipv4.address: 10.10.10.1/24, ipv4.nat: "true", ipv6.address: none}
profiles:
- name: default
  devices:
    root: {type: disk, path: /, pool: default}
    eth0: {type: nic, network: lxdbr0, name: eth0}
`;

/** Keeps a mount namespace by a file, as snap-confine does, from each processor. Prints the processors whose namespaces the kernel refuses to keep. */
const KEEP_NAMESPACES = `
mkdir -p /run/kept
mount --bind /run/kept /run/kept
mount --make-private /run/kept
: >/run/kept/namespace
for processor in $(seq 0 $(($(nproc --all) - 1))); do
  taskset --cpu-list "$processor" unshare --mount sleep 60 & pid=$!
  until [ "$(readlink /proc/$pid/ns/mnt)" != "$(readlink /proc/$$/ns/mnt)" ]; do sleep 0.05; done
  if mount --bind /proc/$pid/ns/mnt /run/kept/namespace; then umount /run/kept/namespace; else echo "$processor"; fi
  kill $pid
done
umount /run/kept
`;

describe("the lab's real hosts", () => {
  const hosts = bareHosts();

  /** Runs a command in the workstation. It must succeed. */
  async function workstation(...argv: string[]): Promise<string> {
    const result = await hosts.lab.workstationExec(argv);
    assert.equal(result.exitCode, 0, `${argv.join(" ")}: ${result.stderr}`);
    return result.stdout.trim();
  }

  /** Runs a command in a host. It must succeed. */
  async function host(name: string, argv: string[], stdin?: string): Promise<string> {
    const result = await hosts.lab.hostExec(name, argv, stdin === undefined ? {} : { stdin });
    assert.equal(result.exitCode, 0, `${name}: ${argv.join(" ")}: ${result.stderr}${result.stdout}`);
    return result.stdout.trim();
  }

  it("boots them bare, with systemd running and no server", async () => {
    for (const { name } of hosts.lab.hosts) {
      assert.equal(await host(name, ["systemctl", "is-system-running"]), "running");
      assert.equal(await host(name, ["hostname"]), name);
      assert.notEqual((await hosts.lab.hostExec(name, ["test", "-e", hosts.lab.flavour.daemon])).exitCode, 0);
    }
  });

  it("lets them keep the mount namespaces that are made on any processor, as snaps need it", async () => {
    for (const { name } of hosts.lab.hosts) {
      assert.equal(await host(name, ["sh", "-s"], KEEP_NAMESPACES), "");
    }
  });

  it("lets root and operator log in with the workstation's key and checks the host key against known_hosts", async () => {
    assert.equal(await workstation("ssh", "-o", "StrictHostKeyChecking=yes", "root@192.168.1.102", "hostname"), "bcn2");
    assert.equal(
      await workstation("ssh", "-o", "StrictHostKeyChecking=yes", "operator@192.168.1.101", "sudo", "-n", "id", "-u"),
      "0",
    );
  });

  it("refuses root to nosudo", async () => {
    const result = await hosts.lab.workstationExec(["ssh", "nosudo@192.168.1.101", "sudo", "-n", "id", "-u"]);
    assert.equal(result.exitCode, 1);
    assert.match(result.stderr, /a password is required/);
  });

  it("has no route out, neither from the workstation nor from a host", async () => {
    assert.equal(await workstation("ip", "-4", "route", "show", "default"), "");
    assert.match((await hosts.lab.workstationExec(["ip", "route", "get", "192.0.2.1"])).stderr, /Network is unreachable/);
    assert.equal(await host("bcn2", ["ip", "-4", "route", "show", "default"]), "");
  });

  it("installs LXD from the hosts' own repository and creates a cluster", async () => {
    await Promise.all(
      ["bcn2", "bcn1"].map((name) =>
        host(name, ["sh", "-c", [...installByHand(hosts.lab.flavour), "apt-get install -q -y btrfs-progs"].join(" && ")]),
      ),
    );
    await host("bcn2", [...hosts.lab.flavour.admin, "init", "--preseed"], BOOTSTRAP);
    const token = await host("bcn2", [hosts.lab.flavour.client, "cluster", "add", "bcn1", "--quiet"]);
    const preseed = {
      cluster: {
        enabled: true,
        server_address: "192.168.1.101:8443",
        cluster_token: token.split("\n").at(-1),
        member_config: [{ entity: "storage-pool", name: "default", key: "size", value: "4GiB" }],
      },
    };
    await host("bcn1", [...hosts.lab.flavour.admin, "init", "--preseed"], JSON.stringify(preseed));
    await bothOnline();
    assert.match(
      await host("bcn1", ["cat", "/proc/mounts"]),
      /^\/dev\/loop\d+ \/var\/lib\/(lxd|incus)\/storage-pools\/default btrfs /m,
    );
  });

  it("starts a guest with an address from lxdbr0 and the static LAN address of its cloud-init", async () => {
    const image = join(hosts.lab.home, "lxd-images/debian-12");
    await workstation("scp", join(image, "metadata.tar.xz"), join(image, "rootfs.squashfs"), "root@bcn2:/root/");
    await host("bcn2", [
      hosts.lab.flavour.client,
      "image",
      "import",
      "/root/metadata.tar.xz",
      "/root/rootfs.squashfs",
      "--alias",
      "debian-12",
    ]);
    const publicKey = readFileSync(join(hosts.lab.home, ".ssh/id_ed25519.pub"), "utf8").trim();
    const network = {
      version: 2,
      ethernets: { eth0: { dhcp4: true }, eth1: { dhcp4: false, addresses: [`${GUEST_ADDRESS}/24`] } },
    };
    const user = { name: "thinkube", sudo: "ALL=(ALL) NOPASSWD:ALL", shell: "/bin/bash", ssh_authorized_keys: [publicKey] };
    const instance = {
      config: {
        "cloud-init.network-config": JSON.stringify(network),
        "cloud-init.user-data": `#cloud-config\n${JSON.stringify({ users: [user] })}`,
      },
      devices: { eth1: { type: "nic", nictype: "bridged", parent: "br0", name: "eth1" } },
    };
    await host("bcn2", [hosts.lab.flavour.client, "launch", "debian-12", "vm1", "--target", "bcn1"], JSON.stringify(instance));
    await runInGuest(hosts.lab, "vm1", "cloud-init", "status", "--wait");
    assert.equal(await runInGuest(hosts.lab, "vm1", "systemctl", "is-system-running", "--wait"), "running\n");
    assert.match(await runInGuest(hosts.lab, "vm1", "ip", "-4", "-brief", "address", "show", "eth0"), / 10\.10\.10\.\d+\/24/);
    assert.equal(await guest("sudo -n id -u && hostname"), "0\nvm1");
    assert.equal(
      await guest("sudo apt-get update -q >/dev/null && sudo apt-get install -q -y jq >/dev/null && jq --version"),
      "jq-1.6",
    );
  });

  it("cuts a host's power and boots the same file system again", async () => {
    await hosts.lab.powerOff("bcn1");
    assert.equal(hosts.lab.isRunning("bcn1"), false);
    const login = await hosts.lab.workstationExec(["ssh", "-o", "ConnectTimeout=1", "root@192.168.1.101", "true"]);
    assert.equal(login.exitCode, 255);
    await hosts.lab.boot("bcn1");
    await host("bcn1", [...hosts.lab.flavour.admin, "waitready"]);
    await bothOnline();
    // LXD starts the guest again, because it ran before the power cut.
    await host("bcn1", [
      "timeout",
      "60",
      "sh",
      "-c",
      `until ${hosts.lab.flavour.client} exec vm1 -- systemctl is-system-running --wait 2>/dev/null; do :; done`,
    ]);
    assert.equal(await guest("hostname"), "vm1");
  });

  it("resets hosts to bare file systems", async () => {
    await hosts.lab.resetHosts(["bcn1"]);
    assert.notEqual((await hosts.lab.hostExec("bcn1", ["test", "-e", hosts.lab.flavour.dataDirectory])).exitCode, 0);
    assert.equal(await workstation("ssh", "-o", "StrictHostKeyChecking=yes", "root@192.168.1.101", "hostname"), "bcn1");
  });

  it("leaves nothing of a stopped lab, whatever its hosts were doing", async () => {
    const other = await RealLab.start({ hosts: ["bcn3"], instance: "lab-test" });
    await other.hostExec("bcn3", [
      "sh",
      "-c",
      "truncate -s 16M /disk.img && losetup --find /disk.img && systemd-run sleep infinity",
    ]);
    assert.notDeepEqual(await RealLab.leftovers("lab-test"), []);
    await other.stop();
    assert.deepEqual(await RealLab.leftovers("lab-test"), []);
  });

  it("removes leftovers of a killed lab when the next one starts", async () => {
    const killed = await RealLab.start({ hosts: ["bcn3"], instance: "lab-test" });
    await killed.hostExec("bcn3", ["touch", "/root/from-the-killed-one"]);
    const next = await RealLab.start({ hosts: ["bcn3"], instance: "lab-test" });
    assert.notEqual((await next.hostExec("bcn3", ["test", "-e", "/root/from-the-killed-one"])).exitCode, 0);
    await next.stop();
    assert.deepEqual(await RealLab.leftovers("lab-test"), []);
  });

  async function bothOnline(): Promise<void> {
    assert.deepEqual(await statesOnceHeard(hosts.lab, "bcn2"), { bcn1: "Online", bcn2: "Online" });
  }

  function guest(command: string): Promise<string> {
    const newKey = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"];
    return workstation("ssh", ...newKey, `thinkube@${GUEST_ADDRESS}`, command);
  }
});

import assert from "node:assert/strict";
import { join } from "node:path";
import type { RealLab } from "../../lab/real";
import { ChangeWatch } from "../acceptance/support/changes";
import { eventually } from "../acceptance/support/eventually";
import { statesOnceHeard } from "../acceptance/support/member-states";
import { Backend, type Project, type StackConfigFile } from "../acceptance/support/project";
import { attachOrSkip } from "../support/real-lab";

const [PRIMARY, SECOND] = ["alpha", "Beta-2"];
const GUEST = "Web-1";
/** On the network of the hosts. */
const GUEST_ADDRESS = "fd00:c1a5:7e4::111";

/**
 * A stack on hosts with upper case in their names, IPv6 alone between them, no login for root, umask 077 and messages in German.
 * The tests run in order.
 */
describe("A stack on hosts of the strict shape", function () {
  this.bail(true); // later tests would fail as a consequence

  const backend = new Backend();
  let lab: RealLab;
  let stack: Project;

  const lxc = async (...argv: string[]): Promise<string> => {
    const { stdout, stderr, exitCode } = await lab.hostExec(PRIMARY, ["lxc", ...argv]);
    assert.equal(exitCode, 0, `lxc ${argv.join(" ")}: ${stderr}`);
    return stdout.trim();
  };
  const onHost = async (host: string, command: string): Promise<string> =>
    (await lab.workstationExec(["ssh", host, command])).stdout.trim();
  const assertNoChange = async (): Promise<void> => assert.deepEqual(await stack.up({ expectNoChanges: true }), []);

  const config = (): StackConfigFile => {
    const image = join(lab.home, "lxd-images", "debian-12");
    return {
      "lxd-cluster:hosts": lab.hosts.map(({ name, address }) => ({
        name,
        address,
        connection: { user: lab.shape.user, privateKeyPath: "~/.ssh/id_ed25519" },
        node: { install: { method: "deb", packages: ["btrfs-progs"] } },
      })),
      "lxd-cluster:pools": {
        default: { driver: "btrfs", memberConfig: Object.fromEntries(lab.hosts.map(({ name }) => [name, { size: "3GiB" }])) },
      },
      "lxd-cluster:networks": {
        lxdbr0: { config: { "ipv4.address": "10.77.0.1/24", "ipv4.nat": true, "ipv6.address": "none", "user.purpose": "tests" } },
      },
      "lxd-cluster:images": {
        "debian-12": { metadataPath: join(image, "metadata.tar.xz"), rootfsPath: join(image, "rootfs.squashfs") },
      },
      "lxd-cluster:profiles": {
        networks: { network: "lxdbr0", bridge: "br0" },
        resources: { cpu: 2, memory: "512MiB", pool: "default" },
      },
      "lxd-cluster:vms": [
        {
          name: GUEST,
          target: SECOND,
          instanceType: "container",
          image: { alias: "debian-12" },
          profiles: ["vm-networks", "vm-resources"],
          waitFor: [{ for: "cloud-init" }, { for: "ipv4", nic: "eth0" }, { for: "ipv6", nic: "eth1" }],
          network: { eth0: { dhcp4: true }, eth1: { addresses: [`${GUEST_ADDRESS}/64`] } },
          users: [{ name: "thinkube", sudo: "passwordless", authorizedKeyFiles: ["~/.ssh/id_ed25519.pub"] }],
        },
      ],
    };
  };

  before(async function () {
    lab = await attachOrSkip(this, " --shape strict");
    assert.equal(lab.shape.name, "strict", "start the lab with --shape strict");
    await lab.resetHosts();
    stack = await backend.project({ file: "Pulumi.yaml", main: "stacks/index.ts", stack: "strict", config: config() });
  });

  after(() => backend.remove());

  for (const host of [PRIMARY, SECOND]) {
    it(`starts on a host that speaks German and has umask 077: ${host}`, async () => {
      assert.equal(await onHost(host, "id -un; umask; sudo sh -c umask"), "operator\n0077\n0077");
      assert.match(
        await onHost(host, "LC_ALL= ls /missing 2>&1; sudo ls /missing 2>&1"),
        /^(ls: .*Datei oder Verzeichnis nicht gefunden\s*){2}$/,
      );
      assert.equal((await lab.workstationExec(["ssh", `root@${host}`, "true"])).exitCode, 255);
      assert.doesNotMatch((await lab.hostExec(host, ["ip", "-4", "-brief", "address"])).stdout, /br0/);
    });
  }

  it("is created by one up", async () => {
    const steps = await stack.up();
    assert.ok(steps.every(({ op }) => op === "create"));
    assert.deepEqual(await statesOnceHeard(lab, PRIMARY), { [PRIMARY]: "Online", [SECOND]: "Online" });
    assert.equal(await lxc("list", "--format=csv", "--columns=nsL"), `${GUEST},RUNNING,${SECOND}`);
    const urls = (await lxc("cluster", "list", "--format=csv"))
      .split("\n")
      .map((line) => line.split(",")[1])
      .sort();
    assert.deepEqual(urls, lab.hosts.map(({ address }) => `https://[${address}]:8443`).sort());
  });

  it("is unchanged by a second up, as LXD's events show", async () => {
    const watch = await ChangeWatch.start(lab, PRIMARY);
    try {
      await assertNoChange();
      assert.deepEqual(await watch.stop(lab, PRIMARY), []);
    } finally {
      watch.end();
    }
  });

  it("lets the managed user log in on the guest's IPv6 address, and become root", async () => {
    const ssh = [
      "ssh",
      ...["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"],
      `thinkube@${GUEST_ADDRESS}`,
      "hostname; id -un; sudo -n id -un",
    ];
    const { stdout, stderr, exitCode } = await lab.workstationExec(ssh);
    assert.deepEqual({ stdout, exitCode }, { stdout: `${GUEST}\nthinkube\nroot\n`, exitCode: 0 }, stderr);
  });

  it("leaves files that others need readable on the hosts", async () => {
    for (const host of [PRIMARY, SECOND]) {
      const unreadable = "find /etc/apt /var/lib/apt/lists /usr/bin /usr/lib /usr/share -xdev ! -type l ! -perm -004";
      const others = (await lab.hostExec(host, ["sh", "-c", unreadable])).stdout.split("\n");
      assert.deepEqual(
        others.filter((path) => !/^$|\/(lock|partial)$/.test(path)),
        [],
      );
    }
  });

  it("shows drift of a host, a member, a network and an instance in one preview, and repairs it by one up", async () => {
    const cases: readonly { step: string; change: () => Promise<unknown>; repaired: () => Promise<boolean> }[] = [
      {
        step: `update LxdNode cluster-${SECOND}`,
        change: () => onHost(SECOND, "sudo apt-get --yes remove btrfs-progs"),
        repaired: async () => (await onHost(SECOND, "command -v btrfs")) !== "",
      },
      {
        step: `update LxdClusterMember cluster-${SECOND}`,
        change: () =>
          onHost(
            PRIMARY,
            `sudo lxc cluster show ${SECOND} | sed 's/^failure_domain: .*/failure_domain: rack9/' | sudo lxc cluster edit ${SECOND}`,
          ),
        repaired: async () => (await lxc("cluster", "show", SECOND)).includes("failure_domain: default"),
      },
      {
        step: "update LxdNetwork cluster-lxdbr0",
        // For a key that is not of the user, LXD starts the bridge's dnsmasq again, and may fail on a host with much to do.
        change: () => lxc("network", "set", "lxdbr0", "user.purpose=mine"),
        repaired: async () => (await lxc("network", "get", "lxdbr0", "user.purpose")) === "tests",
      },
      {
        step: `update LxdVm vms-${GUEST}`,
        change: () => lxc("stop", GUEST, "--force"),
        repaired: async () => (await lxc("list", GUEST, "--format=csv", "--columns=s")) === "RUNNING",
      },
    ];
    for (const { change } of cases) {
      await change();
    }
    const { steps, text } = await stack.preview();
    const shown = steps.map(({ op, type, name }) => `${op} ${type} ${name}`);
    assert.deepEqual(shown.sort(), cases.map(({ step }) => step).sort(), text);
    for (const { step, repaired } of cases) {
      assert.equal(await repaired(), false, `${step}: the manual change did not last, so the test proves nothing`);
    }
    await stack.up();
    for (const { step, repaired } of cases) {
      assert.equal(await repaired(), true, step);
    }
    await assertNoChange();
  });

  it("names a host that is off by its IPv6 address, and plans nothing for it", async () => {
    await lab.powerOff(SECOND);
    const { text, steps } = await stack.failingPreview();
    assert.match(text, /operator@\[fd00:c1a5:7e4::b2\] cannot be reached by SSH/);
    assert.deepEqual(
      steps.filter(({ op }) => op.includes("delete") || op.includes("replace")),
      [],
    );
    await lab.boot(SECOND);
    await eventually(`${SECOND} and its instance are back`, async () =>
      (await lxc("list", GUEST, "--format=csv", "--columns=ns")).startsWith(`${GUEST},RUNNING`),
    );
    await assertNoChange();
  });

  it("leaves clean hosts after destroy", async () => {
    await stack.destroy();
    for (const host of [PRIMARY, SECOND]) {
      const holds = await lab.hostExec(host, [
        "sh",
        "-c",
        "lxc list -f csv; lxc storage list -f csv; lxc image list -f csv; lxc cluster list 2>&1; ip -brief link show lxdbr0 2>/dev/null",
      ]);
      assert.match(holds.stdout, /^Error: LXD server isn't part of a cluster\s*$/);
    }
  });
});

import assert from "node:assert/strict";
import { join } from "node:path";
import { installOf } from "../../lab/real/flavours";
import { disconnectAll } from "../../provider/transport/pool";
import { ADDRESSES, bareHosts } from "../support/bare-hosts";
import { figure } from "../support/figure";
import { isInLab } from "../support/real-lab";
import { tryInGuest } from "./support/guest-commands";
import { Backend, type Project } from "./support/project";

const HOSTS = ["bcn2", "bcn1"] as const;
const VMS = ["web1", "web2", "web3"] as const;
const SETTINGS = "/etc/clockwork/settings";
const UNIT = "/etc/systemd/system/clockwork.service";

/** A package of the lab's own repository that no base system has. */
const TOOL = "jq";

const key = (comment: string): string => {
  const field = (bytes: Buffer): Buffer => Buffer.concat([Buffer.from([0, 0, 0, bytes.length]), bytes]);
  const blob = Buffer.concat([field(Buffer.from("ssh-ed25519")), field(Buffer.alloc(32, comment))]);
  return `ssh-ed25519 ${blob.toString("base64")} ${comment}`;
};

/** Runs a program on a machine, apart from the library. */
type Run = (...argv: string[]) => Promise<string>;

/**
 * Acts of vandalism on a machine, one for each kind. `name` is the resource that the preview must show, `sign` what is wrong before
 * and right after the repair.
 */
const VANDALISM: readonly { readonly kind: string; readonly name: string; readonly act: readonly string[] }[] = [
  { kind: "User", name: "ops", act: ["usermod", "--shell", "/bin/sh", "ops"] },
  { kind: "File", name: "settings", act: ["chmod", "666", SETTINGS] },
  { kind: "Service", name: "clockwork", act: ["systemctl", "stop", "clockwork"] },
  { kind: "Packages", name: "tools", act: ["apt-get", "remove", "--yes", "-q", TOOL] },
];

/** The tests run in order: each continues from the one before. */
describe("What is inside machines, on real LXD", () => {
  const hosts = bareHosts(HOSTS);
  const backend = new Backend();
  let stack: Project;

  const inVm =
    (vm: string): Run =>
    async (...argv) =>
      (await tryInGuest(hosts.lab, vm, argv, false)).stdout.trim();
  const onHost: Run = (...argv) => hosts.onHost("bcn2", ...argv);
  const machines = (): [string, Run][] => [...VMS.map((vm): [string, Run] => [vm, inVm(vm)]), ["host", onHost]];

  const configure = (program: object): void => {
    const { lab } = hosts;
    const images = join(lab.home, "lxd-images", "debian-12");
    const values = {
      hosts: HOSTS.map((name) => ({
        name,
        address: ADDRESSES[name],
        connection: { host: ADDRESSES[name], user: "root", privateKeyPath: join(lab.home, ".ssh", "id_ed25519") },
      })),
      install: installOf(lab.flavour),
      image: { metadataPath: join(images, "metadata.tar.xz"), rootfsPath: join(images, "rootfs.squashfs") },
      keys: [key("laptop"), key("desktop")],
      program: { version: "1", packages: [TOOL], extra: false, ...program },
    };
    stack.configure(Object.fromEntries(Object.entries(values).map(([name, value]) => [`lxd-inside-machines:${name}`, value])));
  };
  const described = (steps: readonly { op: string; type: string; name: string }[]): string[] =>
    steps.map(({ op, type, name }) => `${op} ${type} ${name}`).sort();
  const assertNoChange = async (): Promise<void> => assert.deepEqual(await stack.up({ expectNoChanges: true }), []);

  /** What every machine must have. */
  const verify = async (version: string): Promise<void> => {
    for (const [name, run] of machines()) {
      assert.equal(await run("cat", SETTINGS), `VERSION=${version}`, name);
      assert.equal(await run("stat", "--format=%a %U %G", SETTINGS), "640 root adm", name);
      assert.equal(await run("cat", "/srv/stamp"), `VERSION=${version}`, name);
      assert.equal(await run("systemctl", "is-active", "clockwork"), "active", name);
      assert.equal(await run("systemctl", "is-enabled", "clockwork"), "enabled", name);
      assert.match(await run("dpkg-query", "--show", "--showformat=${db:Status-Status}", TOOL), /^installed$/, name);
      assert.match(await run("getent", "passwd", "ops"), /:\/bin\/bash$/, name);
      assert.match(await run("id", "-nG", "ops"), /\badm\b/, name);
    }
  };

  before(async () => {
    await hosts.inShell("bcn2", "ip link show br0 >/dev/null");
    stack = await backend.project({
      file: "test/acceptance/inside-machines/Pulumi.yaml",
      main: "test/acceptance/inside-machines/index.ts",
      stack: "lab",
      config: {},
    });
    configure({});
  });

  after(async () => {
    await disconnectAll();
    backend.remove();
  });

  it("is made from bare hosts by one up, and nothing changes by a second", async () => {
    const steps = await stack.up();
    assert.ok(steps.every(({ op }) => op === "create"));
    await verify("1");
    await assertNoChange();
    if (isInLab) {
      figure("resources inside machines made by one up", steps.filter(({ type }) => /^(Vm|Host)/.test(type)).length);
    }
  });

  it("changes with the program, and only where it differs", async () => {
    const pid = await inVm("web1")("systemctl", "show", "--property=MainPID", "clockwork");
    configure({ version: "2" });
    const steps = described(await stack.up());
    assert.deepEqual(
      steps,
      machines()
        .flatMap(([name]) => {
          const prefix = name === "host" ? "Host" : "Vm";
          return [
            `update ${prefix}Command ${name}-stamp`,
            `update ${prefix}File ${name}-settings`,
            `update ${prefix}Service ${name}-clockwork`,
          ];
        })
        .sort(),
    );
    await verify("2");
    assert.notEqual(await inVm("web1")("systemctl", "show", "--property=MainPID", "clockwork"), pid, "it was not restarted");
    await assertNoChange();
  });

  it("shows every act of vandalism in the preview, and repairs it", async () => {
    for (const [, run] of machines()) {
      for (const { act } of VANDALISM) {
        await run(...act);
      }
    }
    await hosts.inShell("bcn2", "echo 'VERSION=evil' > /etc/clockwork/settings");
    await onHost("sysctl", "--write", "net.ipv4.tcp_rmem=4096 131072 7100000");
    await inVm("web2")("rm", UNIT);
    const { steps, text } = await stack.preview();
    const shown = described(steps);
    for (const [name] of machines()) {
      const prefix = name === "host" ? "Host" : "Vm";
      for (const { kind, name: resource } of VANDALISM) {
        const expected = name !== "host" && kind === "User" ? `web-${name}-${resource}` : `${name}-${resource}`;
        assert.ok(shown.includes(`update ${prefix}${kind} ${expected}`), `${prefix}${kind} ${expected} in\n${shown.join("\n")}`);
      }
    }
    assert.ok(shown.includes("update VmFile web2-unit"), shown.join("\n"));
    assert.ok(shown.includes("update HostSysctls host-network"), shown.join("\n"));
    assert.doesNotMatch(text, /evil/);
    await stack.up();
    await verify("2");
    assert.match(await onHost("cat", "/proc/sys/net/ipv4/tcp_rmem"), /^4096\s131072\s7000000$/);
    await assertNoChange();
  });

  it("goes with the stack, and leaves nothing on the host but what it had", async () => {
    await stack.destroy();
    for (const path of [SETTINGS, UNIT, "/etc/sysctl.d/60-clockwork.conf", "/var/lib/pulumi-lxd-cluster", "/etc/sudoers.d/ops"]) {
      assert.equal((await hosts.lab.hostExec("bcn2", ["test", "-e", path])).exitCode, 1, path);
    }
    assert.notEqual((await hosts.lab.hostExec("bcn2", ["getent", "passwd", "ops"])).exitCode, 0);
  });
});

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { ChangeWatch } from "../acceptance/support/changes";
import { Backend, type Project } from "../acceptance/support/project";
import { ADDRESSES, bareHosts } from "../support/bare-hosts";
import { figure } from "../support/figure";
import { installByHand, isInLab } from "../support/real-lab";

const REPOSITORY = resolve(__dirname, "../..");
const HOSTS = ["bcn2", "bcn1"] as const;

/** A cluster that was created with lxc. The tests run in order: each continues from the one before. */
describe("Taking over a cluster on real LXD", () => {
  const backend = new Backend();
  const hosts = bareHosts(HOSTS);
  const { onHost, inShell } = hosts;
  let folder: string;
  let stack: Project;
  let pids: string;
  let secrets: string[] = [];

  const lxc = (...argv: string[]): Promise<string> => onHost("bcn2", hosts.lab.flavour.client, ...argv);
  const instances = (): Promise<string> => lxc("list", "--format=csv", "--columns=nspL");
  const onWorkstation = async (...argv: string[]): Promise<string> => {
    const { stdout, stderr, exitCode } = await hosts.lab.workstationExec(argv);
    assert.equal(exitCode, 0, `${argv.join(" ")}: ${stderr}`);
    return stdout;
  };

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "takeover-"));
    mkdirSync(join(folder, "node_modules"));
    symlinkSync(join(REPOSITORY, "node_modules/@pulumi"), join(folder, "node_modules/@pulumi"));
    symlinkSync(REPOSITORY, join(folder, "node_modules/pulumi-lxd-cluster"));
    await formByHand();
    pids = await instances();
  });

  after(() => {
    backend.remove();
    if (isInLab) {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  /** Two hosts, a pool, a network, profiles and instances, as a user creates them. */
  async function formByHand(): Promise<void> {
    await Promise.all(HOSTS.map((host) => inShell(host, installByHand(hosts.lab.flavour).join(" && "))));
    await onHost("bcn2", hosts.lab.flavour.client, "config", "set", "core.https_address", `${ADDRESSES.bcn2}:8443`);
    await lxc("cluster", "enable", "bcn2");
    await hosts.joinByHand("bcn1");
    for (const object of [
      ["storage", "create", "local", "dir"],
      ["network", "create", "lxdbr0"],
    ]) {
      for (const target of HOSTS) {
        await lxc(...object, `--target=${target}`);
      }
      await lxc(...object, ...(object[0] === "network" ? ["ipv4.address=10.44.0.1/24", "ipv6.address=none"] : []));
    }
    await lxc("profile", "device", "add", "default", "root", "disk", "path=/", "pool=local");
    await lxc("profile", "create", "web");
    await lxc("profile", "set", "web", "limits.memory", "200MiB");
    await lxc("profile", "set", "web", "environment.API_TOKEN", "t0psecret");
    await lxc("profile", "device", "add", "web", "eth0", "nic", "name=eth0", "network=lxdbr0");
    const images = join(hosts.lab.home, "lxd-images", "debian-12");
    for (const file of ["metadata.tar.xz", "rootfs.squashfs"]) {
      await onWorkstation("scp", "-q", join(images, file), `root@${ADDRESSES.bcn2}:/root/${file}`);
    }
    await lxc("image", "import", "/root/metadata.tar.xz", "/root/rootfs.squashfs", "--alias=debian-12");
    await lxc("launch", "debian-12", "c1", "--target=bcn2", "--profile=default", "--profile=web");
    await lxc("launch", "debian-12", "c2", "--target=bcn1", "--config=limits.cpu=1");
  }

  it("reads the whole cluster and writes a program, without any secret", async () => {
    const watch = await ChangeWatch.start(hosts.lab, "bcn2");
    const named = HOSTS.map((host) => ["--host", `root@${ADDRESSES[host]}`]);
    const argv = ["adopt", ...named.flat(), "--identity", "~/.ssh/id_ed25519", "--out", folder];
    const said = await onWorkstation("node", join(REPOSITORY, "dist/cli/main.js"), ...argv);
    assert.deepEqual(await watch.stop(hosts.lab, "bcn2"), []);
    assert.match(
      said,
      /^Found on bcn2, bcn1: LxdNode 2, LxdClusterMember 2, LxdStoragePool 1, LxdNetwork 1, LxdProfile 2, LxdVm 2$/m,
    );
    const program = readFileSync(join(folder, "index.ts"), "utf8");
    assert.doesNotMatch(said + program, /t0psecret/);
    secrets = said.split("\n").filter((line) => line.includes("| pulumi config set --secret"));
    assert.equal(secrets.length, 1, said);
  });

  it("changes only the ownership marks with `up`: every instance keeps its process", async () => {
    stack = await backend.project({ file: "Pulumi.yaml", main: join(folder, "index.ts"), stack: "takeover", config: {} });
    for (const line of secrets) {
      const [command = "", name = ""] = line.split(" | pulumi config set --secret ");
      // Same effect as the pipe, for a stack in another folder.
      await stack.setSecret(name, (await onWorkstation("sh", "-c", command)).replace(/\n$/, ""));
    }
    const { steps: all, text } = await stack.preview();
    const steps = all.filter(({ type }) => type !== "Stack");
    assert.equal(steps.length, 10, text);
    await stack.up();
    assert.equal(await instances(), pids);
    assert.match(await lxc("config", "get", "c1", "user.pulumi.urn"), /LxdVm::c1 \[/);
    assert.match(await lxc("storage", "get", "local", "user.pulumi.urn"), /LxdStoragePool::local \[/);
    figure("objects taken over on real LXD", steps.length);
  });

  it("shows no change afterwards", async () => {
    assert.deepEqual((await stack.preview()).steps, []);
    assert.deepEqual(await stack.up({ expectNoChanges: true }), []);
    assert.equal(await instances(), pids);
  });

  it("has a status, read through any member, and a picture of it", async () => {
    const watch = await ChangeWatch.start(hosts.lab, "bcn2");
    const picture = join(folder, "cluster.svg");
    const argv = ["status", "--host", `root@${ADDRESSES.bcn1}`, "--identity", "~/.ssh/id_ed25519", "--svg", picture];
    const said = await onWorkstation("node", join(REPOSITORY, "dist/cli/main.js"), ...argv);
    assert.deepEqual(await watch.stop(hosts.lab, "bcn2"), []);
    assert.match(said, new RegExp(`, a cluster of 2 members, asked on root@${ADDRESSES.bcn1}$`, "m"));
    assert.match(said, /^bcn1 +Online +192\.168\.1\.101:8443 .* 1$/m);
    assert.match(said, /^local +dir +Created +\S+\/takeover: local$/m);
    assert.match(said, /^lxdbr0 +bridge +Created +\S+\/takeover: lxdbr0$/m);
    assert.match(said, /^c1 +container +Running +bcn2 +10\.44\.0\.\d+ .*\/takeover: c1$/m);
    assert.match(said, /^Nothing is unfinished\.$/m);
    assert.doesNotMatch(said, /t0psecret/);
    const svg = readFileSync(picture, "utf8");
    assert.match(svg, />c1<[^]*>network lxdbr0, bridge<[^]*>pool local, dir<[^]*>c2</);
    assert.doesNotMatch(svg, /t0psecret/);
  });

  const verify = async (...options: string[]): Promise<{ exitCode: number; said: string; faults: (string | undefined)[][] }> => {
    const argv = ["verify", "--host", `root@${ADDRESSES.bcn1}`, "--identity", "~/.ssh/id_ed25519", ...options];
    const { stdout, stderr, exitCode } = await hosts.lab.workstationExec(["node", join(REPOSITORY, "dist/cli/main.js"), ...argv]);
    const rows = (options.includes("--json") ? JSON.parse(stdout) : []) as Record<string, string>[];
    const faults = rows.filter(({ result }) => result !== "passed");
    return {
      exitCode,
      said: stdout + stderr,
      faults: faults.map(({ result, check, on, found, fix }) => [result, check, on, found, fix]),
    };
  };

  it("fails the checks of what is wrong in its instances, with the command that shows it", async () => {
    const { client } = hosts.lab.flavour;
    // c2 has no network device, for which systemd waits in vain.
    await lxc("exec", "c2", "--", "sh", "-c", "systemctl is-system-running --wait || true");
    const { exitCode, faults } = await verify("--json");
    assert.deepEqual(
      faults.map(([result, check, on, found]) => [result, check, on, found]),
      [
        ["failed", "name server", "c1", "none"], // the guests of the lab have no resolver
        ["failed", "system", "c2", "degraded: systemd-networkd-wait-online.service"],
      ],
    );
    assert.equal(faults[1]?.[4], `${client} exec c2 -- journalctl -b -u systemd-networkd-wait-online.service`);
    assert.equal(exitCode, 1);
  });

  it("passes every check when that is repaired. Nothing is done but to read and to run commands in the instances", async () => {
    await lxc("exec", "c1", "--", "sh", "-c", "echo nameserver 10.44.0.1 >/etc/resolv.conf");
    await lxc("exec", "c2", "--", "systemctl", "mask", "systemd-networkd-wait-online.service");
    await lxc("exec", "c2", "--", "systemctl", "reset-failed");
    const watch = await ChangeWatch.start(hosts.lab, "bcn2");
    const { exitCode, said } = await verify();
    const done = new Set((await watch.stop(hosts.lab, "bcn2")).map(({ action }) => action));
    assert.equal(exitCode, 0, said);
    assert(done.delete("instance-exec"));
    done.delete("instance-log-deleted"); // the output of the commands, where the server tells of it
    assert.deepEqual([...done], []);
    for (const line of [
      /^ok +member +bcn2 +Online +Online$/m,
      /^ok +version +bcn2, bcn1 +the same on all members +\S+$/m,
      /^ok +space +local on bcn1 +less than 90 % used +\d+ % of [\d.]+ GiB$/m,
      /^ok +interface +lxdbr0 on bcn2 +up, for c1 +up$/m,
      /^ok +address +c1 +an IPv4 or global IPv6 address +10\.44\.0\.\d+$/m,
      /^ok +cloud-init +c1 +done +done/m,
      /^ok +system +c2 +running +running$/m,
      /^ok +default route +c1 +one +through eth0$/m,
      /^ok +name server +c1 +one or more +10\.44\.0\.1$/m,
      /^\d+ checks: \d+ passed, 0 failed, 0 not checked$/m,
    ]) {
      assert.match(said, line);
    }
    assert.doesNotMatch(said, /lxdbr0 on bcn1/); // nothing uses it there
    assert.doesNotMatch(said, /t0psecret/);
  });

  it("fails the check of an instance that is frozen, and asks nothing in it", async () => {
    await lxc("pause", "c2");
    const { exitCode, faults } = await verify("--json");
    await lxc("start", "c2");
    assert.deepEqual(faults, [["failed", "instance", "c2", "Frozen", `${hosts.lab.flavour.client} start c2`]]);
    assert.equal(exitCode, 1);
  });

  it("is managed by the program: an edited instance is changed in place", async () => {
    const path = join(folder, "index.ts");
    writeFileSync(path, readFileSync(path, "utf8").replace('cpu: "1"', 'cpu: "2"'));
    assert.deepEqual(
      (await stack.up()).map(({ op, name }) => [op, name]),
      [["update", "c2"]],
    );
    assert.equal(await lxc("config", "get", "c2", "limits.cpu"), "2");
    assert.equal(await instances(), pids);
  });
});

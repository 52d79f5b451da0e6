import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { installOf } from "../../lab/real/flavours";
import { LxdClusterMember, LxdImage, LxdNode, LxdProfile, LxdStoragePool, LxdVm, VmUser } from "../../provider/index";
import { eventually } from "../acceptance/support/eventually";
import { runInGuest } from "../acceptance/support/guest-commands";
import { EngineStack } from "../engine/workspace";
import { ADDRESSES, bareHosts } from "../support/bare-hosts";
import { figure } from "../support/figure";
import { isInLab } from "../support/real-lab";
import { ProcessWatch, SecretSearch } from "../support/secret-search";

const HOSTS = ["bcn2", "bcn1"] as const;

const unique = (name: string): string => `${name}-${randomBytes(9).toString("hex")}`;

/**
 * Searched folders. LXD's own database, a guest's /etc/shadow and cloud-init's stored data may hold these secrets; the
 * journal is read by its own program.
 */
const FOLDERS = "/root /home /tmp /var/tmp /dev/shm /run /var/log";
/** What to search for, one a line. */
const PATTERNS = "/root/patterns.list";

/**
 * One `up` from bare hosts with every type of secret, as a user other than root, followed by a search of everything.
 */
describe("The secrets of a run on real LXD", () => {
  const folder = mkdtempSync(join(tmpdir(), "secrets-"));
  const canary = unique("canary");
  const secrets = {
    passphrase: unique("passphrase"),
    password: unique("password"),
    "cloud-init": unique("cloud"),
    "a value of a profile": unique("profile"),
    "a password hash": `$6$saltsalt$${randomBytes(40).toString("hex")}`,
  };
  const operations: string[] = [];
  const hosts = bareHosts(HOSTS);
  let stack: EngineStack;
  let search: SecretSearch;
  let processes: ProcessWatch;
  let shown: string;
  let places = 0;

  before(async () => {
    const keyPath = join(folder, "key");
    execFileSync("ssh-keygen", ["-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", secrets.passphrase, "-f", keyPath]);
    const authorized = readFileSync(`${keyPath}.pub`, "utf8");
    for (const host of HOSTS) {
      await hosts.lab.hostExec(host, ["sh", "-c", "cat >> /home/operator/.ssh/authorized_keys"], { stdin: authorized });
    }
    const privateKey = readFileSync(keyPath, "utf8");
    stack = await EngineStack.open();
    const node = (name: (typeof HOSTS)[number]): LxdNode =>
      new LxdNode(name, {
        connection: {
          ...{
            host: ADDRESSES[name],
            user: "operator",
            privateKey,
            privateKeyPassword: secrets.passphrase,
            password: secrets.password,
          },
          hostKey: hosts.lab.hosts.find((host) => host.name === name)?.hostKey ?? "",
        },
        install: installOf(hosts.lab.flavour),
        config: { "core.https_address": `${ADDRESSES[name]}:8443` },
      });
    const first = (): LxdClusterMember =>
      new LxdClusterMember("bcn2", { connection: node("bcn2").connection, name: "bcn2", address: ADDRESSES.bcn2 });
    const everything = (): void => {
      void pulumi.log.info(canary);
      const bcn2 = first();
      const cluster = { endpoints: [bcn2.connection] };
      const bcn1 = new LxdClusterMember("bcn1", {
        connection: node("bcn1").connection,
        name: "bcn1",
        address: ADDRESSES.bcn1,
        cluster,
      });
      const pool = new LxdStoragePool("default", { cluster, name: "default", driver: "dir" }, { dependsOn: bcn1 });
      const images = join(hosts.lab.home, "lxd-images", "debian-12");
      const [metadataPath, rootfsPath] = [join(images, "metadata.tar.xz"), join(images, "rootfs.squashfs")];
      const image = new LxdImage("debian", { cluster, metadataPath, rootfsPath });
      const profile = new LxdProfile("web", {
        ...{ cluster, name: "web", description: canary, config: { "user.key": pulumi.secret(secrets["a value of a profile"]) } },
        devices: { root: { type: "disk", path: "/", pool: pool.name } },
      });
      const vm = new LxdVm("web1", {
        ...{
          cluster,
          name: "web1",
          instanceType: "container",
          image: { fingerprint: image.fingerprint },
          profiles: [profile.name],
        },
        cloudInit: { userData: pulumi.secret(`#cloud-config\npassword: ${secrets["cloud-init"]}\n`) },
        target: "bcn2",
      });
      new VmUser("ops", { cluster, instance: vm.name, name: "ops", sudo: "none", passwordHash: secrets["a password hash"] });
    };
    const planted = spawn("sleep", ["600"], { argv0: canary, stdio: "ignore" });
    processes = new ProcessWatch();
    stack.define(() => {
      first();
    });
    const made = await stack.up();
    assert.ok(made.ok, made.text);
    // Only while the token can be used. Incus 7 leaves it out of its events.
    const ask = `${hosts.lab.flavour.client} query '/1.0/operations?recursion=1'`;
    const [program = "", ...argv] = hosts.lab.hostArgv("bcn2", ["sh", "-c", `while sleep 0.1; do ${ask}; done`]);
    const monitor = spawn(program, argv, { stdio: ["ignore", "pipe", "inherit"], detached: true });
    monitor.stdout.on("data", (chunk: Buffer) => operations.push(chunk.toString()));
    stack.define(everything);
    const all = await stack.up();
    assert.ok(all.ok, all.text);
    shown = [made.text, all.text, made.log, all.log].join("\n");
    const secretOfToken = (): string | undefined => /"secret": ?"([0-9a-f]{32,})"/.exec(operations.join(""))?.[1];
    await eventually("LXD's operations include a join token", async () => secretOfToken() !== undefined);
    processes.stop();
    planted.kill();
    if (monitor.pid !== undefined) {
      process.kill(-monitor.pid);
    }
    search = new SecretSearch({ ...secrets, "the private key": privateKey, "a join token": secretOfToken() ?? "" });
  });

  after(() => {
    rmSync(folder, { recursive: true });
    if (isInLab) {
      stack.close();
      figure("places searched for secrets on real hosts", places);
    }
  });

  /** Asserts that a place holds no secret, and that the search finds a planted one. */
  function assertClean(text: string): void {
    assert.ok(text.includes(canary), "the planted text is not found");
    assert.deepEqual(search.in(text), []);
    places += 1;
  }

  /**
   * Asserts that no file of a host or guest holds a secret, and that the search finds a planted one.
   * @param write - Writes its input to the file PATTERNS there.
   * @param run - Runs a command there, and returns its output.
   */
  async function assertNoFile(
    write: (input: string) => Promise<{ exitCode: number; stderr: string }>,
    run: (...argv: string[]) => Promise<string>,
  ): Promise<void> {
    const { exitCode, stderr } = await write(`${search.patterns}\n${canary}\n`);
    assert.equal(exitCode, 0, stderr);
    const script =
      `for d in ${FOLDERS}; do [ ! -d $d ] || echo "$1" > $d/planted; done; ` +
      `grep -rlaF -D skip -f ${PATTERNS} --exclude=${basename(PATTERNS)} --exclude-dir=journal --exclude-dir=cloud-init ${FOLDERS} 2>/dev/null; ` +
      `for d in ${FOLDERS}; do rm -f $d/planted; done; rm ${PATTERNS}`;
    const found = (await run("sh", "-c", script, "sh", canary)).trim().split("\n").sort();
    assert.deepEqual(
      found,
      FOLDERS.split(" ")
        .map((path) => `${path}/planted`)
        .sort(),
    );
    places += found.length;
  }

  it("are not on the screen", () => assertClean(shown));

  it("are not in exported state, nor in `__provider`", async () => assertClean(await stack.exportText()));

  it("are not in the backend's files", () => assertClean(stack.backendText()));

  it("are not in a command line or environment of the workstation, the hosts or the guest", () => {
    assert.ok(processes.samples > 10, `${processes.samples} samples`);
    assert.match(processes.text, /(lxd|incusd)\0--group|\/usr\/(s?bin|lib)\/[^\n]*lxd/, "no process of a host was seen");
    assertClean(processes.text);
  });

  for (const host of HOSTS) {
    it(`are not in the logs of ${host} and of LXD on it, nor in any file left there`, async () => {
      await hosts.lab.hostExec(host, ["systemd-cat", "echo", canary]);
      await hosts.lab.hostExec(host, ["journalctl", "--sync"]);
      assertClean((await hosts.lab.hostExec(host, ["journalctl", "--no-pager", "--all"])).stdout);
      await assertNoFile(
        (stdin) => hosts.lab.hostExec(host, ["sh", "-c", `cat > ${PATTERNS}`], { stdin }),
        (...argv) => hosts.onHost(host, ...argv),
      );
    });
  }

  it("are not in files left in the guest", () =>
    assertNoFile(
      (stdin) => hosts.lab.hostExec("bcn2", [hosts.lab.flavour.client, "file", "push", "-", `web1${PATTERNS}`], { stdin }),
      (...argv) => runInGuest(hosts.lab, "web1", ...argv),
    ));
});

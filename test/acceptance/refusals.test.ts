import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { utils } from "ssh2";
import { RealLab } from "../../lab/real";
import { provider } from "../../provider/entry";
import { disconnectAll } from "../../provider/transport/pool";
import { skip } from "../../tools/test/skip";
import { ChangeWatch } from "./support/changes";

const ADDRESSES = { bcn2: "192.168.1.102", bcn1: "192.168.1.101", bcn3: "192.168.1.103" } as const;
type HostName = keyof typeof ADDRESSES;

/** What was made by hand on a host that is in use. */
const IN_USE = "instances c1; custom-volumes default/data; images debian-12; storage-pools default; networks lxdbr0";
const ALL_THAT = ["instances", "custom-volumes", "images", "storage-pools", "networks"];

/** Surroundings that are refused before anything is touched. Each message is the whole of what a person is told. */
describe("Bad surroundings on real LXD", function () {
  this.timeout(120_000);
  let lab: RealLab;

  before(async function () {
    if (process.env["LAB_STATE_DIR"] === undefined) {
      skip(this, "not in the workstation of a lab: npx tsx lab/real/cli.ts run -- npx mocha ...");
    }
    lab = await RealLab.attach();
    await lab.resetHosts();
  });

  after(async () => {
    if (process.env["LAB_STATE_DIR"] !== undefined) {
      await lab.resetHosts();
    }
  });

  // A provider process lives for one operation of the engine, and its connections with it.
  afterEach(() => disconnectAll());

  const to = (host: HostName, more: object = {}): object => ({
    host: ADDRESSES[host],
    privateKeyPath: join(lab.home, ".ssh", "id_ed25519"),
    ...more,
  });

  /** Checks and creates a resource, as the engine does. */
  const create = async (kind: string, args: object): Promise<void> => {
    const lifecycle = provider(kind);
    const urn = `urn:pulumi:refusals::acceptance::pulumi-nodejs:dynamic/lxd:${kind}::it`;
    const checked = await lifecycle.check?.({}, { ...args, __urn: urn });
    assert.deepEqual(checked?.failures, []);
    await lifecycle.create(checked?.inputs);
  };

  /** The message with which a create is refused. */
  const refusal = async (kind: string, args: object): Promise<string> => {
    try {
      await create(kind, args);
    } catch (error) {
      return (error as Error).message;
    }
    throw new Error(`This ${kind} was to be refused, and was made`);
  };

  /** Runs a command inside a host, which has to succeed. */
  const onHost = async (host: HostName, ...argv: string[]): Promise<string> => {
    const { stdout, stderr, exitCode } = await lab.hostExec(host, argv);
    assert.equal(exitCode, 0, `${host}: ${argv.join(" ")}: ${stderr}`);
    return stdout.trim();
  };

  const node = (host: HostName, more: object = {}): object => ({
    connection: to(host),
    install: { method: "deb" },
    timeouts: { create: 60 },
    ...more,
  });

  const member = (host: HostName, more: object = {}): object => ({
    connection: to(host),
    name: host,
    address: ADDRESSES[host],
    cluster: { endpoints: [to("bcn2")] },
    timeouts: { create: 60 },
    ...more,
  });

  describe("a host that cannot be logged in to, or not be worked on", () => {
    /** The fingerprint of a host's key, as a person sees it on the host's console. */
    const fingerprintOf = async (host: HostName): Promise<string> =>
      (await onHost(host, "ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub")).split(" ")[1] ?? "";
    const hostKeyOf = (host: HostName): string => lab.hosts.find(({ name }) => name === host)?.hostKey ?? "";

    /** Lets the person who runs Pulumi have a known_hosts file of that content. */
    const knowing = async <Result>(knownHosts: string, work: () => Promise<Result>): Promise<Result> => {
      const home = process.env["HOME"];
      const other = mkdtempSync(join(tmpdir(), "refusals-home-"));
      mkdirSync(join(other, ".ssh"));
      writeFileSync(join(other, ".ssh", "known_hosts"), knownHosts);
      process.env["HOME"] = other;
      try {
        return await work();
      } finally {
        process.env["HOME"] = home;
        rmSync(other, { recursive: true });
      }
    };

    it("whose host key is unknown", async () => {
      assert.equal(await knowing("", () => refusal("LxdNode", node("bcn2"))), "");
    });

    it("whose host key has changed", async () => {
      assert.equal(await knowing(`${ADDRESSES.bcn2} ${hostKeyOf("bcn1")}\n`, () => refusal("LxdNode", node("bcn2"))), "");
    });

    it("whose host key is not the given one", async () => {
      assert.equal(
        await refusal("LxdNode", node("bcn2", { connection: to("bcn2", { hostKey: hostKeyOf("bcn1") }) })),
        await fingerprintOf("bcn2"),
      );
    });

    it("that does not know the key", async () => {
      const { private: privateKey } = utils.generateKeyPairSync("ed25519");
      const connection = { host: ADDRESSES.bcn2, privateKey };
      assert.equal(await refusal("LxdNode", node("bcn2", { connection })), "");
    });

    it("whose user may not become root", async () => {
      const connection = to("bcn2", { user: "nosudo" });
      assert.equal(await refusal("LxdNode", node("bcn2", { connection })), "");
    });

    it("that does not answer, told within the dial timeout", async () => {
      await lab.powerOff("bcn3");
      try {
        const started = performance.now();
        const connection = to("bcn3", { perDialTimeout: 2, dialErrorLimit: 1 });
        assert.equal(await refusal("LxdNode", node("bcn3", { connection })), "");
        assert.ok(performance.now() - started < 2500);
      } finally {
        await lab.boot("bcn3");
      }
    });

    it("on which LXD is missing, with install: false", async () => {
      assert.equal(await refusal("LxdNode", node("bcn2", { install: false })), "");
    });

    it("and it is as bare as it was", async () => {
      assert.notEqual((await lab.hostExec("bcn2", ["dpkg", "--status", "lxd"])).exitCode, 0);
    });
  });

  describe("a host that others use", () => {
    before(async () => {
      const byHand = (host: HostName, ...commands: string[]): Promise<string> =>
        onHost(host, "sh", "-c", ["apt-get update -q", "apt-get install -q -y lxd", "lxd waitready", ...commands].join(" && "));
      await Promise.all([
        create("LxdNode", node("bcn2")).then(() => create("LxdClusterMember", member("bcn2", { cluster: undefined }))),
        byHand("bcn1", "lxc storage create default dir", "lxc storage volume create default data", "lxc network create lxdbr0"),
        byHand("bcn3", `lxc config set core.https_address ${ADDRESSES.bcn3}:8443`, "lxc cluster enable elsewhere"),
      ]);
      await create("LxdImage", { cluster: { endpoints: [to("bcn1")] }, ...imageFiles() });
      await onHost("bcn1", "lxc", "launch", "debian-12", "c1", "--storage", "default", "--network", "lxdbr0");
      await disconnectAll();
    });

    it("is refused with the list of what it holds", async () => {
      assert.equal(await refusal("LxdNode", node("bcn1")), IN_USE);
    });

    it("is refused while resetPolicy names only a part of what it holds", async () => {
      assert.equal(await refusal("LxdNode", node("bcn1", { resetPolicy: ["images", "storage-pools", "networks"] })), IN_USE);
    });

    it("is refused as a member while it holds anything", async () => {
      assert.equal(await refusal("LxdClusterMember", member("bcn1")), IN_USE);
    });

    it("is refused when it is in another cluster", async () => {
      assert.equal(await refusal("LxdNode", node("bcn3")), "");
    });

    it("is refused as a member when it is in another cluster", async () => {
      assert.equal(await refusal("LxdClusterMember", member("bcn3")), "");
    });

    it("and goes on as if nothing had been asked", async () => {
      assert.equal(await onHost("bcn1", "lxc", "list", "--format=csv", "--columns=ns"), "c1,RUNNING");
      assert.match(await onHost("bcn3", "lxc", "cluster", "list", "--format=csv"), /^elsewhere,.*ONLINE/);
    });

    it("is wiped when resetPolicy names all that it holds, and joins", async () => {
      await create("LxdNode", node("bcn1", { resetPolicy: ALL_THAT }));
      for (const what of ["list", "image", "storage", "network"]) {
        const argv = what === "list" ? ["list"] : [what, "list"];
        assert.doesNotMatch(await onHost("bcn1", "lxc", ...argv, "--format=csv"), /c1|debian-12|default|lxdbr0/, what);
      }
      const left =
        "pgrep --list-full 'lxc|dnsmasq' -f | grep c1; ip -brief link show lxdbr0 2>/dev/null; findmnt -rn | grep /var/lib/lxd/storage";
      assert.equal((await lab.hostExec("bcn1", ["sh", "-c", left])).stdout, "");
      await create("LxdClusterMember", member("bcn1"));
      assert.match(await onHost("bcn2", "lxc", "cluster", "list", "--format=csv"), /^bcn1,.*ONLINE/m);
    });

    it("is wiped when resetPolicy names its other cluster", async () => {
      await create("LxdNode", node("bcn3", { resetPolicy: ["cluster"] }));
      assert.notEqual((await lab.hostExec("bcn3", ["lxc", "cluster", "list"])).exitCode, 0);
    });
  });

  describe("a membership that cannot be", () => {
    it("under another name than the host has in this cluster", async () => {
      assert.equal(await refusal("LxdClusterMember", member("bcn1", { name: "web" })), "");
    });

    it("with the name of another member", async () => {
      assert.equal(await refusal("LxdClusterMember", member("bcn3", { name: "bcn1" })), "");
    });

    it("with the address of another member", async () => {
      assert.equal(await refusal("LxdClusterMember", member("bcn3", { address: ADDRESSES.bcn1 })), "");
    });

    it("of a host that listens on every address", async () => {
      await onHost("bcn3", "lxc", "config", "set", "core.https_address", ":8443");
      assert.equal(await refusal("LxdClusterMember", member("bcn3")), "");
      await onHost("bcn3", "lxc", "config", "unset", "core.https_address");
    });

    it("of a host that was left half joined, until it is wiped", async () => {
      await onHost("bcn3", "touch", "/var/lib/lxd/cluster.crt");
      assert.equal(await refusal("LxdNode", node("bcn3")), "");
      assert.equal(await refusal("LxdClusterMember", member("bcn3")), "");
      assert.equal(await refusal("LxdClusterMember", member("bcn3", { cluster: undefined })), "");
      await create("LxdNode", node("bcn3", { resetPolicy: ["cluster"] }));
      await create("LxdClusterMember", member("bcn3"));
      assert.match(await onHost("bcn2", "lxc", "cluster", "list", "--format=csv"), /^bcn3,.*ONLINE/m);
    });

    it("and nothing of it stays in the cluster", async () => {
      assert.doesNotMatch(await onHost("bcn2", "lxc", "query", "/1.0/operations?recursion=1"), /serverName/);
      assert.deepEqual((await onHost("bcn2", "lxc", "config", "trust", "list", "--format=csv")).match(/bcn\d|web/g)?.sort(), [
        "bcn1",
        "bcn2",
        "bcn3",
      ]);
    });
  });

  describe("an instance for which something is missing", () => {
    let watch: ChangeWatch;
    const vm = (more: object = {}): object => ({
      cluster: { endpoints: [to("bcn2"), to("bcn1")] },
      name: "web1",
      instanceType: "container",
      image: { alias: "debian-12" },
      rootDisk: { pool: "default" },
      ...more,
    });

    before(async () => {
      const cluster = { endpoints: [to("bcn2")] };
      await create("LxdStoragePool", { cluster, name: "default", driver: "dir" });
      await create("LxdImage", { cluster, ...imageFiles() });
      await disconnectAll();
      watch = await ChangeWatch.start(lab, "bcn2");
    });

    after(() => watch?.end());

    it("its target, which is not a member", async () => {
      assert.equal(await refusal("LxdVm", vm({ target: "bcn4" })), "");
    });

    it("its image", async () => {
      assert.equal(await refusal("LxdVm", vm({ image: { alias: "debian-13" } })), "");
    });

    it("its profile", async () => {
      assert.equal(await refusal("LxdVm", vm({ profiles: ["default", "web"] })), "");
    });

    it("its storage pool", async () => {
      assert.equal(await refusal("LxdVm", vm({ rootDisk: { pool: "fast" } })), "");
    });

    it("its network", async () => {
      assert.equal(await refusal("LxdVm", vm({ devices: { eth0: { type: "nic", network: "lxdbr1" } } })), "");
    });

    it("and LXD itself tells that nothing was changed", async () => {
      assert.deepEqual(await watch.stop(lab, "bcn2"), []);
    });
  });

  const imageFiles = (): object => {
    const image = join(lab.home, "lxd-images", "debian-12");
    return {
      metadataPath: join(image, "metadata.tar.xz"),
      rootfsPath: join(image, "rootfs.squashfs"),
      aliases: ["debian-12"],
    };
  };
});

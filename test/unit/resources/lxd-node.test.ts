import assert from "node:assert/strict";
import { type SimulatedHost, type SimulatedHostOptions, SimulatedLab } from "../../../lab/simulated";
import { nodeLifecycle } from "../../../provider/resources/lxd-node";
import { byHand } from "../../engine/cluster-program";
import { Managed } from "./simulated-cluster";

describe("LxdNode", () => {
  let lab: SimulatedLab;
  let host: SimulatedHost;
  let node: Managed;
  let name: string;

  const start = async (options: Partial<SimulatedHostOptions> = {}): Promise<void> => {
    lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", lanAddress: "192.168.1.102", ...options }] });
    host = lab.host("bcn2");
    name = `${options.user ?? "root"}@127.0.0.1:${host.port}`;
    node = new Managed(nodeLifecycle as never, "bcn2");
  };
  const args = (more: object = {}): object => ({ connection: host.connection, install: { method: "deb" }, ...more });
  const refusal = async (more: object = {}): Promise<string> => {
    const error = await node.up(args(more)).then(
      () => assert.fail("it was not refused"),
      (thrown: unknown) => thrown as Error,
    );
    return error.message;
  };
  const ran = (program: string): string[] => host.commands.filter(([first]) => first === program).map((argv) => argv.join(" "));

  afterEach(async () => {
    assert.deepEqual([lab.defects, host.unknownCommands], [[], []]);
    await lab.stop();
  });

  describe("on a bare host", () => {
    it("installs the Debian package, waits until LXD is ready, and outputs what it found", async () => {
      await start();
      assert.equal(await node.up(args({ config: { "core.https_address": "192.168.1.102:8443" } })), "created");
      assert.ok(host.packages.has("lxd"));
      assert.deepEqual(node.progress.slice(0, 2), [
        `installing the Debian packages lxd on ${name}`,
        `waiting for LXD on ${name} to be ready`,
      ]);
      assert.equal(node.inState("lxdVersion"), "5.0.2");
      assert.equal(node.inState("socket"), "/var/lib/lxd/unix.socket");
      assert.deepEqual([node.inState("cpus"), node.inState("memoryBytes")], [4, 16 * 2 ** 30]);
    });

    it("is unchanged by a second up", async () => {
      await start();
      await node.up(args());
      const [since, commands] = [lab.requests.length, ran("env").length];
      assert.equal(await node.up(args()), "same");
      assert.deepEqual(lab.mutations(since), []);
      assert.equal(ran("env").length, commands);
    });

    it("installs the snap of the channel, with the same revision on all hosts, and holds it", async () => {
      await start({ snapd: true });
      await node.up({ connection: host.connection });
      const snap = { channel: "5.21/stable", held: true, version: "5.21.4-8a3cf61", revision: "33110" };
      assert.deepEqual(host.snaps.get("lxd"), snap);
      assert.equal(node.inState("revision"), 33110);
      assert.equal(await node.up({ connection: host.connection }), "same");
    });

    it("installs the revision of the cluster's members, although the channel has a newer one", async () => {
      await start({ snapd: true });
      host.store.release("5.21/stable", { revision: 33999, version: "5.21.5-9b1e0d2", lxd: "lxd-5.21" });
      const wanted = { connection: host.connection, install: { method: "snap", revision: 33110 } };
      assert.equal(await node.up(wanted), "created");
      assert.deepEqual([host.snaps.get("lxd")?.revision, node.inState("revision")], ["33110", 33110]);
      assert.equal(await node.up(wanted), "same");
    });

    it("logs in as another user, and becomes root by sudo", async () => {
      await start({ user: "operator" });
      assert.equal(await node.up(args()), "created");
    });
  });

  describe("refuses, before anything is touched,", () => {
    afterEach(() => {
      assert.deepEqual(lab.mutations(), []);
    });

    it("a user that may not become root", async () => {
      await start({ user: "operator", sudo: false });
      assert.equal(
        await refusal(),
        `${name} may not become root: sudo: a password is required. Log in as root (connection.user), or let this user run sudo without a ` +
          "password: echo 'operator ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/operator",
      );
    });

    it("a host without LXD when it may not be installed", async () => {
      await start();
      assert.equal(
        await refusal({ install: false }),
        `Neither LXD nor Incus runs on ${name}, and install is false. Install one there, or set install to {method: "snap"}, {method: "deb"} or ` +
          '{method: "deb", server: "incus"}',
      );
    });

    it("a host that has LXD from another source", async () => {
      await start({ lxd: "snap" });
      assert.equal(
        await refusal(),
        `LXD on ${name} was installed from a snap (/var/snap/lxd/common/lxd/unix.socket), but install.method is deb. Set install: false to use ` +
          "it, or remove it from the host",
      );
    });

    it("a host without snapd when the snap is wanted", async () => {
      await start();
      assert.equal(
        await refusal({ install: { method: "snap" } }),
        `${name} has no snapd, which install: {method: "snap"} needs. Install it (apt-get install snapd), or use {method: "deb"}`,
      );
    });

    it("a host whose package sources do not have LXD", async () => {
      await start({ archive: {} });
      assert.equal(
        await refusal(),
        `The package sources of ${name} have no package "lxd". Debian 12 and 13 have it; on Ubuntu use install: {method: "snap"}`,
      );
    });
  });

  describe("on a host in use", () => {
    const holds = async (): Promise<void> => {
      await start({ lxd: "deb" });
      await byHand(lab, "bcn2", (lxd) => lxd.change("POST", "/1.0/storage-pools", { body: { name: "default", driver: "dir" } }));
      const root = { type: "disk", path: "/", pool: "default" };
      lab.seedInstances(2, { host: "bcn2", type: "container", running: false, devices: { root } });
    };

    it("is refused, with its content and the options", async () => {
      await holds();
      assert.equal(
        await refusal(),
        `LXD on ${name} is in use: instances vm1, vm2; storage-pools default. Set adopt: true to manage it unchanged, or, to destroy all of it, ` +
          'resetPolicy: ["instances", "storage-pools"]',
      );
      assert.equal(host.daemon?.database.instances.size, 2);
    });

    it("adopts it unchanged when the user asks for it", async () => {
      await holds();
      const [since, packages] = [lab.requests.length, [...host.packages]];
      const wanted = args({ adopt: true, install: { method: "deb", packages: ["no-such-package"] } });
      assert.equal(await node.up(wanted), "created");
      assert.equal(host.daemon?.database.instances.size, 2);
      assert.deepEqual([lab.mutations(since), [...host.packages], ran("env"), ran("systemctl")], [[], packages, [], []]);
    });

    it("does not continue an interrupted wipe when it is to adopt the host", async () => {
      await holds();
      host.files.makeDirectory("/var/lib/lxd/storage-pools/default/containers/vm1", { parents: true });
      host.files.makeSymlink("/var/lib/pulumi-lxd-wipe", JSON.stringify({ packaging: "deb", config: {} }));
      for (const unit of ["lxd.socket", "lxd.service"]) {
        host.controlUnit("stop", unit);
      }
      assert.match(
        await refusal({ adopt: true }),
        /^The wipe of LXD .* was interrupted.* On its disk are instances vm1, which may be newer than the wipe/,
      );
      assert.ok(host.files.exists("/var/lib/lxd/storage-pools/default/containers/vm1"));
      assert.equal(host.daemon?.database.instances.size, 2);
    });

    it("does not wipe more than the policy names", async () => {
      await holds();
      lab.seedImage("bcn2", { alias: "debian" });
      assert.equal(
        await refusal({ resetPolicy: ["instances", "storage-pools"] }),
        `resetPolicy does not name all that LXD on ${name} holds, and wiping it would destroy that too: instances vm1, vm2; images debian; ` +
          'storage-pools default. Add "images" to resetPolicy, or remove them yourself',
      );
      assert.equal(host.daemon?.database.instances.size, 2);
    });

    it("wipes it when the policy names all of it, and says so", async () => {
      await holds();
      assert.equal(await node.up(args({ resetPolicy: ["instances", "storage-pools"] })), "created");
      assert.ok(node.progress.includes(`wiping LXD on ${name}: instances vm1, vm2; storage-pools default`));
      assert.equal(host.daemon?.database.instances.size, 0);
    });

    it("says in the preview of another policy that it will be wiped, unless it is a member of a cluster by then", async () => {
      await start({ lxd: "deb" });
      await node.up(args());
      const warnings = async (): Promise<string[]> => {
        const since = node.warnings.length;
        assert.equal(await node.preview(args({ resetPolicy: ["images"] })), "updated");
        return node.warnings.slice(since);
      };
      const { host: address } = host.connection;
      assert.deepEqual(await warnings(), [
        `pulumi up will wipe LXD on ${address}, if it holds nothing else than resetPolicy names: images`,
      ]);
      await lab.byHand("bcn2", "PATCH", "/1.0", { config: { "core.https_address": "192.168.1.102:8443" } });
      await lab.byHand("bcn2", "PUT", "/1.0/cluster", { server_name: "bcn2", enabled: true });
      assert.deepEqual(await warnings(), []);
    });
  });

  describe("shows and repairs drift", () => {
    it("of its config, and keeps the keys of others", async () => {
      await start({ lxd: "deb" });
      const wanted = args({ config: { "core.https_address": "192.168.1.102:8443" } });
      await node.up(wanted);
      assert.ok(host.daemon);
      host.daemon.localConfig["core.https_address"] = ":8443";
      host.daemon.localConfig["core.debug_address"] = "127.0.0.1:8888";
      assert.equal(await node.preview(wanted), "updated");
      assert.deepEqual(node.inState("config"), { "core.https_address": ":8443" });
      assert.equal(await node.up(wanted), "updated");
      assert.equal(host.daemon.localConfig["core.https_address"], "192.168.1.102:8443");
      assert.equal(host.daemon.localConfig["core.debug_address"], "127.0.0.1:8888");
      assert.equal(await node.up(wanted), "same");
    });

    it("of a snap whose channel was changed or whose hold was lifted", async () => {
      await start({ snapd: true });
      const wanted = { connection: host.connection };
      await node.up(wanted);
      host.snaps.set("lxd", { channel: "5.0/stable", held: false, version: "5.0.2-838e1b2", revision: "31333" });
      assert.equal(await node.up(wanted), "updated");
      assert.deepEqual([host.snaps.get("lxd")?.channel, host.snaps.get("lxd")?.held], ["5.21/stable", true]);
    });

    it("of LXD that was removed: it is installed again", async () => {
      await start();
      await node.up(args());
      host.removePackage("lxd", true);
      assert.equal(await node.up(args()), "created");
    });
  });

  it("unsets a key that is no longer set, and restores all at the end; LXD itself stays", async () => {
    await start();
    await node.up(args({ config: { "core.https_address": "192.168.1.102:8443", "core.debug_address": "127.0.0.1:8888" } }));
    await node.up(args({ config: { "core.https_address": "192.168.1.102:8443" } }));
    assert.equal(host.daemon?.localConfig["core.debug_address"] ?? "", "");
    await node.destroy();
    assert.equal(host.daemon?.localConfig["core.https_address"] ?? "", "");
    assert.ok(host.packages.has("lxd"));
  });

  it("reports in check what does not go together", async () => {
    await start();
    assert.deepEqual(
      await node.faults(
        args({
          config: {
            ...{ "images.auto_update_interval": 6, "core.bgp_asn": 64512, "core.bgp_address": "192.168.1.102:179" },
            ...{ "core.https_address": "192.168.1.300", "cluster.https_address": "10.55.60.171:8443" },
          },
          ...{ adopt: true, resetPolicy: ["images"] },
        }),
      ),
      [
        "config.images.auto_update_interval is not a key of one host: it belongs to the whole cluster, or is unknown",
        "config.core.bgp_asn is not a key of one host: it belongs to the whole cluster, or is unknown",
        'config.core.https_address must be an address to listen on, such as "192.168.1.102:8443", or ":8443" for every address',
        "config.cluster.https_address is the address of a member for the others: address of its LxdClusterMember. It cannot change while the cluster " +
          'runs; for the commands that change it, see "A member with a new address" in docs/guide/recovery.md of pulumi-lxd-cluster',
        "resetPolicy contradicts adopt: a host is either wiped or adopted",
      ],
    );
  });
});

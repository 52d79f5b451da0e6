import assert from "node:assert/strict";
import { type SimulatedHost, type SimulatedHostOptions, SimulatedLab } from "../../../lab/simulated";
import { REPOSITORY_FILE } from "../../../provider/host/apt-repository";
import { nodeLifecycle } from "../../../provider/resources/lxd-node";
import { messageOf } from "../../../provider/support/errors";
import { Managed } from "./simulated-cluster";

const KEY = `-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEZ0000BYJKwYBBAHaRw8BAQdAcTk0
=abcd
-----END PGP PUBLIC KEY BLOCK-----
`;

const BACKPORTS = {
  uris: ["http://deb.debian.org/debian"],
  suites: ["trixie-backports"],
  components: ["main"],
  signedBy: KEY,
};

describe("LxdNode of Incus", () => {
  let lab: SimulatedLab;
  let host: SimulatedHost;
  let node: Managed;
  let name: string;

  const start = async (options: Partial<SimulatedHostOptions> = {}): Promise<void> => {
    const base = { name: "bcn2", lanAddress: "192.168.1.102", flavour: "trixie-incus" as const };
    lab = await SimulatedLab.start({ hosts: [{ ...base, ...options }] });
    host = lab.host("bcn2");
    name = `${options.user ?? "root"}@127.0.0.1:${host.port}`;
    node = new Managed(nodeLifecycle as never, "bcn2");
  };
  const incus = { method: "deb", server: "incus" };
  const args = (install: object | false = incus, more: object = {}): object => ({
    connection: host.connection,
    install,
    ...more,
  });
  const refusal = (install: object | false = incus): Promise<string> =>
    node.up(args(install)).then(() => assert.fail("it was not refused"), messageOf);
  const installs = (): string[] =>
    host.commands.filter((argv) => argv.includes("apt-get") && argv.includes("install")).map((argv) => argv.join(" "));

  afterEach(async () => {
    assert.deepEqual([lab.defects, host.unknownCommands], [[], []]);
    await lab.stop();
  });

  it("takes the keys of one host that only Incus has", async () => {
    await start();
    const config = { "network.ovs.connection": "unix:/run/ovs.sock", "storage.linstor.satellite.name": "sat2" };
    assert.deepEqual(await node.faults(args(incus, { config })), []);
  });

  describe("on a bare host", () => {
    it("installs Debian's package, says which server it is, and is unchanged by a second up", async () => {
      await start();
      assert.equal(await node.up(args()), "created");
      assert.deepEqual([host.packages.has("incus"), host.packages.has("lxd")], [true, false]);
      assert.equal(node.progress[0], `installing the Debian packages incus on ${name}`);
      assert.deepEqual(
        [node.inState("server"), node.inState("lxdVersion"), node.inState("socket")],
        ["incus", "6.0.4", "/var/lib/incus/unix.socket"],
      );
      const since = lab.requests.length;
      assert.equal(await node.up(args()), "same");
      assert.deepEqual([lab.mutations(since), installs().length], [[], 1]);
    });

    it("installs the package without virtual machines when that is wanted", async () => {
      await start();
      const wanted = args({ ...incus, serverPackage: "incus-base", packages: ["btrfs-progs"] });
      assert.equal(await node.up(wanted), "created");
      assert.deepEqual([host.packages.has("incus-base"), host.packages.has("incus")], [true, false]);
      assert.equal(await node.up(wanted), "same");
    });

    it("starts Incus when it is installed and does not run", async () => {
      await start({ lxd: "deb" });
      host.controlUnit("stop", "incus.socket");
      host.controlUnit("stop", "incus.service");
      assert.equal(await node.up(args({ ...incus, serverPackage: "incus-base" })), "created");
      assert.ok(node.progress.includes(`starting Incus on ${name}`));
      assert.deepEqual(installs(), []);
    });

    it("logs in as another user, and finds the socket that only root and the group incus-admin may open", async () => {
      await start({ user: "operator" });
      assert.equal(await node.up(args()), "created");
    });

    it("writes the given repository before it installs from its release", async () => {
      await start();
      const wanted = args({ ...incus, repository: BACKPORTS, targetRelease: "trixie-backports" });
      assert.equal(await node.up(wanted), "created");
      assert.equal(
        host.files.readText(REPOSITORY_FILE),
        "# Written by pulumi-lxd-cluster (install.repository of LxdNode), which overwrites changes\n" +
          "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: trixie-backports\nComponents: main\nSigned-By:\n" +
          " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEZ0000BYJKwYBBAHaRw8BAQdAcTk0\n =abcd\n -----END PGP PUBLIC KEY BLOCK-----\n",
      );
      assert.match(installs().join(), /--target-release trixie-backports install -- incus$/);
      assert.ok(!host.commands.some((argv) => argv.some((argument) => argument.includes("PGP"))));
      assert.equal(await node.up(wanted), "same");
    });

    it("is refused when no package source has the release, and finds it once the repository is given", async () => {
      await start();
      assert.equal(
        await refusal({ ...incus, targetRelease: "trixie-backports" }),
        `The package sources of ${name} have no release "trixie-backports" (install.targetRelease). Add its repository there, or give it as ` +
          "install.repository",
      );
      const wanted = { ...incus, repository: BACKPORTS, targetRelease: "trixie-backports" };
      assert.equal(await node.up(args(wanted)), "created");
    });

    it("is refused on a release that has no Incus, with where to find it", async () => {
      await start({ archive: {} });
      assert.equal(
        await refusal(),
        `The package sources of ${name} have no package "incus". Debian 13 has it, and Debian 12 in bookworm-backports (install.repository and ` +
          "install.targetRelease)",
      );
    });
  });

  describe("with a repository", () => {
    const withRepository = { ...incus, repository: BACKPORTS };

    it("shows that somebody changed or removed its file, and writes it again", async () => {
      await start();
      await node.up(args(withRepository));
      const text = host.files.readText(REPOSITORY_FILE);
      const changes = [
        () => host.files.remove(REPOSITORY_FILE),
        () => host.files.writeFile(REPOSITORY_FILE, `${text}Enabled: no\n`),
      ];
      for (const change of changes) {
        change();
        assert.equal(await node.preview(args(withRepository)), "updated");
        assert.equal(await node.up(args(withRepository)), "updated");
        assert.equal(host.files.readText(REPOSITORY_FILE), text);
      }
      assert.equal(await node.up(args(withRepository)), "same");
    });

    it("removes the file when the program no longer has it, and keeps it when the node is deleted", async () => {
      await start();
      await node.up(args(withRepository));
      assert.equal(await node.up(args()), "updated");
      assert.ok(!host.files.exists(REPOSITORY_FILE));
      await node.up(args(withRepository));
      await node.destroy();
      assert.ok(host.files.exists(REPOSITORY_FILE));
    });

    it("neither overwrites nor removes a file of that name that somebody else wrote", async () => {
      await start();
      host.files.writeFile(REPOSITORY_FILE, "Types: deb\n");
      assert.equal(
        await refusal(withRepository),
        `${REPOSITORY_FILE} on ${name} was not written by pulumi-lxd-cluster, and install.repository would overwrite it. Rename or remove it there`,
      );
      assert.equal(await node.up(args()), "created");
      assert.equal(host.files.readText(REPOSITORY_FILE), "Types: deb\n");
    });
  });

  describe("shows and repairs drift", () => {
    it("of a host that has only the package without virtual machines, and names the restart", async () => {
      await start({ lxd: "deb" });
      assert.ok(host.packages.has("incus-base"));
      await node.up(args({ ...incus, serverPackage: "incus-base" }));
      assert.equal(await node.preview(args()), "updated");
      assert.equal(await node.up(args()), "updated");
      assert.ok(host.packages.has("incus"));
      assert.deepEqual(node.warnings.slice(-1), [
        `Incus on ${name} uses incus only after a restart: systemctl restart incus (instances keep running)`,
      ]);
      assert.equal(await node.up(args()), "same");
    });

    it("of Incus that was removed: it is installed again", async () => {
      await start();
      await node.up(args());
      host.removePackage("incus", true);
      assert.equal(await node.up(args()), "created");
    });
  });

  describe("refuses, before anything is touched,", () => {
    afterEach(() => {
      assert.deepEqual([lab.mutations(), installs()], [[], []]);
    });

    it("a host with Incus when LXD is wanted, as the package or the snap", async () => {
      await start({ lxd: "deb", snapd: true });
      for (const install of [{ method: "deb" }, { method: "snap" }]) {
        assert.equal(
          await refusal(install),
          `${name} has Incus, and install asks for LXD. A host runs one of the two. Save what Incus holds, and remove it there (apt-get purge ` +
            'incus incus-base), or manage Incus: install: {method: "deb", server: "incus"}',
        );
      }
    });

    it("a host with Incus that does not run when LXD is wanted", async () => {
      await start();
      host.packages.set("incus-base", "6.0.4");
      assert.match(await refusal({ method: "deb" }), /has Incus, and install asks for LXD/);
    });

    it("a host with LXD when Incus is wanted, running or not, as the package or the snap", async () => {
      await start({ flavour: "bookworm-lxd", lxd: "deb" });
      const moves = "Save what LXD holds (the command lxd-to-incus moves it to Incus), and remove it there";
      const of = (purge: string, install: string): string =>
        `${name} has LXD, and install asks for Incus. A host runs one of the two. ${moves} (${purge}), or manage LXD: install: {method: "${install}"}`;
      assert.equal(await refusal(), of("apt-get purge lxd", "deb"));
      host.controlUnit("stop", "lxd.socket");
      host.controlUnit("stop", "lxd.service");
      assert.equal(await refusal(), of("apt-get purge lxd", "deb"));
      await lab.stop();
      await start({ flavour: "lxd-5.21", lxd: "snap" });
      assert.equal(await refusal(), of("snap remove --purge lxd", "snap"));
    });

    it("a host that has both, which are named with how to remove one", async () => {
      await start({ lxd: "deb" });
      host.packages.set("lxd", "5.0.2");
      assert.equal(
        await refusal(),
        `${name} has both Incus and LXD, and install asks for Incus. A host runs one of the two. Save what LXD holds (the command lxd-to-incus moves ` +
          "it to Incus), and remove it there (apt-get purge lxd)",
      );
    });

    it("a host on which both listen, also when install is false", async () => {
      await start({ lxd: "deb" });
      const listens = host.isSocket.bind(host);
      host.isSocket = (path) => listens(path) || path === "/var/lib/lxd/unix.socket";
      host.sshd.forwarding = false; // the relay asks isSocket
      assert.equal(
        await refusal(false),
        `${name} runs both LXD (/var/lib/lxd/unix.socket) and Incus (/var/lib/incus/unix.socket), and it is unknown which one is meant. Save what ` +
          "the other one holds, and remove it there: apt-get purge lxd, or apt-get purge incus incus-base",
      );
    });
  });

  it("takes an installed Incus with install: false, and adopts one in use", async () => {
    await start({ lxd: "deb" });
    assert.equal(await node.up(args(false)), "created");
    assert.equal(node.inState("server"), "incus");
    node = new Managed(nodeLifecycle as never, "bcn2");
    assert.equal(await node.up(args({ ...incus, serverPackage: "incus-base" }, { adopt: true })), "created");
    assert.deepEqual(installs(), []);
  });

  it("wipes what the policy names, and starts Incus empty", async () => {
    await start({ lxd: "deb" });
    await lab.byHand("bcn2", "POST", "/1.0/storage-pools", { name: "default", driver: "dir" });
    const root = { type: "disk", path: "/", pool: "default" };
    lab.seedInstances(2, { host: "bcn2", type: "container", running: false, devices: { root } });
    const wanted = args({ ...incus, serverPackage: "incus-base" }, { resetPolicy: ["instances", "storage-pools"] });
    assert.equal(await node.up(wanted), "created");
    assert.ok(node.progress.includes(`wiping Incus on ${name}: instances vm1, vm2; storage-pools default`));
    assert.equal(host.daemon?.database.instances.size, 0);
    assert.ok(host.commands.some((argv) => argv.join(" ").startsWith("systemctl stop incus.socket incus.service")));
    assert.equal(await node.up(wanted), "same");
  });

  it("previews the refusal of the other server", async () => {
    await start();
    await node.up(args());
    const since = node.warnings.length;
    assert.equal(await node.preview(args({ method: "deb" })), "updated");
    assert.deepEqual(node.warnings.slice(since), ["pulumi up will refuse this. 127.0.0.1 has Incus, but install asks for LXD"]);
  });

  it("reports in check what does not go together", async () => {
    await start();
    const faults = (install: object): Promise<string[]> => node.faults(args(install));
    assert.deepEqual(await faults({ method: "snap", server: "incus" }), [
      'install.server must be "lxd": Incus has no snap. Use { method: "deb", server: "incus" }',
    ]);
    assert.deepEqual(await faults({ method: "deb", serverPackage: "incus-base" }), [
      'install.serverPackage is only for server: "incus"',
    ]);
    assert.deepEqual(await faults({ method: "deb", server: "docker" }), ['install.server must be "lxd" or "incus"']);
    assert.deepEqual(await faults({ ...incus, targetRelease: "-x" }), [
      'install.targetRelease is not the name of a release such as "trixie-backports"',
    ]);
    const repository = (more: object): object => ({ ...incus, repository: { ...BACKPORTS, ...more } });
    assert.deepEqual(await faults(repository({ signedBy: KEY.replaceAll("PUBLIC", "PRIVATE") })), [
      'install.repository.signedBy must be the text of a public key, from "-----BEGIN PGP PUBLIC KEY BLOCK-----" to its end, or the path of a ' +
        "keyring on the host",
    ]);
    assert.deepEqual(await faults(repository({ suites: ["main\nTrusted: yes"] })), [
      "install.repository.suites.0 must be one word",
    ]);
    assert.deepEqual(await faults(repository({ components: [] })), [
      'install.repository.components must name one, such as "main"',
    ]);
    assert.deepEqual(await faults(repository({ uris: ["deb.debian.org"] })), [
      'install.repository.uris.0 is not a URI such as "https://deb.debian.org/debian"',
    ]);
  });
});

describe("State of an LxdNode from before Incus", () => {
  const socket = "/var/lib/lxd/unix.socket";

  it("means LXD, with the same installation as now", () => {
    const old = { install: { method: "deb", packages: ["btrfs-progs"] }, socket };
    assert.deepEqual(nodeLifecycle.upgrade?.(old, 2), {
      install: { method: "deb", server: "lxd", packages: ["btrfs-progs"] },
      socket,
      server: "lxd",
    });
  });

  it("knows Incus by its socket when install was false", () => {
    const incus = "/var/lib/incus/unix.socket";
    assert.deepEqual(nodeLifecycle.upgrade?.({ install: false, socket: incus }, 2), {
      install: false,
      socket: incus,
      server: "incus",
    });
  });
});

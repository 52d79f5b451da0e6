import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { utils } from "ssh2";
import { fingerprint } from "../../provider/transport/host-key";
import { disconnectAll } from "../../provider/transport/pool";
import { ADDRESSES, bareHosts, type HostName } from "../support/bare-hosts";
import { createResource, installByHand } from "../support/real-lab";
import { ChangeWatch } from "./support/changes";
import { eventually } from "./support/eventually";
import { runInGuest } from "./support/guest-commands";
import { statesOnceHeard } from "./support/member-states";

/** Environments that are refused before any change. Each message is the complete text that a user sees. */
describe("Unsuitable environments on real LXD", () => {
  const hosts = bareHosts();
  const { to, node, member, onHost, membersOf } = hosts;

  /** Asserts that a create is refused with exactly this message. */
  const refused = async (kind: string, args: object, ...sentence: string[]): Promise<void> => {
    await assert.rejects(createResource(kind, args), (error: Error) => {
      assert.equal(error.message, sentence.join("").replaceAll("LXD on root@", `${hosts.lab.flavour.product} on root@`));
      return true;
    });
  };

  /** Imports the lab's guest image into LXD on a host. */
  const createImage = async (host: HostName): Promise<void> => {
    const cluster = { endpoints: [to(host)] };
    await createResource("LxdImage", { cluster, ...(await hosts.imageFiles()), aliases: ["debian-12"] });
  };

  describe("a host that rejects the login or the work", () => {
    const hostKeyOf = (host: HostName): string => hosts.lab.hosts.find(({ name }) => name === host)?.hostKey ?? "";

    /** The host's key, as shown on its console. */
    const keyOnConsole = async (): Promise<string> => {
      const line = await onHost("bcn2", "ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub");
      return `ssh-ed25519 ${line.split(" ")[1] ?? ""}`;
    };

    /** The key of a host as messages show it. */
    const shownKeyOf = (host: HostName): string => {
      const [type = "", base64 = ""] = hostKeyOf(host).split(" ");
      return `${type} ${fingerprint(Buffer.from(base64, "base64"))}`;
    };

    /** Runs some work with that content of known_hosts. */
    const knowing = async (knownHosts: string, work: () => Promise<void>): Promise<void> => {
      const home = process.env["HOME"];
      const other = mkdtempSync(join(tmpdir(), "refusals-home-"));
      mkdirSync(join(other, ".ssh"));
      writeFileSync(join(other, ".ssh", "known_hosts"), knownHosts);
      process.env["HOME"] = other;
      try {
        await work();
      } finally {
        process.env["HOME"] = home;
        rmSync(other, { recursive: true });
      }
    };

    it("whose host key is unknown", async () => {
      const key = await keyOnConsole();
      await knowing("", () =>
        refused(
          "LxdNode",
          node("bcn2"),
          `root@192.168.1.102 was not trusted: its host key is not known: it presented ${key}. Verify that key on the host's console `,
          "(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then give it as connection.hostKey or add the host to ~/.ssh/known_hosts ",
          "(ssh-keyscan 192.168.1.102)",
        ),
      );
    });

    it("whose host key has changed", async () => {
      const key = await keyOnConsole();
      await knowing(`192.168.1.102 ${hostKeyOf("bcn1")}\n`, () =>
        refused(
          "LxdNode",
          node("bcn2"),
          `root@192.168.1.102 was not trusted: its host key has changed: it presented ${key}, and known_hosts has another one `,
          `(${shownKeyOf("bcn1")}). If the `,
          "host was reinstalled, remove the old key (ssh-keygen -R '192.168.1.102') and add the new one; if not, somebody may be between ",
          "you and the host",
        ),
      );
    });

    it("whose host key is not connection.hostKey", async () => {
      const connection = to("bcn2", { hostKey: hostKeyOf("bcn1") });
      await refused(
        "LxdNode",
        node("bcn2", { connection }),
        `root@192.168.1.102 was not trusted: the host presented the key ${await keyOnConsole()}, which is not connection.hostKey `,
        `(${shownKeyOf("bcn1")}). If `,
        "the host was reinstalled, set hostKey to its new key; if not, somebody may be between you and the host",
      );
    });

    it("that rejects the key", async () => {
      const connection = { host: ADDRESSES.bcn2, privateKey: utils.generateKeyPairSync("ed25519").private };
      await refused(
        "LxdNode",
        node("bcn2", { connection }),
        "root@192.168.1.102 did not accept the login (tried: private key). Check connection.user, and that the host has this key in ",
        "its authorized_keys",
      );
    });

    it("whose user may not become root", async () => {
      await refused(
        "LxdNode",
        node("bcn2", { connection: to("bcn2", { user: "nosudo" }) }),
        "nosudo@192.168.1.102 may not become root: sudo: a password is required. Log in as root (connection.user), or let this user ",
        "run sudo without a password: echo 'nosudo ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/nosudo",
      );
    });

    it("that does not answer, reported within the dial timeout", async () => {
      await hosts.lab.powerOff("bcn3");
      try {
        const started = performance.now();
        await refused(
          "LxdNode",
          node("bcn3", { connection: to("bcn3", { perDialTimeout: 2, dialErrorLimit: 1 }) }),
          "root@192.168.1.103 cannot be reached by SSH: no answer within 2 s. Check that it is switched on, and that connection.host ",
          "and connection.port lead to its sshd",
        );
        assert.ok(performance.now() - started < 12_000, "another limit than 2 s held: a dial has 15 s where none is given");
      } finally {
        await hosts.lab.boot("bcn3");
      }
    });

    it("on which LXD is missing, with install: false", async () => {
      await refused(
        "LxdNode",
        node("bcn2", { install: false }),
        'Neither LXD nor Incus runs on root@192.168.1.102, and install is false. Install one there, or set install to {method: "snap"}, {method: "deb"} or ' +
          '{method: "deb", server: "incus"}',
      );
    });

    it("and the host is still bare", async () => {
      assert.notEqual((await hosts.lab.hostExec("bcn2", ["dpkg", "--status", hosts.lab.flavour.package])).exitCode, 0);
    });
  });

  describe("a host in use by others", () => {
    const HOLDS = "instances c1; custom-volumes default/data; images debian-12; storage-pools default; networks lxdbr0";
    const ALL_THAT = '"instances", "custom-volumes", "images", "storage-pools", "networks"';

    before(async () => {
      const byHand = (host: HostName, ...commands: string[]): Promise<string> =>
        onHost(
          host,
          "sh",
          "-c",
          [...installByHand(hosts.lab.flavour), ...commands.map((command) => `${hosts.lab.flavour.client} ${command}`)].join(
            " && ",
          ),
        );
      await Promise.all([
        createResource("LxdNode", node("bcn2")).then(() => createResource("LxdClusterMember", member("bcn2"))),
        byHand("bcn1", "storage create default dir", "storage volume create default data", "network create lxdbr0"),
        byHand("bcn3", "config set core.https_address 192.168.1.103:8443", "cluster enable other1"),
      ]);
      await createImage("bcn1");
      await onHost("bcn1", hosts.lab.flavour.client, "launch", "debian-12", "c1", "--storage", "default", "--network", "lxdbr0");
      await disconnectAll();
    });

    it("is refused with the list of its content", async () => {
      await refused(
        "LxdNode",
        node("bcn1"),
        `LXD on root@192.168.1.101 is in use: ${HOLDS}. Set adopt: true to manage it unchanged, or, to destroy all of it, `,
        `resetPolicy: [${ALL_THAT}]`,
      );
    });

    it("is refused while resetPolicy names only part of its content", async () => {
      await refused(
        "LxdNode",
        node("bcn1", { resetPolicy: ["images", "storage-pools", "networks"] }),
        `resetPolicy does not name all that LXD on root@192.168.1.101 holds, and wiping it would destroy that too: ${HOLDS}. `,
        'Add "instances", "custom-volumes" to resetPolicy, or remove them yourself',
      );
    });

    it("is refused as a member while it holds anything", async () => {
      await refused(
        "LxdClusterMember",
        member("bcn1"),
        `LXD on root@192.168.1.101 holds ${HOLDS}, and only an empty server can join a cluster, here as bcn1. Remove that, or wipe it: `,
        `give its LxdNode resetPolicy: [${ALL_THAT}]`,
      );
    });

    it("is refused when it is in a cluster", async () => {
      await refused(
        "LxdNode",
        node("bcn3"),
        "LXD on root@192.168.1.103 is in use: cluster with the members other1. Set adopt: true to manage it unchanged, or, to destroy ",
        'all of it, resetPolicy: ["cluster"]',
      );
    });

    it("is refused as a member when it is in another cluster", async () => {
      await refused(
        "LxdClusterMember",
        member("bcn3"),
        'LXD on root@192.168.1.103 is a member of another cluster, as "other1". Remove it there, or wipe the host: give its LxdNode ',
        'resetPolicy: ["cluster"], and replace the LxdNode if it exists already (pulumi up --replace URN)',
      );
    });

    it("and keeps running unchanged", async () => {
      assert.equal(await onHost("bcn1", hosts.lab.flavour.client, "list", "--format=csv", "--columns=ns"), "c1,RUNNING");
      assert.deepEqual(await membersOf("bcn3"), ["other1"]);
      assert.deepEqual(await membersOf("bcn2"), ["bcn2"]);
    });

    it("is wiped when resetPolicy names all its content", async () => {
      await createResource(
        "LxdNode",
        node("bcn1", { resetPolicy: ["instances", "custom-volumes", "images", "storage-pools", "networks"] }),
      );
      for (const kind of [[], ["image"], ["storage"]]) {
        assert.equal(await onHost("bcn1", hosts.lab.flavour.client, ...kind, "list", "--format=csv"), "");
      }
      // The kernel removes the network of an ended container asynchronously.
      await eventually("the links are gone", async () => !/lxdbr0|veth/.test(await onHost("bcn1", "ip", "-brief", "link")));
      assert.doesNotMatch(await onHost("bcn1", "ps", "-eo", "args"), /lxdbr0|monitor/);
      assert.doesNotMatch(await onHost("bcn1", "findmnt", "--raw", "--noheadings", "--output=TARGET"), /c1|storage-pools/);
      assert.equal(
        await onHost(
          "bcn1",
          "find",
          hosts.lab.flavour.dataDirectory,
          "-name",
          "c1*",
          "-or",
          "-name",
          "*data*",
          "-path",
          "*custom*",
        ),
        "",
      );
    });

    it("joins once it is wiped", async () => {
      await createResource("LxdClusterMember", member("bcn1"));
      assert.deepEqual(await membersOf("bcn2"), ["bcn1", "bcn2"]);
    });

    it("is wiped when resetPolicy names the cluster that it is in", async () => {
      await createResource("LxdNode", node("bcn3", { resetPolicy: ["cluster"] }));
      assert.match(
        (await hosts.lab.hostExec("bcn3", [hosts.lab.flavour.client, "cluster", "list"])).stderr,
        /isn't part of a cluster/,
      );
    });
  });

  describe("an impossible membership", () => {
    it("under another name than the host has in this cluster", async () => {
      await refused(
        "LxdClusterMember",
        member("bcn1", { name: "web" }),
        'LXD on root@192.168.1.101 is already in a cluster, as "bcn1". Use that name, or rename it there ',
        `(${hosts.lab.flavour.client} cluster rename bcn1 web)`,
      );
    });

    it("with the name of another member", async () => {
      await refused(
        "LxdClusterMember",
        member("bcn3", { name: "bcn1" }),
        'The cluster at root@192.168.1.102 already has the member "bcn1" with the address https://192.168.1.101:8443, and this one would ',
        'be "bcn1" with https://192.168.1.103:8443. Choose another name or address',
      );
    });

    it("with the address of another member", async () => {
      await refused(
        "LxdClusterMember",
        member("bcn3", { address: ADDRESSES.bcn1 }),
        'The cluster at root@192.168.1.102 already has the member "bcn1" with the address https://192.168.1.101:8443, and this one would ',
        'be "bcn3" with https://192.168.1.101:8443. Choose another name or address',
      );
    });

    it("of a host that listens on every address", async () => {
      await onHost("bcn3", hosts.lab.flavour.client, "config", "set", "core.https_address", ":8443");
      await refused(
        "LxdClusterMember",
        member("bcn3"),
        'LXD on root@192.168.1.103 listens on every address (core.https_address is ":8443"), and this version cannot join a cluster then. ',
        'Set it to "192.168.1.103:8443" (config of its LxdNode)',
      );
    });

    it("and leaves neither a join token nor a trusted certificate in the cluster", async () => {
      const operations = JSON.parse(
        (await onHost("bcn2", hosts.lab.flavour.client, "query", "/1.0/operations?recursion=1")) || "{}",
      ) as {
        running?: { class: string }[];
      };
      assert.deepEqual(operations.running?.filter((operation) => operation.class === "token") ?? [], []);
      const trusted = await onHost("bcn2", hosts.lab.flavour.client, "query", "/1.0/certificates?recursion=1");
      assert.deepEqual((JSON.parse(trusted) as { name: string }[]).map(({ name }) => name).sort(), ["bcn1", "bcn2"]);
    });

    describe("of a half-joined host", () => {
      before(async () => {
        await onHost("bcn3", hosts.lab.flavour.client, "config", "unset", "core.https_address");
        await onHost("bcn3", "touch", `${hosts.lab.flavour.dataDirectory}/cluster.crt`);
      });

      it("as a node", async () => {
        await refused(
          "LxdNode",
          node("bcn3"),
          "LXD on root@192.168.1.103 is in use: cluster certificate of an interrupted join. Set adopt: true to manage it unchanged, or, to ",
          'destroy all of it, resetPolicy: ["cluster"]',
        );
      });

      it("as the first member", async () => {
        await refused(
          "LxdClusterMember",
          member("bcn3", { cluster: undefined }),
          "root@192.168.1.103 keeps the certificate of an interrupted join, which makes ",
          `${hosts.lab.flavour.product} refuse to bootstrap a cluster. Start from an empty server: give its LxdNode resetPolicy: ["cluster"]`,
        );
      });

      it("until it is wiped", async () => {
        await createResource("LxdNode", node("bcn3", { resetPolicy: ["cluster"] }));
        await createResource("LxdClusterMember", member("bcn3"));
        assert.deepEqual(await membersOf("bcn2"), ["bcn1", "bcn2", "bcn3"]);
      });
    });
  });

  describe("an instance without", () => {
    let watch: ChangeWatch | undefined;
    const vm = (more: object): object => ({
      cluster: { endpoints: [to("bcn2"), to("bcn1")] },
      name: "web1",
      instanceType: "container",
      image: { alias: "debian-12" },
      rootDisk: { pool: "default" },
      ...more,
    });

    before(async () => {
      await createResource("LxdStoragePool", { cluster: { endpoints: [to("bcn2")] }, name: "default", driver: "dir" });
      await createImage("bcn2");
      await disconnectAll();
      watch = await ChangeWatch.start(hosts.lab, "bcn2");
    });

    after(() => watch?.end());

    it("its target, which is not a member", async () => {
      await statesOnceHeard(hosts.lab, "bcn2");
      await refused(
        "LxdVm",
        vm({ target: "bcn4" }),
        'target: "bcn4" is not a member of the cluster at root@192.168.1.102; its members are bcn2 (Online), bcn1 (Online), bcn3 (Online)',
      );
    });

    it("its image", async () => {
      await refused(
        "LxdVm",
        vm({ image: { alias: "debian-13" } }),
        'image.alias: LXD on root@192.168.1.102 has no image "debian-13" in project "default" (aliases it has: debian-12). Import it ',
        'first (LxdImage), or have one downloaded: image: { server: "https://cloud-images.ubuntu.com/releases/", alias: "24.04" }',
      );
    });

    it("a profile", async () => {
      await refused(
        "LxdVm",
        vm({ profiles: ["default", "web"] }),
        'profiles: LXD on root@192.168.1.102 has no profile "web" in project "default" (it has default). Create it first (LxdProfile), ',
        "or correct the name",
      );
    });

    it("its storage pool", async () => {
      await refused(
        "LxdVm",
        vm({ rootDisk: { pool: "fast" } }),
        'rootDisk.pool: LXD on root@192.168.1.102 has no storage pool "fast" (it has default). Create it first (LxdStoragePool), or ',
        "correct the name",
      );
    });

    it("a network", async () => {
      await refused(
        "LxdVm",
        vm({ devices: { eth0: { type: "nic", network: "lxdbr1" } } }),
        'devices.eth0.network: LXD on root@192.168.1.102 has no network "lxdbr1" (it has none). Create it first (LxdNetwork), or correct ',
        "the name",
      );
    });

    it("is not started, as LXD's events show", async () => {
      assert.deepEqual(await watch?.stop(hosts.lab, "bcn2"), []);
    });
  });

  describe("an instance whose cloud-init has not found LXD", () => {
    const web = (config: object): object => ({
      cluster: { endpoints: [to("bcn2")] },
      name: "web2",
      target: "bcn2",
      instanceType: "container",
      image: { alias: "debian-12" },
      rootDisk: { pool: "default" },
      config,
      cloudInit: { userData: "#cloud-config\nwrite_files: [{ path: /etc/heard, content: heard }]\n" },
      waitFor: [{ for: "cloud-init" }],
    });
    const unheard =
      /^Instance "web2" exists \(Running\), but is not finished: cloud-init of instance "web2" did not find its data when it booted, so nothing of cloud-init\.user-data is in effect\. .*\(lxc restart web2\), then run pulumi up/;

    it("is unfinished until it has rebooted", async () => {
      // Incus writes the data into the guest, which needs no /dev/lxd.
      for (const config of hosts.lab.flavour.server === "incus" ? [] : [{ "security.devlxd": "false" }, {}]) {
        await assert.rejects(createResource("LxdVm", web(config)), ({ reasons }: { reasons: string[] }) => {
          assert.match(reasons.join(), unheard);
          return true;
        });
      }
      if (hosts.lab.flavour.server === "lxd") {
        await onHost("bcn2", hosts.lab.flavour.client, "restart", "web2");
      }
      await createResource("LxdVm", web({}));
      assert.equal(await runInGuest(hosts.lab, "web2", "cat", "/etc/heard"), "heard");
    });
  });
});

import assert from "node:assert/strict";
import type { Resource } from "@pulumi/pulumi";
import { LxdCluster } from "../../components";
import { SimulatedLab } from "../../lab/simulated";
import {
  type ClusterConnectionArgs,
  type ConnectionArgs,
  LxdClusterMember,
  LxdNetwork,
  LxdNode,
  LxdStoragePool,
  LxdVm,
  type LxdVmArgs,
  VmUser,
} from "../../provider";
import { EngineStack } from "./workspace";

const KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIHN0cmFuZ2Vyc3RyYW5nZXJzdHJhbmdlcnN0cmFuZ2Vy";

/** Bad input, as a person meets it: in one `pulumi up`, which tells all that is wrong with a resource at once. */
describe("bad input", () => {
  let lab: SimulatedLab;
  let stack: EngineStack;

  before(async () => {
    lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", lxd: "deb" }] });
    stack = await EngineStack.open();
  });

  after(async () => {
    stack.close();
    await lab.stop();
  });

  const at = (): { connection: ConnectionArgs; cluster: ClusterConnectionArgs } => {
    const { connection } = lab.host("bcn2");
    return { connection, cluster: { endpoints: [connection] } };
  };

  /** One program, run once for all the mistakes in it; its errors without what Pulumi puts before them. */
  const mistakes = (program: () => Resource, table: readonly (readonly [what: string, message: string])[]): void => {
    let errors: string[];

    before(async () => {
      stack.define(() => void program());
      const { ok, messages } = await stack.up();
      assert.equal(ok, false);
      errors = messages.flatMap((message) => /^error .* has a problem: ([^]*?)\n?$/.exec(message)?.[1] ?? []);
    });

    for (const [what, message] of table) {
      it(`${what}: ${message}`, () => assert.ok(errors.includes(message), errors.join("\n")));
    }

    it("and nothing else is wrong", () => assert.deepEqual([...errors].sort(), table.map(([, message]) => message).sort()));

    it("is refused before any host is dialled", () => {
      assert.deepEqual([lab.requests, lab.host("bcn2").counters.connections], [[], 0]);
    });
  };

  describe("of a virtual machine", () => {
    mistakes(() => {
      const args = {
        cluster: at().cluster,
        name: "web_1",
        image: { alias: "debian-12", fingerprnt: "0123456789ab" },
        memroy: "4GiB",
        memory: "4 gigs",
        cpu: "many",
        rootDisk: { size: "20 gigs" },
        target: "bcn 2",
        devices: {
          eth0: {
            type: "nic",
            network: "lxdbr0",
            hwaddr: "00:16:3e:12:34",
            "ipv4.address": "10.10.10.300",
            "ipv4.routes": "192.0.2.0/33",
          },
        },
        timeouts: { create: "10m" },
      };
      return new LxdVm("web1", args as unknown as LxdVmArgs);
    }, [
      ["an unknown key", "memroy is not a known property; did you mean memory?"],
      ["an unknown key further in", "image.fingerprnt is not a known property; did you mean fingerprint?"],
      [
        "a bad name",
        "name is not a valid instance name: 1 to 63 letters, digits and dashes, not only digits, and no dash at either end",
      ],
      ["bad memory text", "memory is not an amount of memory such as 4GiB or 512MiB"],
      ["bad CPU text", 'cpu is neither a number of CPUs nor a set of them such as "0-3"'],
      ["a bad size", "rootDisk.size is not a size such as 20GiB or 500MB"],
      ["a target that no member can have as its name", "target is neither the name of a member nor @group"],
      ["a bad MAC address", "devices.eth0.hwaddr is not a MAC address such as 00:16:3e:12:34:56"],
      ["a bad address", "devices.eth0.ipv4.address is not an IPv4 address (or several, with commas between): 10.10.10.300"],
      ["a bad route", "devices.eth0.ipv4.routes is not an IPv4 network such as 192.0.2.0/24: 192.0.2.0/33"],
      ["bad duration text", "timeouts.create must be a number of seconds, such as 600"],
    ]);
  });

  describe("of a user", () => {
    mistakes(
      () =>
        new VmUser("alice", {
          cluster: at().cluster,
          instance: "web1",
          name: "Alice Liddell",
          groups: ["adm", "my group"],
          shell: "bash",
          authorizedKeys: [
            `ssh-ed25519 ${KEY.slice(0, -4)}`,
            `ssh-rsa ${KEY}`,
            "alice.pub",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            `ssh-ed25519 ${KEY} alice`,
          ],
          passwordHash: "correct horse",
        }),
      [
        [
          "a user name that Linux refuses",
          "name is not a valid user name: 1 to 32 lower-case letters, digits, dashes and underscores, beginning with a letter or underscore",
        ],
        [
          "a group name that Linux refuses",
          "groups.1 is not a valid group name: 1 to 32 lower-case letters, digits, dashes and underscores, beginning with a letter or underscore",
        ],
        ["a shell without its path", "shell is not an absolute path of letters, digits, dots, dashes and underscores"],
        ["a public key that is cut off", "authorizedKeys.0 is damaged: the key is cut off"],
        [
          "a public key of another type than it says",
          "authorizedKeys.1 is damaged: it says ssh-rsa, but the key is not of that type",
        ],
        [
          "a malformed public key",
          'authorizedKeys.2 is not a public key such as "ssh-ed25519 AAAA... name"; known types are ssh-ed25519, ssh-rsa, ' +
            "ecdsa-sha2-nistp256, ecdsa-sha2-nistp384, ecdsa-sha2-nistp521, sk-ssh-ed25519@openssh.com, sk-ecdsa-sha2-nistp256@openssh.com",
        ],
        ["a private key", "authorizedKeys.3 contains a private key; give the public one (the file that ends in .pub)"],
        [
          "a password instead of its hash",
          "passwordHash is not a hash of crypt(3) such as mkpasswd and openssl passwd -6 make; the password itself does not belong here",
        ],
      ],
    );
  });

  describe("of a network", () => {
    mistakes(
      () =>
        new LxdNetwork("lxdbr0", {
          cluster: at().cluster,
          name: "bridge-of-the-lab",
          config: { "ipv4.address": "10.10.10.1", "ipv6.address": "fd42::1/129", "ipv4.nat": "maybe" },
        }),
      [
        ["a bad name", "name is not a valid name of a network interface: 2 to 15 letters, digits, dots, dashes and underscores"],
        [
          "a bad CIDR",
          'config.ipv4.address is not an IPv4 address with its prefix length, such as "10.10.10.1/24", nor "auto" or "none"',
        ],
        [
          "a bad CIDR of IPv6",
          'config.ipv6.address is not an IPv6 address with its prefix length, such as "fd42:10::1/64", nor "auto" or "none"',
        ],
        ["a bad boolean", 'config.ipv4.nat must be "true" or "false"'],
      ],
    );
  });

  describe("of a storage pool", () => {
    mistakes(
      () =>
        new LxdStoragePool("fast", {
          cluster: at().cluster,
          name: "fast/1",
          driver: "zfs",
          config: { source: "/dev/sdb" },
          memberConfig: { bcn2: { size: "lots", "rsync.bwlimit": "1MB" } },
        }),
      [
        [
          "a bad name",
          'name is not a valid name of a storage pool: it must not be empty, "." or "..", or have control characters or slashes or spaces',
        ],
        [
          "a key in the wrong place",
          "memberConfig.bcn2.rsync.bwlimit has one value for all members; set it in config. Keys with a value for each member: source, size, " +
            "source.wipe, source.recover, zfs.pool_name, lvm.vg_name, lvm.thinpool_name",
        ],
        ["a bad size", 'memberConfig.bcn2.size is not a size such as "20GiB"'],
      ],
    );
  });

  describe("of a host", () => {
    mistakes(() => {
      const connection = { ...at().connection, host: "192.168.1.300", usr: "root", hostKey: "SHA256:abc", perDialTimeout: "15s" };
      return new LxdNode("bcn2", {
        connection: connection as unknown as ConnectionArgs,
        install: { method: "apt" as "deb" },
        resetPolicy: ["everything" as "images"],
      });
    }, [
      ["a bad address", "connection.host is neither a host name nor an IP address"],
      ["an unknown key", "connection.usr is not a known property; did you mean user?"],
      ["a malformed host key", 'connection.hostKey is not a public host key such as "ssh-ed25519 AAAA..."'],
      ["bad duration text", "connection.perDialTimeout must be a number of seconds, such as 15, or 0 for no limit"],
      ["a way to install that there is not", 'install.method must be "deb" or "snap"'],
      [
        "a kind of thing that cannot be wiped",
        'resetPolicy.0 must be "instances", "custom-volumes", "images", "storage-pools", "networks" or "cluster"',
      ],
    ]);
  });

  describe("of a cluster member", () => {
    mistakes(
      () =>
        new LxdClusterMember("bcn2", {
          connection: at().connection,
          name: "bcn/2",
          address: "0.0.0.0:8443",
          cluster: { endpoints: [] },
        }),
      [
        ["a bad name", "name is not a valid name of a member: letters, digits, and . _ ~ @ : + - in them, not beginning with @"],
        ["a wildcard", 'address must be one address of the host, such as "192.168.1.102", not a wildcard'],
        ["a cluster without hosts", "cluster.endpoints needs at least one host"],
      ],
    );
  });

  describe("of a cluster", () => {
    const twins = async (key: "name" | "address"): Promise<string[]> => {
      const hosts = [
        { name: "bcn2", address: "192.168.1.102", connection: at().connection },
        { name: "bcn1", address: "192.168.1.101", connection: at().connection },
      ] as const;
      stack.define(() => {
        new LxdCluster("lab", { hosts: [hosts[0], { ...hosts[1], [key]: hosts[0][key] }] });
      });
      const { ok, messages } = await stack.up();
      assert.equal(ok, false);
      // Each inline program that ran in this process before has left its listener for errors, which tells it once more.
      return [...new Set(messages.flatMap((message) => /^error lab: (?:Error: )?([^]*?)\n?$/.exec(message)?.[1] ?? []))];
    };

    it("two members with one name", async () => {
      assert.deepEqual(await twins("name"), ['hosts: two of them have the name "bcn2". Each needs its own']);
    });

    it("two members with one address", async () => {
      assert.deepEqual(await twins("address"), ['hosts: two of them have the address "192.168.1.102". Each needs its own']);
    });

    it("is refused before any host is dialled", () => {
      assert.deepEqual([lab.requests, lab.host("bcn2").counters.connections], [[], 0]);
    });
  });
});

describe("hosts with different versions of LXD", () => {
  it("are not joined into one cluster, and nothing is changed on the one that was to join", async () => {
    const lab = await SimulatedLab.start({
      hosts: [
        { name: "bcn2", lxd: "deb", flavour: "lxd-6", lanAddress: "192.168.1.102" },
        { name: "bcn1", lxd: "deb", flavour: "bookworm-lxd", lanAddress: "192.168.1.101" },
      ],
    });
    const stack = await EngineStack.open();
    try {
      const [bcn2, bcn1] = [lab.host("bcn2"), lab.host("bcn1")];
      stack.define(() => {
        const first = new LxdClusterMember("bcn2", { connection: bcn2.connection, name: "bcn2", address: "192.168.1.102" });
        const cluster = { endpoints: [first.connection] };
        new LxdClusterMember("bcn1", { connection: bcn1.connection, name: "bcn1", address: "192.168.1.101", cluster });
      });
      const { ok, messages } = await stack.up();
      assert.equal(ok, false);
      assert.deepEqual(
        messages.filter((message) => message.startsWith("error bcn1: ")).map((message) => message.trim()),
        [
          `error bcn1: root@127.0.0.1:${bcn1.port} has LXD 5.0.2 (318 API extensions), and the cluster at root@127.0.0.1:${bcn2.port} ` +
            "has 6.9 (364). All members need the same version. With the snap, give this host's LxdNode the revision of a member's LxdNode, " +
            'install: {method: "snap", channel, revision: member.revision}; if the host has a newer one, first run there: ' +
            "snap remove --purge lxd. With Debian's package, use the same Debian release",
        ],
      );
      const changes = lab.mutations().map(({ host, method, path }) => `${host} ${method} ${path.split("?")[0] ?? ""}`);
      assert.deepEqual(
        changes.filter((change) => change.startsWith("bcn1") || change.includes("POST /1.0/cluster/members")),
        [],
      );
    } finally {
      stack.close();
      await lab.stop();
    }
  });
});

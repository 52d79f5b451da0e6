import assert from "node:assert/strict";
import { createConnection } from "node:net";
import { addressOn } from "../../lab/real/switch";
import { clusterMemberLifecycle } from "../../provider/resources/lxd-cluster-member";
import { nodeLifecycle } from "../../provider/resources/lxd-node";
import { bareHosts, type HostName } from "../support/bare-hosts";
import { isInLab } from "../support/real-lab";
import { Managed } from "../unit/resources/simulated-cluster";

/** The hosts' own network. The workstation is not on it. */
const CLUSTER = { name: "cluster", prefix: "10.55.60" };
const HOSTS = ["bcn2", "bcn1"] as const;
const PASSWORD = "correct-horse-battery";

describe("clients on one network, the traffic of the cluster on another", () => {
  const hosts = bareHosts(HOSTS);
  const { at, node, member, onHost, inShell, membersOf } = hosts;

  const clusterAddress = (host: HostName): string => addressOn(CLUSTER, at(host));
  const nodeArgs = (host: HostName): object => node(host, { config: { "core.https_address": `${at(host).address}:8443` } });
  const memberArgs = (host: HostName, more: object = {}): object => member(host, { address: clusterAddress(host), ...more });
  const hasTrustPassword = (): boolean => hosts.lab.flavour.server === "lxd";
  /** Arguments of the second member, which joins by the cluster's password if there can be one. */
  const secondArgs = (): object => memberArgs("bcn1", hasTrustPassword() ? { trustPassword: PASSWORD } : {});
  const nodes = HOSTS.map((host) => ({ host, node: new Managed(nodeLifecycle, host) }));
  const [first, second] = [new Managed(clusterMemberLifecycle, "bcn2"), new Managed(clusterMemberLifecycle, "bcn1")];
  const query = async (host: HostName, path: string): Promise<{ [key: string]: unknown }> =>
    JSON.parse(await onHost(host, hosts.lab.flavour.client, "query", path)) as { [key: string]: unknown };
  /** Whether a client in the workstation can connect to an address. */
  const accepts = (host: string): Promise<boolean> =>
    new Promise((resolve) => {
      const socket = createConnection({ host, port: 8443 });
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
      socket.once("connect", () => socket.destroy());
    });

  before(async () => {
    await hosts.lab.addNetwork(CLUSTER);
    for (const { host, node: one } of nodes) {
      await one.up(nodeArgs(host));
    }
    await first.up(memberArgs("bcn2"));
  });

  after(async () => {
    if (isInLab) {
      await hosts.lab.removeNetwork(CLUSTER.name);
    }
  });

  it("lets the second host join by the cluster's trust password, or says why that cannot be", async () => {
    const byPassword = memberArgs("bcn1", { trustPassword: PASSWORD });
    const has = hasTrustPassword() ? /has no trust password: core\.trust_password is not set/ : /Incus has no trust password/;
    assert.equal(await second.preview(byPassword), "created");
    assert.match(second.notes.join("\n"), has);
    await assert.rejects(second.up(byPassword), has);
    if (hasTrustPassword()) {
      await inShell("bcn2", `lxc config set core.trust_password=${PASSWORD}`);
      await assert.rejects(
        second.up(memberArgs("bcn1", { trustPassword: `${PASSWORD}-` })),
        /not authorized — trustPassword is not the core\.trust_password of the cluster$/,
      );
    }
    await second.up(secondArgs());
    assert.deepEqual(await membersOf("bcn2"), ["bcn1", "bcn2"]);
    for (const host of HOSTS) {
      const lines = await inShell(host, `journalctl --no-pager | grep --count --fixed-strings -e ${PASSWORD} || true`);
      assert.equal(lines, "0", `the log of ${host} has the password`);
    }
  });

  it("assigns a role beside those of the database", async () => {
    assert.equal(await second.up({ ...secondArgs(), manualRoles: ["event-hub"] }), "updated");
    assert.deepEqual((await query("bcn2", "/1.0/cluster/members/bcn1"))["roles"], ["event-hub", "database-standby"]);
  });

  for (const host of HOSTS) {
    it(`${host} sees both members at their addresses of the cluster's network`, async () => {
      assert.deepEqual(await membersOf(host), ["bcn1", "bcn2"]);
      for (const other of HOSTS) {
        const { url, status } = await query(host, `/1.0/cluster/members/${other}`);
        assert.deepEqual({ url, status }, { url: `https://${clusterAddress(other)}:8443`, status: "Online" });
      }
    });

    it(`${host} talks to the other member over the cluster's network alone`, async () => {
      const filter = "( sport = :8443 or dport = :8443 )";
      const connections = await onHost(host, "ss", "--no-header", "--tcp", "--numeric", "state", "established", filter);
      const addresses = [...connections.matchAll(/(\d+\.\d+\.\d+\.\d+)\]?:\d+/g)].map(([, address = ""]) => address);
      assert.notDeepEqual(addresses, []);
      assert.deepEqual(
        addresses.filter((address) => !address.startsWith(`${CLUSTER.prefix}.`)),
        [],
        connections,
      );
    });

    it(`${host} answers clients on their network`, async () => {
      assert.equal(await accepts(at(host).address), true);
      assert.equal(await accepts(clusterAddress(host)), false);
      const { config } = (await query(host, "/1.0")) as { config: Record<string, string> };
      assert.equal(config["core.https_address"], `${at(host).address}:8443`);
      assert.equal(config["cluster.https_address"], `${clusterAddress(host)}:8443`);
    });
  }

  it("changes nothing in a second run", async () => {
    for (const { host, node: one } of nodes) {
      assert.equal(await one.up(nodeArgs(host)), "same");
    }
    assert.equal(await first.up(memberArgs("bcn2")), "same");
    assert.equal(await second.up({ ...secondArgs(), manualRoles: ["event-hub"] }), "same");
  });
});

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

describe("clients on one network, the traffic of the cluster on another", () => {
  const hosts = bareHosts(HOSTS);
  const { at, node, member, onHost, membersOf } = hosts;

  const clusterAddress = (host: HostName): string => addressOn(CLUSTER, at(host));
  const nodeArgs = (host: HostName): object => node(host, { config: { "core.https_address": `${at(host).address}:8443` } });
  const memberArgs = (host: HostName): object => member(host, { address: clusterAddress(host) });
  const nodes = HOSTS.map((host) => ({ host, node: new Managed(nodeLifecycle, host) }));
  const members = HOSTS.map((host) => ({ host, member: new Managed(clusterMemberLifecycle, host) }));
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
    for (const { host, member: one } of members) {
      await one.up(memberArgs(host));
    }
  });

  after(async () => {
    if (isInLab) {
      await hosts.lab.removeNetwork(CLUSTER.name);
    }
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
    for (const { host, member: one } of members) {
      assert.equal(await one.up(memberArgs(host)), "same");
    }
  });
});

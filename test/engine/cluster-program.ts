import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { SimulatedHost, SimulatedLab } from "../../lab/simulated";
import {
  LxdClusterMember,
  type LxdClusterMemberArgs,
  LxdImage,
  type LxdImageArgs,
  LxdNetwork,
  LxdNode,
  LxdProfile,
  type LxdProfileArgs,
  LxdStoragePool,
  LxdVm,
  type LxdVmArgs,
  VmUser,
  type VmUserArgs,
} from "../../provider/index";
import { LxdClient } from "../../provider/lxd/client/client";
import { endpointOf } from "../../provider/lxd/client/endpoint";
import { Deadline } from "../../provider/support/deadline";
import { connectionSchema } from "../../provider/transport/connection";
import { connect, disconnectAll } from "../../provider/transport/pool";

/** What a test may have otherwise. */
export interface ClusterProgram {
  /** What every connection has besides, or in place of, host, port, user, key and host key. */
  connection?: Record<string, unknown> | ((host: SimulatedHost) => Record<string, unknown>);
  /** The hosts of the cluster, the first of which makes it. @default all of the lab */
  hosts?: readonly SimulatedHost[];
  /** What each member has besides. */
  member?: Partial<LxdClusterMemberArgs>;
  /** Another image, that nothing uses. */
  image?: Omit<LxdImageArgs, "cluster">;
  profile?: Partial<LxdProfileArgs>;
  /** Another profile, that nothing uses. */
  extra?: Omit<LxdProfileArgs, "cluster">;
  /** The VMs by name; each with what differs from a small container. */
  vms?: Record<string, Partial<LxdVmArgs>>;
  /** A user in each VM. */
  user?: Partial<VmUserArgs>;
}

/** The program of most tests: two bare hosts become a cluster with a pool, an image, a profile and VMs on it. */
export function clusterProgram(
  lab: SimulatedLab,
  { connection, hosts = lab.hosts, member, image: another, profile, extra, vms = {}, user }: ClusterProgram = {},
): () => void {
  const directory = join(lab.knownHostsPath, "..");
  const [metadataPath, rootfsPath] = [join(directory, "metadata.tar"), join(directory, "rootfs.squashfs")];
  writeFileSync(metadataPath, "metadata");
  writeFileSync(rootfsPath, "rootfs");
  return () => {
    const members: LxdClusterMember[] = [];
    for (const host of hosts) {
      const { name, lanAddress: address, connection: own } = host;
      const node = new LxdNode(name, {
        connection: { ...own, ...(typeof connection === "function" ? connection(host) : connection) },
        install: { method: "deb" },
        config: { "core.https_address": `${address}:8443` },
      });
      const [first] = members;
      members.push(
        new LxdClusterMember(name, {
          connection: node.connection,
          name,
          address,
          ...member,
          ...(first !== undefined && { cluster: { endpoints: [first.connection] } }),
        }),
      );
    }
    const cluster = { endpoints: members.map((member) => member.connection) };
    const pool = new LxdStoragePool("default", { cluster, name: "default", driver: "dir" });
    const bridge = new LxdNetwork("lxdbr0", { cluster, name: "lxdbr0" });
    const image = new LxdImage("debian", { cluster, metadataPath, rootfsPath });
    if (another !== undefined) {
      new LxdImage("another", { cluster, ...another });
    }
    const web = new LxdProfile("web", {
      cluster,
      name: "web",
      config: { "limits.memory": "1GiB" },
      ...profile,
      devices: {
        root: { type: "disk", path: "/", pool: pool.name },
        eth0: { type: "nic", network: bridge.name, name: "eth0" },
      },
    });
    if (extra !== undefined) {
      new LxdProfile("extra", { cluster, ...extra });
    }
    for (const [name, args] of Object.entries(vms)) {
      const vm = new LxdVm(name, {
        cluster,
        name,
        instanceType: "container",
        image: { fingerprint: image.fingerprint },
        profiles: [web.name],
        ...args,
      });
      if (user !== undefined) {
        new VmUser(`${name}-ops`, { cluster, instance: vm.name, name: "ops", ...user });
      }
    }
  };
}

/** Changes something on LXD of a simulated host, as a person would, behind the library's back. */
export async function byHand(lab: SimulatedLab, host: string, work: (lxd: LxdClient) => Promise<unknown>): Promise<void> {
  const deadline = new Deadline(60, "a change by hand");
  const ssh = await connect(connectionSchema.parse(lab.host(host).connection), { deadline });
  await work(new LxdClient(await endpointOf(ssh, deadline), deadline));
  await disconnectAll();
}

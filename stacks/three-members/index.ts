/** A cluster of three members in two racks. Every key of its config is explained in Pulumi.lab.yaml. */
import * as pulumi from "@pulumi/pulumi";
import {
  type ConnectionArgs,
  LxdClusterGroup,
  LxdNetwork,
  LxdNetworkAcl,
  LxdProject,
  LxdServerConfig,
  LxdStorageVolume,
  type PlacementArgs,
} from "pulumi-lxd-cluster";
import { type ClusterHostArgs, LxdCluster, type LxdClusterArgs, VmGroup } from "pulumi-lxd-cluster/components";

interface Host extends Pick<ClusterHostArgs, "name" | "node" | "member"> {
  address: string;
  connection: Omit<ConnectionArgs, "host">;
  rack: string;
  disk: string;
  outside?: string;
}

const config = new pulumi.Config();
const hosts = config.requireObject<Host[]>("hosts");
const directories = config.requireObject<string[]>("directories");

/** What each host has of its own. */
const perHost = <Value>(value: (host: Host) => Value): Record<string, Value> =>
  Object.fromEntries(hosts.map((host) => [host.name, value(host)]));

const disks = perHost(({ disk }) => ({ source: disk }));
const outside = perHost((host) => ({ "bridge.external_interfaces": host.outside ?? "" }));

const lxd = new LxdCluster("cluster", {
  hosts: hosts.map(({ rack, disk: _, outside: __, connection, member, ...host }) => ({
    ...host,
    connection: { ...connection, host: host.address },
    member: {
      failureDomain: rack,
      // Its part of the pool and of the network, when it joins a cluster that has them.
      memberConfig: { pools: { data: disks[host.name] ?? {} }, networks: { web: outside[host.name] ?? {} } },
      ...member,
    },
  })),
  pools: {
    data: { driver: "btrfs", memberConfig: disks },
    ...Object.fromEntries(directories.map((name) => [name, { driver: "dir" as const }])),
  },
  images: { "debian-12": config.requireObject<NonNullable<LxdClusterArgs["images"]>[string]>("image") },
});

const members = Object.values(lxd.members).map(({ name }) => name);

new LxdServerConfig("settings", { cluster: lxd, config: config.requireObject<Record<string, string | number>>("serverConfig") });

const web = new LxdClusterGroup("web", { cluster: lxd, name: "web", description: "Members with web servers", members });

for (const member of config.requireObject<string[]>("databaseOn")) {
  new LxdStorageVolume(`database-${member}`, {
    ...{ cluster: lxd, name: "database", pool: "data", target: member },
    ...{ config: { size: "256MiB" }, deleteData: true },
  });
}

const acl = new LxdNetworkAcl("web", {
  cluster: lxd,
  name: "web",
  description: "Web servers answer on two ports",
  ingress: [{ action: "allow", protocol: "tcp", destinationPort: "80,443" }],
});

const network = new LxdNetwork("web", {
  cluster: lxd,
  name: "web",
  config: { "ipv4.address": "192.168.100.1/24", "ipv4.nat": true, "ipv6.address": "none", "security.acls": acl.name },
  memberConfig: outside,
});

const project = new LxdProject("shop", {
  cluster: lxd,
  name: "shop",
  config: { "features.images": false, "features.profiles": false, "features.storage.volumes": false },
});

const group = new VmGroup("vms", {
  cluster: lxd,
  project: project.name,
  defaults: {
    instanceType: "container",
    image: { alias: "debian-12" },
    target: pulumi.interpolate`@${web.name}`,
    placement: { policy: config.require<NonNullable<PlacementArgs["policy"]> & string>("policy") },
    memory: "128MiB",
    devices: { root: { type: "disk", path: "/", pool: "data" }, eth0: { type: "nic", network: network.name } },
    running: config.requireBoolean("running"),
  },
  vms: Array.from({ length: config.requireNumber("webServers") }, (_, index) => ({ name: `web${index + 1}` })),
});

/** The member of each web server. */
export const locations = pulumi.output(
  Object.fromEntries(Object.entries(group.vms).map(([name, { location }]) => [name, location])),
);

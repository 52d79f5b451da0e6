/** A cluster with its profiles, instances and users, all from the config: Pulumi.lab.yaml, Pulumi.thinkube.yaml. */
import { LxdCluster, VmGroup, VmProfiles } from "../components/index";
import { readConfig } from "./config";
import { prepareHost } from "./prepare-hosts";

const config = readConfig();

const lxd = new LxdCluster("cluster", {
  hosts: config.hosts.map(({ prepare, ...host }) => ({ ...host, dependsOn: prepareHost(host, prepare) })),
  pools: config.pools,
  networks: config.networks,
  images: config.images,
});

const profiles = new VmProfiles("profiles", { cluster: lxd, ...config.profiles });

const group = new VmGroup("vms", { cluster: lxd, defaults: config.vmDefaults, vms: config.vms }, { dependsOn: [profiles] });

/** How to reach the cluster, for other stacks. */
export const cluster = lxd.connection;

/** The addresses of each instance, by the names of its NICs. */
export const addresses = group.addresses;

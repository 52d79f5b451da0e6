/** A stack that puts an instance on the cluster of another stack. It could be in another repository. */
import * as pulumi from "@pulumi/pulumi";
import type { ClusterConnectionArgs } from "pulumi-lxd-cluster";
import { VmGroup } from "pulumi-lxd-cluster/components";

const config = new pulumi.Config();
const cluster = new pulumi.StackReference(config.require("clusterStack")).requireOutput(
  "cluster",
) as pulumi.Output<ClusterConnectionArgs>;

const group = new VmGroup("tenant", {
  cluster,
  vms: [
    {
      name: config.require("vm"),
      target: config.require("target"),
      instanceType: config.require<"virtual-machine" | "container">("instanceType"),
      image: { alias: config.require("image") },
      profiles: ["vm-networks", "vm-resources"],
      waitFor: [{ for: "cloud-init" }, { for: "ipv4", nic: "eth0" }],
      users: [{ name: "tenant", sudo: "passwordless", authorizedKeys: [config.require("publicKey")] }],
    },
  ],
});

/** The addresses of the instance, by the names of its NICs. */
export const addresses = group.addresses;

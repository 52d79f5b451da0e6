/**
 * What the pointer in state resolves to (engine/pointer.ts). The path of this module in the package's exports must never change.
 */
import { type DynamicProvider, dynamicProvider, printErrorsOnce } from "./engine/adapter";
import type { Lifecycle } from "./engine/lifecycle";
import { endWithEngine } from "./engine/parent";
import { clusterMemberLifecycle } from "./resources/lxd-cluster-member";
import { imageLifecycle } from "./resources/lxd-image";
import { networkLifecycle } from "./resources/lxd-network";
import { nodeLifecycle } from "./resources/lxd-node";
import { profileLifecycle } from "./resources/lxd-profile";
import { storagePoolLifecycle } from "./resources/lxd-storage-pool";
import { vmLifecycle } from "./resources/lxd-vm";
import { vmUserLifecycle } from "./resources/vm-user";

// biome-ignore format: one line for each kind
const LIFECYCLES: Readonly<Record<string, () => DynamicProvider>> = {
  LxdNode: () => provide(nodeLifecycle),
  LxdClusterMember: () => provide(clusterMemberLifecycle),
  LxdStoragePool: () => provide(storagePoolLifecycle),
  LxdNetwork: () => provide(networkLifecycle),
  LxdImage: () => provide(imageLifecycle),
  LxdProfile: () => provide(profileLifecycle),
  LxdVm: () => provide(vmLifecycle),
  VmUser: () => provide(vmUserLifecycle),
};

printErrorsOnce();
endWithEngine();

/** The dynamic provider of a kind of resource. */
export function provider(kind: string): DynamicProvider {
  const make = LIFECYCLES[kind];
  if (make === undefined) {
    throw new Error(
      `pulumi-lxd-cluster has no resource kind "${kind}". Was state written by a newer version? Update the package`,
    );
  }
  return make();
}

function provide<Inputs extends object, Outputs extends object>(lifecycle: Lifecycle<Inputs, Outputs>): DynamicProvider {
  return dynamicProvider(lifecycle);
}

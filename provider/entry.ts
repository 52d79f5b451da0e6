/** The module that the pointer in state resolves to (engine/pointer.ts). Its path in the package never changes. */
import { type DynamicProvider, dynamicProvider } from "./engine/adapter";
import { Program } from "./engine/program";
import { endWithEngine, printErrorsOnce } from "./engine/provider-process";
import { hostSysctlsLifecycle } from "./resources/host-sysctls";
import { clusterGroupLifecycle } from "./resources/lxd-cluster-group";
import { clusterMemberLifecycle } from "./resources/lxd-cluster-member";
import { imageLifecycle } from "./resources/lxd-image";
import { networkLifecycle } from "./resources/lxd-network";
import { networkAclLifecycle } from "./resources/lxd-network-acl";
import { networkForwardLifecycle } from "./resources/lxd-network-forward";
import { nodeLifecycle } from "./resources/lxd-node";
import { profileLifecycle } from "./resources/lxd-profile";
import { projectLifecycle } from "./resources/lxd-project";
import { serverConfigLifecycle } from "./resources/lxd-server-config";
import { storagePoolLifecycle } from "./resources/lxd-storage-pool";
import { storageVolumeLifecycle } from "./resources/lxd-storage-volume";
import { trustCertificateLifecycle } from "./resources/lxd-trust-certificate";
import { vmLifecycle } from "./resources/lxd-vm";
import { hostCommandLifecycle, vmCommandLifecycle } from "./resources/machine-command";
import { hostFileLifecycle, vmFileLifecycle } from "./resources/machine-file";
import { hostPackagesLifecycle, vmPackagesLifecycle } from "./resources/machine-packages";
import { hostServiceLifecycle, vmServiceLifecycle } from "./resources/machine-service";
import { hostUserLifecycle, vmUserLifecycle } from "./resources/machine-user";

const PROGRAM = new Program();

const LIFECYCLES: Readonly<Record<string, () => DynamicProvider>> = {
  LxdNode: () => dynamicProvider(nodeLifecycle),
  LxdClusterMember: () => dynamicProvider(clusterMemberLifecycle),
  LxdClusterGroup: () => dynamicProvider(clusterGroupLifecycle),
  LxdServerConfig: () => dynamicProvider(serverConfigLifecycle),
  LxdStoragePool: () => dynamicProvider(storagePoolLifecycle),
  LxdNetwork: () => dynamicProvider(networkLifecycle),
  LxdNetworkAcl: () => dynamicProvider(networkAclLifecycle),
  LxdNetworkForward: () => dynamicProvider(networkForwardLifecycle),
  LxdImage: () => dynamicProvider(imageLifecycle),
  LxdProfile: () => dynamicProvider(profileLifecycle),
  LxdProject: () => dynamicProvider(projectLifecycle),
  LxdStorageVolume: () => dynamicProvider(storageVolumeLifecycle, undefined, PROGRAM),
  LxdTrustCertificate: () => dynamicProvider(trustCertificateLifecycle),
  LxdVm: () => dynamicProvider(vmLifecycle, undefined, PROGRAM),
  HostSysctls: () => dynamicProvider(hostSysctlsLifecycle),
  VmUser: () => dynamicProvider(vmUserLifecycle),
  HostUser: () => dynamicProvider(hostUserLifecycle),
  VmCommand: () => dynamicProvider(vmCommandLifecycle),
  HostCommand: () => dynamicProvider(hostCommandLifecycle),
  VmFile: () => dynamicProvider(vmFileLifecycle),
  HostFile: () => dynamicProvider(hostFileLifecycle),
  VmService: () => dynamicProvider(vmServiceLifecycle),
  HostService: () => dynamicProvider(hostServiceLifecycle),
  VmPackages: () => dynamicProvider(vmPackagesLifecycle),
  HostPackages: () => dynamicProvider(hostPackagesLifecycle),
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

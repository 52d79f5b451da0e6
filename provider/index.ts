export { LxdResource, type TimeoutArgs } from "./engine/resource";
export type {
  ClusterConnectionArgs,
  ClusterInput,
  ConfigArgs,
  ConfigValue,
  ConnectionArgs,
  DevicesArgs,
  InInstanceArgs,
  OnHostArgs,
  ProxyConnectionArgs,
} from "./resources/common-args";
export { HostSysctls, type HostSysctlsArgs } from "./resources/host-sysctls";
export type { AptRepositoryArgs, InstallArgs } from "./resources/install-args";
export { LxdClusterGroup, type LxdClusterGroupArgs } from "./resources/lxd-cluster-group";
export { LxdClusterMember } from "./resources/lxd-cluster-member";
export type { LxdClusterMemberArgs, MemberConfigArgs } from "./resources/lxd-cluster-member-args";
export { LxdImage, type LxdImageArgs } from "./resources/lxd-image";
export { LxdNetwork, type LxdNetworkArgs } from "./resources/lxd-network";
export { LxdNetworkAcl, type LxdNetworkAclArgs, type NetworkAclRuleArgs } from "./resources/lxd-network-acl";
export { LxdNetworkForward, type LxdNetworkForwardArgs, type NetworkForwardPortArgs } from "./resources/lxd-network-forward";
export { LxdNode } from "./resources/lxd-node";
export type { LxdNodeArgs } from "./resources/lxd-node-args";
export { LxdProfile, type LxdProfileArgs } from "./resources/lxd-profile";
export { LxdProject, type LxdProjectArgs } from "./resources/lxd-project";
export { LxdServerConfig, type LxdServerConfigArgs } from "./resources/lxd-server-config";
export { LxdStoragePool, type LxdStoragePoolArgs } from "./resources/lxd-storage-pool";
export {
  type DiskOptions,
  LxdStorageVolume,
  type LxdStorageVolumeArgs,
  type StorageVolumeSourceArgs,
} from "./resources/lxd-storage-volume";
export { LxdTrustCertificate, type LxdTrustCertificateArgs } from "./resources/lxd-trust-certificate";
export { LxdVm, type LxdVmArgs } from "./resources/lxd-vm";
export type {
  CloudInitArgs,
  ImageSourceArgs,
  NicAddresses,
  PlacementArgs,
  RootDiskArgs,
  WaitConditionArgs,
} from "./resources/lxd-vm-args";
export { type CommandArgs, HostCommand, type HostCommandArgs, VmCommand, type VmCommandArgs } from "./resources/machine-command";
export { type FileArgs, HostFile, type HostFileArgs, VmFile, type VmFileArgs } from "./resources/machine-file";
export {
  HostPackages,
  type HostPackagesArgs,
  type PackageArgs,
  type PackagesArgs,
  VmPackages,
  type VmPackagesArgs,
} from "./resources/machine-packages";
export {
  HostService,
  type HostServiceArgs,
  type ServiceArgs,
  VmService,
  type VmServiceArgs,
} from "./resources/machine-service";
export { HostUser, type HostUserArgs, type UserArgs, VmUser, type VmUserArgs } from "./resources/machine-user";

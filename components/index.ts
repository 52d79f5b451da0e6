export { type ClusterHostArgs, LxdCluster, type LxdClusterArgs } from "./lxd-cluster";
export type { GuestInterfaceArgs, GuestRouteArgs } from "./network-config";
export {
  type GpuArgs,
  VmGroup,
  type VmGroupArgs,
  type VmGroupMemberArgs,
  type VmGroupUserArgs,
  type VmSettingsArgs,
} from "./vm-group";
export {
  type GpuProfileArgs,
  type NetworksProfileArgs,
  type ResourcesProfileArgs,
  VmProfiles,
  type VmProfilesArgs,
} from "./vm-profiles";

export { LxdResource, type TimeoutArgs } from "./engine/resource";
export type {
  ClusterConnectionArgs,
  ConfigArgs,
  ConfigValue,
  ConnectionArgs,
  DevicesArgs,
  ProxyConnectionArgs,
} from "./resources/common-args";
export { LxdClusterMember, type LxdClusterMemberArgs, type MemberConfigArgs } from "./resources/lxd-cluster-member";
export { type InstallArgs, LxdNode, type LxdNodeArgs } from "./resources/lxd-node";
export { LxdProfile, type LxdProfileArgs } from "./resources/lxd-profile";

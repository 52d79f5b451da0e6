export { LxdResource, type TimeoutArgs } from "./engine/resource";
export type {
  ClusterConnectionArgs,
  ConfigArgs,
  ConfigValue,
  ConnectionArgs,
  DevicesArgs,
  ProxyConnectionArgs,
} from "./resources/common-args";
export { LxdProfile, type LxdProfileArgs } from "./resources/lxd-profile";

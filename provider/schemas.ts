/**
 * The schemas of the resources' arguments, for programs of this repository that read arguments from config. They are no part of
 * the package's entry, whose types load no zod.
 */
export { clusterMemberSchema } from "./resources/lxd-cluster-member-args";
export { imageSchema } from "./resources/lxd-image";
export { networkSchema } from "./resources/lxd-network";
export { nodeSchema } from "./resources/lxd-node-args";
export { storagePoolSchema } from "./resources/lxd-storage-pool";
export { vmSchema } from "./resources/lxd-vm";
export { vmUserSchema } from "./resources/machine-user";

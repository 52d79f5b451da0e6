import { hostCommandDrift, vmCommandDrift } from "./commands";
import { hostFileDrift, vmFileDrift } from "./files";
import { hostSysctlsDrift } from "./host-sysctls";
import { clusterGroupDrift } from "./lxd-cluster-group";
import { clusterMemberDrift } from "./lxd-cluster-member";
import { imageDrift } from "./lxd-image";
import { networkDrift } from "./lxd-network";
import { networkAclDrift } from "./lxd-network-acl";
import { networkForwardDrift } from "./lxd-network-forward";
import { nodeDrift } from "./lxd-node";
import { profileDrift } from "./lxd-profile";
import { projectDrift } from "./lxd-project";
import { serverConfigDrift } from "./lxd-server-config";
import { storagePoolDrift } from "./lxd-storage-pool";
import { storageVolumeDrift } from "./lxd-storage-volume";
import { trustCertificateDrift } from "./lxd-trust-certificate";
import { vmDrift } from "./lxd-vm";
import { hostPackagesDrift, vmPackagesDrift } from "./packages";
import { hostServiceDrift, vmServiceDrift } from "./services";
import type { DriftTable } from "./table";
import { hostUserDrift, vmUserDrift } from "./users";

/** The tables of all kinds, in the order of the page. */
export const DRIFT_TABLES: readonly DriftTable[] = [
  nodeDrift,
  clusterMemberDrift,
  clusterGroupDrift,
  serverConfigDrift,
  storagePoolDrift,
  storageVolumeDrift,
  networkDrift,
  networkAclDrift,
  networkForwardDrift,
  imageDrift,
  projectDrift,
  trustCertificateDrift,
  profileDrift,
  vmDrift,
  vmUserDrift,
  vmFileDrift,
  vmCommandDrift,
  hostUserDrift,
  hostFileDrift,
  hostCommandDrift,
  hostSysctlsDrift,
  vmServiceDrift,
  hostServiceDrift,
  vmPackagesDrift,
  hostPackagesDrift,
];

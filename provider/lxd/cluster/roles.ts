/**
 * Roles of cluster members. The server assigns those of its database, and reports them in the same list as those that a person assigns.
 * @see https://documentation.ubuntu.com/lxd/latest/explanation/clusters/#member-roles (LXD 5.0 to 6), and Incus's page of that name
 */
import type { LxdClient } from "../client/client";
import { getServerShared } from "../server";

/** Roles that a person assigns. Not every server has all of them. */
export const MANUAL_ROLES = ["event-hub", "ovn-chassis", "control-plane", "database-client"] as const;

export type ManualRole = (typeof MANUAL_ROLES)[number];

/** Roles that the server assigns alone. LXD from 6.8 on calls `database` `database-voter`. */
const AUTOMATIC_ROLES: readonly unknown[] = ["database", "database-leader", "database-voter", "database-standby"];

/** API extensions with which a role came. None tells of `database-client`, which Incus 6.0 does not have. */
const EXTENSIONS: Partial<Record<ManualRole, string>> = {
  "ovn-chassis": "cluster_ovn_chassis",
  "control-plane": "clustering_control_plane",
};

export function isManualRole(role: unknown): role is ManualRole {
  return MANUAL_ROLES.some((manual) => manual === role);
}

/** The roles of a member when it has these of its manual ones. The rest stays: a server refuses a change of it. */
export function withManualRoles(roles: readonly string[], manual: readonly ManualRole[]): string[] {
  return [...roles.filter((role) => !isManualRole(role)), ...new Set(manual)];
}

/** Why no program can give a member this role. */
export function faultOfRole(role: unknown): string {
  const which = `one of ${MANUAL_ROLES.join(", ")}`;
  return AUTOMATIC_ROLES.includes(role)
    ? `must be ${which}: the server alone assigns the roles of its database, which are in the output roles`
    : `must be ${which}`;
}

/** Why a server does not take these roles, as far as it tells; `undefined` when it may. */
export async function whyNoRoles(lxd: LxdClient, roles: readonly ManualRole[] = []): Promise<string | undefined> {
  if (roles.length === 0) {
    return undefined;
  }
  const { api_extensions: extensions } = await getServerShared(lxd);
  const isThere = (role: ManualRole): boolean => {
    const extension = EXTENSIONS[role];
    return role === "database-client" ? lxd.names.server === "incus" : extension === undefined || extensions.includes(extension);
  };
  const missing = roles.filter((role) => !isThere(role));
  return missing.length === 0
    ? undefined
    : `${lxd.names.name} at ${lxd.host} does not have the role ${missing.join(", ")} of manualRoles`;
}

/** What the upgrade of a member's server has reached, and what comes next. */
import type { Context, SshConnection } from "../engine/lifecycle";
import { readNote } from "../host/notes";
import { direction } from "../host/snapd-channels";
import type { LxdClient } from "../lxd/client/client";
import { EVACUATED, listMembersShared } from "../lxd/cluster/cluster";
import type { Server } from "../lxd/server";
import { hostMachine } from "../machine/host";
import { isOlderDeb } from "../machine/packages/apt";
import type { Deadline } from "../support/deadline";
import { fallback } from "../support/errors";
import type { Installed } from "./lxd-node-install";
import type { Install } from "./lxd-node-install-schema";

/** What is known of a server that may have to be upgraded. */
export interface UpgradeFacts {
  /** Whether the installed version, channel or revision is older than the wanted one. */
  readonly isBehind: boolean;
  /** Version of the installed package; `undefined` when `install` is false. */
  readonly installed?: string | undefined;
  /** Version of the daemon; `undefined` while it does not answer. */
  readonly running?: string | undefined;
  /** Status in its cluster; `undefined` for a server in none. */
  readonly status?: string | undefined;
  /** Whether an upgrade has begun to evacuate it, and has not restored it. */
  readonly isInEvacuation: boolean;
  /** Whether an upgrade evacuates it. */
  readonly evacuates: boolean;
}

/** What an upgrade has reached. */
type UpgradeState = "up to date" | "update pending" | "evacuating" | "evacuated" | "restarting" | "restore pending";

/** What comes next. */
type RecommendedAction = "none" | "update" | "evacuate" | "restart" | "restore";

/** Outputs of an LxdNode. Absent in older states until the next refresh. */
export interface UpgradeOutputs {
  /** What it has reached. */
  upgradeState?: UpgradeState | undefined;
  /** What comes next. */
  recommendedAction?: RecommendedAction | undefined;
}

/** Works out the outputs. Pure. */
export function upgradeOutputs(facts: UpgradeFacts): Required<UpgradeOutputs> {
  const { isBehind, running, status, isInEvacuation, evacuates } = facts;
  const of = (upgradeState: UpgradeState, recommendedAction: RecommendedAction) => ({ upgradeState, recommendedAction });
  if (running === undefined) {
    // It starts, or waits for other members. Or it is the one for which these wait.
    return of("restarting", isBehind ? "update" : isInEvacuation ? "restore" : "none");
  }
  if (isInEvacuation) {
    if (!isBehind) {
      return of("restore pending", "restore");
    }
    return status === EVACUATED ? of("evacuated", "update") : of("evacuating", "evacuate");
  }
  if (isBehind || status === "Blocked") {
    return of("update pending", evacuates && status !== undefined && status !== EVACUATED ? "evacuate" : "update");
  }
  if (isOlderThanPackage(facts)) {
    return of("update pending", "restart");
  }
  return status === EVACUATED ? of("evacuated", "none") : of("up to date", "none");
}

/** Whether an upgrade has evacuated the member and not restored it: the next `pulumi up` finishes it. Pure. */
export function isUnfinished({ upgradeState, recommendedAction }: UpgradeOutputs): boolean {
  return (
    recommendedAction === "restore" ||
    upgradeState === "evacuating" ||
    (upgradeState === "evacuated" && recommendedAction === "update")
  );
}

/**
 * Whether the daemon is of another version than its package: it was not restarted. The daemon tells its version without the package's revision, such
 * as 5.0.2 of 5.0.2-5. A package may have a name in place of a version.
 */
function isOlderThanPackage({ installed, running = "" }: UpgradeFacts): boolean {
  const upstream = installed?.replace(/^\d+:/, "") ?? "";
  const follows = upstream.startsWith(running) ? upstream.slice(running.length) : "0";
  return /^\d/.test(upstream) && /^[\d.]/.test(follows);
}

/**
 * Reads what an upgrade has reached.
 * @param server - What the server tells; `undefined` while it does not answer.
 */
export async function observeUpgrade(
  context: Context,
  ssh: SshConnection,
  lxd: LxdClient,
  server: Server | undefined,
  installed: Installed,
  wanted: Install,
): Promise<Required<UpgradeOutputs>> {
  return upgradeOutputs({
    isBehind: await isOlderThan(ssh, installed, wanted, context.deadline),
    installed: installed.packageVersion,
    running: server?.environment.server_version,
    status: server && (await statusOf(lxd, server)),
    isInEvacuation: (await readNote(ssh, "pulumi-lxd-upgrade", context.deadline)) !== undefined,
    evacuates: wanted !== false && wanted.evacuate === true,
  });
}

/** Status of the server in its cluster; `undefined` also when its cluster does not answer, which other resources report. */
async function statusOf(lxd: LxdClient, { environment }: Server): Promise<string | undefined> {
  const { server_clustered: isMember, server_name: name } = environment;
  const members = isMember ? await listMembersShared(lxd.impatient).catch(fallback([], "api")) : [];
  return members.find(({ server_name }) => server_name === name)?.status;
}

/** Whether an older version, channel or revision is installed than the wanted one. */
async function isOlderThan(ssh: SshConnection, installed: Installed, wanted: Install, deadline: Deadline): Promise<boolean> {
  const { install: found, revision, packageVersion } = installed;
  if (found === false || wanted === false) {
    return false;
  }
  if (found.method === "snap" && wanted.method === "snap") {
    const present = revision ?? found.revision;
    const isOldRevision = wanted.revision !== undefined && present !== undefined && present < wanted.revision;
    return isOldRevision || direction({ channel: found.channel, version: packageVersion }, wanted) === "forwards";
  }
  const pinned = wanted.method === "deb" ? wanted.version : undefined;
  if (found.method !== "deb" || pinned === undefined || packageVersion === undefined || packageVersion === pinned) {
    return false;
  }
  return isOlderDeb(hostMachine(ssh, deadline), packageVersion, pinned);
}

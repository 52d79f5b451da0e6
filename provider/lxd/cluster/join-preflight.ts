/** What is looked at before a server joins a cluster, so that nothing is touched when it cannot. */
import { RefusedError } from "../../support/errors";
import type { LxdClient } from "../client/client";
import { describeInventory, takeInventory } from "../inventory";
import { type Server, serverConfig } from "../server";
import { listMembers } from "./cluster";

/** A server that is to join, and the cluster that it is to join through one of its members. */
export interface Meeting {
  /** API of the server that joins. */
  readonly host: LxdClient;
  readonly joining: Server;
  /** API of a member. */
  readonly cluster: LxdClient;
  readonly target: Server;
}

/**
 * Whether the server is a member of this cluster, under this name, already.
 * @throws RefusedError when it is one under another name, or a member of another cluster, or the cluster is none.
 */
export function isMemberAlready({ host, joining, cluster, target }: Meeting, name: string): boolean {
  if (!target.environment.server_clustered) {
    throw new RefusedError(
      `${cluster.host} is not in a cluster, so ${name} cannot join it there. Bootstrap it first (LxdClusterMember without cluster)`,
    );
  }
  if (!joining.environment.server_clustered) {
    return false;
  }
  // All members present the cluster's certificate.
  if (joining.environment.certificate_fingerprint !== target.environment.certificate_fingerprint) {
    throw new RefusedError(
      `LXD on ${host.host} is a member of another cluster, as "${joining.environment.server_name}". Remove it there, or wipe it: ` +
        `${howToWipe(["cluster"])}, and replace that if it is made already (pulumi up --replace URN)`, // a member is wiped by a new node alone
    );
  }
  refuseOtherName(host, joining, name);
  return true;
}

/** How to start from an empty LXD, as the end of a sentence. */
export function howToWipe(kinds: readonly string[]): string {
  return `give its LxdNode resetPolicy: [${kinds.map((kind) => `"${kind}"`).join(", ")}]`;
}

/** @throws RefusedError when a clustered server has another name in its cluster than it is to have. */
export function refuseOtherName(lxd: LxdClient, { environment }: Server, name: string): void {
  if (environment.server_name !== name) {
    throw new RefusedError(
      `LXD on ${lxd.host} is already in a cluster, as "${environment.server_name}". Use that name, or rename it there (lxc cluster rename ` +
        `${environment.server_name} ${name})`,
    );
  }
}

/** @throws RefusedError when the server is not one that LXD would take in, or would lose something by joining. */
export async function refuseToJoin(meeting: Meeting, name: string, address: string): Promise<void> {
  refuseDifferentVersions(meeting);
  refuseWildcard(meeting, address);
  const { host } = meeting;
  const holds = await takeInventory(host);
  if (Object.keys(holds).length > 0) {
    throw new RefusedError(
      `LXD on ${host.host} holds ${describeInventory(holds)}, and only an empty LXD can join a cluster, here as ${name}. Remove that, ` +
        `or wipe it: ${howToWipe(Object.keys(holds))}`,
    );
  }
}

/**
 * An empty member that an earlier attempt left in the cluster for this very server.
 * @throws RefusedError when a member that is not such a one has the name or address.
 */
export async function findStaleMember(cluster: LxdClient, name: string, address: string): Promise<string | undefined> {
  const url = `https://${address}`;
  const taken = (await listMembers(cluster)).find((member) => member.server_name === name || member.url === url);
  if (taken === undefined) {
    return undefined;
  }
  const is = `The cluster at ${cluster.host} already has the member "${taken.server_name}" with the address ${taken.url}`;
  if (taken.server_name !== name || taken.url !== url) {
    throw new RefusedError(`${is}, and this one would be "${name}" with ${url}. Choose another name or address`);
  }
  const { instances, "custom-volumes": volumes } = await takeInventory(cluster, taken.server_name);
  if (taken.status === "Online" || instances !== undefined || volumes !== undefined) {
    throw new RefusedError(
      `${is}, but the host itself knows nothing of it. If it was reinstalled, remove the old member, with what it held: ` +
        `lxc cluster remove --force ${taken.server_name}`,
    );
  }
  return taken.server_name;
}

function refuseDifferentVersions({ host, joining, cluster, target }: Meeting): void {
  const [a, b] = [joining.api_extensions.length, target.api_extensions.length];
  if (joining.environment.server_version !== target.environment.server_version || a !== b) {
    throw new RefusedError(
      `${host.host} has LXD ${joining.environment.server_version} (${a} API extensions), and the cluster at ${cluster.host} has ` +
        `${target.environment.server_version} (${b}). All members need the same one. With the snap: the same channel on all hosts, cohort: true ` +
        "and hold: true; with Debian's package: the same release",
    );
  }
}

/** LXD up to 5.0.3 would announce the wildcard to the cluster. */
function refuseWildcard({ host, joining }: Meeting, address: string): void {
  const listening = serverConfig(joining)["core.https_address"] ?? "";
  if (/^(:\d+|\[::\].*|0\.0\.0\.0.*)$/.test(listening)) {
    throw new RefusedError(
      `LXD on ${host.host} listens on every address (core.https_address is "${listening}"), which a joining member must not. ` +
        `Set it to "${address}" (config of its LxdNode)`,
    );
  }
}

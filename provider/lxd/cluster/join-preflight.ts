/** Checks before a server joins a cluster, so that nothing is changed when it cannot. */
import * as z from "zod";
import { tryUntil } from "../../support/deadline";
import { RefusedError } from "../../support/errors";
import { listOf } from "../client/answers";
import type { LxdClient } from "../client/client";
import type { ServerNames } from "../client/endpoint";
import { serversKeys } from "../config-keys";
import { dataIn, describeInventory, type Inventory, takeInventory } from "../inventory";
import { getServer, type Server, serverConfig } from "../server";
import { EVACUATED, isAt, listMembers, type Member } from "./cluster";

/** LXD's own threshold, `cluster.offline_threshold`, plus a margin for the clocks of two members to disagree. */
const OFFLINE_AFTER_SECONDS = 25;

const TRUST_PASSWORD = "core.trust_password";

/** A server that is to join (`host`, `joining`), and a member of the cluster through which it joins (`cluster`, `target`). */
export interface JoinContext {
  readonly host: LxdClient;
  readonly joining: Server;
  readonly cluster: LxdClient;
  readonly target: Server;
}

/** Explains how to start from an empty LXD, as the end of a sentence. */
export function howToWipe(kinds: readonly string[]): string {
  return `give its LxdNode resetPolicy: [${kinds.map((kind) => `"${kind}"`).join(", ")}]`;
}

/** @throws RefusedError when a clustered server's name in its cluster differs from the wanted one. */
export function refuseOtherName(lxd: LxdClient, { environment }: Server, name: string): void {
  if (environment.server_name !== name) {
    throw new RefusedError(
      `${lxd.title} is already in a cluster, as "${environment.server_name}". Use that name, or rename it there (` +
        `${lxd.names.client} cluster rename ${environment.server_name} ${name})`,
    );
  }
}

/** @throws RefusedError when LXD would not accept the server, or the server would lose something by joining. */
export async function refuseToJoin(context: JoinContext, holds: Inventory, name: string, address: string): Promise<void> {
  refuseOtherServer(context);
  refuseDifferentVersions(context);
  refuseWildcard(context, address);
  const { host } = context;
  if (Object.keys(holds).length > 0) {
    throw new RefusedError(
      `${host.title} holds ${describeInventory(holds)}, and only an empty server can join a cluster, here as ${name}. Remove that, ` +
        `or wipe it: ${howToWipe(Object.keys(holds))}`,
    );
  }
  await refuseTakenBridges(context);
}

/**
 * The server makes a token only while a member is not evacuated, whose address the token has.
 * @throws RefusedError when all are.
 */
export async function refuseAllEvacuated(cluster: LxdClient, name: string): Promise<void> {
  const members = await listMembers(cluster);
  if (members.every(({ status }) => status === EVACUATED)) {
    const evacuated = members.map(({ server_name }) => server_name);
    throw new RefusedError(
      `${name} cannot join the cluster at ${cluster.host}: all its members are evacuated (${evacuated.join(", ")}), and a join token needs one that is ` +
        `not. Restore one first: ${cluster.names.client} cluster restore ${evacuated[0] ?? ""}, or evacuated: false of its LxdClusterMember`,
    );
  }
}

/**
 * Returns the name of an empty member that an earlier attempt left in the cluster for this server.
 * @throws RefusedError when another member has the name or address.
 */
export async function findStaleMember(cluster: LxdClient, name: string, address: string): Promise<string | undefined> {
  const find = async (): Promise<Member | undefined> =>
    (await listMembers(cluster)).find((member) => member.server_name === name || isAt(member, address));
  let taken = await find();
  if (taken?.server_name === name && isAt(taken, address) && taken.status === "Online") {
    // The host is empty, so LXD soon reports the member as offline, unless the address leads to another machine.
    const soon = cluster.deadline.atMost(OFFLINE_AFTER_SECONDS, `waiting until ${name} is offline`);
    await tryUntil(cluster.deadline, soon, async () => {
      taken = await find();
      return taken?.status === "Online" ? undefined : true;
    });
  }
  if (taken === undefined) {
    return undefined;
  }
  const is = `The cluster at ${cluster.host} already has the member "${taken.server_name}" with the address ${taken.url}`;
  if (taken.server_name !== name || !isAt(taken, address)) {
    throw new RefusedError(`${is}, and this one would be "${name}" with https://${address}. Choose another name or address`);
  }
  const data = dataIn(await takeInventory(cluster, taken.server_name));
  if (taken.status === "Online" || Object.keys(data).length > 0) {
    throw new RefusedError(
      `${is}, but the host has no membership. If the host was reinstalled, remove the old member and all that it held: ` +
        `${cluster.names.client} cluster remove --force ${taken.server_name}, or removal: "force" of its LxdClusterMember`,
    );
  }
  return taken.server_name;
}

/**
 * Why a server cannot join by the cluster's trust password; `undefined` when it can.
 * @param cluster - The API of a member.
 */
export async function whyNoTrustPassword(cluster: LxdClient): Promise<string | undefined> {
  const { name } = cluster.names;
  const way = "Leave trustPassword out: the host then joins by a token that is made for it";
  if (cluster.names.server === "incus") {
    return `Incus has no trust password. ${way}`;
  }
  const keys = (await serversKeys(cluster))("server");
  if (keys !== undefined && !keys.includes(TRUST_PASSWORD)) {
    return `${name} at ${cluster.host} no longer has a trust password. ${way}`;
  }
  return TRUST_PASSWORD in serverConfig(await getServer(cluster))
    ? undefined
    : `The cluster at ${cluster.host} has no trust password: ${TRUST_PASSWORD} is not set. Set it, for instance by an LxdServerConfig. Or: ${way}`;
}

/** LXD and Incus are different servers since their first common version, and do not form a cluster together. */
function refuseOtherServer({ host, cluster }: JoinContext): void {
  if (host.names.server !== cluster.names.server) {
    throw new RefusedError(
      `${host.host} runs ${host.names.name}, and the cluster at ${cluster.host} runs ${cluster.names.name}. All members of a cluster run the same server. ` +
        `If nothing on ${host.host} is needed, remove ${host.names.name} there (${host.names.purge}), and give its LxdNode the install of the other members`,
    );
  }
}

function refuseDifferentVersions({ host, joining, cluster, target }: JoinContext): void {
  const [a, b] = [joining.api_extensions.length, target.api_extensions.length];
  if (joining.environment.server_version !== target.environment.server_version || a !== b) {
    throw new RefusedError(
      `${host.host} has ${host.names.name} ${joining.environment.server_version} (${a} API extensions), and the cluster at ${cluster.host} has ` +
        `${target.environment.server_version} (${b}). All members need the same version. ${howToAlign(host.names)}`,
    );
  }
}

function howToAlign({ server }: ServerNames): string {
  return server === "incus"
    ? "Use the same Debian release, and the same targetRelease and repository of install"
    : "With the snap, give this host's LxdNode the revision of a member's LxdNode, " +
        'install: {method: "snap", channel, revision: member.revision}; if the host has a newer one, first run there: snap remove --purge lxd. ' +
        "With Debian's package, use the same Debian release";
}

/**
 * Extensions that 5.0.4 and 5.21.0 introduced, the first versions that join with the given address when they listen on every
 * address. Older ones announce the wildcard to the cluster.
 */
const JOINS_FROM_WILDCARD = ["instances_files_modify_permissions", "vm_disk_io_limits"];

function refuseWildcard({ host, joining }: JoinContext, address: string): void {
  const listening = serverConfig(joining)["core.https_address"] ?? "";
  if (
    /^(:\d+|\[::\].*|0\.0\.0\.0.*)$/.test(listening) &&
    !JOINS_FROM_WILDCARD.some((extension) => joining.api_extensions.includes(extension))
  ) {
    throw new RefusedError(
      `${host.title} listens on every address (core.https_address is "${listening}"), and this version cannot join a cluster then. ` +
        `Set it to "${address}" (config of its LxdNode)`,
    );
  }
}

const networkSchema = z.looseObject({ name: z.string(), type: z.string(), managed: z.boolean() });

/**
 * A joining server makes the cluster's bridges. When the kernel already has an interface of that name, LXD fails with "Network
 * not found", before it changes anything on the cluster. LXD does not report who made the interface, so the user must decide.
 */
async function refuseTakenBridges({ host, cluster }: JoinContext): Promise<void> {
  const list = (lxd: LxdClient): Promise<z.output<typeof networkSchema>[]> =>
    lxd.get("/1.0/networks", listOf(networkSchema), { recursion: 1 });
  const [wanted, there] = await Promise.all([list(cluster), list(host)]);
  const bridges = new Set(wanted.filter(({ managed, type }) => managed && type === "bridge").map(({ name }) => name));
  const taken = there.filter(({ name, managed }) => !managed && bridges.has(name)).map(({ name }) => name);
  if (taken.length > 0) {
    throw new RefusedError(
      `${host.host} has the network interface ${taken.join(", ")}, which ${host.names.name} does not manage, and the cluster at ${cluster.host} has a ` +
        "bridge of that name, which would be made on the host. It is probably left from an earlier installation. If nothing uses it: " +
        taken.map((name) => `ip link delete ${name}`).join("; "),
    );
  }
}

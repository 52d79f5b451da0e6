/** Checks what a host holds before it becomes a node, and wipes it when the user's policy says so. */
import type { Context, SshConnection } from "../engine/lifecycle";
import { askLxd, valuablesOf, whereToLook } from "../host/half-joined";
import { lookAtDisk, type OnDisk, together, unknownTo } from "../host/on-disk";
import { hasLeftoverClusterCertificate, resetLxd } from "../host/reset-lxd";
import type { LxdClient } from "../lxd/client/client";
import { listMembers, type Member } from "../lxd/cluster/cluster";
import { refuseWipeOfVoter } from "../lxd/cluster/quorum-guards";
import { throughRestart, untilReady } from "../lxd/cluster/restarts";
import { OWNER_KEY } from "../lxd/config";
import { describeInventory, type Inventory, type InventoryKind, takeInventory } from "../lxd/inventory";
import { describeOwner, isOfSameStack, readMark } from "../lxd/ownership";
import { getServer } from "../lxd/server";
import { hasCode, messageOf, RefusedError } from "../support/errors";

/** Waits until the daemon has finished starting. */
export async function ready(context: Context, lxd: LxdClient): Promise<void> {
  context.progress(`waiting for ${lxd.title} to be ready`);
  await untilReady(lxd);
}

/**
 * Returns the mark of the host's membership, because a host has no mark. Empty when it has none.
 * @throws RefusedError when the host is a member and its cluster does not report the owner.
 */
export async function ownerOf(lxd: LxdClient): Promise<string> {
  return (await membershipOf(lxd))?.owner ?? "";
}

/**
 * Makes sure that LXD holds nothing that must not be lost. Wipes the host when the policy says so.
 * @throws RefusedError listing the host's contents, when the policy does not name all of them.
 */
export async function ensureEmpty(
  context: Context,
  ssh: SshConnection,
  lxd: LxdClient,
  policy: readonly InventoryKind[],
): Promise<void> {
  const disk = await lookAtDisk(ssh, lxd.endpoint.socket.packaging, context.deadline);
  if (await isSilent(lxd, disk)) {
    const contents = contentsOfSilent(lxd, disk, policy);
    return wipe(context, ssh, lxd, contents);
  }
  await ready(context, lxd);
  const membership = await membershipOf(lxd);
  const owner = membership?.owner ?? "";
  if (isOfSameStack(owner, context.urn)) {
    if (policy.length > 0) {
      throw new RefusedError(
        `${lxd.title} is a member of the cluster that this stack made, so resetPolicy does not wipe it. To manage it again, remove resetPolicy ` +
          "and set adopt: true",
      );
    }
    if (readMark(owner)?.isCreating !== true) {
      throw new RefusedError(
        `${lxd.title} is already a member of a cluster, with the mark of this stack, but the state of this stack does not have the host. If that ` +
          "state was lost, set adopt: true. If another stack has the host in its state (after pulumi state move, or a new name of the stack or project), " +
          "run pulumi up there, which changes the mark, and remove the host from this program",
      );
    }
    return; // an unfinished membership of this stack
  }
  const inventory = await inventoryOf(context, ssh, lxd, disk, membership);
  if (mustReset(inventory, policy, lxd)) {
    refuseWipeOfVoter(lxd, membership?.members ?? [], membership?.name ?? "");
    await wipe(context, ssh, lxd, inventory);
  }
}

/** Runs {@link ensureEmpty} for an existing node, unless its host is a member of a cluster, or may be one and does not answer. */
export async function ensureEmptyUnlessMember(
  context: Context,
  ssh: SshConnection,
  lxd: LxdClient,
  policy: readonly InventoryKind[],
): Promise<void> {
  if (await isSilent(lxd, await lookAtDisk(ssh, lxd.endpoint.socket.packaging, context.deadline))) {
    throw new RefusedError(
      `${lxd.title} does not answer. It has the certificate of a cluster, so it may be a member, which a changed resetPolicy does not wipe. ` +
        `${whereToLook(lxd)}. To wipe it anyway: pulumi up --replace URN`,
    );
  }
  await ready(context, lxd);
  if ((await membershipOf(lxd)) === undefined) {
    await ensureEmpty(context, ssh, lxd, policy);
  }
}

/**
 * Describes a daemon that does not answer.
 * @throws RefusedError when the daemon has no cluster that could be the reason.
 */
export async function explainSilence(context: Context, ssh: SshConnection, lxd: LxdClient): Promise<string> {
  const { clusterCertificate } = await lookAtDisk(ssh, lxd.endpoint.socket.packaging, context.deadline);
  if (clusterCertificate === undefined) {
    throw new RefusedError(`${lxd.title} does not answer. ${whereToLook(lxd)}`);
  }
  return `${lxd.title} does not answer: its join was interrupted, it was removed by force, its cluster is down, or it waits until other members are upgraded. ${whereToLook(lxd)}`;
}

/** Whether the daemon hangs in its start because it cannot communicate with its cluster. Waits for any other daemon. */
async function isSilent(lxd: LxdClient, disk: OnDisk): Promise<boolean> {
  return disk.clusterCertificate !== undefined && (await askLxd(lxd)) === undefined;
}

/**
 * Returns the contents of a host whose daemon does not answer.
 * @throws RefusedError when the policy does not name the cluster and all that is on the disk.
 */
function contentsOfSilent(lxd: LxdClient, disk: OnDisk, policy: readonly InventoryKind[]): Inventory {
  const valuables = valuablesOf(disk);
  const kinds = ["cluster", ...Object.keys(valuables)] as InventoryKind[];
  if (kinds.some((kind) => !policy.includes(kind))) {
    const on = Object.keys(valuables).length === 0 ? "" : `, and on its disk are ${describeInventory(valuables)}`;
    throw new RefusedError(
      `${lxd.title} does not answer. It has the certificate of a cluster${on}. If it is a member: ${whereToLook(lxd)}. If it was left half ` +
        `joined, or was removed by force, wipe it: resetPolicy: [${kinds.map((kind) => `"${kind}"`).join(", ")}]`,
    );
  }
  return { ...valuables, cluster: ["that it does not answer for"] };
}

async function wipe(context: Context, ssh: SshConnection, lxd: LxdClient, contents: Inventory): Promise<void> {
  context.progress(`wiping ${lxd.title}: ${describeInventory(contents)}`);
  await resetLxd(ssh, lxd.endpoint.socket.packaging, context);
  await ready(context, lxd);
}

async function inventoryOf(
  context: Context,
  ssh: SshConnection,
  lxd: LxdClient,
  disk: OnDisk,
  membership: Membership | undefined,
): Promise<Inventory> {
  const told = await takeInventory(lxd);
  const inventory = together(told, unknownTo(told, disk));
  if (membership !== undefined) {
    const { owner, members } = membership;
    const whose = owner === "" ? "" : `, as a member that belongs to ${describeOwner(owner)}`;
    return { ...inventory, cluster: [`with the members ${members.map(({ server_name }) => server_name).join(", ")}${whose}`] };
  }
  const leftover = await hasLeftoverClusterCertificate(ssh, lxd.endpoint.socket.packaging, context.deadline);
  return leftover ? { ...inventory, cluster: ["certificate of an interrupted join"] } : inventory;
}

/** A host's place in its cluster. */
interface Membership {
  /** The host's own name in the cluster. */
  readonly name: string;
  readonly members: readonly Member[];
  /** The mark of the host's own row; empty when the row has no mark, or the cluster has no row for the host. */
  readonly owner: string;
}

/**
 * Returns the host's place in its cluster; `undefined` when it is in none.
 * @throws RefusedError when the host considers itself a member and its cluster does not answer it. The host cannot know whether
 * it was removed by force or the cluster is down, so it must not be wiped.
 */
async function membershipOf(lxd: LxdClient): Promise<Membership | undefined> {
  const { server_clustered, server_name } = (await throughRestart(lxd, () => getServer(lxd))).environment;
  if (!server_clustered) {
    return undefined;
  }
  const members = await throughRestart(lxd, () => listMembers(lxd)).catch((error: unknown) => {
    if (!hasCode(error, "api")) {
      throw error;
    }
    throw new RefusedError(
      `${lxd.title} is in a cluster and cannot list its members (${messageOf(error)}): the cluster is down, or the host was removed by force. ` +
        `Nothing was changed. Ask another member: ${lxd.names.client} cluster list. If it lists this host, or none answers, bring the cluster back. ` +
        `Otherwise restart ${lxd.names.name} here (${lxd.names.restart}), after which it does not answer, and set resetPolicy on a new LxdNode, which wipes it`,
      { cause: error },
    );
  });
  return {
    name: server_name,
    members,
    owner: members.find((member) => member.server_name === server_name)?.config?.[OWNER_KEY] ?? "",
  };
}

/**
 * Whether to wipe the host.
 * @throws RefusedError when it holds something that must not be lost and that the policy does not name.
 */
function mustReset(inventory: Inventory, policy: readonly InventoryKind[], { names, host }: LxdClient): boolean {
  const found = Object.keys(inventory) as InventoryKind[];
  const unnamed = found.filter((kind) => !policy.includes(kind));
  if (unnamed.length < found.length) {
    if (unnamed.length === 0) {
      return true;
    }
    throw new RefusedError(
      `resetPolicy does not name all that ${names.name} on ${host} holds, and wiping it would destroy that too: ${describeInventory(inventory)}. ` +
        `Add ${unnamed.map((kind) => `"${kind}"`).join(", ")} to resetPolicy, or remove them yourself`,
    );
  }
  if (inventory.instances !== undefined || inventory["custom-volumes"] !== undefined || inventory.cluster !== undefined) {
    throw new RefusedError(
      `${names.name} on ${host} is in use: ${describeInventory(inventory)}. Set adopt: true to manage it unchanged, or, to destroy all of it, ` +
        `resetPolicy: [${found.map((kind) => `"${kind}"`).join(", ")}]`,
    );
  }
  return false;
}

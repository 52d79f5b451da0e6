/** Checks what a host holds before it becomes a node, and wipes it when the user's policy says so. */
import type { Context, SshConnection } from "../engine/lifecycle";
import { askLxd, valuablesOf, whereToLook } from "../host/half-joined";
import { lookAtDisk, type OnDisk, together, unknownTo } from "../host/on-disk";
import { hasLeftoverClusterCertificate, resetLxd } from "../host/reset-lxd";
import { LxdClient } from "../lxd/client/client";
import { endpointOf } from "../lxd/client/endpoint";
import { listMembers, type Member } from "../lxd/cluster/cluster";
import { throughRestart } from "../lxd/cluster/restarts";
import { OWNER_KEY } from "../lxd/config";
import { describeInventory, type Inventory, type InventoryKind, takeInventory } from "../lxd/inventory";
import { describeOwner, isOfSameStack, readMark } from "../lxd/ownership";
import { getServer, untilReady } from "../lxd/server";
import { hasCode, messageOf, RefusedError } from "../support/errors";

/** Waits until the daemon has finished starting. */
export async function ready(context: Context, ssh: SshConnection): Promise<LxdClient> {
  context.progress(`waiting for LXD on ${ssh.name} to be ready`);
  const lxd = await clientOf(context, ssh);
  await untilReady(lxd);
  return lxd;
}

/**
 * Returns the mark of the host's membership, because a host has no mark. Empty when it has none.
 * @throws RefusedError when the host is a member and its cluster does not report the owner.
 */
export async function ownerOf(lxd: LxdClient): Promise<string> {
  return (await membershipOf(lxd))?.owner ?? "";
}

/**
 * Returns LXD without content that must not be lost. Wipes the host when the policy says so.
 * @throws RefusedError listing the host's contents, when the policy does not name all of them.
 */
export async function emptied(context: Context, ssh: SshConnection, policy: readonly InventoryKind[]): Promise<LxdClient> {
  const lxd = await clientOf(context, ssh);
  const disk = await lookAtDisk(ssh, lxd.endpoint.socket.packaging, context.deadline);
  if (await isSilent(context, ssh, lxd, disk)) {
    return emptiedSilent(context, ssh, lxd, disk, policy);
  }
  await ready(context, ssh);
  const membership = await membershipOf(lxd);
  const owner = membership?.owner ?? "";
  if (isOfSameStack(owner, context.urn)) {
    if (policy.length === 0 && readMark(owner)?.isCreating === true) {
      return lxd; // an unfinished membership of this stack
    }
    if (policy.length === 0) {
      throw new RefusedError(
        `LXD on ${ssh.name} is a member of a cluster already, and its membership bears the mark of this very stack, whose state does not know ` +
          "this host. Either that state was lost: then set adopt: true, which manages it as it is. Or the state of another stack has it, after " +
          "pulumi state move, a stack that was renamed or a project that was: then run pulumi up there, which marks it as that stack's, and " +
          "take it out of this program",
      );
    }
    throw new RefusedError(
      `LXD on ${ssh.name} is a member of the cluster that this very stack has made, so resetPolicy does not wipe it. Take resetPolicy out, ` +
        "and set adopt: true: it is then managed again as it is",
    );
  }
  const inventory = await inventoryOf(context, ssh, lxd, disk, membership);
  if (!mustReset(inventory, policy, ssh.name)) {
    return lxd;
  }
  return wiped(context, ssh, lxd, inventory);
}

/**
 * Runs {@link emptied} for an existing node, unless its host is a member of a cluster, or may be one and does not
 * answer.
 */
export async function emptiedUnlessMember(
  context: Context,
  ssh: SshConnection,
  policy: readonly InventoryKind[],
): Promise<LxdClient> {
  const lxd = await clientOf(context, ssh);
  const { packaging } = lxd.endpoint.socket;
  if (await isSilent(context, ssh, lxd, await lookAtDisk(ssh, packaging, context.deadline))) {
    throw new RefusedError(
      `LXD on ${ssh.name} does not answer. It has the certificate of a cluster, so it may be a member, which a changed resetPolicy does not wipe. ` +
        `${whereToLook(packaging)}. To wipe it anyway: pulumi up --replace URN`,
    );
  }
  await ready(context, ssh);
  return (await membershipOf(lxd)) === undefined ? emptied(context, ssh, policy) : lxd;
}

/**
 * Describes a daemon that does not answer.
 * @throws RefusedError when the daemon has no cluster that could be the reason.
 */
export async function explainSilence(context: Context, ssh: SshConnection, lxd: LxdClient): Promise<string> {
  const { packaging } = lxd.endpoint.socket;
  const { clusterCertificate } = await lookAtDisk(ssh, packaging, context.deadline);
  if (clusterCertificate === undefined) {
    throw new RefusedError(`LXD on ${ssh.name} does not answer. ${whereToLook(packaging)}`);
  }
  return (
    `LXD on ${ssh.name} does not answer: its join was cut off, it was removed by force, or its cluster is down. Shown is what was known ` +
    `of it before. ${whereToLook(packaging)}.`
  );
}

/** Whether the daemon hangs in its start because it cannot communicate with its cluster. Waits for any other daemon. */
async function isSilent(context: Context, ssh: SshConnection, lxd: LxdClient, disk: OnDisk): Promise<boolean> {
  return disk.clusterCertificate !== undefined && (await askLxd(lxd)) === undefined;
}

async function emptiedSilent(
  context: Context,
  ssh: SshConnection,
  lxd: LxdClient,
  disk: OnDisk,
  policy: readonly InventoryKind[],
): Promise<LxdClient> {
  const valuables = valuablesOf(disk);
  const kinds = ["cluster", ...Object.keys(valuables)] as InventoryKind[];
  if (kinds.some((kind) => !policy.includes(kind))) {
    const on = Object.keys(valuables).length === 0 ? "" : `, and on its disk are ${describeInventory(valuables)}`;
    throw new RefusedError(
      `LXD on ${ssh.name} does not answer. It has the certificate of a cluster${on}. If it is a member: ` +
        `${whereToLook(lxd.endpoint.socket.packaging)}. If it was left half joined, or was removed by force, wipe it: ` +
        `resetPolicy: [${kinds.map((kind) => `"${kind}"`).join(", ")}]`,
    );
  }
  return wiped(context, ssh, lxd, { ...valuables, cluster: ["that it does not answer for"] });
}

async function wiped(context: Context, ssh: SshConnection, lxd: LxdClient, inventory: Inventory): Promise<LxdClient> {
  context.progress(`wiping LXD on ${ssh.name}: ${describeInventory(inventory)}`);
  await resetLxd(ssh, lxd.endpoint.socket.packaging, context);
  return ready(context, ssh);
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
  readonly members: readonly Member[];
  /** The mark of the host's own row; empty when the row has no mark, or the cluster has no row for the host. */
  readonly owner: string;
}

/**
 * Returns the host's place in its cluster; `undefined` when it is in none.
 * @throws RefusedError when the host considers itself a member and its cluster does not answer it. The host cannot know
 * whether it was removed by force or the cluster is down, so it must not be wiped.
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
    const { packaging } = lxd.endpoint.socket;
    throw new RefusedError(
      `LXD on ${lxd.host} is in a cluster, and its cluster does not tell it of which members (${messageOf(error)}): it is down, or the host was removed ` +
        "from it by force. Nothing was done. If it is down, bring it back. If another member does not list this host (lxc cluster list there), restart " +
        `LXD here (${{ deb: "systemctl restart lxd", snap: "snap restart lxd", incus: "systemctl restart incus" }[packaging]}): then it does not answer ` +
        "at all, and a node that is made with resetPolicy wipes it",
      { cause: error },
    );
  });
  return { members, owner: members.find((member) => member.server_name === server_name)?.config?.[OWNER_KEY] ?? "" };
}

/**
 * Whether to wipe the host.
 * @throws RefusedError when it holds something that must not be lost and that the policy does not name.
 */
function mustReset(inventory: Inventory, policy: readonly InventoryKind[], host: string): boolean {
  const found = Object.keys(inventory) as InventoryKind[];
  const unnamed = found.filter((kind) => !policy.includes(kind));
  if (found.some((kind) => policy.includes(kind))) {
    if (unnamed.length === 0) {
      return true;
    }
    throw new RefusedError(
      `resetPolicy does not name all that LXD on ${host} holds, and wiping it would destroy that too: ${describeInventory(inventory)}. ` +
        `Add ${unnamed.map((kind) => `"${kind}"`).join(", ")} to resetPolicy, or remove them yourself`,
    );
  }
  const precious = (["instances", "custom-volumes", "cluster"] as const).filter((kind) => inventory[kind] !== undefined);
  if (precious.length > 0) {
    throw new RefusedError(
      `LXD on ${host} is in use: ${describeInventory(inventory)}. Set adopt: true to manage it as it is, or, to destroy all of it, ` +
        `resetPolicy: [${found.map((kind) => `"${kind}"`).join(", ")}]`,
    );
  }
  return false;
}

async function clientOf(context: Context, ssh: SshConnection): Promise<LxdClient> {
  return new LxdClient(await endpointOf(ssh, context.deadline), context.deadline);
}

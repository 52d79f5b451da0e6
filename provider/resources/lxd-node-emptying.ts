/** What a host must not hold before it is a node, and how it is wiped when the user says so. */
import type { Context, SshConnection } from "../engine/lifecycle";
import { askLxd, valuablesOf, whereToLook } from "../host/half-joined";
import { lookAtDisk, type OnDisk, together, unknownTo } from "../host/on-disk";
import { hasLeftoverClusterCertificate, resetLxd } from "../host/reset-lxd";
import { LxdClient } from "../lxd/client/client";
import { endpointOf } from "../lxd/client/endpoint";
import { isNotClustered, listMembers, type Member } from "../lxd/cluster/cluster";
import { OWNER_KEY } from "../lxd/config";
import { describeInventory, type Inventory, type InventoryKind, takeInventory } from "../lxd/inventory";
import { describeOwner, isOfSameStack } from "../lxd/ownership";
import { getServer, untilReady } from "../lxd/server";
import { hasCode, RefusedError } from "../support/errors";

/** Waits until the daemon has finished starting. */
export async function ready(context: Context, ssh: SshConnection): Promise<LxdClient> {
  context.progress(`waiting for LXD on ${ssh.name} to be ready`);
  const lxd = await clientOf(context, ssh);
  await untilReady(lxd);
  return lxd;
}

/** The mark of the host's membership: a host itself has no place for one. Empty when there is none. */
export async function ownerOf(lxd: LxdClient): Promise<string> {
  const { server_name } = (await getServer(lxd)).environment;
  const members = await membersOf(lxd);
  return typeof members === "string"
    ? ""
    : (members.find((member) => member.server_name === server_name)?.config?.[OWNER_KEY] ?? "");
}

/**
 * LXD with nothing on it that must not be lost, wiped when the policy says so.
 * @throws RefusedError listing what it holds, when the policy does not name all of it.
 */
export async function emptied(context: Context, ssh: SshConnection, policy: readonly InventoryKind[]): Promise<LxdClient> {
  const lxd = await clientOf(context, ssh);
  const disk = await lookAtDisk(ssh, lxd.endpoint.socket.packaging, context.deadline);
  if (await isSilent(context, ssh, lxd, disk)) {
    return emptiedSilent(context, ssh, lxd, disk, policy);
  }
  await ready(context, ssh);
  if (isOfSameStack(await ownerOf(lxd), context.urn)) {
    if (policy.length === 0) {
      return lxd; // what it holds is this stack's own, whose state was lost
    }
    throw new RefusedError(
      `LXD on ${ssh.name} is a member of the cluster that this very stack has made, so resetPolicy does not wipe it. Take resetPolicy out, ` +
        "and it is managed again as it is",
    );
  }
  const inventory = await inventoryOf(context, ssh, lxd, disk);
  if (!mustReset(inventory, policy, ssh.name)) {
    return lxd;
  }
  return wiped(context, ssh, lxd, inventory);
}

/**
 * {@link emptied} for a node that is made already, unless its host is a member of a cluster by now.
 * @param wasMember - Whether it was one when it last answered.
 */
export async function emptiedUnlessMember(
  context: Context,
  ssh: SshConnection,
  wasMember: boolean,
  policy: readonly InventoryKind[],
): Promise<LxdClient> {
  const lxd = await clientOf(context, ssh);
  const { packaging } = lxd.endpoint.socket;
  const disk = await lookAtDisk(ssh, packaging, context.deadline);
  if (!(await isSilent(context, ssh, lxd, disk))) {
    await ready(context, ssh);
    return typeof (await membersOf(lxd)) === "string" ? emptied(context, ssh, policy) : lxd;
  }
  if (wasMember) {
    throw new RefusedError(
      `LXD on ${ssh.name} does not answer, and was a member of a cluster when it last did. A changed resetPolicy does not wipe a member. ` +
        `${whereToLook(packaging)}. To wipe it all the same: pulumi up --replace URN`,
    );
  }
  return emptiedSilent(context, ssh, lxd, disk, policy);
}

/**
 * What to tell of a daemon that does not answer.
 * @throws RefusedError when it has no cluster that could be the reason.
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

/** Whether the daemon is stuck in its start, as it is when it has no way to or from its cluster. Any other one is waited for. */
async function isSilent(context: Context, ssh: SshConnection, lxd: LxdClient, disk: OnDisk): Promise<boolean> {
  return disk.clusterCertificate !== undefined && (await askLxd(lxd, context.deadline)) === undefined;
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
  await resetLxd(ssh, lxd.endpoint.socket.packaging, context.deadline);
  return ready(context, ssh);
}

async function inventoryOf(context: Context, ssh: SshConnection, lxd: LxdClient, disk: OnDisk): Promise<Inventory> {
  const members = await membersOf(lxd);
  if (members === "lost") {
    // It still tells what its former cluster holds, and nothing of what is on itself.
    return { ...valuablesOf(disk), cluster: ["that does not know it any more"] };
  }
  const told = await takeInventory(lxd);
  const inventory = together(told, unknownTo(told, disk));
  if (members !== "none") {
    const owner = await ownerOf(lxd);
    const whose = owner === "" ? "" : `, as a member that belongs to ${describeOwner(owner)}`;
    return { ...inventory, cluster: [`with the members ${members.map(({ server_name }) => server_name).join(", ")}${whose}`] };
  }
  const leftover = await hasLeftoverClusterCertificate(ssh, lxd.endpoint.socket.packaging, context.deadline);
  return leftover ? { ...inventory, cluster: ["certificate of an interrupted join"] } : inventory;
}

/** The members of the server's cluster; "none" when it is in none, "lost" when it takes itself for a member, and its cluster will not talk to it. */
async function membersOf(lxd: LxdClient): Promise<readonly Member[] | "none" | "lost"> {
  try {
    return await listMembers(lxd);
  } catch (error) {
    if (isNotClustered(error)) {
      return "none";
    }
    if (hasCode(error, "api")) {
      return "lost";
    }
    throw error;
  }
}

/**
 * Whether the host is to be wiped.
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

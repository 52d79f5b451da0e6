import * as z from "zod";
import { sameJson, sameSet } from "../../support/equality";
import { RefusedError } from "../../support/errors";
import { listOf } from "../client/answers";
import { api, type LxdClient, type Tagged } from "../client/client";
import { type Config, OWNER_KEY, ownerKey } from "../config";
import { describeUser } from "../in-use";
import { isMarkOfCreate } from "../ownership";
import { getServerShared } from "../server";
import { changeMember, DEFAULT_GROUP, ifClustered, listMembers } from "./cluster";
import { withGroupsLock } from "./groups-lock";

/** `/1.0/cluster/groups`: https://documentation.ubuntu.com/lxd/latest/api/#/cluster-groups */
const groupSchema = z.looseObject({
  name: z.string(),
  description: z.string().default(""),
  members: listOf(z.string()),
  config: z.record(z.string(), z.string()).nullish(),
  used_by: listOf(z.string()),
});

type ApiGroup = z.output<typeof groupSchema>;

export interface ClusterGroup {
  readonly name: string;
  readonly description: string;
  readonly members: readonly string[];
  /** With the owner's mark, if the group has one. */
  readonly config: Config;
  /** Paths of instances and projects. Empty on a server that does not tell. */
  readonly usedBy: readonly string[];
  /** Whether the server keeps a mark. Groups of LXD and Incus 6.0 have no config: they have a mark only until their create has ended. */
  readonly keepsMark: boolean;
}

export type FoundClusterGroup = Tagged<ClusterGroup>;

export interface ClusterGroupPut {
  readonly description: string;
  readonly members: readonly string[];
  readonly mark: string;
}

/** @throws RefusedError when the server is in no cluster. */
export async function findClusterGroup(lxd: LxdClient, name: string): Promise<FoundClusterGroup | undefined> {
  const found = await inCluster(lxd, lxd.findWithEtag(pathOf(name), groupSchema));
  return found && { value: fromApi(found.value, await keepsMarks(lxd)), etag: found.etag };
}

/**
 * {@link findClusterGroup} in one list that all reads of this process share. Where groups have a config, the list omits it, and the group is read
 * by itself.
 */
export async function findClusterGroupShared(lxd: LxdClient, name: string): Promise<ClusterGroup | undefined> {
  if (await keepsMarks(lxd)) {
    return (await findClusterGroup(lxd, name))?.value;
  }
  const all = await inCluster(lxd, lxd.getShared("/1.0/cluster/groups", listOf(groupSchema), { recursion: 1 }));
  const found = all.find((group) => group.name === name);
  return found && fromApi(found, false);
}

export async function createClusterGroup(lxd: LxdClient, name: string, put: ClusterGroupPut): Promise<void> {
  const body = { name, ...toApi(put, {}, await keepsMarks(lxd)) };
  await withGroupsLock(lxd, () => lxd.change("POST", "/1.0/cluster/groups", { body }));
}

/** Changes a group. A member that leaves it and is in no other group is in the group `default` then. */
export async function replaceClusterGroup(lxd: LxdClient, { name, members }: ClusterGroup, put: ClusterGroupPut): Promise<void> {
  await addToDefault(lxd, await homeless(lxd, name, members, put.members));
  await writeGroup(lxd, name, () => put);
}

/**
 * Writes only the owner's mark, if the server keeps one.
 * @param description - That of the program, which replaces the mark of a create on other servers.
 */
export async function markClusterGroup(
  lxd: LxdClient,
  { name, keepsMark }: ClusterGroup,
  mark: string,
  description: string,
): Promise<void> {
  await writeGroup(lxd, name, (live) => {
    const isOfCreate = !keepsMark && isMarkOfCreate(live.description);
    return { description: isOfCreate ? description : live.description, members: live.members, mark };
  });
}

/**
 * Removes a group. Its members stay in their other groups; those that have none are in the group `default` then.
 * @throws RefusedError naming its users, on a server that tells them.
 */
export async function deleteClusterGroup(lxd: LxdClient, group: ClusterGroup): Promise<void> {
  const { name, description, members, config, usedBy } = group;
  if (usedBy.length > 0) {
    throw new RefusedError(
      `Cluster group "${name}" on ${lxd.host} was not removed, because it is used by ${usedBy.map(describeUser).join(", ")}. Change or remove these first`,
    );
  }
  await addToDefault(lxd, await homeless(lxd, name, members, []));
  if (members.length > 0) {
    await writeGroup(lxd, name, () => ({ description, members: [], mark: config[OWNER_KEY] ?? "" }));
  }
  await lxd.remove(pathOf(name));
}

/**
 * Returns those of the leaving members that are in no other group. Every member must be in one. LXD 5.0 lets it lose its last group, Incus keeps
 * it there without a word, and later LXD refuses the change.
 */
export async function homeless(
  lxd: LxdClient,
  name: string,
  before: readonly string[],
  after: readonly string[],
): Promise<string[]> {
  const leaving = before.filter((member) => !after.includes(member));
  const members = leaving.length === 0 ? [] : await listMembers(lxd);
  return members
    .filter(({ server_name, groups }) => leaving.includes(server_name) && (groups ?? []).every((group) => group === name))
    .map(({ server_name }) => server_name);
}

/** Returns those of the names that no member of the cluster has, and the names of all members. */
export async function findUnknownMembers(
  lxd: LxdClient,
  names: readonly string[],
): Promise<{ unknown: string[]; known: string[] }> {
  const known = (await listMembers(lxd)).map(({ server_name }) => server_name);
  return { unknown: names.filter((name) => !known.includes(name)), known };
}

async function addToDefault(lxd: LxdClient, names: readonly string[]): Promise<void> {
  for (const name of names) {
    await changeMember(lxd, name, (live) => ({ ...live, groups: [...new Set([...(live.groups ?? []), DEFAULT_GROUP])] }));
  }
}

async function writeGroup(lxd: LxdClient, name: string, change: (live: ApiGroup) => ClusterGroupPut): Promise<void> {
  const isKept = await keepsMarks(lxd);
  const isFound = await withGroupsLock(lxd, () =>
    lxd.modify(pathOf(name), groupSchema, (live) => {
      const wanted = toApi(change(live), live.config ?? {}, isKept);
      const isSame =
        wanted.description === live.description &&
        sameSet(wanted.members, live.members) &&
        (wanted.config === undefined || sameJson(wanted.config, live.config ?? {}));
      return isSame ? undefined : wanted;
    }),
  );
  if (!isFound) {
    await lxd.get(pathOf(name), groupSchema);
  }
}

function toApi({ description, members, mark }: ClusterGroupPut, live: Config, isKept: boolean) {
  return isKept
    ? { description, members, config: { ...live, ...ownerKey(mark) } }
    : { description: isMarkOfCreate(mark) ? mark : description, members, config: undefined };
}

function fromApi({ name, description, members, config, used_by }: ApiGroup, keepsMark: boolean): ClusterGroup {
  const isMark = !keepsMark && isMarkOfCreate(description);
  return {
    name,
    description: isMark ? "" : description,
    members,
    config: isMark ? ownerKey(description) : (config ?? {}),
    usedBy: used_by,
    keepsMark,
  };
}

async function keepsMarks(lxd: LxdClient): Promise<boolean> {
  return (await getServerShared(lxd)).api_extensions.includes("clustering_groups_config");
}

async function inCluster<Answer>(lxd: LxdClient, answer: Promise<Answer>): Promise<Answer> {
  const answered = await ifClustered(
    lxd,
    answer.then((value) => ({ value })),
  );
  if (answered === undefined) {
    throw new RefusedError(
      `${lxd.title} is in no cluster, and only a cluster has groups. Make it a member with LxdClusterMember first`,
    );
  }
  return answered.value;
}

function pathOf(name: string): string {
  return api`/1.0/cluster/groups/${name}`;
}

/**
 * Creation of a pool or network on every member. In a cluster of several members, LXD requires a definition on each member first,
 * with that member's keys, and then the creation on all of them at once.
 * @see https://documentation.ubuntu.com/lxd/latest/howto/storage_pools/#create-a-storage-pool-in-a-cluster
 */
import { afterChange, FailedError, hasCode, IncompleteError, RefusedError, replyOf } from "../../support/errors";
import type { LxdClient } from "../client/client";
import { untilKnown } from "../client/operations";
import type { Servers } from "../cluster/servers";
import { type Config, marked, withoutEmpty } from "../config";
import {
  type Creation,
  changeOnMember,
  deleteObject,
  type Found,
  findManaged,
  findObject,
  idOf,
  type MemberObject,
  nameOf,
  namesOf,
  type ObjectRef,
  queryOf,
  viewsOf,
} from "./member-objects";
import { commonConfig, configOfMember } from "./object-config";

/** Whether LXD has yet to create the object, at least on some member. */
export function isUnfinished({ status }: Pick<MemberObject, "status">): boolean {
  return status === "Pending" || status === "Errored";
}

/**
 * Creates an object on all members. Continues an earlier attempt.
 * @throws RefusedError when a member is offline: LXD would leave the object half-made.
 */
export async function createObject(
  lxd: LxdClient,
  servers: Servers,
  creation: Creation,
  found: Found | undefined,
  progress: (text: string) => void,
): Promise<void> {
  const { ref, identity, description } = creation;
  const config = marked(commonConfig(ref.type, creation.config), creation.mark);
  const own = (member: string): Config => configOfMember(ref.type, creation, member);
  const names = namesOf(servers);
  const post = (body: { config: Config; description?: string }, target?: string): Promise<unknown> =>
    lxd.change("POST", ref.type.collection, { query: queryOf(ref, target), body: { name: ref.name, ...identity, ...body } });
  /** Never repeated: LXD keeps the config of an attempt, and accepts no other. */
  const create = async (body: { config: Config; description?: string }): Promise<void> => {
    try {
      await post(body);
    } catch (error) {
      if (!hasCode(error, "lost") || (await findObject(lxd, ref))?.value.status !== "Created") {
        throw error;
      }
    }
  };
  const [first] = names;
  if (found === undefined && names.length === 1 && first !== undefined) {
    progress(`creating it on ${first}`);
    await refuseLacking(lxd, creation, servers);
    await create({ description, config: { ...config, ...withoutEmpty(own(first)) } });
    return;
  }
  const offline = servers.members.filter(({ isDown }) => isDown).map(({ server_name }) => server_name);
  if (offline.length > 0) {
    throw new RefusedError(
      `${nameOf(ref)} is created on all members at once, and ${offline.join(", ")} is offline. Bring it back, or remove it from the cluster`,
    );
  }
  const views = [...(await viewsOf(lxd, ref, servers))].map(([member, { value }]) => ({ member, ...value }));
  // LXD keeps the config of a failed attempt, and accepts no other until one succeeds. If no member has created the object yet,
  // it is removed and defined again.
  const isErrored = found?.value.status === "Errored";
  const isRedefined = isErrored && !views.some(({ status }) => status === "Created");
  if (isRedefined) {
    await deleteObject(lxd, ref);
  }
  const defined = isRedefined ? [] : views.filter(({ locations, member }) => locations?.includes(member));
  const undefinedOn = names.filter((name) => !defined.some((view) => view.member === name));
  // LXD lets the member that answers judge the definitions of all members, and would fail in the creation.
  if (undefinedOn.length > 0) {
    await refuseLacking(lxd, creation, servers);
  }
  for (const member of ref.type.isDefinedOnMembers?.(identity) === false ? [] : undefinedOn) {
    progress(`defining it on ${member}`);
    const define = (): Promise<unknown> => post({ config: withoutEmpty(own(member)) }, member);
    try {
      await untilKnown(define, async () => false);
    } catch (error) {
      // A repeated definition is refused when the first one was made, and only its answer was lost.
      const isAnswer = hasCode(error, "api") || hasCode(error, "operation");
      const view = isAnswer ? (await findObject(lxd, ref, member))?.value : undefined;
      if (view?.locations?.includes(member) !== true) {
        throw error;
      }
    }
  }
  for (const view of defined.filter(({ status }) => status === "Pending")) {
    await changeOnMember(lxd, ref, view.member, view, own(view.member));
  }
  progress(`creating it on ${names.join(", ")}`);
  // Config that an earlier attempt applied on some member must not be given again.
  await create(isErrored && !isRedefined ? { config: {} } : { description, config });
}

async function refuseLacking(lxd: LxdClient, creation: Creation, servers: Servers): Promise<void> {
  const [reason] = (await creation.ref.type.lackingMembers?.(lxd, creation, servers))?.values() ?? [];
  if (reason !== undefined) {
    throw new RefusedError(reason);
  }
}

/**
 * Creates an object as {@link createObject} does, and explains a failure.
 * @param outputsOf - Makes the outputs that state keeps of an object that some members have.
 * @throws IncompleteError when only some members have it.
 */
export async function makeObject(
  lxd: LxdClient,
  servers: Servers,
  creation: Creation,
  before: Found | undefined,
  {
    outputsOf,
    progress,
  }: {
    outputsOf: (found: MemberObject, views: ReadonlyMap<string, Found>) => object;
    progress: (text: string) => void;
  },
): Promise<Found> {
  const { ref } = creation;
  try {
    await createObject(lxd, servers, creation, before, progress);
  } catch (error) {
    const left = await findManaged(lxd, ref);
    const names = namesOf(servers);
    if (left === undefined) {
      const isExplained = leftoverHint(replyOf(error), names) !== "";
      const cause = isExplained ? new RefusedError(describeFailure(lxd, ref, names, [], error), { cause: error }) : error;
      throw before === undefined ? cause : afterChange(cause);
    }
    const views = await viewsOf(lxd, ref, servers);
    const done = names.filter((name) => views.get(name)?.value.status === "Created");
    const message = `${describeFailure(lxd, ref, names, done, error)}. The next pulumi up continues from here`;
    throw new IncompleteError(idOf(ref), outputsOf(left.value, views), message, { cause: error });
  }
  const made = await findManaged(lxd, ref);
  if (made === undefined) {
    throw new FailedError(`${nameOf(ref)} was created on ${lxd.host}, and then removed by someone else. Run pulumi up again`);
  }
  return made;
}

function describeFailure(
  { title }: LxdClient,
  ref: ObjectRef,
  names: readonly string[],
  done: readonly string[],
  error: unknown,
): string {
  const missing = names.filter((name) => !done.includes(name));
  const where = done.length === 0 ? "" : `; it is created on ${done.join(", ")}`;
  const hint = leftoverHint(replyOf(error), missing);
  return `${nameOf(ref)} could not be created on ${missing.join(", ")}${where}. ${title} says: ${replyOf(error)}${hint}`;
}

/** Names a loop file of an earlier attempt that blocks the next one. Only the user can know that nothing on it is needed. */
export function leftoverHint(reply: string, members: readonly string[]): string {
  const file = /(\/\S+\/disks\/\S+\.img)\b[^/]*\b(?:existing filesystem|already exists|exists)/.exec(reply)?.[1];
  return file === undefined
    ? ""
    : `. The file ${file} on ${members.join(" or ")} was left by an earlier attempt and blocks this one: remove it there if nothing on it is needed`;
}

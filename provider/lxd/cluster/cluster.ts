import * as z from "zod";
import { until } from "../../support/deadline";
import { fallback } from "../../support/errors";
import { listOf, unlessNotFound } from "../client/answers";
import { api, type LxdClient } from "../client/client";
import { untilKnown } from "../client/operations";
import { presentedBy } from "../client/presented";
import { downIn, EVACUATED } from "../client/unheard";
import { sameListener } from "../meaning";
import { withGroupsLock } from "./groups-lock";

/** `/1.0/cluster/members`: https://documentation.ubuntu.com/lxd/latest/api/#/cluster */
const memberSchema = z.looseObject({
  server_name: z.string(),
  url: z.string(),
  database: z.boolean(),
  status: z.string(),
  message: z.string().default(""),
  roles: z.array(z.string()).nullish(),
  failure_domain: z.string().default("default"),
  architecture: z.string().default(""),
  description: z.string().default(""),
  config: z.record(z.string(), z.string()).nullish(),
  groups: z.array(z.string()).nullish(),
});

/** A member as LXD shows it. */
type ListedMember = z.output<typeof memberSchema>;

export interface Member extends ListedMember {
  /** Whether it is down, as far as the cluster knows. LXD's `status` of an evacuated member does not tell. */
  readonly isDown: boolean;
}

export { EVACUATED };

/** The group that every cluster has. */
export const DEFAULT_GROUP = "default";

/** A member-specific key of a pool or network, for which a joining member brings its own value. */
const memberConfigKeySchema = z.object({
  entity: z.enum(["storage-pool", "network"]),
  name: z.string(),
  key: z.string(),
  value: z.string().default(""),
});

export type MemberConfigKey = z.output<typeof memberConfigKeySchema>;

const clusterSchema = z.looseObject({
  server_name: z.string().default(""),
  enabled: z.boolean().default(false),
  member_config: z.array(z.looseObject(memberConfigKeySchema.shape)).nullish(),
});

/** Lists all members. Their status is what the answering member reports, which is itself online. */
export async function listMembers(lxd: LxdClient): Promise<Member[]> {
  const listed = await lxd.get("/1.0/cluster/members", listOf(memberSchema), { recursion: 1 });
  return judged(lxd, listed, (query, row) => lxd.select(query, row));
}

/** {@link listMembers}, shared by all reads of this process. */
export async function listMembersShared(lxd: LxdClient): Promise<Member[]> {
  const listed = await lxd.getShared("/1.0/cluster/members", listOf(memberSchema), { recursion: 1 });
  return judged(lxd, listed, (query, row) => lxd.selectShared(query, row));
}

export async function getMember(lxd: LxdClient, name: string): Promise<Member> {
  const live = await lxd.get(api`/1.0/cluster/members/${name}`, memberSchema);
  const [member = { ...live, isDown: false }] = await judged(lxd, [live], (query, row) => lxd.select(query, row));
  return member;
}

export function findMember(lxd: LxdClient, name: string): Promise<Member | undefined> {
  return unlessNotFound(getMember(lxd, name));
}

/**
 * Says which members are down. The answering member is online: LXD judges by heartbeats, even of itself, and these are late while they wait for
 * a member that is gone.
 */
async function judged(lxd: LxdClient, members: readonly ListedMember[], select: typeof lxd.select): Promise<Member[]> {
  const down = await downIn(members, (query, row) => select(query, row).catch(fallback([], "api", "response-shape")));
  const { name } = down.length === 0 ? { name: undefined } : await presentedBy(lxd.endpoint, lxd.deadline);
  return members.map((member) => {
    const isDown = member.server_name !== name && down.includes(member.server_name);
    return { ...member, isDown, status: member.status === "Offline" && !isDown ? "Online" : member.status };
  });
}

/**
 * Writes the changeable properties of a member. Writes all of them, because LXD resets omitted ones, even in a PATCH.
 * @param change - Returns the wanted member; `undefined` for no change.
 * @throws ApiError when the cluster has no such member.
 */
export async function changeMember(
  lxd: LxdClient,
  name: string,
  change: (live: ListedMember) => ListedMember | undefined,
): Promise<void> {
  const isFound = await withGroupsLock(lxd, () =>
    lxd.modify(api`/1.0/cluster/members/${name}`, memberSchema, (live) => {
      const wanted = change(live);
      if (wanted === undefined) {
        return undefined;
      }
      const { roles, failure_domain, description, config } = wanted;
      // LXD 5.0 lets a member lose its last group, and then refuses every change of the member without one.
      const groups = wanted.groups?.length ? wanted.groups : [DEFAULT_GROUP];
      return { roles: roles ?? [], failure_domain, description, config: config ?? {}, groups };
    }),
  );
  if (!isFound) {
    await getMember(lxd, name);
  }
}

export function isAt({ url }: Pick<Member, "url">, address: string): boolean {
  return sameListener(url.replace(/^https:\/\//, ""), address);
}

/**
 * Returns what a cluster answers; `undefined` when the server that was asked is in no cluster.
 * @throws The error of the answer otherwise, also when the server does not say whether it is in one; TimeoutError, with that error in its
 * text, when the time is over while it is asked.
 */
export async function ifClustered<Answer>(lxd: LxdClient, answer: Promise<Answer>): Promise<Answer | undefined> {
  try {
    return await answer;
  } catch (error) {
    if ((await lxd.isInNoCluster(error)) === true) {
      return undefined;
    }
    throw error;
  }
}

/** Lists the member-specific keys for which a server that joins this cluster must bring values. */
export async function memberConfigKeys(lxd: LxdClient): Promise<MemberConfigKey[]> {
  return (await lxd.get("/1.0/cluster", clusterSchema)).member_config ?? [];
}

/** Makes a standalone server the first member of a new cluster. Keeps its contents. */
export async function bootstrapCluster(lxd: LxdClient, name: string): Promise<void> {
  const bootstrap = (): Promise<unknown> =>
    lxd.change("PUT", "/1.0/cluster", {
      body: {
        server_name: name,
        enabled: true,
        member_config: [],
        cluster_address: "",
        cluster_certificate: "",
        server_address: "",
        cluster_password: "",
      },
    });
  await untilKnown(bootstrap, async () => (await lxd.get("/1.0/cluster", clusterSchema)).enabled);
}

export function untilOnline(lxd: LxdClient, name: string): Promise<Member> {
  return until(lxd.deadline, async (report) => {
    const member = (await listMembers(lxd)).find(({ server_name }) => server_name === name);
    report(member === undefined ? `the cluster does not list ${name} yet` : `${name} is ${member.status}: ${member.message}`);
    return member?.status === "Online" ? member : undefined;
  });
}

/** Removes an empty member, which then resets itself. */
export async function removeMember(lxd: LxdClient, name: string): Promise<void> {
  await lxd.remove(api`/1.0/cluster/members/${name}`);
}

/** Removes a member's rows, with those of what it holds, without contacting it. */
export async function forgetMember(lxd: LxdClient, name: string): Promise<void> {
  // Older versions accept only "1" as true.
  await lxd.remove(api`/1.0/cluster/members/${name}`, { force: 1 });
}

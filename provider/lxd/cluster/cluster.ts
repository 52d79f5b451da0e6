import * as z from "zod";
import type { Deadline } from "../../support/deadline";
import { until } from "../../support/deadline";
import { ResponseShapeError } from "../../support/errors";
import { api, type LxdClient } from "../client/client";
import { untilKnown } from "../client/operations";
import { sameListener } from "../meaning";

export { isNotClustered } from "../client/transient-failures";

/** `/1.0/cluster/members`: https://documentation.ubuntu.com/lxd/latest/api/#/cluster */
const memberSchema = z.looseObject({
  server_name: z.string(),
  url: z.string(),
  database: z.boolean(),
  status: z.string(),
  message: z.string().default(""),
  architecture: z.string().default(""),
  roles: z.array(z.string()).nullish(),
  failure_domain: z.string().default("default"),
  description: z.string().default(""),
  config: z.record(z.string(), z.string()).nullish(),
  groups: z.array(z.string()).nullish(),
});

/** A member as the cluster reports it. */
export type Member = z.output<typeof memberSchema>;

/** A member-specific key of a pool or network, for which a joining member brings its own value. */
const memberConfigKeySchema = z.object({
  entity: z.enum(["storage-pool", "network"]),
  name: z.string(),
  key: z.string(),
  value: z.string().default(""),
});

/** See {@link memberConfigKeySchema}. */
export type MemberConfigKey = z.output<typeof memberConfigKeySchema>;

const clusterSchema = z.looseObject({
  server_name: z.string().default(""),
  enabled: z.boolean().default(false),
  member_config: z.array(z.looseObject(memberConfigKeySchema.shape)).nullish(),
});

/** Metadata of a token operation; camelCase, unlike the token made from it. */
const tokenSchema = z.looseObject({
  serverName: z.string(),
  secret: z.string(),
  fingerprint: z.string(),
  addresses: z.array(z.string()),
  expiresAt: z.string().default("0001-01-01T00:00:00Z"),
});

/** A join token and the operation that keeps it alive. */
export interface JoinToken {
  readonly operationId: string;
  /** SHA-256 of the cluster's certificate. */
  readonly fingerprint: string;
  /** Cluster addresses of the members that are online. */
  readonly addresses: readonly string[];
  /** Text that the joining server presents. A secret. */
  readonly text: string;
}

/** Lists all members, with their status as the answering member reports it. */
export function listMembers(lxd: LxdClient): Promise<Member[]> {
  return lxd.get("/1.0/cluster/members", z.array(memberSchema), { recursion: 1 });
}

/** {@link listMembers}, shared by all reads of this process. */
export function listMembersShared(lxd: LxdClient): Promise<Member[]> {
  return lxd.getShared("/1.0/cluster/members", z.array(memberSchema), { recursion: 1 });
}

/** Reads a member. */
export function getMember(lxd: LxdClient, name: string): Promise<Member> {
  return lxd.get(api`/1.0/cluster/members/${name}`, memberSchema);
}

/** Finds a member. Returns `undefined` when the cluster has none of that name. */
export function findMember(lxd: LxdClient, name: string): Promise<Member | undefined> {
  return lxd.find(api`/1.0/cluster/members/${name}`, memberSchema);
}

/**
 * Writes the changeable properties of a member. Writes all of them, because LXD resets omitted ones, even in a PATCH.
 * @param change - Returns the wanted member; `undefined` for no change.
 * @throws ApiError when the cluster has no such member.
 */
export async function changeMember(lxd: LxdClient, name: string, change: (live: Member) => Member | undefined): Promise<void> {
  const contents = (live: Member): object | undefined => {
    const wanted = change(live);
    if (wanted === undefined) {
      return undefined;
    }
    const { roles, failure_domain, description, config, groups } = wanted;
    return { roles: roles ?? [], failure_domain, description, config: config ?? {}, groups: groups ?? ["default"] };
  };
  if (!(await lxd.modify(api`/1.0/cluster/members/${name}`, memberSchema, contents))) {
    await getMember(lxd, name);
  }
}

/** Whether a member has an address, in any spelling. */
export function isAt({ url }: Pick<Member, "url">, address: string): boolean {
  return sameListener(url.replace(/^https:\/\//, ""), address);
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

/** Creates a token with which one server of that name may join, once. Invalidates an older token of that name. */
export async function mintJoinToken(lxd: LxdClient, name: string): Promise<JoinToken> {
  // Not waited for: a token operation runs until the token is used, cancelled or expired.
  const operation = await lxd.begin("POST", "/1.0/cluster/members", { body: { server_name: name } });
  const parsed = tokenSchema.safeParse(operation?.metadata);
  if (operation === undefined || !parsed.success) {
    throw new ResponseShapeError(`LXD on ${lxd.host} answered the request for a join token with something else`);
  }
  const { serverName, secret, fingerprint, addresses, expiresAt } = parsed.data;
  const token = { server_name: serverName, fingerprint, addresses, secret, expires_at: expiresAt };
  return { operationId: operation.id, fingerprint, addresses, text: Buffer.from(JSON.stringify(token)).toString("base64") };
}

/** Makes an empty server a member. `lxd` is the API of the server that joins. */
export async function joinCluster(
  lxd: LxdClient,
  join: { name: string; address: string; token: JoinToken; certificate: string; memberConfig: readonly MemberConfigKey[] },
): Promise<void> {
  const { name, address, token, certificate, memberConfig } = join;
  await lxd.change("PUT", "/1.0/cluster", {
    body: {
      server_name: name,
      enabled: true,
      server_address: address,
      cluster_address: token.addresses[0] ?? "",
      cluster_certificate: certificate,
      // LXD up to 5.21.1 reads the token from `cluster_password`, 6.1 and Incus from `cluster_token`.
      cluster_password: token.text,
      cluster_token: token.text,
      member_config: memberConfig,
    },
  });
}

/** Waits until the cluster reports a member as online. `lxd` is the API of another member. */
export async function untilOnline(lxd: LxdClient, name: string, deadline: Deadline): Promise<Member> {
  return until(deadline, async (report) => {
    const member = (await listMembers(lxd)).find(({ server_name }) => server_name === name);
    report(member === undefined ? `the cluster does not list ${name} yet` : `${name} is ${member.status}: ${member.message}`);
    return member?.status === "Online" ? member : undefined;
  });
}

/** Removes an empty member, which then resets itself. */
export async function removeMember(lxd: LxdClient, name: string): Promise<void> {
  await lxd.remove(api`/1.0/cluster/members/${name}`);
}

/** Removes a member's rows without contacting it. Only for a member that holds nothing. */
export async function forgetMember(lxd: LxdClient, name: string): Promise<void> {
  // Older versions accept only "1" as true.
  await lxd.remove(api`/1.0/cluster/members/${name}`, { force: 1 });
}

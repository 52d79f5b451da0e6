import * as z from "zod";
import { FailedError, ResponseShapeError, replyOf } from "../../support/errors";
import { api, type LxdClient } from "../client/client";
import { operationSchema } from "../client/operations";
import type { MemberConfigKey } from "./cluster";
import { howToWipe } from "./join-preflight";

/** Metadata of a token operation; camelCase, unlike the token made from it. */
const tokenSchema = z.looseObject({
  serverName: z.string(),
  secret: z.string(),
  fingerprint: z.string(),
  addresses: z.array(z.string()),
  expiresAt: z.string().default("0001-01-01T00:00:00Z"),
});

export interface JoinToken {
  readonly operationId: string;
  /** SHA-256 of the cluster's certificate. */
  readonly fingerprint: string;
  /** Cluster addresses of the members that are online. */
  readonly addresses: readonly string[];
  /** Text that the joining server presents. A secret. */
  readonly text: string;
}

/** Creates a token with which one server of that name may join, once. Invalidates an older token of that name. */
export async function mintJoinToken(lxd: LxdClient, name: string): Promise<JoinToken> {
  // Not waited for: a token operation runs until the token is used, cancelled or expired.
  const operation = await lxd.begin("POST", "/1.0/cluster/members", { body: { server_name: name } });
  const parsed = tokenSchema.safeParse(operation?.metadata);
  if (operation === undefined || !parsed.success) {
    throw new ResponseShapeError(`${lxd.title} answered the request for a join token with something else`);
  }
  const { serverName, secret, fingerprint, addresses, expiresAt } = parsed.data;
  const token = { server_name: serverName, fingerprint, addresses, secret, expires_at: expiresAt };
  return { operationId: operation.id, fingerprint, addresses, text: Buffer.from(JSON.stringify(token)).toString("base64") };
}

/** A server that joins, and the cluster's certificate. */
interface Joining {
  readonly name: string;
  readonly address: string;
  readonly certificate: string;
  readonly memberConfig: readonly MemberConfigKey[];
}

/** Makes an empty server a member by a token. `lxd` is the API of the server that joins. */
export function joinCluster(lxd: LxdClient, { token, ...joining }: Joining & { token: JoinToken }): Promise<void> {
  return putCluster(lxd, joining, {
    cluster_address: token.addresses[0] ?? "",
    // LXD up to 5.21.1 reads the token from `cluster_password`, 6.1 and Incus from `cluster_token`.
    cluster_password: token.text,
    cluster_token: token.text,
  });
}

/**
 * Makes an empty server a member by the cluster's trust password.
 * @param clusterAddress - Where the server finds a member.
 */
export function joinByPassword(
  lxd: LxdClient,
  { trustPassword, clusterAddress, ...joining }: Joining & { trustPassword: string; clusterAddress: string },
): Promise<void> {
  return putCluster(lxd, joining, { cluster_address: clusterAddress, cluster_password: trustPassword });
}

async function putCluster(lxd: LxdClient, { name, address, certificate, memberConfig }: Joining, trust: object): Promise<void> {
  const body = {
    server_name: name,
    enabled: true,
    server_address: address,
    cluster_certificate: certificate,
    member_config: memberConfig,
    ...trust,
  };
  await lxd.change("PUT", "/1.0/cluster", { body });
}

/**
 * Revokes the token of a failed join, if it had one.
 * @returns The error to throw: LXD's reply and the remedy.
 */
export async function failedJoin(
  error: unknown,
  { name, host, cluster, token }: { name: string; host: string; cluster: LxdClient; token: JoinToken | undefined },
): Promise<Error> {
  const reply = replyOf(error);
  const remedies = token === undefined ? [WRONG_PASSWORD, ...REMEDIES] : REMEDIES;
  const remedy = remedies.find(([pattern]) => pattern.test(reply))?.[1];
  const sentences = [
    `${name} (${host}) did not join the cluster: ${reply}${remedy === undefined ? "" : ` — ${remedy}`}`,
    ...(token === undefined ? [] : [await revoke(cluster, name, token)]),
  ];
  return new FailedError(sentences.join(". "), { cause: error });
}

async function revoke(cluster: LxdClient, name: string, token: JoinToken): Promise<string> {
  return (await isRevoked(cluster, token))
    ? "The join token was revoked"
    : `Revoke its token, if it is still there: ${cluster.names.client} cluster revoke-token ${name}`;
}

/** Revokes a token. Returns `false` when LXD cannot confirm it: the failure of the join matters more than a second error. */
async function isRevoked(lxd: LxdClient, { operationId: id }: JoinToken): Promise<boolean> {
  try {
    await lxd.cancel({ id });
    return true;
  } catch {
    const isOver = lxd.find(api`/1.0/operations/${id}`, operationSchema).then((found) => (found?.status_code ?? 200) >= 200);
    return isOver.catch(() => false); // true for a token that was used
  }
}

type Remedy = readonly [RegExp, string];

const WRONG_PASSWORD: Remedy = [/not authorized/i, "trustPassword is not the core.trust_password of the cluster"];

/**
 * LXD's errors of a failed join. The wording differs slightly between versions ("Failed to", "Failed ...ing").
 * @see https://github.com/canonical/lxd/blob/main/lxd/api_cluster.go clusterPutJoin
 */
const REMEDIES: readonly Remedy[] = [
  [
    /No matching cluster join operation found|not authorized/i,
    "the join token was no longer valid; the next pulumi up mints a new one",
  ],
  [
    /Token has expired/i,
    "the join token expired. Check that the clocks of the hosts agree, and run pulumi up, which mints a new one",
  ],
  [
    /certificate (isn't|is not) valid yet/i,
    "the host's clock was ahead of the cluster's when its server was installed. Set the clocks, wait, and run pulumi up again",
  ],
  [
    /different name .* already in trust store/i,
    "this host tried to join under another name before. Use that name, or remove its certificate from the cluster (config trust list of lxc or incus)",
  ],
  [
    /already has a member with (name|address)/i,
    "an earlier attempt left that member; remove it with cluster remove --force of lxc or incus",
  ],
  [/joining server version (doesn't|does not) match/i, "all members need the same version and API extensions"],
  [
    /member specific|Pool source cannot be changed|directory ".*" already exists/i,
    `an earlier attempt left a storage pool on the host. Wipe it: ${howToWipe(["storage-pools", "networks"])}`,
  ],
  [
    /existing file ?system/i,
    "the disk has a file system, perhaps that of an earlier membership: look at what is on it, and erase it with wipefs --all if that may go",
  ],
  [
    /Required tool .* is missing/i,
    "the host lacks the programs of a storage driver that the cluster's pools have: install them, for instance by install.packages of its LxdNode",
  ],
  [
    /(Missing|Mismatching) .*(storage pool|network|driver)/i,
    "the host's pools or networks do not fit the cluster's; see memberConfig",
  ],
  [/^The connection to .* broke/, "the server on the host, or the host itself, stopped during the join. Run pulumi up again"],
  [
    /context deadline exceeded|connect to cluster leader|i\/o timeout|no route to host|connection refused/i,
    "the hosts must reach each other on their cluster addresses (TCP 8443). The server on the host may be half joined now: if it does not answer, " +
      howToWipe(["cluster"]),
  ],
];

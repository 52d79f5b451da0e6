import * as z from "zod";
import { type ClusterConnection, clusterConnectionSchema } from "../lxd/client/cluster-connection";
import { sameJson } from "../support/equality";
import { hasCode, messageOf, RefusedError, TransportError } from "../support/errors";
import { type Connection, connectionSchema, withDefaults, withoutPatience } from "../transport/connection";

const secondsSchema = z.number("must be a number of seconds, such as 600").positive("must be more than 0 seconds").optional();

const timeoutsSchema = z.strictObject({
  create: secondsSchema,
  read: secondsSchema,
  update: secondsSchema,
  delete: secondsSchema,
});

export const connectionsSchema = z.array(connectionSchema);

/** Properties of every kind that is on one host. */
export const onHost = { connection: connectionSchema, timeouts: timeoutsSchema.optional() };

/** Properties of every kind that is reached through the API of a cluster. */
export const inCluster = { cluster: clusterConnectionSchema, timeouts: timeoutsSchema.optional() };

/** The names of {@link ConnectionInputs}. */
export const CONNECTION_INPUTS: ReadonlySet<string> = new Set([
  "connection",
  "cluster",
  "peers",
  "timeouts",
] satisfies (keyof ConnectionInputs)[]);

/** How an object is reached and waited for, rather than what it is. */
export interface ConnectionInputs {
  readonly connection?: Connection;
  readonly cluster?: ClusterConnection;
  readonly timeouts?: z.output<typeof timeoutsSchema>;
  /** Other hosts through which the object can be reached, if it has any. */
  readonly peers?: readonly Connection[] | undefined;
  /** That of the cluster that the object is on, as first found, if the program does not give it. Only in state. */
  readonly clusterFingerprint?: string | undefined;
}

export function clusterFingerprintIn({ cluster, clusterFingerprint }: ConnectionInputs): string | undefined {
  return cluster?.certificateFingerprint ?? clusterFingerprint;
}

/**
 * Paths of the differences in how the object is reached and waited for, as far as they matter for a later read or delete. A
 * cluster that has grown is still reached through the endpoints in state; one that lost an endpoint must not be asked there. A
 * fingerprint that the program gives for the first time is compared with that of the refresh.
 * @param patience - Whether the limits of dialling count, too.
 */
export function changedConnectionInputs(
  state: ConnectionInputs,
  inputs: ConnectionInputs,
  { patience }: { patience: boolean },
): string[] {
  const [before, after] = [clusterFingerprintIn(state), inputs.cluster?.certificateFingerprint];
  const [peersBefore, peersAfter] = [state.peers ?? [], inputs.peers ?? []];
  const complete = patience ? withDefaults : withoutPatience;
  const connectionOf = ({ connection }: ConnectionInputs): object | undefined => connection && complete(connection);
  return [
    ...changedKeys("connection", connectionOf(state), connectionOf(inputs)),
    ...changedKeys("timeouts", state.timeouts, inputs.timeouts),
    ...changedHosts("cluster.endpoints", state.cluster?.endpoints ?? [], inputs.cluster?.endpoints ?? [], complete),
    ...(peersBefore.length === 0 && peersAfter.length > 0 ? ["peers"] : changedHosts("peers", peersBefore, peersAfter, complete)),
    ...(before !== undefined && after !== undefined && before !== after ? ["cluster.certificateFingerprint"] : []),
  ];
}

export function isSameHost(a: Connection, b: Connection): boolean {
  return a.host === b.host && withDefaults(a).port === withDefaults(b).port;
}

/** Paths of the differences for hosts that were known; the path of the list for a host that is no longer listed. */
function changedHosts(
  path: string,
  before: readonly Connection[],
  after: readonly Connection[],
  complete: (connection: Connection) => object,
): string[] {
  const paths = before.flatMap((known) => {
    if (after.some((connection) => sameJson(complete(connection), complete(known)))) {
      return [];
    }
    const index = after.findIndex((connection) => isSameHost(connection, known));
    const twin = after[index];
    return twin === undefined ? [path] : changedKeys(`${path}[${index}]`, complete(known), complete(twin));
  });
  return [...new Set(paths)];
}

function changedKeys(path: string, before: object = {}, after: object = {}): string[] {
  const [a, b] = [before, after] as Record<string, unknown>[];
  return Object.keys({ ...a, ...b }).flatMap((key) => (sameJson(a?.[key], b?.[key]) ? [] : [`${path}.${key}`]));
}

/** Whether a host is no longer listed. It may be about to leave, which is more than a change of the connection. */
export function hasFewerPeers(before: ConnectionInputs, after: ConnectionInputs): boolean {
  return (after.peers ?? []).length < (before.peers ?? []).length;
}

/**
 * Adds to an error that the connection in state failed. A refresh or a destroy gets only that connection, because both run before
 * the program gives a new key or address.
 */
export function notReachedAsStored(error: unknown): unknown {
  const message =
    `${messageOf(error)}. Pulumi used the connection that the last pulumi up stored; if the program has a new one, run ` +
    "pulumi up --refresh=false once";
  if (hasCode(error, "refused")) {
    return new RefusedError(message, { cause: error });
  }
  return hasCode(error, "transport") ? new TransportError(error.host, message, { cause: error }) : error;
}

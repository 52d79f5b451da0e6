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

/** Several hosts. */
export const connectionsSchema = z.array(connectionSchema);

/** Properties of a kind that is found on one host, whatever else it has. */
export const onHost = { connection: connectionSchema, timeouts: timeoutsSchema.optional() };

/** Properties of a kind that is found through the API of a cluster, whatever else it has. */
export const inCluster = { cluster: clusterConnectionSchema, timeouts: timeoutsSchema.optional() };

/** Inputs that say how an object is reached and waited for, not what it is. */
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
  /** Other hosts through which it can be reached, when it has any. */
  readonly peers?: readonly Connection[] | undefined;
  /** Which cluster the object is on, where the program does not say it: as it was found when the object was first reached. In state alone. */
  readonly clusterFingerprint?: string | undefined;
}

/** Which cluster an object is on, as far as it is known: SHA-256 of its certificate. */
export function clusterFingerprintIn({ cluster, clusterFingerprint }: ConnectionInputs): string | undefined {
  return cluster?.certificateFingerprint ?? clusterFingerprint;
}

/**
 * Paths of what differs in how the object is reached and waited for, such that what is in state would not do for a later read or delete. A
 * cluster that has grown is still reached through the endpoints that state knows; one that lost an endpoint must not be asked there. Which
 * cluster it is was found by the refresh, where the program says it for the first time.
 * @param patience - Whether the limits of dialling count, too.
 */
export function changedConnectionInputs(
  state: ConnectionInputs,
  inputs: ConnectionInputs,
  { patience }: { patience: boolean },
): string[] {
  const [before, after] = [clusterFingerprintIn(state), inputs.cluster?.certificateFingerprint];
  const peers = [state.peers ?? [], inputs.peers ?? []] as const;
  const complete = patience ? withDefaults : withoutPatience;
  return [
    ...changedKeys(
      "connection",
      state.connection && complete(state.connection),
      inputs.connection && complete(inputs.connection),
    ),
    ...changedKeys("timeouts", state.timeouts, inputs.timeouts),
    ...changedHosts("cluster.endpoints", state.cluster?.endpoints ?? [], inputs.cluster?.endpoints ?? [], complete),
    ...(peers[0].length === 0 && peers[1].length > 0 ? ["peers"] : changedHosts("peers", ...peers, complete)),
    ...(before !== undefined && after !== undefined && before !== after ? ["cluster.certificateFingerprint"] : []),
  ];
}

/** Whether two connections lead to the same host, whatever else they say. */
export function isSameHost(a: Connection, b: Connection): boolean {
  return a.host === b.host && withDefaults(a).port === withDefaults(b).port;
}

/** Paths of what differs for hosts that were known. For a host that is no longer named: the path of the list. */
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

/** Whether a host is no longer named: it may be about to leave, which is more than another way to the object. */
export function hasFewerPeers(before: ConnectionInputs, after: ConnectionInputs): boolean {
  return (after.peers ?? []).length < (before.peers ?? []).length;
}

/**
 * Why a host was not reached by the connection in state. That is all that a refresh or a destroy is given, and both come before the
 * program has told of a new key or address.
 */
export function notReachedAsStored(error: unknown): unknown {
  const message =
    `${messageOf(error)}. This is the connection that the last pulumi up stored; if the program has another one now, run ` +
    "pulumi up --refresh=false once";
  if (hasCode(error, "refused")) {
    return new RefusedError(message, { cause: error });
  }
  return hasCode(error, "transport") ? new TransportError(error.host, message, { cause: error }) : error;
}

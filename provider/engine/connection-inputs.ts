import * as z from "zod";
import { type ClusterConnection, clusterConnectionSchema } from "../lxd/client/cluster-connection";
import { sameJson } from "../support/equality";
import { hasCode, messageOf, RefusedError, TransportError } from "../support/errors";
import { type Connection, connectionSchema } from "../transport/connection";

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
 * Whether the way to the object has changed such that what is in state would no longer do for a later read or delete. A cluster
 * that has grown is still reached through the endpoints that state knows; one that lost an endpoint is not to be asked there. Which cluster
 * it is was found by the refresh, where the program says it for the first time.
 */
export function connectionInputsChanged(state: ConnectionInputs, inputs: ConnectionInputs): boolean {
  const meant = inputs.cluster?.certificateFingerprint;
  const known = clusterFingerprintIn(state);
  return (
    !sameJson(state.connection, inputs.connection) ||
    !sameJson(state.timeouts, inputs.timeouts) ||
    hasLostOne(state.cluster?.endpoints ?? [], inputs.cluster?.endpoints ?? []) ||
    hasLostOne(state.peers ?? [], inputs.peers ?? []) ||
    ((state.peers ?? []).length === 0 && (inputs.peers ?? []).length > 0) ||
    (meant !== undefined && known !== undefined && meant !== known)
  );
}

/** Whether a host is named no more: it may be about to leave, which is more than another way to the object. */
export function hasFewerPeers(before: ConnectionInputs, after: ConnectionInputs): boolean {
  return (after.peers ?? []).length < (before.peers ?? []).length;
}

function hasLostOne(before: readonly Connection[], after: readonly Connection[]): boolean {
  return before.some((known) => !after.some((connection) => sameJson(connection, known)));
}

/**
 * Why a host was not reached by the connection in state. That is all that a refresh or a destroy is given, and both come before the
 * program has told of a new key or address.
 */
export function notReachedAsStored(error: unknown): unknown {
  const message =
    `${messageOf(error)}. This is the connection that the last pulumi up stored; if the program has another one by now, run ` +
    "pulumi up --refresh=false once";
  if (hasCode(error, "refused")) {
    return new RefusedError(message, { cause: error });
  }
  return hasCode(error, "transport") ? new TransportError(error.host, message, { cause: error }) : error;
}

import type { Deadline } from "../../support/deadline";
import { hasCode, messageOf, RefusedError, TransportError } from "../../support/errors";
import { type Connection, describeConnection } from "../../transport/connection";
import { connect } from "../../transport/pool";
import { saysLater } from "./answers";
import type { ClusterConnection } from "./cluster-connection";
import { type Endpoint, endpointOf } from "./endpoint";
import { type Presented, presentedBy } from "./presented";
import { QUORUM_REMEDY } from "./quorum-loss";

/** Time for a daemon to answer before the next host is asked. The daemon may hang, or be starting while no other answers. */
const ANSWER_SECONDS = 15;

interface Options {
  readonly deadline: Deadline;
  /** Whether to keep dialling the first host, which may still be booting, when none answers (`dialErrorLimit`). */
  readonly patient: boolean;
  /** Receives each host that was skipped for any reason other than silence. */
  readonly warn: (text: string) => void;
}

/** A host of the cluster, and the cluster's identity: as given, or otherwise as found. */
export interface ClusterEndpoint {
  readonly endpoint: Endpoint;
  /** SHA-256 of the cluster's certificate; `undefined` for a standalone server, whose certificate changes when it joins a cluster. */
  readonly fingerprint: string | undefined;
}

interface Candidate {
  readonly endpoint: Endpoint;
  readonly presented: Presented;
}

/**
 * Returns the API of the first host, in the order given, that answers as the wanted cluster. Without a fingerprint, the hosts must agree on
 * the cluster.
 * @throws TransportError naming every host and why it did not answer; RefusedError when the hosts that answer run no daemon, or belong to
 * another cluster.
 */
export async function clusterEndpoint(
  { endpoints, certificateFingerprint: wanted }: ClusterConnection,
  options: Options,
): Promise<ClusterEndpoint> {
  if (wanted === undefined && endpoints.length > 1) {
    return agreedOn(endpoints, options);
  }
  const failures = new Map<Connection, unknown>();
  const ask = async (connection: Connection, others: Others): Promise<ClusterEndpoint | undefined> => {
    try {
      const found = checked(await askAt(connection, others, options.deadline, false), wanted);
      failures.delete(connection);
      warnOf([...failures.values()], options.warn);
      return found;
    } catch (error) {
      failures.set(connection, error);
      return undefined;
    }
  };
  for (const connection of endpoints) {
    const found = await ask(connection, endpoints.length > 1 ? "not yet asked" : "none");
    if (found !== undefined) {
      return found;
    }
  }
  for (const connection of endpoints.filter((each) => saysLater(failures.get(each)))) {
    const found = await ask(connection, "asked");
    if (found !== undefined) {
      return found;
    }
  }
  return lastResort(endpoints, wanted, [...failures.values()], options);
}

/** Other hosts of the cluster. */
type Others = "none" | "not yet asked" | "asked";

/** A daemon that starts is only waited for when all other hosts were asked, and one that fails when there are none. */
const patienceWith = { none: "patient", "not yet asked": "once", asked: "impatient" } as const;

/** Determines the cluster without a fingerprint, from all answering hosts that are in one. Skips a former member. */
async function agreedOn(endpoints: readonly Connection[], options: Options): Promise<ClusterEndpoint> {
  const outcomes = await Promise.allSettled(endpoints.map((connection) => askAt(connection, "asked", options.deadline, false)));
  const failures = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason as unknown] : []));
  const answering = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
  const clustered = answering.filter(({ presented }) => presented.clustered);
  const candidates = clustered.length > 0 ? clustered : answering;
  const [first] = candidates;
  if (first === undefined) {
    return lastResort(endpoints, undefined, failures, options);
  }
  const { fingerprint } = first.presented;
  if (candidates.some(({ presented }) => presented.fingerprint !== fingerprint)) {
    const found = candidates.map(({ endpoint, presented }) => `\n  - ${endpoint.host}: ${describe(presented)}`).join("");
    throw new RefusedError(
      `The endpoints do not belong to one cluster, and certificateFingerprint is not given:${found}\nNothing was done. Remove the endpoints ` +
        "that are not members, or give the cluster's certificateFingerprint next to endpoints",
    );
  }
  const others = answering.filter(({ presented }) => presented.fingerprint !== fingerprint);
  failures.push(...others.map(({ endpoint, presented }) => new OtherClusterError(endpoint, presented, fingerprint)));
  warnOf(failures, options.warn);
  return { endpoint: first.endpoint, fingerprint: first.presented.clustered ? fingerprint : undefined };
}

/**
 * When other hosts can be asked, SSH gets at most half of the time, and LXD then at most half of the rest and {@link ANSWER_SECONDS}.
 */
async function askAt(connection: Connection, others: Others, deadline: Deadline, patient: boolean): Promise<Candidate> {
  const thereAreOthers = others !== "none";
  const way = thereAreOthers
    ? deadline.atMostHalf(Number.POSITIVE_INFINITY, `reaching ${describeConnection(connection)} by SSH`)
    : deadline;
  const ssh = await connect(connection, { deadline: way, patient });
  const patience = thereAreOthers
    ? deadline.atMostHalf(ANSWER_SECONDS, `asking LXD or Incus on ${ssh.name} who it is`)
    : deadline;
  const endpoint = await endpointOf(ssh, patience);
  const presented = await presentedBy(endpoint, patience, patienceWith[others]).catch((error: unknown) => {
    if (error instanceof Error && endpoint.isOpen()) {
      daemonOf.set(error, endpoint.title);
    }
    throw error;
  });
  return { endpoint, presented };
}

/** The daemon that listens and did not tell who it is, by the error of asking it. */
const daemonOf = new WeakMap<Error, string>();

/**
 * The likely reason, when no host of a cluster answers and a daemon listens on one of them: daemons without a quorum of their database do
 * not tell even who they are, or not in time. Their errors differ.
 */
function whyDaemonsAreSilent(failures: readonly unknown[]): string {
  const daemons = failures.flatMap((error) => (error instanceof Error ? (daemonOf.get(error) ?? []) : []));
  return daemons.length === 0
    ? ""
    : `\n${daemons.join(", ")} ${daemons.length === 1 ? "runs and does" : "run and do"} not answer for the cluster. ${QUORUM_REMEDY}`;
}

/** Retries the first host, which may still be booting, when no host has answered. */
async function lastResort(
  endpoints: readonly Connection[],
  wanted: string | undefined,
  failures: readonly unknown[],
  { deadline, patient }: Options,
): Promise<ClusterEndpoint> {
  const [first] = endpoints;
  if (patient && first !== undefined && failures.every((error) => hasCode(error, "transport"))) {
    return checked(await askAt(first, "none", deadline, true), wanted);
  }
  throw failures.length === 1 ? failures[0] : noneAnswers(endpoints, failures);
}

/** @throws OtherClusterError when the server that answers is not the wanted cluster. */
function checked({ endpoint, presented }: Candidate, wanted: string | undefined): ClusterEndpoint {
  if (wanted !== undefined && presented.fingerprint !== wanted) {
    throw new OtherClusterError(endpoint, presented, wanted);
  }
  return { endpoint, fingerprint: presented.clustered ? presented.fingerprint : undefined };
}

class OtherClusterError extends RefusedError {
  /** The mismatch without the remedy, which is reported once for all hosts. */
  readonly fact: string;

  constructor(
    { host }: Endpoint,
    readonly presented: Presented,
    wanted: string,
  ) {
    const fact = `${host} is not the expected cluster, whose certificate is ${wanted}: it answers as ${describe(presented)}`;
    super(`${fact}. Nothing was done there. ${whatToDo([presented])}`);
    this.fact = fact;
  }
}

function factOf(error: unknown): string {
  return error instanceof OtherClusterError ? error.fact : messageOf(error);
}

function describe({ fingerprint, clustered, name }: Presented): string {
  return `${clustered ? `the member "${name}" of the cluster` : `the server "${name}", which is in no cluster,`} with the certificate ${fingerprint}`;
}

function whatToDo(presented: readonly Presented[]): string {
  const certificates = new Set(presented.filter(({ clustered }) => clustered).map(({ fingerprint }) => fingerprint));
  const [one] = certificates;
  if (one === undefined) {
    return (
      "The host was removed from its cluster, or its server was reinstalled. List a host that is a member in endpoints. Or let this host join again: " +
      "pulumi up does that when the program has its LxdClusterMember and reaches another member"
    );
  }
  return (
    "If the cluster's certificate was renewed (cluster update-certificate of lxc or incus), compare this one with certificate_fingerprint in " +
    `\`lxc info\` or \`incus info\` on a member, and set it in the program: certificateFingerprint${certificates.size === 1 ? `: "${one}"` : ""}, next to endpoints, or in ` +
    "LxdCluster or the first LxdClusterMember"
  );
}

function warnOf(failures: readonly unknown[], warn: (text: string) => void): void {
  for (const error of failures) {
    if (!hasCode(error, "transport") && !hasCode(error, "timeout") && !saysLater(error)) {
      warn(`Skipped, and another host of the cluster is used: ${factOf(error)}`);
    }
  }
}

function noneAnswers(endpoints: readonly Connection[], failures: readonly unknown[]): Error {
  const reasons = failures.map((error) => `  - ${factOf(error)}`).join("\n");
  const others = failures.filter((error) => error instanceof OtherClusterError);
  if (others.length === 0) {
    return new TransportError(
      endpoints.map(describeConnection).join(", "),
      `No host of the cluster answers:\n${reasons}${whyDaemonsAreSilent(failures)}`,
    );
  }
  const remedy = whatToDo(others.map(({ presented }) => presented));
  return new RefusedError(`No host answers as the expected cluster:\n${reasons}\nNothing was done there. ${remedy}`);
}

import { LxdClient } from "../lxd/client/client";
import type { ClusterConnection } from "../lxd/client/cluster-connection";
import { clusterEndpoint } from "../lxd/client/cluster-endpoint";
import { type Endpoint, endpointOf } from "../lxd/client/endpoint";
import { writeMark } from "../lxd/ownership";
import { Deadline } from "../support/deadline";
import { redact } from "../support/redact";
import { type Connection, describeConnection } from "../transport/connection";
import { connect } from "../transport/pool";
import { type ConnectionInputs, clusterFingerprintIn, notReachedAsStored } from "./connection-inputs";
import type { Context, Lifecycle } from "./lifecycle";
import type { EngineLog } from "./progress";
import { claimOf, type Properties, urnOf } from "./properties";
import { printedByTheEngine } from "./provider-process";

/** How long a call past its deadline may take to report what it was waiting for, before it is abandoned. */
const GRACE_SECONDS = 5;

export interface Call {
  readonly name: "create" | "read" | "update" | "delete";
  /** What the engine passes: the inputs of a create or update, otherwise state. */
  readonly properties: Properties;
  /** What was known of the object before. @default properties */
  readonly known?: Properties;
}

export interface Found {
  cluster: string | undefined;
  /** The bodies that were sent to LXD. They also contain what others have set on the object, which is in no state. */
  readonly sent: unknown[];
}

/** Makes the runner of a lifecycle's calls. It gives each a deadline and a context, and redacts errors and messages. */
export function callRunner(
  lifecycle: Pick<Lifecycle<never, never>, "kind" | "timeouts">,
  log: EngineLog,
): <Result>(call: Call, work: (context: Context, found: Found) => Promise<Result>) => Promise<Result> {
  return async (call, work) => {
    const { name, properties, known = properties } = call;
    const { timeouts } = properties as ConnectionInputs;
    const urn = urnOf(properties);
    const deadline = new Deadline(timeouts?.[name] ?? lifecycle.timeouts[name], `${lifecycle.kind} ${name}`);
    const found: Found = { cluster: clusterFingerprintIn(known), sent: [] };
    const safe = (text: string): string => redact(text, [properties, known, found.sent]);
    let doing: string | undefined;
    const messages = {
      progress: (text: string) => {
        doing = text;
        log.progress(urn, safe(text));
      },
      warn: (text: string) => log.warn(urn, safe(text)),
    };
    try {
      const context = contextOf(call, deadline, found, messages);
      return await deadline.enforce(work(context, found), GRACE_SECONDS, () => doing ?? "nothing was reported");
    } catch (error) {
      throw error instanceof Error ? printedByTheEngine(Object.assign(error, { message: safe(error.message) })) : error;
    } finally {
      if (doing !== undefined) {
        log.progress(urn, ""); // removes what was shown
      }
    }
  };
}

function contextOf(
  { name, properties, known = properties }: Call,
  deadline: Deadline,
  found: Found,
  messages: Pick<Context, "progress" | "warn">,
): Context {
  const patient = name !== "read";
  const [urn, claim] = [urnOf(properties), claimOf(known)];
  // What is adopted may be complete, so its mark need not show whether the create has ended.
  const mark = writeMark({ urn, claim, isCreating: name === "create" && properties["adopt"] !== true });
  const observer = { sending: (body: unknown) => void found.sent.push(body), waiting: messages.progress };
  const notReached = (error: unknown): never => {
    throw "schemaVersion" in properties ? notReachedAsStored(error) : error; // inputs have no version, only state has
  };
  const endpointOnHost = async (connection: Connection, within: Deadline): Promise<Endpoint> =>
    endpointOf(await connect(connection, { deadline: within, patient }), within);
  const endpointOfCluster = async (cluster: ClusterConnection, within: Deadline): Promise<Endpoint> => {
    const wanted = cluster.certificateFingerprint ?? found.cluster;
    const options = { deadline: within, patient, warn: (text: string) => once(text, messages.warn) };
    const { endpoint, fingerprint } = await clusterEndpoint({ ...cluster, certificateFingerprint: wanted }, options);
    if (cluster.certificateFingerprint === undefined) {
      found.cluster ??= fingerprint;
    }
    return endpoint;
  };
  return {
    ...messages,
    deadline,
    urn,
    formerUrn: urnOf(known),
    claim,
    mark,
    host: (connection) => {
      warnOfUnverifiedHosts([connection], messages.warn);
      return connect(connection, { deadline, patient }).catch(notReached);
    },
    lxd: async (at, within = deadline) => {
      warnOfUnverifiedHosts("endpoints" in at ? at.endpoints : [at], messages.warn);
      const endpoint = "endpoints" in at ? endpointOfCluster(at, within) : endpointOnHost(at, within);
      return new LxdClient(await endpoint.catch(notReached), within, observer);
    },
  };
}

/** Texts that this process has shown, however many objects they concern. */
const shown = new Set<string>();

function once(text: string, show: (text: string) => void): void {
  if (!shown.has(text)) {
    shown.add(text);
    show(text);
  }
}

function warnOfUnverifiedHosts(connections: readonly Connection[], warn: (text: string) => void): void {
  for (const connection of connections) {
    if (connection.hostKeyPolicy === "insecure" && connection.hostKey === undefined) {
      once(`The host key of ${describeConnection(connection)} is not verified (hostKeyPolicy: "insecure")`, warn);
    }
  }
}

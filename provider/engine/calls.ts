import { LxdClient } from "../lxd/client/client";
import { clusterEndpoint } from "../lxd/client/cluster-endpoint";
import { endpointOf } from "../lxd/client/endpoint";
import { writeMark } from "../lxd/ownership";
import { Deadline } from "../support/deadline";
import { redact } from "../support/redact";
import { type Connection, describeConnection } from "../transport/connection";
import { connect } from "../transport/pool";
import { type ConnectionInputs, clusterFingerprintIn, notReachedAsStored } from "./connection-inputs";
import type { Context, Lifecycle } from "./lifecycle";
import { redacted } from "./printed-errors";
import type { EngineLog } from "./progress";
import { claimOf, isToAdopt, type Properties, urnOf } from "./properties";

/** How long a call past its deadline may take to report what it was waiting for, before it is abandoned. */
const GRACE_SECONDS = 5;

/** The calls in which a lifecycle does something. */
export type CallName = "create" | "read" | "update" | "delete";

/** One call of a lifecycle. */
export interface Call {
  readonly name: CallName;
  /** What the engine passes: the inputs of a create or update, otherwise state. */
  readonly properties: Properties;
  /** What was known of the object before. @default properties */
  readonly known?: Properties;
}

/** What a call has found. */
export interface Found {
  /** The cluster that the object is on. */
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
    const tell = {
      progress: (text: string) => {
        doing = text;
        log.progress(urn, safe(text));
      },
      warn: (text: string) => log.warn(urn, safe(text)),
    };
    try {
      const context = contextOf(call, deadline, found, tell);
      return await deadline.enforce(work(context, found), GRACE_SECONDS, () => doing ?? "nothing was reported");
    } catch (error) {
      throw redacted(error, safe);
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
  tell: Pick<Context, "progress" | "warn">,
): Context {
  const patient = name !== "read";
  const [urn, claim] = [urnOf(properties), claimOf(known)];
  const told = { sending: (body: unknown) => void found.sent.push(body), waiting: tell.progress };
  const notReached = (error: unknown): never => {
    throw "schemaVersion" in properties ? notReachedAsStored(error) : error; // inputs have no version, only state has
  };
  return {
    ...tell,
    deadline,
    urn,
    formerUrn: urnOf(known),
    claim,
    mark: writeMark({ urn, claim, isCreating: name === "create" && !isToAdopt(properties) }),
    host: (connection) => {
      warnOfUnverifiedHosts([connection], tell.warn);
      return connect(connection, { deadline, patient }).catch(notReached);
    },
    lxd: async (at, within = deadline) => {
      if (!("endpoints" in at)) {
        warnOfUnverifiedHosts([at], tell.warn);
        const ssh = await connect(at, { deadline: within, patient }).catch(notReached);
        return new LxdClient(await endpointOf(ssh, within).catch(notReached), within, told);
      }
      warnOfUnverifiedHosts(at.endpoints, tell.warn);
      const options = { deadline: within, patient, warn: (text: string) => once(text, tell.warn) };
      const meant = { ...at, certificateFingerprint: at.certificateFingerprint ?? found.cluster };
      const { endpoint, fingerprint } = await clusterEndpoint(meant, options).catch(notReached);
      if (at.certificateFingerprint === undefined) {
        found.cluster ??= fingerprint;
      }
      return new LxdClient(endpoint, within, told);
    },
  };
}

const told = new Set<string>();

/** Shows a text once in this process, however many objects it concerns. */
function once(text: string, tell: (text: string) => void): void {
  if (!told.has(text)) {
    told.add(text);
    tell(text);
  }
}

/** Warns of hosts whose key is not verified. */
function warnOfUnverifiedHosts(connections: readonly Connection[], warn: (text: string) => void): void {
  for (const connection of connections) {
    if (connection.hostKeyPolicy === "insecure" && connection.hostKey === undefined) {
      once(`The host key of ${describeConnection(connection)} is not verified (hostKeyPolicy: "insecure")`, warn);
    }
  }
}

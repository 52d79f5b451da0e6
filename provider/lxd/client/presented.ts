/** Identity of the server at an endpoint. Read once in this process, and again after the server has joined or left a cluster. */
import type { Deadline } from "../../support/deadline";
import { SingleFlight } from "../../support/single-flight";
import { getServer } from "../server";
import { LxdClient, type Patience } from "./client";
import type { Endpoint } from "./endpoint";

export interface Presented {
  /** SHA-256 of its certificate. All members of a cluster present the cluster's. */
  readonly fingerprint: string;
  readonly clustered: boolean;
  /** Its name in its cluster, or its host name. */
  readonly name: string;
}

/** One per endpoint, until the server joins or leaves a cluster. */
class Identity {
  answer: Presented | undefined;
  /** By patience, because a caller that waits must not get the failure of one that does not. */
  readonly asking = new Map<Patience, SingleFlight<Presented>>();
}

const identities = new WeakMap<Endpoint, Identity>();

/** @param patience - With what patience to ask: less, when another host can be asked. */
export async function presentedBy(endpoint: Endpoint, deadline: Deadline, patience: Patience = "patient"): Promise<Presented> {
  const identity = identities.get(endpoint) ?? new Identity();
  identities.set(endpoint, identity);
  const asking = identity.asking.get(patience) ?? new SingleFlight<Presented>();
  identity.asking.set(patience, asking);
  const ask = async (): Promise<Presented> => {
    const { environment } = await getServer(new LxdClient(endpoint, deadline, {}, undefined, patience));
    const { certificate_fingerprint: fingerprint, server_clustered: clustered, server_name: name } = environment;
    identity.answer = { fingerprint, clustered, name };
    return identity.answer;
  };
  return identity.answer ?? asking.join(deadline, `asking ${endpoint.title} who it is`, ask);
}

/** Call it when the server has joined or left a cluster, or was wiped. */
export function forgetPresented(endpoint: Endpoint): void {
  identities.delete(endpoint);
}

/** Returns a key for locks, the same for all members of the cluster at an endpoint, if the endpoint was asked before. */
export function clusterKey(endpoint: Endpoint): string {
  return identities.get(endpoint)?.answer?.fingerprint ?? endpoint.host;
}

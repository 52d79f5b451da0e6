/** Identity of the server at an endpoint. Read once in this process, and again after the server has joined or left a cluster. */
import type { Deadline } from "../../support/deadline";
import { SingleFlight } from "../../support/single-flight";
import { getServer } from "../server";
import { LxdClient } from "./client";
import type { Endpoint } from "./endpoint";

export interface Presented {
  /** SHA-256 of its certificate. All members of a cluster present the cluster's. */
  readonly fingerprint: string;
  readonly clustered: boolean;
  /** Its name in its cluster, or its host name. */
  readonly name: string;
}

const asked = new WeakMap<Endpoint, SingleFlight<Presented>>();
const answers = new WeakMap<Endpoint, Presented>();

/** @param isOnly - Whether no other host can be asked, so that a failure that may pass is waited for. */
export function presentedBy(endpoint: Endpoint, deadline: Deadline, isOnly = true): Promise<Presented> {
  const shared = asked.get(endpoint) ?? new SingleFlight<Presented>();
  asked.set(endpoint, shared);
  return shared.join(deadline, `asking ${endpoint.title} who it is`, async () => {
    const lxd = new LxdClient(endpoint, deadline);
    const { environment } = await getServer(isOnly ? lxd : lxd.impatient);
    const { certificate_fingerprint: fingerprint, server_clustered: clustered, server_name: name } = environment;
    const presented = { fingerprint, clustered, name };
    answers.set(endpoint, presented);
    return presented;
  });
}

/** Call it when the server has joined or left a cluster, or was wiped. */
export function forgetPresented(endpoint: Endpoint): void {
  asked.delete(endpoint);
  answers.delete(endpoint);
}

/** Returns a key for locks, the same for all members of the cluster at an endpoint, if the endpoint was asked before. */
export function clusterKey(endpoint: Endpoint): string {
  return answers.get(endpoint)?.fingerprint ?? endpoint.host;
}

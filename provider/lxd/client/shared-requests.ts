import pLimit from "p-limit";
import type { Deadline } from "../../support/deadline";
import { SingleFlight } from "../../support/single-flight";
import type { Endpoint } from "./endpoint";
import { type Api, OperationWatcher } from "./operations";
import { TransientFailures } from "./transient-failures";

/** Makes a client that reads once, and shares the state of the other clients. */
type MakeClient = (endpoint: Endpoint, deadline: Deadline, shared: SharedRequests) => Api;

/** State that all clients of one endpoint share within this process. */
export class SharedRequests {
  readonly operations: OperationWatcher;
  readonly trouble = new TransientFailures();
  private readonly readings = new Map<string, SingleFlight<unknown>>();

  constructor(endpoint: Endpoint, client: MakeClient) {
    const apart = { ...endpoint, requests: pLimit(1) }; // uses the socket that the endpoint reserves
    this.operations = new OperationWatcher({
      host: endpoint.host,
      title: endpoint.title,
      isOpen: () => endpoint.isOpen(),
      now: (deadline) => client(apart, deadline, this),
      eventually: (deadline) => client(endpoint, deadline, this),
    });
  }

  reading(path: string): SingleFlight<unknown> {
    const reading = this.readings.get(path) ?? new SingleFlight<unknown>();
    this.readings.set(path, reading);
    return reading;
  }

  /** Forgets all reads. Call it at each change. */
  forget(): void {
    this.readings.clear();
  }
}

const sharedRequests = new WeakMap<Endpoint, SharedRequests>();

export function sharedRequestsOf(endpoint: Endpoint, client: MakeClient): SharedRequests {
  const shared = sharedRequests.get(endpoint) ?? new SharedRequests(endpoint, client);
  sharedRequests.set(endpoint, shared);
  return shared;
}

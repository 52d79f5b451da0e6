import type { SimulatedLab } from "../../../lab/simulated";
import type { LxdVersion } from "../../../lab/simulated/lxd/versions";
import type { Managed } from "../../unit/resources/simulated-cluster";

/** The life of one resource on simulated hosts: made, changed, removed. Whatever interrupts it, it must come out the same. */
export interface Scenario {
  /** The kind, as `provider/entry.ts` has it. */
  readonly kind: string;
  /** What is particular, such as "that joins". */
  readonly title: string;
  /** @default both versions */
  readonly versions?: readonly LxdVersion[];
  /** Hosts and all that is there besides the resource. */
  start(version: LxdVersion): Promise<SimulatedLab>;
  /** The resource as it is not yet managed. */
  manage(): Managed;
  /** What it is made with. */
  first(lab: SimulatedLab): object;
  /** What it is then changed to. Absent when the scenario is about making and removing alone. */
  then?(lab: SimulatedLab): object;
  /** What is done by hand between making and changing, which the change repairs. */
  meanwhile?(lab: SimulatedLab): Promise<void>;
  /** Why something stays when the resource is removed; absent when nothing does. */
  readonly leaves?: string;
  /** Moments at which an interruption is known not to come out right, and why nothing can be done about it. */
  readonly gaps?: { readonly step: string; readonly moments: RegExp; readonly reason: string };
}

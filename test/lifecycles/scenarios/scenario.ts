import type { SimulatedLab } from "../../../lab/simulated";
import type { Flavour } from "../../../lab/simulated/lxd/flavours";
import type { Managed } from "../../unit/resources/simulated-cluster";

/**
 * The life of one resource on simulated hosts: created, changed, deleted. The result must be the same after any
 * interruption.
 */
export interface Scenario {
  /** The kind, as in `provider/entry.ts`. */
  readonly kind: string;
  /** What is particular, such as "that joins". */
  readonly title: string;
  /** @default both flavours */
  readonly flavours?: readonly Flavour[];
  /** Creates the hosts and everything besides the resource. */
  start(flavour: Flavour): Promise<SimulatedLab>;
  /** The resource before it is managed. */
  manage(): Managed;
  /** Inputs at its creation. */
  first(lab: SimulatedLab): object;
  /** Inputs after the change. Absent if the scenario covers only creation and deletion. */
  then?(lab: SimulatedLab): object;
  /** Manual changes between creation and change, which the change repairs. */
  meanwhile?(lab: SimulatedLab): Promise<void>;
  /** Why something stays after the deletion; absent if nothing does. */
  readonly leaves?: string;
  /** Whether its deletion reaches no machine, so that nothing can interrupt it. */
  readonly deletesNothing?: true;
  /** Moments whose interruption is known to have another result, and why it cannot be avoided. */
  readonly gaps?: { readonly step: string; readonly moments: RegExp; readonly reason: string };
}

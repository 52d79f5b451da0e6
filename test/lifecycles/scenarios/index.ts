import { HOST_SCENARIOS } from "./hosts";
import { INSTANCE_SCENARIOS } from "./instances";
import type { Scenario } from "./scenario";
import { SHARED_OBJECT_SCENARIOS } from "./shared-objects";

export type { Scenario } from "./scenario";

/** At least one life of every kind, and one for each way in which a kind changes objects. */
export const SCENARIOS: readonly Scenario[] = [...HOST_SCENARIOS, ...SHARED_OBJECT_SCENARIOS, ...INSTANCE_SCENARIOS];

/** The steps of a history, and their generator. */
import fc from "fast-check";
import type { FaultEffect, FaultTrigger } from "../../../lab/simulated/faults";
import { MANUAL_CHANGES } from "./manual-changes";
import { EVACUATION, HOSTS, NAMES } from "./program";

/** Operations of the engine. */
export type EngineCall = "up" | "refresh" | "preview";

/** How an operation is lost: at which request, and its result. */
const LOST_OPERATIONS = {
  "its daemon ends while it runs": { when: { path: /^\/1\.0\/operations\/[^/]+\/wait/ }, effect: "daemon-restart" },
  "its daemon ended before it began": { when: { method: /^(POST|PUT|PATCH|DELETE)$/ }, effect: "lose-operation" },
  "it completed, and is forgotten": { when: { path: /^\/1\.0\/operations\/[^/]+\/wait/ }, effect: "forget-operation" },
} satisfies Record<string, { when: FaultTrigger; effect: FaultEffect }>;

type LostOperation = keyof typeof LOST_OPERATIONS;

/** The rule for one of them. */
export function lostOperation(how: LostOperation, nth: number): { when: FaultTrigger; effect: FaultEffect } {
  const { when, effect } = LOST_OPERATIONS[how];
  return { when: { ...when, nth }, effect };
}

/** One step, as data: without effect if it does not apply at that moment. */
export type Step =
  | { readonly do: "edit"; readonly resource: string; readonly property: number; readonly value: number }
  | { readonly do: "remove" | "add"; readonly resource: string }
  | { readonly do: "hand"; readonly what: string }
  | { readonly do: EngineCall }
  | {
      readonly do: "fault";
      readonly during: EngineCall;
      readonly method: string;
      readonly nth: number;
      readonly effect: FaultEffect;
    }
  | { readonly do: "power cut"; readonly host: string; readonly during: EngineCall }
  /** LXD on a host restarts while operations run, or an operation is lost in another way. */
  | { readonly do: "operations lost"; readonly during: EngineCall; readonly nth: number; readonly how: LostOperation }
  /** `ephemeral` is set on an instance, so that LXD deletes it when it stops. */
  | { readonly do: "made ephemeral"; readonly instance: string }
  /** `lxc cluster remove`, after its instances were removed. */
  | { readonly do: "member removed"; readonly host: string }
  /** The operating system of a host and LXD are reinstalled. */
  | { readonly do: "member reinstalled"; readonly host: string }
  /** `lxc cluster update-certificate`. */
  | { readonly do: "certificate renewed" }
  /** The login shell of a host starts or stops to print a banner. */
  | { readonly do: "greeting"; readonly host: string; readonly on: boolean }
  | { readonly do: "destroy" };

export interface History {
  /** Whether the engine runs steps concurrently. */
  readonly parallel: boolean;
  /** Whether it begins with bare hosts; otherwise with the base program applied. */
  readonly bare: boolean;
  readonly steps: readonly Step[];
}

const index = fc.nat(99);
/** Resources that may be removed from the program: all but the host that forms the cluster. */
const removable = fc.constantFrom(...NAMES.filter((name) => !name.endsWith("bcn2")));
const engineCall = fc.constantFrom<EngineCall>("up", "up", "up", "refresh", "preview");
const effect = fc.constantFrom<FaultEffect>("drop-before", "drop-after", "fail-operation", "daemon-restart", {
  status: 500,
  error: "simulated fault",
});
const method = fc.constantFrom("", "", "GET", "POST", "PUT", "PATCH", "DELETE");

const plain = { noNullPrototype: true } as const;

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 36,
    arbitrary: fc.record(
      { do: fc.constant("edit" as const), resource: fc.constantFrom(...NAMES), property: index, value: index },
      plain,
    ),
  },
  {
    weight: 6, // it moves instances, and is one property of many
    arbitrary: fc.record(
      {
        do: fc.constant("edit" as const),
        resource: fc.constantFrom(...HOSTS.map((host) => `member-${host}`)),
        property: fc.constant(EVACUATION),
        value: index,
      },
      plain,
    ),
  },
  {
    weight: 18,
    arbitrary: fc.record({ do: fc.constant("hand" as const), what: fc.constantFrom(...Object.keys(MANUAL_CHANGES)) }, plain),
  },
  { weight: 21, arbitrary: fc.record({ do: fc.constant("up" as const) }, plain) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("refresh" as const) }, plain) },
  {
    weight: 12,
    arbitrary: fc.record(
      { do: fc.constant("fault" as const), during: engineCall, method, nth: fc.integer({ min: 1, max: 12 }), effect },
      plain,
    ),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("power cut" as const), host: fc.constantFrom(...HOSTS), during: engineCall }, plain),
  },
  {
    weight: 6,
    arbitrary: fc.record(
      {
        do: fc.constant("operations lost" as const),
        during: engineCall,
        nth: fc.integer({ min: 1, max: 6 }),
        how: fc.constantFrom(...(Object.keys(LOST_OPERATIONS) as LostOperation[])),
      },
      plain,
    ),
  },
  {
    weight: 4,
    arbitrary: fc.record(
      { do: fc.constant("made ephemeral" as const), instance: fc.constantFrom("web1", "web2", "box1") },
      plain,
    ),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("member removed" as const), host: fc.constantFrom(...HOSTS) }, plain),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("member reinstalled" as const), host: fc.constantFrom(...HOSTS) }, plain),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("certificate renewed" as const) }, plain) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("greeting" as const), host: fc.constantFrom(...HOSTS), on: fc.boolean() }, plain),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("remove" as const), resource: removable }, plain) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("add" as const), resource: fc.constantFrom(...NAMES) }, plain) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("destroy" as const) }, plain) },
);

/** Any history. */
export const history: fc.Arbitrary<History> = fc.record(
  {
    parallel: fc.boolean(),
    bare: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
    steps: fc.array(step, { minLength: 3, maxLength: 9, size: "max" }),
  },
  plain,
);

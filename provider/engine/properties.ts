import { containsUnknown } from "./unknowns";

/** Properties of a resource, as the engine passes them. */
export type Properties = Record<string, unknown>;

/** Properties that the class passes to this room, through the engine. */
const INTERNAL: ReadonlySet<string> = new Set(["__provider", "__urn"]);

/** The properties for a lifecycle: without those that only the class, this room and the engine use. */
export function external(properties: Properties): Properties {
  return Object.fromEntries(Object.entries(properties).filter(([name]) => !INTERNAL.has(name) && name !== "__claim"));
}

/** The properties that the class passed, to be kept with inputs and state. */
export function internal(properties: Properties): Properties {
  return Object.fromEntries(Object.entries(properties).filter(([name]) => INTERNAL.has(name)));
}

/** The URN that the class passed; empty while it is not known. */
export function urnOf({ __urn }: Properties): string {
  return typeof __urn === "string" && !containsUnknown(__urn) ? __urn : "";
}

/** The claim that state keeps (lxd/ownership.ts), under a name that the engine does not show. */
export function claimOf({ __claim }: Properties): string | undefined {
  return typeof __claim === "string" ? __claim : undefined;
}

/** {@link claimOf}, as a part of state. */
export function claimIn(properties: Properties): Properties {
  const claim = claimOf(properties);
  return claim === undefined ? {} : { __claim: claim };
}

/** Whether an existing object is adopted in any case. Its mark need not show whether an earlier create has ended. */
export function isToAdopt({ adopt }: Properties): boolean {
  return adopt === true;
}

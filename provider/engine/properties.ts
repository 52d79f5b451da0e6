export type Properties = Record<string, unknown>;

/** Properties that the class passes to this room, through the engine. */
const INTERNAL: ReadonlySet<string> = new Set(["__provider", "__urn"]);

/**
 * The strings that stand for an unknown value in a preview, at any depth and for any type.
 * @see https://github.com/pulumi/pulumi/blob/master/sdk/go/common/resource/plugin/rpc.go
 */
const UNKNOWN_VALUES: ReadonlySet<unknown> = new Set([
  "04da6b54-80e4-46f7-96ec-b56ff0331ba9", // string; the only one that the Node SDK makes
  "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7", // boolean
  "3eeb2bf0-c639-47a8-9e75-3b44932eb421", // number
  "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2", // array
  "030794c1-ac77-496b-92df-f27374a8bd58", // asset
  "e48ece36-62e2-4504-bad9-02848725956a", // archive
  "dd056dcd-154b-4c76-9bd3-c8f88648b5ff", // object
]);

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
  return typeof __urn === "string" && !UNKNOWN_VALUES.has(__urn) ? __urn : "";
}

/** The claim that state keeps (lxd/ownership.ts), under a name that the engine does not show. */
export function claimOf({ __claim }: Properties): string | undefined {
  return typeof __claim === "string" ? __claim : undefined;
}

export function claimIn(properties: Properties): Properties {
  const claim = claimOf(properties);
  return claim === undefined ? {} : { __claim: claim };
}

export function containsUnknown(value: unknown): boolean {
  return value !== null && typeof value === "object" ? Object.values(value).some(containsUnknown) : UNKNOWN_VALUES.has(value);
}

/** {@link containsUnknown} for the value at a path. Also true when a value that encloses it is unknown. */
export function isUnknownAt(value: unknown, [key, ...rest]: readonly PropertyKey[]): boolean {
  if (key === undefined || value === null || typeof value !== "object") {
    return containsUnknown(value);
  }
  return isUnknownAt((value as Record<PropertyKey, unknown>)[key], rest);
}

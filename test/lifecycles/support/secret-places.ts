import * as pulumi from "@pulumi/pulumi";
import type * as z from "zod";
import { mayBeSecret, nameWithin } from "../../../provider/support/secrets";

/** Path to a value, by names; `0` for the first element of a list. */
export type Place = readonly string[];

interface Definition {
  readonly type: string;
  readonly shape?: Readonly<Record<string, Schema>>;
  readonly innerType?: Schema;
  readonly in?: Schema;
  readonly element?: Schema;
  readonly valueType?: Schema;
  readonly options?: readonly Schema[];
}

interface Schema {
  readonly _zod: { readonly def: unknown };
}

/**
 * All places in a schema that may hold a secret, at every depth.
 * @param keys - Keys to try in maps with arbitrary keys.
 * @param known - Arguments whose own maps provide the keys, such as devices.
 */
export function placesOf(schema: z.ZodType, keys: readonly string[], known?: unknown): Place[] {
  return walk(schema, "", [], keys, known);
}

function walk(schema: Schema, name: string, path: Place, keys: readonly string[], known: unknown): Place[] {
  const { type, shape = {}, innerType, in: input, element, valueType, options = [] } = schema._zod.def as Definition;
  const member = (each: string): unknown => (known as Record<string, unknown> | undefined)?.[each];
  switch (type) {
    case "object":
      return Object.entries(shape).flatMap(([each, inner]) => walk(inner, each, [...path, each], keys, member(each)));
    case "record": {
      const isOfTexts = valueType !== undefined && !holdsMaps(valueType);
      const names =
        name === "environment" ? ["PLAIN"] : isOfTexts ? keys : known === undefined ? ["one"] : Object.keys(known as object);
      return valueType === undefined
        ? []
        : names.flatMap((each) => walk(valueType, nameWithin(name, each), [...path, each], keys, member(each)));
    }
    case "array":
      return element === undefined ? [] : walk(element, name, [...path, "0"], keys, member("0"));
    case "union": {
      const all = options.flatMap((option) => walk(option, name, path, keys, known)).map((place) => JSON.stringify(place));
      return [...new Set(all)].map((text) => JSON.parse(text) as Place);
    }
    case "pipe":
      return input === undefined ? [] : walk(input, name, path, keys, known);
    default:
      return innerType !== undefined
        ? walk(innerType, name, path, keys, known)
        : mayBeSecret(name) && type === "string"
          ? [path]
          : [];
  }
}

function holdsMaps(schema: Schema): boolean {
  const { type, innerType, in: input } = schema._zod.def as Definition;
  const inner = innerType ?? input;
  return type === "record" || type === "object" || (inner !== undefined && holdsMaps(inner));
}

/** Arguments with a value at each of the places. */
export function planted(
  args: Readonly<Record<string, unknown>>,
  places: readonly Place[],
  valueAt: (place: Place) => string,
): Record<string, unknown> {
  const result = structuredClone(args) as Record<string, unknown>;
  for (const place of places) {
    let at: Record<string, unknown> = result;
    place.slice(0, -1).forEach((name, index) => {
      at[name] ??= place[index + 1] === "0" ? [] : {};
      at = at[name] as Record<string, unknown>;
    });
    at[place.at(-1) ?? ""] = valueAt(place);
  }
  return result;
}

/** Paths at which a resource's arguments are stored as secrets. */
export function secretPaths(args: unknown, path = ""): string[] {
  if (pulumi.Output.isInstance(args)) {
    return [path];
  }
  return args !== null && typeof args === "object"
    ? Object.entries(args).flatMap(([name, member]) => secretPaths(member, `${path}/${name}`))
    : [];
}

/** A value without the content of these paths. */
export function without(value: unknown, paths: readonly string[], path = ""): unknown {
  if (paths.includes(path)) {
    return undefined;
  }
  if (Array.isArray(value)) {
    return value.map((member: unknown, index) => without(member, paths, `${path}/${index}`));
  }
  return value !== null && typeof value === "object"
    ? Object.fromEntries(Object.entries(value).map(([name, member]) => [name, without(member, paths, `${path}/${name}`)]))
    : value;
}

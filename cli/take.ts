import { type DynamicProvider, dynamicProvider } from "../provider/engine/adapter";
import { describeChanges } from "../provider/engine/adoption";
import { checkProperties } from "../provider/engine/check";
import type { Lifecycle } from "../provider/engine/lifecycle";
import { differences } from "../provider/engine/state";
import { sameJson } from "../provider/support/equality";

type Properties = Record<string, unknown>;

/** The arguments that adopt an object unchanged, or the reason why none do. */
export type Answer = { readonly args: Properties } | { readonly why: string };

/** Old inputs for `check`: with them it treats the object as known and previews no adoption. */
const KNOWN: Properties = { name: "" };

const SILENT = { progress: () => undefined, info: () => undefined, warn: () => undefined };

/**
 * Finds the arguments of a resource by the resource's own lifecycle: reads the object as `pulumi refresh` does, uses the result
 * as arguments, and checks that they make no difference.
 * @param args - Arguments that identify the object, that LXD does not show, or that need another spelling.
 */
export async function takeOver<Inputs extends object, Outputs extends object>(
  lifecycle: Lifecycle<Inputs, Outputs>,
  args: Properties,
): Promise<Answer> {
  const provider = dynamicProvider(lifecycle, SILENT);
  const first = await look(lifecycle, provider, args);
  if ("why" in first) {
    return first;
  }
  // A stable output may have the name of an input.
  const isArgument = (name: string) =>
    Object.hasOwn(lifecycle.schema.shape, name) && !Object.hasOwn(lifecycle.stableOutputs ?? {}, name);
  const seen = Object.entries(first.seen).filter(([name]) => isArgument(name));
  const found = { ...Object.fromEntries(seen), ...args };
  const second = await look(lifecycle, provider, found);
  if ("why" in second) {
    return second;
  }
  const { inputs, state } = second;
  const changed = differences(lifecycle, state as Inputs & Outputs, inputs as Inputs);
  if (changed.length > 0) {
    return {
      why: `no arguments match its present state; managing it would change ${describeChanges(changed, state, inputs).join(", ")}`,
    };
  }
  return { args: withoutDefaults(lifecycle, found) };
}

/** Reads the object with `check` and `read`. */
async function look<Inputs extends object, Outputs extends object>(
  lifecycle: Lifecycle<Inputs, Outputs>,
  provider: DynamicProvider,
  args: Properties,
): Promise<{ inputs: Properties; seen: Properties; state: Properties } | { why: string }> {
  const { inputs, failures } = await provider.check(KNOWN, args);
  if (failures.length > 0) {
    return { why: failures.map(({ reason }) => reason).join("; ") };
  }
  const { id, props, inputs: seen = {} } = await provider.read("it", { ...inputs, ...lifecycle.lookupKeys?.(inputs as Inputs) });
  return id === "" ? { why: "it no longer exists" } : { inputs, seen, state: props };
}

/** Removes the arguments that equal the schema's defaults. */
function withoutDefaults<Inputs extends object, Outputs extends object>(
  { schema }: Lifecycle<Inputs, Outputs>,
  args: Properties,
): Properties {
  const { inputs: byDefault } = checkProperties(schema, {});
  return Object.fromEntries(
    Object.entries(args).filter(([name, value]) => value !== undefined && !sameJson(byDefault[name], value)),
  );
}

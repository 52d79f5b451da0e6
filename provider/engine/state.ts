import { sameJson, withoutUndefined } from "../support/equality";
import { RefusedError } from "../support/errors";
import { CONNECTION_INPUTS, type ConnectionInputs } from "./connection-inputs";
import type { Lifecycle } from "./lifecycle";
import { external, type Properties, urnOf } from "./properties";
import { printedByTheEngine } from "./provider-process";

/** What state holds: a lifecycle's inputs and outputs, and what the adapter keeps. */
export type State<Inputs, Outputs> = Inputs & Outputs & Kept;

interface Kept {
  schemaVersion: number;
  /** Why the object is not yet as wanted; absent when it is. A refresh clears the engine's own mark for this. */
  unfinished?: string;
  clusterFingerprint?: string;
}

/** The inputs among the properties, without stable outputs that `check` has added. */
export function inputsIn<Inputs extends object, Outputs extends object>(
  { schema }: Lifecycle<Inputs, Outputs>,
  properties: object,
): Inputs {
  return Object.fromEntries(Object.entries(properties).filter(([name]) => Object.hasOwn(schema.shape, name))) as Inputs;
}

/**
 * Reads the engine's state into the shape that this version writes.
 * @throws RefusedError when a newer version wrote it.
 */
export function stateIn<Inputs extends object, Outputs extends object>(
  lifecycle: Lifecycle<Inputs, Outputs>,
  properties: Properties,
): State<Inputs, Outputs> {
  const { kind, schemaVersion } = lifecycle;
  const state = external(properties);
  const { schemaVersion: written = schemaVersion } = state as Partial<Kept>; // absent when only inputs are passed
  if (written > schemaVersion) {
    throw printedByTheEngine(
      new RefusedError(
        `The state of this ${kind} was written by a newer version of pulumi-lxd-cluster (state schema ${written}; this version ` +
          `reads ${schemaVersion}). Nothing was changed. Install the newer version in the program's folder`,
      ),
    );
  }
  return (written < schemaVersion ? (lifecycle.upgrade?.(state, written) ?? state) : state) as State<Inputs, Outputs>;
}

/** @param cluster - Its fingerprint, which is kept if the inputs do not give it. */
export function stateOf<Inputs extends object, Outputs extends object>(
  { schemaVersion }: Lifecycle<Inputs, Outputs>,
  inputs: Inputs,
  outputs: Outputs,
  cluster: string | undefined,
  unfinished?: string,
): Properties {
  const clusterFingerprint = (inputs as ConnectionInputs).cluster?.certificateFingerprint === undefined ? cluster : undefined;
  return withoutUndefined({ ...inputs, ...outputs, schemaVersion, unfinished, clusterFingerprint }) as Properties;
}

/** The present inputs: what the server reports, and all else as known. */
export function observedInputs<Inputs extends object, Outputs extends object>(
  lifecycle: Lifecycle<Inputs, Outputs>,
  known: Inputs,
  observed: Partial<Inputs>,
): Inputs {
  const leftAsIs: readonly string[] = (lifecycle.leftAsIs ?? []).filter((name) => known[name] === undefined);
  const reported = Object.entries(observed).filter(([name]) => !leftAsIs.includes(name));
  return { ...inputsIn(lifecycle, known), ...Object.fromEntries(reported) };
}

/**
 * The inputs whose observed value differs in meaning from the wanted one, in the order of the schema. Pure: no I/O.
 *
 * Each input is compared as JSON, unless the lifecycle's `sameBy` compares it. Inputs that say how the object is reached or
 * whether it may be adopted are not properties of the object, and are not compared.
 */
export function differences<Inputs extends object, Outputs extends object>(
  { schema, sameBy = {}, leftAsIs = [] }: Lifecycle<Inputs, Outputs>,
  state: Inputs & Outputs,
  inputs: Inputs,
): (keyof Inputs & string)[] {
  return (Object.keys(schema.shape) as (keyof Inputs & string)[]).filter((name) => {
    const [observed, wanted] = [state[name], inputs[name]];
    if (leftAsIs.includes(name) && (observed === undefined || wanted === undefined)) {
      return observed !== wanted;
    }
    const same = sameBy[name];
    return same === undefined
      ? !CONNECTION_INPUTS.has(name) && name !== "adopt" && !sameJson(observed, wanted)
      : !same(observed, wanted, state, inputs);
  });
}

/** For `sameBy`: an input that says how a change is made, so that another value alone changes nothing. */
export function notCompared(): boolean {
  return true;
}

/** Whether the object's mark has another URN: the resource was renamed, or moved to another stack or project. */
export function hasOtherUrn({ mark }: Pick<Lifecycle<never, never>, "mark">, olds: Properties, news: Properties): boolean {
  const [before, now] = [urnOf(olds), urnOf(news)];
  return mark !== undefined && before !== "" && now !== "" && before !== now;
}

import { sameJson } from "../support/equality";
import { CONNECTION_INPUTS } from "./connection-inputs";
import type { Lifecycle } from "./lifecycle";

/**
 * The inputs whose observed value differs in meaning from the wanted one, in the order of the schema. Pure: no I/O.
 *
 * Each input of the schema is compared as JSON, unless the lifecycle's `sameBy` compares it. Inputs that say how the
 * object is reached or whether it may be adopted are not properties of the object, and are not compared.
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

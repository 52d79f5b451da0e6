/** Objects that exist and whose creation or change failed. */
import { writeMark } from "../lxd/ownership";
import { hasCode, IncompleteError, messageOf } from "../support/errors";
import { redact } from "../support/redact";
import type { Call, Found } from "./calls";
import type { Context, Lifecycle } from "./lifecycle";
import { claimIn, internal, type Properties } from "./properties";
import { stateOf } from "./state";

/** Marks an object as one whose create has ended. */
export async function markAsEnded<Inputs extends object, Outputs extends object>(
  lifecycle: Lifecycle<Inputs, Outputs>,
  context: Context,
  inputs: Inputs,
  { id, outputs }: { id: string; outputs: Outputs },
): Promise<void> {
  const mark = writeMark({ urn: context.urn, claim: context.claim, isCreating: false });
  if (context.mark === mark) {
    return;
  }
  try {
    await lifecycle.mark?.({ ...context, mark }, id, { ...inputs, ...outputs });
  } catch (error) {
    throw hasCode(error, "incomplete") ? error : new IncompleteError(id, outputs, messageOf(error), { cause: error });
  }
}

/** For `create` and `update`: keeps an object that exists but is unfinished in state, with the reason. */
export async function keepingUnfinished<Inputs extends object, Outputs extends object>(
  lifecycle: Lifecycle<Inputs, Outputs>,
  { properties, known = properties }: Call,
  inputs: Inputs,
  found: Found,
  work: () => Promise<Properties>,
): Promise<Properties> {
  try {
    return await work();
  } catch (error) {
    if (!hasCode(error, "incomplete")) {
      throw error;
    }
    const reason = redact(error.message, [properties, known, found.sent]); // LXD may quote former values
    const state = stateOf(lifecycle, inputs, error.outputs as Outputs, found.cluster, reason);
    throw Object.assign(new Error(reason), {
      id: error.id,
      properties: { ...state, ...internal(properties), ...claimIn(known) },
      reasons: [reason],
    });
  }
}

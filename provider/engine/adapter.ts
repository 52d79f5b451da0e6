import { explainTakeover, newClaim, takenOverBy, writeMark } from "../lxd/ownership";
import { withoutUndefined } from "../support/equality";
import { hasCode, IncompleteError, messageOf } from "../support/errors";
import { redact, redactor } from "../support/redact";
import { type Call, callRunner, type Found } from "./calls";
import { checkProperties, forEngine } from "./check";
import { previewConfigKeys } from "./config-keys";
import { CONNECTION_INPUTS, changedConnectionInputs, clusterFingerprintIn } from "./connection-inputs";
import type { CheckFailure, Context, Lifecycle } from "./lifecycle";
import { announce, previewAdoption, previewCreation, previewEffects, redactedLog } from "./previews";
import { Program } from "./program";
import { type EngineLog, engineLog } from "./progress";
import { claimIn, claimOf, containsUnknown, external, internal, type Properties, urnOf } from "./properties";
import { carryStableOutputs, stableOutputsIn, withoutStableOutputs } from "./stable-outputs";
import { differences, hasOtherUrn, inputsIn, observedInputs, stateIn, stateOf } from "./state";

/** The SDK's `ResourceProvider`, with all methods required and without `any`. */
export interface DynamicProvider {
  check(olds: Properties, news: Properties): Promise<{ inputs: Properties; failures: CheckFailure[] }>;
  diff(
    id: string,
    olds: Properties,
    news: Properties,
  ): Promise<{ changes: boolean; replaces: string[]; deleteBeforeReplace: boolean }>;
  create(properties: Properties): Promise<{ id: string; outs: Properties }>;
  read(id: string, properties?: Properties): Promise<{ id: string; props: Properties; inputs?: Properties }>;
  update(id: string, olds: Properties, news: Properties): Promise<{ outs: Properties }>;
  delete(id: string, properties: Properties): Promise<void>;
}

/** Makes a dynamic provider of a lifecycle. Only this room, and nothing below it, knows Pulumi's protocol. */
export function dynamicProvider<Inputs extends object, Outputs extends object>(
  lifecycle: Lifecycle<Inputs, Outputs>,
  log: EngineLog = engineLog(),
  program = new Program(),
): DynamicProvider {
  const stableOutputs = lifecycle.stableOutputs ?? {};
  const run = callRunner(lifecycle, log);
  const preview = { lifecycle, log, run };
  /** Whether this process has begun to change objects. It runs no preview then. */
  let changing = false;
  /** Old inputs by URN: a resource that will be replaced is checked again without them. */
  const replaced = new Map<string, Properties>();
  /** URNs of objects that this process has read through the connection in state. */
  const reached = new Set<string>();

  return {
    async check(olds, news) {
      const isNew = Object.keys(olds).length === 0;
      const known = isNew ? (replaced.get(urnOf(news)) ?? {}) : olds;
      replaced.set(urnOf(news), known);
      const given = withoutStableOutputs(stableOutputs, known, external(news));
      const { inputs: checked, failures, complete } = checkProperties(lifecycle.schema, given);
      const inputs = checked as Inputs;
      const properties = { ...checked, ...internal(news) };
      if (complete) {
        const compared = program.compare(lifecycle, urnOf(news), inputs);
        failures.push(...(lifecycle.checkTogether?.(inputs) ?? []), ...compared.failures);
        compared.warnings.forEach(changing ? () => undefined : redactedLog(log, news).warn);
      }
      if (complete && failures.length === 0 && !changing) {
        await previewConfigKeys(preview, olds, properties);
        if (isNew) {
          await previewAdoption(preview, inputs, properties);
          await previewCreation(preview, inputs, properties, Object.keys(known).length > 0);
        } else {
          await previewEffects(preview, inputsIn(lifecycle, olds), inputs, properties);
        }
      }
      const safe = redactor([olds, news]);
      return {
        inputs: { ...(failures.length > 0 ? {} : carryStableOutputs(stableOutputs, olds, checked)), ...properties },
        failures: failures.map((failure) => forEngine(failure, safe)),
      };
    },

    async diff(_id, olds, news) {
      const state = stateIn(lifecycle, olds);
      const wanted = inputsIn(lifecycle, news);
      const unknown = (Object.keys(wanted) as (keyof Inputs & string)[]).filter((name) => containsUnknown(wanted[name]));
      // Unknown inputs may change. The rest is judged as if they did not.
      const inputs: Inputs = { ...wanted, ...Object.fromEntries(unknown.map((name) => [name, state[name]])) };
      const changed = [...new Set([...differences(lifecycle, state, inputs), ...unknown])];
      const replaces = changed.filter((name) => lifecycle.immutable.includes(name));
      // An object need not store new limits of dialling while the connection in its state works.
      const patience = lifecycle.isHost === true || !reached.has(urnOf(olds));
      const connectionPaths = changedConnectionInputs(state, inputs, { patience });
      announce(preview, { changed, replaces, unknown, connectionPaths }, { state, inputs, olds, news });
      const changes =
        changed.length > 0 || state.unfinished !== undefined || hasOtherUrn(lifecycle, olds, news) || connectionPaths.length > 0;
      return { changes, replaces, deleteBeforeReplace: replaces.length > 0 };
    },

    async create(properties) {
      changing = true;
      const inputs = inputsIn(lifecycle, properties);
      const claim = lifecycle.mark === undefined ? {} : { __claim: newClaim() };
      const call: Call = { name: "create", properties, known: { ...properties, ...claim } };
      let id = "";
      const outs = await run(call, (context, found) =>
        keepingUnfinished(lifecycle, call, inputs, found, async () => {
          const created = await lifecycle.create(context, inputs);
          ({ id } = created);
          await markAsEnded(lifecycle, context, inputs, created);
          return stateOf(lifecycle, inputs, created.outputs, found.cluster);
        }),
      );
      return { id, outs: { ...outs, ...internal(properties), ...claim } };
    },

    async read(id, properties = {}) {
      const state = stateIn(lifecycle, properties);
      const call: Call = { name: "read", properties };
      const { seen, cluster } = await run(call, async (context, found) => {
        const observed = await lifecycle.read(context, id, state);
        return { seen: observed, cluster: found.cluster };
      });
      if (seen === undefined) {
        return { id: "", props: {} };
      }
      const urn = urnOf(properties);
      reached.add(urn);
      const other = takenOverBy(seen.mark, { urn, formerUrn: urn, claim: claimOf(properties) });
      if (other !== undefined) {
        log.warn(urn, `${lifecycle.kind} ${id}: ${explainTakeover(other)}`);
      }
      const inputs = observedInputs(lifecycle, state, seen.inputs);
      const { unfinished } = state;
      return {
        id,
        props: {
          ...stateOf(lifecycle, inputs, seen.outputs, cluster, unfinished),
          ...internal(properties),
          ...claimIn(properties),
        },
        inputs: {
          ...(unfinished === undefined ? stableOutputsIn(stableOutputs, seen.outputs as Properties) : {}),
          ...(withoutUndefined(inputs) as Properties),
          ...internal(properties),
        },
      };
    },

    async update(id, olds, news) {
      changing = true;
      const state = stateIn(lifecycle, olds);
      const inputs = inputsIn(lifecycle, news);
      const call: Call = { name: "update", properties: news, known: olds };
      const outs = await run(call, (context, found) =>
        keepingUnfinished(lifecycle, call, inputs, found, async () => {
          if (state.unfinished !== undefined || differences(lifecycle, state, inputs).length > 0) {
            return stateOf(lifecycle, inputs, await lifecycle.update(context, id, state, inputs), found.cluster);
          }
          // Nothing but the mark of the object may change. Connection inputs leave the state when they are no longer given. All
          // other values mean the same, and an output may have the name of an input that was never given.
          const outputs = Object.fromEntries(Object.entries(state).filter(([name]) => !CONNECTION_INPUTS.has(name))) as Outputs;
          if (hasOtherUrn(lifecycle, olds, news)) {
            await lifecycle.mark?.(context, id, { ...inputs, ...outputs });
          }
          return stateOf(lifecycle, inputs, outputs, found.cluster ?? clusterFingerprintIn(state));
        }),
      );
      return { outs: { ...outs, ...internal(news), ...claimIn(olds) } };
    },

    async delete(id, properties) {
      changing = true;
      const state = stateIn(lifecycle, properties);
      await run({ name: "delete", properties }, (context) => lifecycle.delete(context, id, state));
    },
  };
}

async function markAsEnded<Inputs extends object, Outputs extends object>(
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
async function keepingUnfinished<Inputs extends object, Outputs extends object>(
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
    // The SDK takes an error with these properties for one of a partial failure.
    throw Object.assign(new Error(reason), {
      id: error.id,
      properties: { ...state, ...internal(properties), ...claimIn(known) },
      reasons: [reason],
    });
  }
}

/**
 * What a preview shows besides the difference itself. In a preview, the engine calls only `check` and `diff` of a
 * dynamic provider, so `check` asks LXD. That is optional: when LXD does not answer in time, the preview continues with
 * a warning.
 */
import { describeOwner, isUnfinishedWork } from "../lxd/ownership";
import { sameJson } from "../support/equality";
import { messageOf } from "../support/errors";
import { redact } from "../support/redact";
import { describeAdoption, describeChanges } from "./adoption";
import type { callRunner } from "./calls";
import { CONNECTION_INPUTS, hasFewerPeers } from "./connection-inputs";
import { differences } from "./differences";
import type { Lifecycle } from "./lifecycle";
import type { EngineLog } from "./progress";
import { isToAdopt, type Properties, urnOf } from "./properties";
import { hasOtherUrn, observedInputs, type State } from "./state";

/** How long a preview may look at an object. */
const LOOK_SECONDS = 10;

/** What previews of one kind need. */
export interface Preview<Inputs extends object, Outputs extends object> {
  readonly lifecycle: Lifecycle<Inputs, Outputs>;
  readonly log: EngineLog;
  readonly run: ReturnType<typeof callRunner>;
}

/** Shows what adopting an object would change. */
export async function previewAdoption<Inputs extends object, Outputs extends object>(
  { lifecycle, log, run }: Preview<Inputs, Outputs>,
  inputs: Inputs,
  internals: Properties,
): Promise<void> {
  const properties = lookProperties(inputs, internals);
  if (!isToAdopt(properties)) {
    return;
  }
  const urn = urnOf(properties);
  const warn = (text: string): void => log.warn(urn, redact(text, properties));
  await optional(warn, "What adopting it would change", async () => {
    const known = { ...inputs, ...lifecycle.lookupKeys?.(inputs) } as Inputs & Outputs;
    const seen = await run({ name: "read", properties }, (context) => lifecycle.read(context, "", known));
    if (seen === undefined) {
      return;
    }
    const state = { ...observedInputs(lifecycle, inputs, seen.inputs), ...seen.outputs };
    const changed = differences(lifecycle, state, inputs);
    if (changed.length > 0 || !isUnfinishedWork(seen.mark, urn)) {
      const text = describeAdoption(seen.mark, urn, describeChanges(changed, state, inputs));
      log.info(urn, redact(text, [properties, state]));
    }
    if (changed.length > 0) {
      const effects = await run({ name: "read", properties }, async (context) => lifecycle.previewEffects?.(context, inputs));
      for (const warning of [...(lifecycle.previewWarnings?.(state, inputs) ?? []), ...(effects ?? [])]) {
        log.warn(urn, redact(warning, [properties, state]));
      }
    }
  });
}

/** Warns of effects of a change that only LXD knows, such as those on others. */
export async function previewEffects<Inputs extends object, Outputs extends object>(
  { lifecycle, log, run }: Preview<Inputs, Outputs>,
  old: Inputs,
  inputs: Inputs,
  internals: Properties,
): Promise<void> {
  // Only the connection changes, as a rotated key does for all objects: that does nothing to the object, and no host is
  // asked. The inputs alone show it, because the engine passes no outputs to `check`.
  const names = Object.keys({ ...old, ...inputs }) as (keyof Inputs & string)[];
  const isChanged = names.some((name) => !CONNECTION_INPUTS.has(name) && !sameJson(old[name], inputs[name]));
  if (lifecycle.previewEffects === undefined || !(isChanged || hasFewerPeers(old, inputs))) {
    return;
  }
  const properties = lookProperties(inputs, internals);
  const warn = (text: string): void => log.warn(urnOf(properties), redact(text, [properties, old]));
  await optional(warn, "What the change does to others", async () => {
    const effects = await run({ name: "read", properties }, async (context) => lifecycle.previewEffects?.(context, inputs, old));
    for (const warning of effects ?? []) {
      warn(warning);
    }
  });
}

/** What `diff` has found. */
export interface Difference {
  /** Names of the inputs that differ, or may differ because they are unknown. */
  readonly changed: readonly string[];
  /** Those of them that replace the object. */
  readonly replaces: readonly string[];
  /** Those that are not known yet. */
  readonly unknown: readonly string[];
  /** Paths of the differences in how the object is reached and waited for. */
  readonly way: readonly string[];
}

/** Shows the warnings that come with a difference, and those that apply without one. */
export function announce<Inputs extends object, Outputs extends object>(
  { lifecycle, log }: Pick<Preview<Inputs, Outputs>, "lifecycle" | "log">,
  { changed, replaces, unknown, way }: Difference,
  { state, inputs, olds, news }: { state: State<Inputs, Outputs>; inputs: Inputs; olds: Properties; news: Properties },
): void {
  const urn = urnOf(news);
  const warn = (text: string): void => log.warn(urn, redact(text, [olds, news]));
  for (const warning of changed.length > 0 ? (lifecycle.previewWarnings?.(state, inputs) ?? []) : []) {
    warn(warning);
  }
  if (replaces.length > 0 && lifecycle.replacementLoss !== undefined) {
    const verb = replaces.every((name) => unknown.includes(name)) ? "may change" : "changes";
    warn(`This is a replacement, because ${replaces.join(", ")} ${verb}. ${lifecycle.replacementLoss(state)}`);
  }
  if (state.unfinished !== undefined) {
    warn(state.unfinished); // explains why there is an update
  }
  for (const warning of lifecycle.standingWarnings?.(state, inputs) ?? []) {
    warn(warning);
  }
  if (changed.length > 0 || state.unfinished !== undefined) {
    return;
  }
  if (hasOtherUrn(lifecycle, olds, news)) {
    log.info(urn, `Only its mark on LXD changes: it was that of ${describeOwner(urnOf(olds))}`);
  } else if (way.length > 0) {
    log.info(urn, `Only how it is reached or waited for changes: ${way.join(", ")}`);
  }
}

/** Properties for a short look at an object. */
export function lookProperties(inputs: object, internals: Properties): Properties {
  return { ...inputs, ...internals, timeouts: { read: LOOK_SECONDS } };
}

/** Runs work whose failure is only a warning. */
async function optional(warn: (text: string) => void, subject: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    warn(`${subject} is not known: ${messageOf(error)}`);
  }
}

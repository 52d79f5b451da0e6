/**
 * What a preview shows besides the difference itself. In a preview, the engine calls only `check` and `diff` of a dynamic
 * provider, so `check` asks LXD. When LXD does not answer in time, the preview continues with a warning.
 */
import { describeOwner, isUnfinishedWork } from "../lxd/ownership";
import { sameJson } from "../support/equality";
import { messageOf } from "../support/errors";
import { redact } from "../support/redact";
import { describeAdoption, describeChanges } from "./adoption";
import type { callRunner } from "./calls";
import { CONNECTION_INPUTS, hasFewerPeers } from "./connection-inputs";
import type { Context, Lifecycle } from "./lifecycle";
import type { EngineLog } from "./progress";
import { type Properties, urnOf } from "./properties";
import { differences, hasOtherUrn, observedInputs, type State } from "./state";

const LOOK_SECONDS = 10;

export interface Preview<Inputs extends object, Outputs extends object> {
  readonly lifecycle: Lifecycle<Inputs, Outputs>;
  readonly log: EngineLog;
  readonly run: ReturnType<typeof callRunner>;
}

interface Messages {
  readonly info: (text: string) => void;
  readonly warn: (text: string) => void;
}

/** Shows what adopting an object would change. */
export async function previewAdoption<Inputs extends object, Outputs extends object>(
  preview: Preview<Inputs, Outputs>,
  inputs: Inputs,
  properties: Properties,
): Promise<void> {
  if (properties["adopt"] !== true) {
    return;
  }
  const { lifecycle, log } = preview;
  const urn = urnOf(properties);
  await optional(redactedLog(log, properties), "Cannot preview what adoption would change", async () => {
    const known = { ...inputs, ...lifecycle.lookupKeys?.(inputs) } as Inputs & Outputs;
    const seen = await look(preview, properties, (context) => lifecycle.read(context, "", known));
    if (seen === undefined) {
      return;
    }
    const state = { ...observedInputs(lifecycle, inputs, seen.inputs), ...seen.outputs };
    const { info, warn } = redactedLog(log, properties, state);
    const changed = differences(lifecycle, state, inputs);
    if (changed.length > 0 || !isUnfinishedWork(seen.mark, urn)) {
      info(describeAdoption(seen.mark, urn, describeChanges(changed, state, inputs)));
    }
    if (changed.length > 0) {
      const effects = await look(preview, properties, async (context) => lifecycle.previewEffects?.(context, inputs));
      [...(lifecycle.previewWarnings?.(state, inputs) ?? []), ...(effects ?? [])].forEach(warn);
    }
  });
}

/** Shows what only LXD knows of an object that will be created. */
export async function previewCreation<Inputs extends object, Outputs extends object>(
  preview: Preview<Inputs, Outputs>,
  inputs: Inputs,
  properties: Properties,
  isReplacement: boolean,
): Promise<void> {
  const { lifecycle, log } = preview;
  if (lifecycle.previewCreation === undefined) {
    return;
  }
  const messages = redactedLog(log, properties);
  await optional(messages, "Cannot preview the creation", async () => {
    const facts = await look(preview, properties, async (context) => lifecycle.previewCreation?.(context, inputs, isReplacement));
    facts?.forEach(messages.info);
  });
}

/** Warns of effects of a change that only LXD knows, such as those on others. */
export async function previewEffects<Inputs extends object, Outputs extends object>(
  preview: Preview<Inputs, Outputs>,
  old: Inputs,
  inputs: Inputs,
  properties: Properties,
): Promise<void> {
  const { lifecycle } = preview;
  // A change of only the connection, such as a rotated key of all objects, does nothing to the object, and no host is asked. The
  // inputs alone show it, because the engine passes no outputs to `check`.
  const names = Object.keys({ ...old, ...inputs }) as (keyof Inputs & string)[];
  const isChanged = names.some((name) => !CONNECTION_INPUTS.has(name) && !sameJson(old[name], inputs[name]));
  if (lifecycle.previewEffects === undefined || !(isChanged || hasFewerPeers(old, inputs))) {
    return;
  }
  const messages = redactedLog(preview.log, properties, old);
  await optional(messages, "Cannot preview what the change does to other objects", async () => {
    const effects = await look(preview, properties, async (context) => lifecycle.previewEffects?.(context, inputs, old));
    effects?.forEach(messages.warn);
  });
}

/** What `diff` has found. */
export interface Difference {
  /** The inputs that differ, or may differ because they are unknown. */
  readonly changed: readonly string[];
  /** Those of them that replace the object. */
  readonly replaces: readonly string[];
  readonly unknown: readonly string[];
  /** Paths of the differences in how the object is reached and waited for. */
  readonly connectionPaths: readonly string[];
}

/** Shows the warnings that come with a difference, and those that apply without one. */
export function announce<Inputs extends object, Outputs extends object>(
  { lifecycle, log }: Pick<Preview<Inputs, Outputs>, "lifecycle" | "log">,
  { changed, replaces, unknown, connectionPaths }: Difference,
  { state, inputs, olds, news }: { state: State<Inputs, Outputs>; inputs: Inputs; olds: Properties; news: Properties },
): void {
  const { info, warn } = redactedLog(log, news, olds);
  if (changed.length > 0) {
    lifecycle.previewWarnings?.(state, inputs).forEach(warn);
  }
  if (replaces.length > 0 && lifecycle.replacementLoss !== undefined) {
    const verb = replaces.every((name) => unknown.includes(name)) ? "may change" : "changes";
    warn(`This is a replacement, because ${replaces.join(", ")} ${verb}. ${lifecycle.replacementLoss(state)}`);
  }
  if (state.unfinished !== undefined) {
    warn(state.unfinished); // explains why there is an update
  }
  lifecycle.standingWarnings?.(state, inputs).forEach(warn);
  if (changed.length > 0 || state.unfinished !== undefined) {
    return;
  }
  if (hasOtherUrn(lifecycle, olds, news)) {
    info(`Only the ownership mark of the object changes (now: ${describeOwner(urnOf(olds))})`);
  } else if (connectionPaths.length > 0) {
    info(`Only the connection or the timeouts change: ${connectionPaths.join(", ")}`);
  }
}

export function look<Result>(
  { run }: Pick<Preview<never, never>, "run">,
  properties: Properties,
  work: (context: Context) => Promise<Result>,
): Promise<Result> {
  return run({ name: "read", properties: { ...properties, timeouts: { read: LOOK_SECONDS } } }, work);
}

/** The log for one resource, without the secrets in what is known of it. */
export function redactedLog(log: EngineLog, properties: Properties, known?: object): Messages {
  const urn = urnOf(properties);
  const safe = (text: string): string => redact(text, [properties, known]);
  return { info: (text) => log.info(urn, safe(text)), warn: (text) => log.warn(urn, safe(text)) };
}

/** Runs work whose failure is only a warning. */
async function optional({ warn }: Messages, fact: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    warn(`${fact}: ${messageOf(error)}`);
  }
}

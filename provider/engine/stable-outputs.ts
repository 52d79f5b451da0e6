/**
 * Outputs that stay known in the preview of an update.
 *
 * The engine does not ask a dynamic provider what an update will do. In a preview, it uses the checked inputs as outputs and
 * treats all other outputs as unknown. So everything that uses one of those is shown as changing too, or even as replaced.
 * Therefore `check` carries outputs that do not change from the old inputs to the new ones, as providers do with names that they
 * generate. For a resource that will be replaced, the engine checks again without old inputs, and nothing is carried.
 * @see https://github.com/pulumi/pulumi/blob/master/pkg/resource/deploy/step_generator.go "we need to recompute the default
 * values"
 */
import { sameJson } from "../support/equality";
import { containsUnknown, type Properties } from "./properties";

/** Outputs by name, each with the inputs whose change may change it. */
export type StableOutputs = Readonly<Partial<Record<string, readonly string[]>>>;

/** The outputs that `read` adds to the inputs, for the next {@link carryStableOutputs}. */
export function stableOutputsIn(stable: StableOutputs, outputs: Properties): Properties {
  return Object.fromEntries(Object.entries(outputs).filter(([name, value]) => name in stable && value !== undefined));
}

/**
 * The inputs without stable outputs that the program did not give. With `ignoreChanges: ["*"]`, the engine passes all old inputs
 * again, including what `read` and `check` have added.
 */
export function withoutStableOutputs(stable: StableOutputs, olds: Properties, news: Properties): Properties {
  const isAdded = (name: string): boolean => name in stable && Object.hasOwn(olds, name) && sameJson(olds[name], news[name]);
  return Object.fromEntries(Object.entries(news).filter(([name]) => !isAdded(name)));
}

/** The stable outputs that stay when the inputs change from `olds` to `news`. */
export function carryStableOutputs(stable: StableOutputs, olds: Properties, news: Properties): Properties {
  const stays = (cause: string): boolean => !containsUnknown(news[cause]) && sameJson(olds[cause], news[cause]);
  const kept = Object.entries(stable).filter(([name, causes = []]) => olds[name] !== undefined && causes.every(stays));
  return Object.fromEntries(kept.map(([name]) => [name, olds[name]]));
}

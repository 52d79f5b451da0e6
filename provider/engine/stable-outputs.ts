/**
 * Outputs that stay known in the preview of an update.
 *
 * A dynamic provider is not asked what an update will do: in a preview the engine takes the checked inputs for the outputs, and all
 * others for unknown, so that everything that uses one of them is shown as changing too, or even as replaced. What does not change is
 * therefore carried from the old inputs to the new ones by `check`, as providers do it with names that they have chosen themselves.
 * When the resource is to be replaced the engine checks again without old inputs, and nothing is carried.
 * @see https://github.com/pulumi/pulumi/blob/master/pkg/resource/deploy/step_generator.go "we need to recompute the default values"
 */
import { sameJson } from "../support/equality";
import { containsUnknown } from "./unknowns";

type Properties = Readonly<Record<string, unknown>>;

/** Outputs by name, each with the inputs whose change may change it. */
export type StableOutputs = Readonly<Partial<Record<string, readonly string[]>>>;

/** What `read` adds to the inputs, for the next {@link carryStableOutputs}. */
export function stableOutputsIn(stable: StableOutputs, outputs: Properties): Record<string, unknown> {
  return Object.fromEntries(Object.entries(outputs).filter(([name, value]) => name in stable && value !== undefined));
}

/**
 * The inputs without stable outputs that the program did not give: `ignoreChanges: ["*"]` makes the engine hand back all old inputs, with what
 * `read` and `check` have added to them.
 */
export function withoutStableOutputs(stable: StableOutputs, olds: Properties, news: Properties): Record<string, unknown> {
  const isAdded = (name: string): boolean => name in stable && Object.hasOwn(olds, name) && sameJson(olds[name], news[name]);
  return Object.fromEntries(Object.entries(news).filter(([name]) => !isAdded(name)));
}

/** The stable outputs that the change from one set of inputs to another leaves as they are. */
export function carryStableOutputs(stable: StableOutputs, olds: Properties, news: Properties): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(stable).flatMap(([name, causes = []]) => {
      const stays = causes.every((cause) => !containsUnknown(news[cause]) && sameJson(olds[cause], news[cause]));
      return stays && olds[name] !== undefined ? [[name, olds[name]]] : [];
    }),
  );
}

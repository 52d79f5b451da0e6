import type { ComponentResource, ComponentResourceOptions, CustomResourceOptions, Input, Resource } from "@pulumi/pulumi";

/**
 * Returns the options of a component's child. Every component treats its own options alike:
 *
 * - `protect`, `provider`, `providers`, `aliases`, `transforms`, `transformations`, `deletedWith` and `retainOnDelete` apply to
 *   the children, because Pulumi lets a child inherit them from its parent;
 * - `dependsOn` is passed on here, because Pulumi does not: the component's dependencies exist before any child is made;
 * - a resource that depends on a component waits for all its children.
 *
 * @param own - Further dependencies of the child.
 */
export function childOptions(
  parent: ComponentResource,
  opts: ComponentResourceOptions | undefined,
  own: CustomResourceOptions = {},
): CustomResourceOptions {
  // A list may also hold outputs of several resources; Pulumi's types do not declare that.
  const dependsOn = [opts?.dependsOn ?? [], own.dependsOn ?? []].flat() as Input<Resource>[];
  return { ...own, parent, ...(dependsOn.length > 0 && { dependsOn }) };
}

import type { ComponentResource, ComponentResourceOptions, CustomResourceOptions, Input, Resource } from "@pulumi/pulumi";

/**
 * Options of a component's child. Every component treats its own options alike:
 *
 * - `protect`, `provider`, `providers`, `aliases`, `transforms`, `transformations`, `deletedWith` and `retainOnDelete` hold for the
 *   children, because Pulumi lets a child inherit them from its parent;
 * - `dependsOn` is passed on here, because Pulumi does not: no child is made before what the component depends on exists;
 * - what depends on a component waits for all its children.
 *
 * @param own - What the child depends on besides.
 */
export function childOptions(
  parent: ComponentResource,
  opts: ComponentResourceOptions | undefined,
  own: CustomResourceOptions = {},
): CustomResourceOptions {
  // A list may also hold outputs of several resources, which Pulumi's types do not say.
  const dependsOn = [opts?.dependsOn ?? [], own.dependsOn ?? []].flat() as Input<Resource>[];
  return { ...own, parent, ...(dependsOn.length > 0 && { dependsOn }) };
}

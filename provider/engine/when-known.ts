import * as pulumi from "@pulumi/pulumi";

/**
 * The value of an output, or `undefined` in a preview that does not know it yet. What is made of it stays known then; the update, which knows all,
 * has the value. Only for what a preview can do without.
 */
export function whenKnown<Value>(output: pulumi.Output<Value>): pulumi.Output<Value | undefined> {
  const { isKnown, promise } = output as unknown as { isKnown: Promise<boolean>; promise: () => Promise<Value> };
  const value = isKnown.then((known) => (known ? promise.call(output) : undefined));
  // As a plain promise it has no dependencies: those are the caller's to name.
  return pulumi.output(value) as pulumi.Output<Value | undefined>;
}

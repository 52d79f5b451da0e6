import * as pulumi from "@pulumi/pulumi";

/**
 * The value of an output, or `undefined` in a preview that does not know it yet. Outputs made of it then stay known;
 * the update, which knows everything, has the value. Only for values that a preview does not need.
 */
export function whenKnown<Value>(output: pulumi.Output<Value>): pulumi.Output<Value | undefined> {
  const { isKnown, promise } = output as unknown as { isKnown: Promise<boolean>; promise: () => Promise<Value> };
  const value = isKnown.then((known) => (known ? promise.call(output) : undefined));
  // A plain promise has no dependencies. The caller names them.
  return pulumi.output(value) as pulumi.Output<Value | undefined>;
}

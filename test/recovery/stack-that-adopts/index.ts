/** The stack of this repository. With `ADOPT` set it adopts existing objects, as the guide describes for lost state. */
import * as pulumi from "@pulumi/pulumi";

if (process.env["ADOPT"] !== undefined) {
  pulumi.runtime.registerStackTransformation(({ type, props, opts }) =>
    type.startsWith("pulumi-nodejs:dynamic/lxd:") ? { props: { ...props, adopt: true }, opts } : undefined,
  );
}

export * from "../../../stacks/index";

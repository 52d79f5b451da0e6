/** The stack of this repository. With `ADOPT` set it takes up what is there, as the guide says for state that is lost. */
import * as pulumi from "@pulumi/pulumi";

if (process.env["ADOPT"] !== undefined) {
  pulumi.runtime.registerStackTransformation(({ type, props, opts }) =>
    type.startsWith("pulumi-nodejs:dynamic/lxd:") ? { props: { ...props, adopt: true }, opts } : undefined,
  );
}

export * from "../../../stacks/index";

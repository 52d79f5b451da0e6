import * as pulumi from "@pulumi/pulumi";
import { mayBeSecret, nameWithin } from "../support/secrets";
import { providerPointer, requireProvider } from "./pointer";

/** Seconds that each call may take. Pulumi's own `customTimeouts` option does not reach dynamic resources. */
export interface TimeoutArgs {
  /** Seconds for making the resource, with all waiting. */
  create?: pulumi.Input<number>;
  /** Seconds for a refresh. */
  read?: pulumi.Input<number>;
  /** Seconds for a change, with all waiting. */
  update?: pulumi.Input<number>;
  /** Seconds for removal. */
  delete?: pulumi.Input<number>;
}

/** Base of all resources of this package. */
export abstract class LxdResource extends pulumi.CustomResource {
  /** Version of the shape in which this resource is kept in state. */
  declare readonly schemaVersion: pulumi.Output<number>;
  /** Why the object is not yet as wanted, when a wait or a later step failed. The next `pulumi up` finishes it. */
  declare readonly unfinished: pulumi.Output<string | undefined>;

  /**
   * @param kind - Name of the class; part of the type in state, never to be changed.
   * @param outputs - Names of the properties that become known when the resource exists.
   */
  protected constructor(
    kind: string,
    name: string,
    args: Record<string, unknown>,
    outputs: readonly string[],
    opts: pulumi.CustomResourceOptions | undefined,
  ) {
    requireProvider();
    refuseOptions(kind, name, opts ?? {});
    const type = `pulumi-nodejs:dynamic/lxd:${kind}`;
    const computed = Object.fromEntries([...outputs, "schemaVersion", "unfinished"].map((output) => [output, undefined]));
    super(
      type,
      name,
      {
        ...computed,
        ...withSecrets(withConnection(args)),
        __provider: providerPointer(kind),
        __urn: ownUrn(type, name, opts?.parent),
      },
      // A replacement has the same name as the old object. If it were made first, it would adopt the old object and then be
      // removed with it. For forced replacements, as by pulumi up --replace; `diff` says the same of its own.
      { deleteBeforeReplace: true, ...opts },
    );
  }
}

/** @throws Error for options that the engine does not support for dynamic resources. */
function refuseOptions(kind: string, name: string, { import: id, replaceOnChanges = [] }: pulumi.CustomResourceOptions): void {
  const refuse = (option: string, instead: string): never => {
    throw new Error(`${kind} "${name}": the resource option ${option} does not work for this resource; ${instead}`);
  };
  if (id !== undefined) {
    refuse("import", "give the arguments of the object, with adopt: true");
  }
  if (replaceOnChanges.length > 0) {
    refuse("replaceOnChanges", "to replace it, run pulumi up --replace with its URN");
  }
}

/**
 * The URN that the engine will give to the resource. It marks what the resource owns on LXD, and addresses its progress messages.
 * A plain promise: an output of the parent would make the resource depend on the parent and its children.
 */
function ownUrn(type: string, name: string, parent: pulumi.Resource | undefined): Promise<string> {
  const urn = pulumi.createUrn(name, type, parent) as pulumi.Output<string> & { promise(): Promise<string> };
  return urn.promise();
}

/** The arguments, with connection data instead of the cluster, member or node that `cluster` is given as. */
function withConnection(args: Record<string, unknown>): Record<string, unknown> {
  const { cluster } = args;
  // An output has every property.
  return isMap(cluster) && !pulumi.Output.isInstance(cluster) && "asCluster" in cluster
    ? { ...args, cluster: cluster["asCluster"] }
    : args;
}

/**
 * Marks what may be a secret as one, whether or not the program does. In a plain structure, only the secret parts are marked, so
 * that a preview can show the rest. An output is marked as a whole.
 */
export function withSecrets(args: Record<string, unknown>, parent = ""): Record<string, unknown> {
  return Object.fromEntries(Object.entries(args).map(([name, value]) => [name, marked(nameWithin(parent, name), value)]));
}

function marked(name: string, value: unknown): unknown {
  if (value !== undefined && mayBeSecret(name, value)) {
    return pulumi.secret(value);
  }
  if (pulumi.Output.isInstance(value) || value instanceof Promise) {
    return pulumi.output(value).apply((known: unknown) => (holdsSecret(name, known) ? pulumi.secret(known) : known));
  }
  if (Array.isArray(value)) {
    return value.map((member: unknown) => marked(name, member));
  }
  return isMap(value) ? withSecrets(value, name) : value;
}

function holdsSecret(name: string, value: unknown): boolean {
  if (value === undefined || value === null) {
    return false;
  }
  if (Array.isArray(value)) {
    return value.some((member) => holdsSecret(name, member));
  }
  return (
    mayBeSecret(name, value) ||
    (isMap(value) && Object.entries(value).some(([key, member]) => holdsSecret(nameWithin(name, key), member)))
  );
}

function isMap(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === "object";
}

/**
 * The value of an output, or `undefined` in a preview that does not know it yet. Outputs made of it then stay known; the update,
 * which knows everything, has the value. Only for values that a preview does not need.
 */
export function whenKnown<Value>(output: pulumi.Output<Value>): pulumi.Output<Value | undefined> {
  const { isKnown, promise } = output as unknown as { isKnown: Promise<boolean>; promise: () => Promise<Value> };
  const value = isKnown.then((known) => (known ? promise.call(output) : undefined));
  // A plain promise has no dependencies. The caller names them.
  return pulumi.output(value) as pulumi.Output<Value | undefined>;
}

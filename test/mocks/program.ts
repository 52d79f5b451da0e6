import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { parse } from "yaml";

const ROOT = join(__dirname, "../..");
const load = createRequire(__filename);

/** Revision of LXD's snap on every host that has it. */
export const SNAP_REVISION = 33110;

/** Fingerprint of every image. */
export const IMAGE_FINGERPRINT = "1a".repeat(32);

/** A resource as the program registered it. */
export interface Registered {
  /** Kind or component, and logical name, such as "LxdNode cluster-bcn2". */
  readonly id: string;
  readonly type: string;
  readonly name: string;
  /** Inputs without what is between the class and its provider. */
  readonly inputs: Record<string, unknown>;
  /** `id` of its parent; undefined for what stands directly in the stack. */
  readonly parent: string | undefined;
  /** `id`s of custom resources that have to be there first, in alphabetical order. */
  readonly dependsOn: readonly string[];
  /** `id` of the resource with which it goes. */
  readonly deletedWith: string | undefined;
  /** Undefined where it is left to the engine, which takes the parent's. */
  readonly protect: boolean | undefined;
  /** As `protect`. */
  readonly retainOnDelete: boolean | undefined;
  /** Names that it had before. */
  readonly aliases: readonly string[];
}

/** What a program registers and exports. */
export interface Recording {
  readonly resources: readonly Registered[];
  /** The resource of this `id`; throws when there is none. */
  find(id: string): Registered;
}

interface Settings {
  readonly preview?: boolean;
  /** Which cluster the members tell that they are of. */
  readonly certificateFingerprint?: string;
  /** Which fingerprints the images had before. */
  readonly formerFingerprints?: readonly string[];
  /** Outputs of the stacks that the program refers to. */
  readonly stackOutputs?: Record<string, unknown>;
}

/** The part of an engine's request that mocks do not hand on. */
interface RegisterRequest {
  getType(): string;
  getName(): string;
  getParent(): string;
  getDependenciesList(): string[];
  getDeletedwith(): string;
  hasProtect(): boolean;
  getProtect(): boolean;
  hasRetainondelete(): boolean;
  getRetainondelete(): boolean;
  getAliasesList(): { getSpec(): { getName(): string } | undefined }[];
}

interface Monitor {
  registerResource(request: RegisterRequest, callback: unknown): unknown;
}

/**
 * Runs a piece of a program under mocks that give every resource its inputs back, as a preview does, and records what it registers.
 * What the engine would give besides is made up: addresses of a VM, the revision of a snap.
 */
export async function record(project: string, program: () => unknown, settings: Settings = {}): Promise<Recording> {
  const inputsOf = new Map<string, Record<string, unknown>>();
  await pulumi.runtime.setMocks(
    {
      newResource: ({ type, name, inputs }) => {
        const given = inputs as Record<string, unknown>;
        inputsOf.set(`${type} ${name}`, given);
        if (type === "pulumi:pulumi:StackReference") {
          return { id: name, state: { ...given, outputs: settings.stackOutputs ?? {}, secretOutputNames: [] } };
        }
        return { id: `${name}-id`, state: { ...given, ...(settings.preview !== true && computedOf(type, given, settings)) } };
      },
      call: () => ({}),
    },
    project,
    "test",
    settings.preview ?? false,
  );
  const requests: RegisterRequest[] = [];
  const monitor = pulumi.runtime.getMonitor() as unknown as Monitor;
  const register = monitor.registerResource.bind(monitor);
  monitor.registerResource = (request, callback) => {
    requests.push(request);
    return register(request, callback);
  };
  await program();
  await pulumi.runtime.disconnect(); // when all that was registered has been answered
  const resources = requests.map((request) =>
    registered(request, inputsOf.get(`${request.getType()} ${request.getName()}`) ?? {}),
  );
  return {
    resources,
    find: (id) => {
      const found = resources.find((resource) => resource.id === id);
      if (found === undefined) {
        throw new Error(`${id} was not registered; there are:\n${resources.map((resource) => resource.id).join("\n")}`);
      }
      return found;
    },
  };
}

function computedOf(
  type: string,
  { install }: Record<string, unknown>,
  { certificateFingerprint, formerFingerprints }: Settings,
): Record<string, unknown> {
  switch (kindOf(type)) {
    case "LxdClusterMember":
      return certificateFingerprint === undefined ? {} : { certificateFingerprint };
    case "LxdImage":
      return { fingerprint: IMAGE_FINGERPRINT, ...(formerFingerprints !== undefined && { formerFingerprints }) };
    case "LxdVm":
      return { addresses: {} };
    case "LxdNode": {
      const isSnap = install !== false && (install as { method?: string } | undefined)?.method !== "deb";
      return { upgradeState: "up to date", recommendedAction: "none", ...(isSnap && { revision: SNAP_REVISION }) };
    }
    default:
      return {};
  }
}

/** Runs a stack's program with the config of one of its files. */
export function recordStack(program: string, stackFile: string, project = "lxd-cluster"): Promise<Recording> {
  const { config } = parse(readFileSync(join(ROOT, stackFile), "utf8")) as { config: Record<string, unknown> };
  return record(project, () => runProgram(program, config));
}

/** Loads a program anew with this config. */
export function runProgram(program: string, config: Record<string, unknown>): unknown {
  const texts = Object.entries(config).map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]);
  pulumi.runtime.setAllConfig(Object.fromEntries(texts) as Record<string, string>);
  const path = join(ROOT, program);
  delete load.cache[path];
  return load(path);
}

/** The value of an output; throws when it is unknown. */
export async function known<T>(output: pulumi.Output<T>): Promise<pulumi.Unwrap<T>> {
  const { isKnown, promise } = output as unknown as { isKnown: Promise<boolean>; promise(): Promise<pulumi.Unwrap<T>> };
  if (!(await isKnown)) {
    throw new Error("the output is unknown");
  }
  return promise();
}

function registered(request: RegisterRequest, { __provider: _, __urn: _urn, ...inputs }: Record<string, unknown>): Registered {
  const parent = idOf(request.getParent());
  const deletedWith = idOf(request.getDeletedwith());
  return {
    id: `${kindOf(request.getType())} ${request.getName()}`,
    type: request.getType(),
    name: request.getName(),
    inputs: plain(inputs) as Record<string, unknown>,
    protect: request.hasProtect() ? request.getProtect() : undefined,
    retainOnDelete: request.hasRetainondelete() ? request.getRetainondelete() : undefined,
    aliases: request.getAliasesList().map((alias) => alias.getSpec()?.getName() ?? ""),
    parent: parent?.startsWith("Stack ") === true ? undefined : parent,
    dependsOn: [...new Set(request.getDependenciesList().map((urn) => idOf(urn) ?? ""))].sort(),
    deletedWith,
  };
}

function idOf(urn: string): string | undefined {
  const [, , type = "", name = ""] = urn.split("::");
  return urn === "" ? undefined : `${kindOf(type)} ${name}`;
}

function kindOf(type: string): string {
  return type.slice(type.lastIndexOf(":") + 1);
}

const SECRET_MARK = "4dabf18193072939515e22adb298388d";

/** The value with secrets written as `{secret: ...}`. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map(plain);
  }
  if (value === null || typeof value !== "object") {
    return value;
  }
  if (SECRET_MARK in value) {
    return { secret: plain((value as unknown as { value: unknown }).value) };
  }
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, member]) => member !== undefined)
      .map(([key, member]) => [key, plain(member)]),
  );
}

/** The value without the marks of secrets in it. */
export function unwrapped(value: unknown): unknown {
  if (value === null || typeof value !== "object") {
    return value;
  }
  const { secret } = value as { secret?: unknown };
  return secret !== undefined
    ? unwrapped(secret)
    : Object.fromEntries(Object.entries(value).map(([key, member]) => [key, unwrapped(member)]));
}

/**
 * A small model of Pulumi's engine: it runs a whole program with the dynamic providers, in the order and with the
 * arguments of the real
 * one, but in this process, so that a thousand runs take a minute.
 * It models: check with the old inputs (none for a replacement), the refresh before everything (`refresh: always`),
 * diff of the old
 * outputs with the new inputs, create, update, delete before replace with the dependents that must be replaced too,
 * `deletedWith`, removal
 * of deleted resources in reverse order, outputs that are unknown in a preview, partial failures, and that nothing
 * starts after a
 * failure. test/engine covers the same with the real engine.
 * @see https://github.com/pulumi/pulumi/tree/master/pkg/resource/deploy step_generator.go and step.go
 */
import assert from "node:assert/strict";
import pLimit from "p-limit";
import type { DynamicProvider } from "../../provider/engine/adapter";
import type { EngineLog } from "../../provider/engine/progress";
import { disconnectAll } from "../../provider/transport/pool";

export type Properties = Record<string, unknown>;

/** An output of another resource as an input. */
export class Ref {
  constructor(
    readonly resource: string,
    readonly path: readonly string[],
  ) {}
}

/** A resource as a program declares it. */
export interface Declared {
  readonly name: string;
  readonly kind: string;
  /** Inputs; a {@link Ref} may appear anywhere in them. */
  readonly args: Properties;
  readonly dependsOn?: readonly string[];
  readonly deletedWith?: string;
}

/** Operation on a resource. */
export type Op = "create" | "update" | "replace" | "same" | "delete";

/** A resource's step in a preview, or its executed step. */
export interface Planned {
  readonly op: Op;
  /** Inputs whose value differs from state; all of them for a new resource. */
  readonly changed: readonly string[];
  /** Those of them that differ only because they are unknown. */
  readonly unknown: readonly string[];
  /** Inputs that require a replacement. */
  readonly replaces: readonly string[];
}

/** Result of an operation of the engine, executed or planned. */
export interface Run {
  /** By name of the resource, in the order of their start. */
  readonly steps: Map<string, Planned>;
  /** Messages for the screen, by resource. */
  readonly warnings: [resource: string, text: string][];
  /** Why it stopped, with the resource. */
  readonly failures: { readonly resource: string; readonly error: Error }[];
}

/** A resource in state. */
export interface Stored {
  readonly name: string;
  readonly kind: string;
  readonly id: string;
  readonly inputs: Properties;
  readonly outputs: Properties;
  /** By input, the resources whose outputs it contains. */
  readonly inputDependencies: Readonly<Record<string, readonly string[]>>;
  readonly dependencies: readonly string[];
  readonly deletedWith: string | undefined;
  /** A step after the creation failed. */
  readonly initError: boolean;
}

/** Creates the provider of a kind. */
export type ProviderOf = (kind: string, log: EngineLog) => DynamicProvider;

const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";
const NOTHING: Planned = { op: "same", changed: [], unknown: [], replaces: [] };

/** A stack with its state. */
export class ModelEngine {
  /** State, in the order of dependencies. */
  resources: Stored[] = [];

  constructor(
    private readonly providerOf: ProviderOf,
    /** Whether independent steps run at the same time, as in the engine. */
    readonly parallel: boolean,
  ) {}

  find(name: string): Stored | undefined {
    return this.resources.find((resource) => resource.name === name);
  }

  /** `pulumi preview`: refreshes, and returns the plan of `up`. State stays unchanged. */
  async preview(program: readonly Declared[]): Promise<Run> {
    const { resources } = this;
    try {
      return await this.operation(async (deployment) => {
        if (await deployment.refresh()) {
          await deployment.run(program, true);
        }
      });
    } finally {
      this.resources = resources;
    }
  }

  /** `pulumi up` without its preview; also with `--refresh=false`. */
  up(program: readonly Declared[], { refresh = true } = {}): Promise<Run> {
    return this.operation(async (deployment) => {
      if (!refresh || (await deployment.refresh())) {
        await deployment.run(program, false);
      }
    });
  }

  /** `pulumi refresh`. */
  refresh(): Promise<Run> {
    return this.operation(async (deployment) => {
      await deployment.refresh();
    });
  }

  /** `pulumi destroy`. */
  destroy(): Promise<Run> {
    return this.operation(async (deployment) => {
      if (await deployment.refresh()) {
        await deployment.run([], false);
      }
    });
  }

  private async operation(work: (deployment: Deployment) => Promise<void>): Promise<Run> {
    const run: Run = { steps: new Map(), warnings: [], failures: [] };
    try {
      await work(new Deployment(this, run, this.providerOf));
    } finally {
      await disconnectAll(); // a provider process lasts for one operation
    }
    return run;
  }
}

/** One operation. */
class Deployment {
  private readonly providers = new Map<string, DynamicProvider>();
  /** Checks and diffs run one after the other. */
  private readonly generating = pLimit(1);
  private readonly outputs = new Map<string, Properties>();
  private readonly deleted = new Set<string>();
  /** Dependents that were deleted before a replaced resource, with the reason. */
  private readonly toReplace = new Map<string, readonly string[]>();

  constructor(
    private readonly engine: ModelEngine,
    private readonly outcome: Run,
    private readonly providerOf: ProviderOf,
  ) {}

  /** @returns Whether all resources could be read; otherwise the engine stops. */
  async refresh(): Promise<boolean> {
    const read = async (resource: Stored): Promise<Stored | undefined> => {
      try {
        const seen = await this.provider(resource.kind).read(resource.id, resource.outputs);
        const inputs = seen.inputs ?? resource.inputs;
        return seen.id === "" ? undefined : { ...resource, outputs: seen.props, inputs, initError: false };
      } catch (error) {
        this.failed(resource.name, error);
        return resource;
      }
    };
    const refreshed = await this.all(this.engine.resources, read);
    this.engine.resources = refreshed.filter((resource) => resource !== undefined);
    return this.outcome.failures.length === 0;
  }

  /** Runs the program, then deletes resources that are no longer in it. */
  async run(program: readonly Declared[], dry: boolean): Promise<void> {
    const done = new Map<string, Promise<boolean>>();
    for (const declared of program) {
      const work = async (): Promise<boolean> => {
        const ready = await Promise.all(dependenciesOf(declared).map((name) => done.get(name) ?? Promise.resolve(false)));
        return ready.every((well) => well) && this.outcome.failures.length === 0 && this.register(declared, dry);
      };
      const working = work();
      done.set(declared.name, working);
      if (!this.engine.parallel) {
        await working;
      }
    }
    await Promise.all(done.values());
    const names = program.map(({ name }) => name);
    this.sort(names);
    for (const resource of this.engine.resources.filter(({ name }) => !names.includes(name)).reverse()) {
      this.deleted.add(resource.name);
      if (this.outcome.failures.length === 0) {
        this.outcome.steps.set(resource.name, { ...NOTHING, op: "delete" });
        await this.remove(resource, dry);
      }
    }
  }

  private async register(declared: Declared, dry: boolean): Promise<boolean> {
    const { name, kind } = declared;
    try {
      const urn = `urn:pulumi:lab::histories::pulumi-nodejs:dynamic/lxd:${kind}::${name}`;
      const given = { ...(this.resolve(declared.args) as Properties), __urn: urn, __provider: kind };
      const { plan, inputs } = await this.generating(() => this.plan(declared, given));
      this.outcome.steps.set(name, plan);
      const meta = {
        name,
        kind,
        inputDependencies: Object.fromEntries(Object.entries(declared.args).map(([key, value]) => [key, refsIn(value)])),
        dependencies: dependenciesOf(declared),
        deletedWith: declared.deletedWith,
      };
      const old = this.engine.find(name);
      if (plan.op === "same" && old !== undefined) {
        this.keep({ ...old, ...meta, inputs });
        this.outputs.set(name, old.outputs);
        return true;
      }
      if (plan.op === "replace" && old !== undefined) {
        await this.removeWithDependents(old, dry);
      }
      if (dry) {
        // Dynamic providers are not called in a preview: all outputs except inputs are unknown.
        this.outputs.set(name, { ...inputs, [PREVIEW]: true });
        return true;
      }
      const stored = await this.change(plan.op === "update" ? old : undefined, { ...meta, inputs });
      this.outputs.set(name, stored.outputs);
      return true;
    } catch (error) {
      this.failed(name, error);
      return false;
    }
  }

  private async plan(declared: Declared, given: Properties): Promise<{ plan: Planned; inputs: Properties }> {
    const old = this.engine.find(declared.name);
    const provider = this.provider(declared.kind);
    const replaced = this.toReplace.get(declared.name);
    if (old === undefined || replaced !== undefined) {
      const inputs = await checked(provider, {}, given);
      const changed = Object.keys(inputs);
      return {
        plan: { op: replaced === undefined ? "create" : "replace", changed, unknown: [], replaces: replaced ?? [] },
        inputs,
      };
    }
    const inputs = await checked(provider, old.inputs, given);
    const { changes, replaces } = await provider.diff(old.id, old.outputs, inputs);
    const changed = Object.keys({ ...old.inputs, ...inputs }).filter((key) => !same(old.inputs[key], inputs[key]));
    const unknown = changed.filter((key) => JSON.stringify(inputs[key] ?? null).includes(UNKNOWN));
    if (replaces.length > 0) {
      return { plan: { op: "replace", changed, unknown, replaces }, inputs: await checked(provider, {}, given) };
    }
    return { plan: { op: changes || old.initError ? "update" : "same", changed, unknown, replaces }, inputs };
  }

  /** Creates or updates. Keeps an object that exists although the call failed. */
  private async change(old: Stored | undefined, made: Omit<Stored, "id" | "outputs" | "initError">): Promise<Stored> {
    const provider = this.provider(made.kind);
    try {
      const { id, outs } =
        old === undefined
          ? await provider.create(made.inputs)
          : { id: old.id, ...(await provider.update(old.id, old.outputs, made.inputs)) };
      assert.notEqual(id, "", "the engine refuses a resource without an id");
      const stored = { ...made, id, outputs: transported(outs), initError: false };
      this.keep(stored);
      return stored;
    } catch (error) {
      const { id, properties } = error as { id?: string; properties?: Properties };
      if (id !== undefined && properties !== undefined) {
        this.keep({ ...made, id, outputs: transported(properties), initError: true });
      }
      throw error;
    }
  }

  /** Deletes a resource before its replacement, and before it the dependents that must be replaced with it. */
  private async removeWithDependents(root: Stored, dry: boolean): Promise<void> {
    const replaced = new Set([root.name]);
    const dependents: Stored[] = [];
    for (const resource of this.engine.resources) {
      const inputs = Object.fromEntries(
        Object.entries(resource.inputs).map(([key, value]) => [
          key,
          resource.inputDependencies[key]?.some((name) => replaced.has(name)) ? UNKNOWN : value,
        ]),
      );
      if (!same(inputs, resource.inputs) && !this.outputs.has(resource.name)) {
        const diff = await this.provider(resource.kind).diff(resource.id, resource.outputs, inputs);
        if (diff.replaces.length > 0) {
          replaced.add(resource.name);
          dependents.push(resource);
          this.toReplace.set(resource.name, diff.replaces);
        }
      }
    }
    for (const resource of [root, ...dependents]) {
      this.deleted.add(resource.name);
    }
    for (const { name } of dependents) {
      this.outcome.steps.set(name, { ...NOTHING, op: "delete" }); // unless it is still in the program and is created again
    }
    for (const resource of [root, ...dependents].reverse()) {
      if (!(await this.remove(resource, dry))) {
        throw new AlreadyTold();
      }
    }
  }

  private async remove(resource: Stored, dry: boolean): Promise<boolean> {
    try {
      if (!dry && !(resource.deletedWith !== undefined && this.deleted.has(resource.deletedWith))) {
        await this.provider(resource.kind).delete(resource.id, resource.outputs);
      }
      this.engine.resources = this.engine.resources.filter(({ name }) => name !== resource.name);
      return true;
    } catch (error) {
      this.failed(resource.name, error);
      return false;
    }
  }

  /** Values of references; unknown in a preview if they are not computed yet. */
  private resolve(value: unknown): unknown {
    if (value instanceof Ref) {
      const outputs = this.outputs.get(value.resource);
      assert(outputs !== undefined, `the program uses ${value.resource} before it is declared`);
      let found: unknown = outputs;
      for (const key of value.path) {
        const here = found as Properties | undefined;
        found = here !== undefined && Object.hasOwn(here, key) ? here[key] : outputs[PREVIEW] === true ? UNKNOWN : undefined;
        if (found === UNKNOWN) {
          return UNKNOWN;
        }
      }
      return found;
    }
    if (Array.isArray(value)) {
      return value.map((member) => this.resolve(member));
    }
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, this.resolve(member)]));
    }
    return value;
  }

  private provider(kind: string): DynamicProvider {
    let provider = this.providers.get(kind);
    if (provider === undefined) {
      const warn = (urn: string, text: string): void => void this.outcome.warnings.push([urn.split("::").at(-1) ?? "", text]);
      provider = this.providerOf(kind, { progress: () => undefined, info: () => undefined, warn });
      this.providers.set(kind, provider);
    }
    return provider;
  }

  private keep(resource: Stored): void {
    const at = this.engine.resources.findIndex(({ name }) => name === resource.name);
    const rest = [...this.engine.resources];
    if (at < 0) {
      rest.push(resource);
    } else {
      rest[at] = resource;
    }
    this.engine.resources = rest;
  }

  /** Registered resources first, in the order of registration. */
  private sort(names: readonly string[]): void {
    const place = ({ name }: Stored): number => (names.includes(name) ? names.indexOf(name) : names.length);
    this.engine.resources = [...this.engine.resources].sort((a, b) => place(a) - place(b));
  }

  private failed(resource: string, error: unknown): void {
    if (!(error instanceof AlreadyTold)) {
      this.outcome.failures.push({ resource, error: error instanceof Error ? error : new Error(String(error)) });
    }
  }

  private async all<Item, Result>(items: readonly Item[], work: (item: Item) => Promise<Result>): Promise<Result[]> {
    if (this.engine.parallel) {
      return Promise.all(items.map(work));
    }
    const results: Result[] = [];
    for (const item of items) {
      results.push(await work(item));
    }
    return results;
  }
}

/** Marks outputs that a preview knows only from inputs. */
const PREVIEW = "(preview)";

/** Ends a step whose failure is already in the outcome. */
class AlreadyTold extends Error {}

async function checked(provider: DynamicProvider, olds: Properties, news: Properties): Promise<Properties> {
  const { inputs, failures } = await provider.check(olds, news);
  if (failures.length > 0) {
    throw new Error(`refused by check: ${failures.map(({ reason }) => reason).join("; ")}`);
  }
  return transported(inputs);
}

/** Properties as gRPC transports them: plain JSON. */
function transported(properties: Properties): Properties {
  return JSON.parse(JSON.stringify(properties)) as Properties;
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map(sorted);
  }
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(
      Object.entries(value)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([key, member]) => [key, sorted(member)]),
    );
  }
  return value;
}

function dependenciesOf({ args, dependsOn = [], deletedWith }: Declared): string[] {
  return [...new Set([...refsIn(args), ...dependsOn, ...(deletedWith === undefined ? [] : [deletedWith])])];
}

/** Names of the resources whose outputs a value contains. */
function refsIn(value: unknown): string[] {
  if (value instanceof Ref) {
    return [value.resource];
  }
  return value !== null && typeof value === "object" ? Object.values(value).flatMap(refsIn) : [];
}

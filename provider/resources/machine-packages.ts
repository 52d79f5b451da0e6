/**
 * Packages of an instance or of a host, by the package manager of its distribution.
 * @see apt-get(8), dpkg(1) of Debian 12; apk(8) of Alpine 3.20
 */
import type { CustomResourceOptions, Input, Output } from "@pulumi/pulumi";
import * as z from "zod";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import { notCompared } from "../engine/state";
import {
  bringPackages,
  foreseePackages,
  listPackages,
  type PackageList,
  type PackageWork,
  refusePackageRemoval,
  removePackages,
} from "../machine/packages/packages";
import { withoutUndefined } from "../support/equality";
import type { InInstanceArgs, OnHostArgs } from "./common-args";
import { machineLifecycles, type Work } from "./machine-object";

const NAME_RULE =
  'is not the name of a package: lower case letters, digits, and "+-._" inside. For another version give { name, version }, and to remove ' +
  "it { name, absent: true }";

/** apt reads "x-" as a removal and "x+" as an installation, unless a package has that name, such as g++. */
const nameSchema = z.string().regex(/^[a-z0-9](?:[a-z0-9+._-]*(?:[a-z0-9._]|\+\+))?$/, NAME_RULE);

const versionSchema = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9.+~:^_-]*$/, 'is not the exact version of a package, such as "1.6-2.1"');

const choiceSchema = z
  .strictObject({
    name: nameSchema,
    version: versionSchema.exactOptional(),
    hold: z.boolean().exactOptional(),
    absent: z.boolean().exactOptional(),
  })
  .superRefine(({ version, hold, absent }, context) => {
    for (const [property, value] of Object.entries({ version, hold })) {
      if (absent === true && value !== undefined) {
        context.addIssue({ code: "custom", path: [property], message: "must not be given with absent: true" });
      }
    }
  })
  .transform(({ absent, ...choice }) => (absent === true ? { name: choice.name, absent } : choice));

const packagesSchema = z
  .array(z.union([nameSchema.transform((name) => ({ name })), choiceSchema]))
  .min(1, "must name one")
  .superRefine((packages, context) => {
    packages.forEach(({ name }, index) => {
      if (packages.findIndex((each) => each.name === name) !== index) {
        context.addIssue({ code: "custom", path: [index], message: `names ${name} a second time` });
      }
    });
  })
  .transform((packages): Package[] => packages);

/** A package, as state has it. */
interface Package {
  name: string;
  version?: string;
  hold?: boolean;
  absent?: true;
}

const packagesShape = {
  packages: packagesSchema,
  cacheSeconds: z.int().min(0).default(3600),
  removeOnDelete: z.boolean().default(false),
};

/** A package that is to be there, or not. */
export interface PackageArgs {
  /** Name of the package. */
  name: Input<string>;
  /**
   * Exact version, such as "1.6-2.1". A newer one upgrades the package; an older one is refused.
   * @default the package manager's choice, and later upgrades are not undone
   */
  version?: Input<string>;
  /**
   * Hold the package (`apt-mark hold`): upgrades leave it as it is, and `pulumi up` with another `version` still changes it. `false`
   * releases it. apk cannot hold packages.
   * @default as it is
   */
  hold?: Input<boolean>;
  /** Remove the package, with its program files and without its configuration. Refused when others would go with it. @default false */
  absent?: Input<boolean>;
}

/** What {@link VmPackagesArgs} and {@link HostPackagesArgs} have in common. */
export interface PackagesArgs {
  /** Packages by name, or with more. One that is taken off this list stays on the machine. */
  packages: Input<Input<string | PackageArgs>[]>;
  /**
   * Age in seconds from which the package lists are updated before something is installed. They are also updated when they do not
   * have a package. @default 3600
   */
  cacheSeconds?: Input<number>;
  /**
   * Remove, with the resource, those packages that it installed itself (the output `installed`), without those that came with them.
   * Refused when others would go with them. @default false: they stay
   */
  removeOnDelete?: Input<boolean>;
  /** Time limits in seconds, for each call. @default 900 for create and update, 300 for delete, 60 for read */
  timeouts?: Input<TimeoutArgs>;
}

/** Arguments of {@link VmPackages}. */
export interface VmPackagesArgs extends InInstanceArgs, PackagesArgs {}

/** Arguments of {@link HostPackages}. */
export interface HostPackagesArgs extends OnHostArgs, PackagesArgs {}

type Inputs = z.output<z.ZodObject<typeof packagesShape>>;

interface Outputs {
  /** Names of packages that were not installed before this resource was there. */
  installed: readonly string[];
  /** Names of packages that are held because of this resource. */
  held: readonly string[];
  /** Versions of the installed packages by name. */
  versions: Readonly<Record<string, string>>;
}

type State = Inputs & Outputs;

/** How many packages a title names. */
const MOST_NAMES = 3;

/** See {@link VmPackages} and {@link HostPackages}. @internal */
export const { vm: vmPackagesLifecycle, host: hostPackagesLifecycle } = machineLifecycles<Inputs, Outputs>({
  kind: "Packages",
  schemaVersion: 1,
  shape: packagesShape,
  immutable: [],
  needs: "commands",
  timeouts: { create: 900, read: 60, update: 900, delete: 300 },

  sameBy: {
    packages: (observed, wanted) => JSON.stringify(byName(observed)) === JSON.stringify(byName(wanted)),
    cacheSeconds: notCompared,
  },

  nameOf: ({ packages }) => `Package list "${titleOf(packages)}"`,
  idOf: () => "packages",
  replacementLoss(state, what) {
    const removed = toRemove(state);
    return removed.length === 0
      ? `${what} is given up, and its packages stay there`
      : `${what} is given up: ${removed.join(", ")}, which it installed, will be removed there (removeOnDelete)`;
  },

  async observe(machine, state, { deadline }) {
    const list = await listPackages(machine, deadline);
    const { installed = [], held = [] } = state as Partial<Outputs>;
    return {
      inputs: { packages: observed(state.packages, list) },
      outputs: { installed, held, versions: versionsOf(state, list) },
    };
  },

  asKnown(state) {
    const { installed, held, versions } = state;
    return Object.hasOwn(state, "installed") ? { inputs: {}, outputs: { installed, held, versions } } : undefined;
  },

  foresee: (work, { packages }, former) => foreseePackages(workOf(work), packages, heldBy(former?.packages ?? [])),

  async save(work, inputs, state) {
    const { machine, context, attempted } = work;
    const wanted = inputs.packages.filter(({ absent }) => absent !== true).map(({ name }) => name);
    const known = [...(state?.installed ?? []), ...(attempted?.installed ?? [])];
    const ownHolds = [...(state?.held ?? []), ...(attempted?.held ?? [])];
    const held = heldBy(inputs.packages);
    let installed = wanted.filter((name) => known.includes(name));
    const list = await bringPackages(workOf({ machine, context }), inputs.packages, {
      cacheSeconds: inputs.cacheSeconds,
      ownHolds,
      changing: (missing, before) => {
        installed = wanted.filter((name) => known.includes(name) || missing.includes(name));
        work.exists({ installed, held: [...new Set([...ownHolds, ...held])], versions: versionsOf(inputs, before) });
      },
    });
    return { installed, held, versions: versionsOf(inputs, list) };
  },

  leavesAll: (state) => toRemove(state).length === 0,

  refuseRemoval(machine, state, { deadline }) {
    return refusePackageRemoval(machine, deadline, toRemove(state), state.held);
  },

  remove: ({ machine, context }, state) => removePackages(workOf({ machine, context }), toRemove(state)),
});

function workOf({ machine, context }: Pick<Work, "machine" | "context">): PackageWork {
  const { deadline, progress, warn } = context;
  return { machine, deadline, progress, warn };
}

function heldBy(packages: readonly Package[]): string[] {
  return packages.flatMap(({ name, hold }) => (hold === true ? [name] : []));
}

function toRemove({ removeOnDelete, installed }: State): readonly string[] {
  return removeOnDelete ? installed : [];
}

/** The packages as they are, in the order and with the properties of the program. */
function observed(known: readonly Package[], list: PackageList): Package[] {
  return known.flatMap(({ name, version, hold, absent }): Package[] => {
    const found = list.get(name);
    if (found === undefined) {
      return absent === true ? [{ name, absent }] : [];
    }
    return [
      withoutUndefined({
        name,
        version: version === undefined ? undefined : found.version,
        hold: hold === undefined ? undefined : found.isHeld,
      }) as Package,
    ];
  });
}

function versionsOf({ packages }: Inputs, list: PackageList): Record<string, string> {
  return Object.fromEntries(
    packages.flatMap(({ name }) => {
      const found = list.get(name);
      return found === undefined ? [] : [[name, found.version]];
    }),
  );
}

/** The same packages, in whatever order the program and its properties are. */
function byName(packages: readonly Package[]): unknown[] {
  return packages
    .map(({ name, version, hold, absent }) => ({ name, version, hold, absent }))
    .sort((one, other) => (one.name < other.name ? -1 : 1));
}

function titleOf(packages: readonly Package[]): string {
  const names = packages.slice(0, MOST_NAMES).map(({ name }) => name);
  const more = packages.length - names.length;
  return `${names.join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}

abstract class Packages extends LxdResource {
  /** Names of packages that were not installed before this resource was there. */
  declare readonly installed: Output<string[]>;
  /** Names of packages that are held because of this resource. */
  declare readonly held: Output<string[]>;
  /** Versions of the installed packages by name. */
  declare readonly versions: Output<Record<string, string>>;

  protected constructor(kind: string, name: string, args: PackagesArgs, opts: CustomResourceOptions | undefined) {
    super(kind, name, { ...args }, ["installed", "held", "versions"], opts);
  }
}

/**
 * Packages in a virtual machine or container of Debian, Ubuntu or Alpine.
 *
 * @example
 * ```typescript
 * new VmPackages("web1-packages", {
 *   cluster,
 *   instance: web1.name,
 *   packages: ["nginx", { name: "jq", hold: true }, { name: "apache2", absent: true }],
 * }, { deletedWith: web1 });
 * ```
 */
export class VmPackages extends Packages {
  /** Name of the instance. */
  declare readonly instance: Output<string>;
  /** Project of the instance. */
  declare readonly project: Output<string>;

  constructor(name: string, args: VmPackagesArgs, opts?: CustomResourceOptions) {
    super("VmPackages", name, args, opts);
  }
}

/**
 * Packages on a host.
 *
 * @example
 * ```typescript
 * new HostPackages("bcn2-packages", {
 *   connection: { host: "192.168.1.102" },
 *   packages: ["smartmontools", "nvme-cli"],
 * });
 * ```
 */
export class HostPackages extends Packages {
  constructor(name: string, args: HostPackagesArgs, opts?: CustomResourceOptions) {
    super("HostPackages", name, args, opts);
  }
}

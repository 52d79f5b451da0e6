/**
 * Parameters of a host's kernel.
 * @see sysctl(8), sysctl.d(5)
 */
import type { CustomResourceOptions, Input, Output } from "@pulumi/pulumi";
import * as z from "zod";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import { forgetFile, keepFormer, removeFile } from "../machine/files";
import {
  ensureSysctls,
  forgetSysctls,
  isFileIntact,
  pathOfSysctls,
  readSysctls,
  requireSysctls,
  restoreSysctls,
  sameSysctl,
} from "../machine/sysctls";
import type { OnHostArgs } from "./common-args";
import { machineLifecycles } from "./machine-object";

const valueSchema = z
  .union([z.string(), z.number(), z.boolean()], "must be a text, a number or a boolean")
  .transform((value) => (typeof value === "boolean" ? Number(value) : value))
  .transform(String)
  .refine((value) => /^(\t|\P{Cc})+$/u.test(value), "must be one line of text");

const sysctlsShape = {
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$/, "is not a file name of letters, digits, dots, dashes and underscores"),
  values: z
    .record(z.string().regex(/^[a-z0-9_]+([./][A-Za-z0-9_-]+)+$/, "is not the name of a kernel parameter"), valueSchema)
    .refine((values) => Object.keys(values).length > 0, "must have at least one parameter"),
  adopt: z.boolean().default(false),
};

/** Arguments of {@link HostSysctls}. */
export interface HostSysctlsArgs extends OnHostArgs {
  /**
   * Name of the file in `/etc/sysctl.d`, without `.conf`. Files are read in the order of their names at boot, and the last value counts.
   * Another name replaces the resource.
   */
  name: Input<string>;
  /** Values by parameter, such as `{ "net.ipv4.ip_forward": 1 }`. They are set at once, and at every boot. */
  values: Input<Record<string, Input<string | number | boolean>>>;
  /** Take over a file of that name that others made. It is kept, and restored with the values from before. @default false */
  adopt?: Input<boolean>;
  /** Time limits in seconds, for each call. @default 60 for every call */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<z.ZodObject<typeof sysctlsShape>>;

interface Outputs {
  /** Whether the file for the next boot is as wanted. */
  isFileIntact: boolean;
}

/** See {@link HostSysctls}. @internal */
export const { host: hostSysctlsLifecycle } = machineLifecycles<Inputs, Outputs>({
  kind: "Sysctls",
  schemaVersion: 1,
  shape: sysctlsShape,
  immutable: ["name"],
  needs: "commands",
  timeouts: { create: 60, read: 60, update: 60, delete: 60 },

  sameBy: {
    values: (observed, wanted, state) =>
      state.isFileIntact &&
      Object.keys({ ...observed, ...wanted }).every((key) => sameSysctl(observed[key] ?? "", wanted[key] ?? "")),
  },

  nameOf: ({ name }) => `Sysctls "${name}"`,
  idOf: ({ name }) => `sysctls/${name}`,
  markOf: ({ name }) => `sysctls.${name}`,
  lookupKeys: () => ({ isFileIntact: false }),
  replacementLoss: (_state, what) =>
    `${what} will be removed, which sets the values from before again, and then made under the other name`,

  async describe(machine, { name }) {
    const path = pathOfSysctls(name);
    return (await machine.digestFile(path)) === undefined ? undefined : `the file ${path}`;
  },

  refuse: (machine, { name, values }) => requireSysctls(machine, name, values),

  takeOver: (machine, { name }, isOwned) => keepFormer(machine, pathOfSysctls(name), { isNew: !isOwned }),

  async observe(machine, state) {
    const [live, isIntact] = await Promise.all([readSysctls(machine), isFileIntact(machine, state.name, state.values)]);
    return isIntact === undefined
      ? undefined
      : { inputs: { values: valuesFrom(live, state) }, outputs: { isFileIntact: isIntact } };
  },

  asKnown: () => undefined, // a host always runs

  asMissing: () => ({ inputs: {}, outputs: { isFileIntact: false } }),

  async save({ machine, exists }, { name, values }) {
    exists({ isFileIntact: false });
    await ensureSysctls(machine, name, values);
    return { isFileIntact: true };
  },

  async remove({ machine, context, what }, { name }) {
    await restoreSysctls(machine, name);
    if (!(await removeFile(machine, pathOfSysctls(name), "restore"))) {
      context.warn(`${pathOfSysctls(name)} of ${what} was not removed: something else than a file is there now`);
    }
  },

  async endRemoval(machine, { name }) {
    await forgetSysctls(machine, name);
    await forgetFile(machine, pathOfSysctls(name));
  },
});

/** The live values of the known parameters, in the known spelling where they mean the same. */
function valuesFrom(live: Readonly<Record<string, string>>, { values }: Inputs): Record<string, string> {
  return Object.fromEntries(
    Object.entries(values).flatMap(([key, known]) => {
      const value = live[key];
      return value === undefined ? [] : [[key, sameSysctl(value, known) ? known : value]];
    }),
  );
}

/**
 * Parameters of a host's kernel: set at once, and at every boot.
 *
 * @example
 * ```typescript
 * new HostSysctls("bcn2-lxd", {
 *   connection: { host: "192.168.1.102" },
 *   name: "60-lxd",
 *   values: { "fs.inotify.max_user_instances": 1048576, "net.ipv4.ip_forward": 1 },
 * });
 * ```
 */
export class HostSysctls extends LxdResource {
  /** Name of the file in `/etc/sysctl.d`, without `.conf`. */
  declare readonly name: Output<string>;
  /** Values by parameter. */
  declare readonly values: Output<Record<string, string>>;

  constructor(name: string, args: HostSysctlsArgs, opts?: CustomResourceOptions) {
    super("HostSysctls", name, { ...args }, ["isFileIntact"], opts);
  }
}

/**
 * A service of an instance or of a host: a unit of its init system.
 * @see systemctl(1), systemd.unit(5)
 */
import type { CustomResourceOptions, Input, Output } from "@pulumi/pulumi";
import * as z from "zod";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import { ensureUnit, isAsWanted, isEnabled, isMasked, type LiveUnit, prepareUnit, readUnit } from "../machine/services";
import { fullUnitName } from "../machine/systemd";
import { sameJson } from "../support/equality";
import type { InInstanceArgs, OnHostArgs } from "./common-args";
import { unitSchema } from "./machine-args";
import { machineLifecycles } from "./machine-object";

const serviceShape = {
  unit: unitSchema.transform(fullUnitName),
  enabled: z.boolean().optional(),
  active: z.boolean().optional(),
  masked: z.boolean().optional(),
  triggers: z.array(z.json()).optional(),
};

/** What {@link VmServiceArgs} and {@link HostServiceArgs} have in common. At least one of `enabled`, `active` and `masked` is given. */
export interface ServiceArgs {
  /**
   * Name of the unit: `nginx`, `app@1.service`, `fstrim.timer`. A name without the suffix of a type is that of a service. The unit must
   * exist. Another name replaces the resource, which changes nothing of the former unit.
   */
  unit: Input<string>;
  /** Whether the machine starts it at boot. @default left as it is */
  enabled?: Input<boolean>;
  /** Whether it runs now. @default left as it is */
  active?: Input<boolean>;
  /** Whether nothing can start it, not even by hand. Does not stop it. @default left as it is */
  masked?: Input<boolean>;
  /**
   * Any values, such as the contents or hashes of its files. When they change, a unit with `active: true` is restarted. A restart that
   * fails or is interrupted is repeated by the next `pulumi up`. Nothing else restarts it.
   * @default none
   */
  triggers?: Input<Input<unknown>[]>;
  /** Time limits in seconds, for each call. @default 300 for create and update, 120 for delete, 60 for read */
  timeouts?: Input<TimeoutArgs>;
}

/** Arguments of {@link VmService}. */
export interface VmServiceArgs extends InInstanceArgs, ServiceArgs {}

/** Arguments of {@link HostService}. */
export interface HostServiceArgs extends OnHostArgs, ServiceArgs {}

type Inputs = z.output<z.ZodObject<typeof serviceShape>>;

interface Outputs {
  activeState: string;
  unitFileState: string;
  /** Whether a restart because of `triggers` has yet to succeed. */
  restartPending: boolean;
}

type State = Inputs & Outputs;

/** See {@link VmService} and {@link HostService}. @internal */
export const { vm: vmServiceLifecycle, host: hostServiceLifecycle } = machineLifecycles<Inputs, Outputs>({
  kind: "Service",
  schemaVersion: 1,
  shape: serviceShape,
  immutable: ["unit"],
  needs: "commands",
  timeouts: { create: 300, read: 60, update: 300, delete: 120 },
  leftAsIs: ["enabled", "active", "masked"],

  checkTogether({ enabled, active, masked, triggers }) {
    if (enabled === undefined && active === undefined && masked === undefined) {
      return [{ property: "active", reason: "must be given, or else enabled or masked: without them nothing is managed" }];
    }
    if (triggers !== undefined && active === undefined) {
      return [{ property: "triggers", reason: "restart a unit that is to run: set active: true" }];
    }
    return Object.entries({ enabled, active }).flatMap(([property, wanted]) =>
      masked === true && wanted === true
        ? [{ property, reason: "must not be true with masked: true, with which nothing can start the unit" }]
        : [],
    );
  },

  nameOf: ({ unit }) => `Unit "${unit}"`,
  idOf: ({ unit }) => unit,
  replacementLoss: (_state, what) => `${what} stays as it is and is no longer managed; the other one is managed instead`,

  async refuse(machine, inputs) {
    await prepareUnit(machine, inputs);
  },

  async observe(machine, state) {
    const live = await readUnit(machine, state.unit);
    return live && { inputs: fromMachine(live, state), outputs: outputsOf(live, state.restartPending) };
  },

  asKnown: ({ activeState, unitFileState, restartPending }) => ({
    inputs: {},
    outputs: { activeState, unitFileState, restartPending },
  }),

  async save({ machine, context, exists }, inputs, state) {
    const { deadline, progress } = context;
    const isRestart = inputs.active === true && state !== undefined && isRestartDue(inputs, state);
    const live = await ensureUnit(machine, inputs, {
      restart: isRestart,
      deadline,
      progress,
      // An unfinished update keeps the new triggers in state, so that they no longer differ.
      found: (found) => exists(outputsOf(found, isRestart)),
    });
    return outputsOf(live, false);
  },
});

function isRestartDue(inputs: Inputs, state: State): boolean {
  return state.restartPending || !sameJson(state.triggers, inputs.triggers);
}

function outputsOf({ activeState, unitFileState }: LiveUnit, restartPending: boolean): Outputs {
  return { activeState, unitFileState, restartPending };
}

function fromMachine(live: LiveUnit, { active }: State): Partial<Inputs> {
  return {
    enabled: isEnabled(live),
    // A unit that is on its way is not yet as wanted, whichever is wanted.
    active: active === false ? !isAsWanted(live, false) : isAsWanted(live, true),
    masked: isMasked(live),
  };
}

abstract class Service extends LxdResource {
  /** Name of the unit in full: `nginx.service`. */
  declare readonly unit: Output<string>;
  /** Whether the machine starts it at boot, if the program says so. */
  declare readonly enabled: Output<boolean | undefined>;
  /** Whether it runs, if the program says so. */
  declare readonly active: Output<boolean | undefined>;
  /** Whether nothing can start it, if the program says so. */
  declare readonly masked: Output<boolean | undefined>;
  /** Its state in the init system's words: `active`, `inactive`, `failed`. */
  declare readonly activeState: Output<string>;
  /** The state of its file in the init system's words: `enabled`, `disabled`, `static`. */
  declare readonly unitFileState: Output<string>;

  protected constructor(kind: string, name: string, args: ServiceArgs, opts: CustomResourceOptions | undefined) {
    super(kind, name, { ...args }, ["activeState", "unitFileState", "restartPending"], opts);
  }
}

/**
 * A service in a virtual machine or container. The removal of the resource leaves the service as it is: set `active: false` first to
 * stop it.
 *
 * @example
 * ```typescript
 * new VmService("web1-cron", {
 *   cluster,
 *   instance: web1.name,
 *   unit: "cron",
 *   enabled: true,
 *   active: true,
 * }, { deletedWith: web1 });
 * ```
 */
export class VmService extends Service {
  /** Name of the instance. */
  declare readonly instance: Output<string>;
  /** Project of the instance. */
  declare readonly project: Output<string>;

  constructor(name: string, args: VmServiceArgs, opts?: CustomResourceOptions) {
    super("VmService", name, args, opts);
  }
}

/**
 * A service on a host. The removal of the resource leaves the service as it is: set `active: false` first to stop it.
 *
 * @example
 * ```typescript
 * const connection = { host: "192.168.1.102" };
 * const content = "PasswordAuthentication no\n";
 * const file = new HostFile("bcn2-sshd", { connection, path: "/etc/ssh/sshd_config.d/keys.conf", content });
 * new HostService("bcn2-ssh", { connection, unit: "ssh", active: true, triggers: [content] }, { dependsOn: file });
 * ```
 */
export class HostService extends Service {
  constructor(name: string, args: HostServiceArgs, opts?: CustomResourceOptions) {
    super("HostService", name, args, opts);
  }
}

/** The two ways to a machine: `Vm*` resources reach a guest through LXD, `Host*` resources reach a host over SSH. */
import type * as z from "zod";
import { inCluster, onHost } from "../engine/connection-inputs";
import type { Context } from "../engine/lifecycle";
import { type FoundInstance, isRunning, setInstanceConfig } from "../lxd/instances/instances";
import { findInstanceShared } from "../lxd/instances/shared-reads";
import { instanceNameSchema, projectSchema } from "../lxd/names";
import { isReached, retryThroughAgentRestart } from "../machine/agent-restarts";
import { guestOf } from "../machine/guest";
import { hostMachine } from "../machine/host";
import { enterInstance, type InsideWork, withGuestLock } from "../machine/instance";
import type { Machine } from "../machine/machine";
import { configKeyOf, readHostMark, writeHostMark } from "../machine/marks";
import { hasCode, RefusedError } from "../support/errors";
import { KeyedLock, withLock } from "../support/keyed-lock";

const inInstance = { ...inCluster, instance: instanceNameSchema, project: projectSchema };

/** Properties that say which guest. */
export type InInstance = z.output<z.ZodObject<typeof inInstance>>;

/** Properties that say which host. */
export type OnHost = z.output<z.ZodObject<typeof onHost>>;

/** A machine, with the mark of one object on it. */
export interface Inside {
  /** The machine itself. */
  readonly machine: Machine;
  /** Where the machine is reached, for messages: `root@bcn2:22`. */
  readonly host: string;
  /** The object's mark, if it has one. */
  readonly mark: string | undefined;
  /** Writes the object's mark; the empty text removes it. */
  readonly setMark: (text: string) => Promise<void>;
}

/** What a refresh finds: nothing, because the machine is gone; nothing to know, because it does not run; or what `look` returned. */
export type Seen<Value> = "gone" | "unknown" | ({ readonly value: Value } & Pick<Inside, "host" | "mark">);

/** What a kind needs of its machine in order to read: files can be read in a stopped container, too. */
export type Needs = "files" | "commands";

/** One object on a machine, for messages and for its mark. */
interface Subject {
  /** What is done, for messages: `Setting up user "alice"`. */
  readonly doing: string;
  /** Name of the object's mark; absent for a kind that owns nothing. */
  readonly mark: string | undefined;
}

/** A way to a machine. */
export interface Access<Where extends object> {
  /** Beginning of the names of the kinds. */
  readonly prefix: "Vm" | "Host";
  /** Schemas of the properties that say which machine. */
  readonly shape: z.core.$ZodLooseShape;
  /** Those of them that say another machine when they change. */
  readonly immutable: readonly (keyof Where & string)[];
  /** `instance "web1"`, `host 192.168.1.102`. */
  titleOf(where: Where): string;
  /** Id of an object on the machine. */
  idOf(where: Where, object: string): string;
  /**
   * Runs work on a machine, while no other work of this process changes it.
   * @throws RefusedError when the machine does not exist or does not run.
   */
  setUp<Result>(context: Context, where: Where, subject: Subject, work: (inside: Inside) => Promise<Result>): Promise<Result>;
  /** As {@link setUp}. Does nothing when the machine is gone, and all that was on it. */
  remove(context: Context, where: Where, subject: Subject, work: (inside: Inside) => Promise<void>): Promise<void>;
  /** Reads. Never waits for a machine that does not run. */
  look<Value>(
    context: Context,
    where: Where,
    options: Omit<Subject, "doing"> & { readonly needs: Needs; readonly what: string },
    look: (machine: Machine) => Promise<Value>,
  ): Promise<Seen<Value>>;
  /** Writes the context's mark and nothing else. @param check - Throws when the mark that is there must stay. */
  writeMark(
    context: Context,
    where: Where,
    mark: string,
    check: (found: string | undefined, host: string) => void,
  ): Promise<void>;
}

async function insideWork(context: Context, { cluster, project, instance }: InInstance): Promise<InsideWork> {
  const { deadline, progress } = context;
  return { lxd: await context.lxd(cluster), project, name: instance, deadline, progress };
}

/** Guests. */
export const IN_INSTANCE: Access<InInstance> & { readonly shape: typeof inInstance } = {
  prefix: "Vm",
  shape: inInstance,
  immutable: ["instance", "project"],
  titleOf: ({ instance }) => `instance "${instance}"`,
  idOf: ({ project, instance }, object) => `${project}/${instance}/${object.replace(/^\//, "")}`,

  async setUp(context, where, subject, work) {
    const at = await insideWork(context, where);
    const cure = `Start it (running: true of its LxdVm, or ${at.lxd.names.client} start), then run pulumi up again`;
    return withGuestLock(at, async () => {
      const inside = await enter(at, subject, cure);
      if (inside === undefined) {
        throw new RefusedError(
          `${subject.doing} is not possible: ${at.lxd.title} has no instance "${at.name}" in project "${at.project}". Create it first, and let ` +
            "this resource depend on it (instance: vm.name)",
        );
      }
      return work(inside);
    });
  },

  async remove(context, where, subject, work) {
    const at = await insideWork(context, where);
    const cure =
      "Start it and try again. If the instance itself is to be removed, set the resource option deletedWith of what is in it to it";
    await withGuestLock(at, async () => {
      const inside = await enter(at, subject, cure);
      await (inside && work(inside));
    });
  },

  async look(context, where, { needs, mark, what }, look) {
    const at = await insideWork(context, where);
    const instance = await findInstanceShared(at);
    if (instance === undefined) {
      return "gone";
    }
    // The files of a stopped virtual machine cannot be read. What is in it still exists, and one stopped instance must not fail
    // every refresh: state keeps the last known values until the instance runs.
    if (!isRunning(instance) && (needs === "commands" || instance.type === "virtual-machine")) {
      return "unknown";
    }
    try {
      const value = await retryThroughAgentRestart(at, () => look(guestOf(at)), { waitForAgent: false });
      return { value, host: at.lxd.host, mark: mark && instance.config[configKeyOf(mark)] };
    } catch (error) {
      const isOther = hasCode(error, "refused") || hasCode(error, "timeout");
      if (isOther || instance.type !== "virtual-machine" || (await isReached(at))) {
        throw error;
      }
      context.warn(`The agent in instance "${at.name}" does not answer. State keeps the last known values of ${what}`);
      return "unknown";
    }
  },

  async writeMark(context, where, mark, check) {
    const at = await insideWork(context, where);
    const key = configKeyOf(mark);
    await withGuestLock(at, () =>
      setInstanceConfig(at, { [key]: context.mark }, ({ config }) => check(config[key], at.lxd.host)),
    );
  },
};

/** Enters a guest. @param cure - What to do when the instance does not run. */
async function enter(at: InsideWork, { doing, mark }: Subject, cure: string): Promise<Inside | undefined> {
  const entered = await enterInstance(at, doing, cure);
  if (entered === undefined) {
    return undefined;
  }
  let found: FoundInstance | undefined = entered.found;
  return {
    machine: entered.machine,
    host: at.lxd.host,
    mark: mark && found.value.config[configKeyOf(mark)],
    async setMark(text) {
      const former = found;
      found = undefined; // its ETag is no longer valid
      await (mark && setInstanceConfig(at, { [configKeyOf(mark)]: text }, undefined, former));
    },
  };
}

const hostLock = new KeyedLock();

/** Hosts. */
export const ON_HOST: Access<OnHost> & { readonly shape: typeof onHost } = {
  prefix: "Host",
  shape: onHost,
  immutable: [],
  titleOf: ({ connection }) => `host ${connection.host}`,
  idOf: ({ connection }, object) => `${connection.host}/${object.replace(/^\//, "")}`,

  setUp: (context, where, { mark }, work) => onHostAlone(context, where, mark, work),
  remove: (context, where, { mark }, work) => onHostAlone(context, where, mark, work),

  async look(context, { connection }, { mark }, look) {
    const machine = hostMachine(await context.host(connection), context.deadline);
    const [value, found] = await Promise.all([look(machine), mark && readHostMark(machine, mark)]);
    return { value, host: machine.name, mark: found };
  },

  writeMark: (context, where, name, check) =>
    onHostAlone(context, where, name, async ({ mark, host, setMark }) => {
      check(mark, host);
      await setMark(context.mark);
    }),
};

/** Programs that change users or packages lock each other out, so changes of one host run one after the other. */
async function onHostAlone<Result>(
  context: Context,
  { connection }: OnHost,
  mark: string | undefined,
  work: (inside: Inside) => Promise<Result>,
): Promise<Result> {
  const ssh = await context.host(connection);
  const { deadline } = context;
  return withLock(hostLock, [ssh.name], deadline, `waiting for other work on ${ssh.name} to end`, async () => {
    const machine = hostMachine(ssh, deadline);
    return work({
      machine,
      host: machine.name,
      mark: mark && (await readHostMark(machine, mark)),
      async setMark(text) {
        await (mark && writeHostMark(machine, mark, text));
      },
    });
  });
}

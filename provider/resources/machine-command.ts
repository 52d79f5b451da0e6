/**
 * A command that is run in an instance or on a host, once and again when something that it depends on changes.
 * @see timeout(1)
 */
import type { CustomResourceOptions, Input, Output } from "@pulumi/pulumi";
import * as z from "zod";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import { notCompared } from "../engine/state";
import { runCommand } from "../machine/commands";
import type { Machine, RunOptions } from "../machine/machine";
import { sameJson } from "../support/equality";
import { FailedError, hasCode, messageOf } from "../support/errors";
import type { InInstanceArgs, OnHostArgs } from "./common-args";
import { argvSchema, filePathSchema, noNul } from "./machine-args";
import { machineLifecycles } from "./machine-object";

const commandShape = {
  command: argvSchema,
  unless: argvSchema.optional(),
  creates: filePathSchema.optional(),
  onDelete: argvSchema.optional(),
  environment: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, "is not the name of a variable"), noNul).default({}),
  stdin: z.string().optional(),
  triggers: z.array(z.unknown()).default([]),
};

/** What {@link VmCommandArgs} and {@link HostCommandArgs} have in common. */
export interface CommandArgs {
  /**
   * Program and arguments. No shell interprets them; for one, give `["sh", "-c", "..."]`. It is run when the resource is created, and
   * again when `command`, `environment`, `stdin` or `triggers` change, or what it `creates` is gone. Never in a preview.
   */
  command: Input<Input<string>[]>;
  /** Program and arguments. The command is not run while this one ends with exit code 0. @default none */
  unless?: Input<Input<string>[]>;
  /** Absolute path of a file or directory that the command makes. While it exists, the command is not run. @default none */
  creates?: Input<string>;
  /** Program and arguments to run when the resource is removed, with the same environment. @default nothing is run */
  onDelete?: Input<Input<string>[]>;
  /** Variables. State keeps them as secrets. @default {} */
  environment?: Input<Record<string, Input<string>>>;
  /** Standard input. State keeps it as a secret. @default none */
  stdin?: Input<string>;
  /** Values of which a change runs the command again, such as the content of a file. @default [] */
  triggers?: Input<unknown[]>;
  /**
   * Time limits in seconds, for each call; the command is stopped at its end.
   * @default 600 for create and update, 300 for delete, 60 for read
   */
  timeouts?: Input<TimeoutArgs>;
}

/** Arguments of {@link VmCommand}. */
export interface VmCommandArgs extends InInstanceArgs, CommandArgs {}

/** Arguments of {@link HostCommand}. */
export interface HostCommandArgs extends OnHostArgs, CommandArgs {}

type Inputs = z.output<z.ZodObject<typeof commandShape>>;

interface Outputs {
  /** End of the standard output of the last run. */
  stdout: string;
  stderr: string;
  /** Whether the command has run to its end, or need not run. */
  isDone: boolean;
}

type State = Inputs & Outputs;

/** Inputs that say what is run. A change of another one runs nothing. */
const WHAT_IS_RUN = ["command", "environment", "stdin", "triggers"] as const;

/** Most characters of an output that state keeps. */
const MOST_OUTPUT = 16 * 1024;

/** See {@link VmCommand} and {@link HostCommand}. @internal */
export const { vm: vmCommandLifecycle, host: hostCommandLifecycle } = machineLifecycles<Inputs, Outputs>({
  kind: "Command",
  schemaVersion: 1,
  shape: commandShape,
  immutable: [],
  needs: "files",
  timeouts: { create: 600, read: 60, update: 600, delete: 300 },

  sameBy: {
    command: (observed, wanted, { isDone }) => isDone && sameJson(observed, wanted),
    unless: notCompared,
  },

  nameOf: ({ command }) => `Command "${command[0] ?? ""}"`,
  idOf: (_inputs, resource) => resource,
  replacementLoss: ({ onDelete }, what) =>
    `${what} will be run on the other machine. ${onDelete === undefined ? "What it did here stays" : "Here, onDelete is run first; what it leaves stays"}`,

  async observe(machine, state) {
    const isDone = state.isDone && !(await isMissing(machine, state));
    return { inputs: {}, outputs: { ...outputsOf(state), isDone } };
  },

  asKnown: (state) => (Object.hasOwn(state, "isDone") ? { inputs: {}, outputs: outputsOf(state) } : undefined),

  async save({ machine, context, exists }, inputs, state) {
    const before = state === undefined ? { stdout: "", stderr: "", isDone: false } : outputsOf(state);
    const isSame = state !== undefined && WHAT_IS_RUN.every((name) => sameJson(state[name], inputs[name]));
    if (before.isDone && isSame && !(await isMissing(machine, inputs))) {
      return before;
    }
    exists({ ...before, isDone: false });
    if (await isNeedless(machine, inputs)) {
      return { ...before, isDone: true };
    }
    context.progress(`running ${inputs.command[0] ?? ""}`);
    const { stdout, stderr } = await runOnce(machine, inputs, () =>
      runCommand(machine, "The command", inputs.command, context.deadline, surroundingsOf(inputs)),
    );
    return { stdout: bounded(stdout), stderr: bounded(stderr), isDone: true };
  },

  leavesAll: ({ onDelete }) => onDelete === undefined,

  async remove({ machine, context }, state) {
    const { onDelete } = state;
    if (onDelete !== undefined) {
      context.progress(`running ${onDelete[0] ?? ""}`);
      await runCommand(machine, "onDelete", onDelete, context.deadline, environmentOf(state));
    }
  },
});

async function isMissing(machine: Machine, { creates }: Pick<Inputs, "creates">): Promise<boolean> {
  return creates !== undefined && (await machine.digestFile(creates)) === undefined;
}

async function isNeedless(machine: Machine, inputs: Inputs): Promise<boolean> {
  const { creates, unless } = inputs;
  if (creates !== undefined && !(await isMissing(machine, inputs))) {
    return true;
  }
  return (
    unless !== undefined &&
    (await machine.run(unless, { ...environmentOf(inputs), allowFailure: true, output: "none" })).exitCode === 0
  );
}

/**
 * Runs work that must not be repeated unseen. Whether it was begun is unknown after any failure but that of the command itself.
 * @throws FailedError, which nothing repeats, for a failure of the way to the machine.
 */
async function runOnce<Result>(machine: Machine, { command }: Inputs, work: () => Promise<Result>): Promise<Result> {
  await machine.digestFile("/"); // a machine that cannot be reached yet is waited for before, and not after
  try {
    return await work();
  } catch (error) {
    if (hasCode(error, "command") || hasCode(error, "failed")) {
      throw error;
    }
    throw new FailedError(
      `It is not known whether ${command[0] ?? ""} has run ${machine.place}: ${messageOf(error)}. The next pulumi up runs it again, unless ` +
        "creates or unless show that it has",
      { cause: error },
    );
  }
}

type Surroundings = Pick<RunOptions, "environment" | "stdin">;

function environmentOf({ environment }: Inputs): Surroundings {
  return Object.keys(environment).length === 0 ? {} : { environment };
}

function surroundingsOf(inputs: Inputs): Surroundings {
  const { stdin } = inputs;
  return { ...environmentOf(inputs), ...(stdin !== undefined && { stdin }) };
}

/** The end of an output. */
function bounded(text: string): string {
  const left = text.length - MOST_OUTPUT;
  return left <= 0 ? text : `(${left} characters are left out)\n${text.slice(left)}`;
}

function outputsOf({ stdout, stderr, isDone }: State): Outputs {
  return { stdout, stderr, isDone };
}

abstract class Command extends LxdResource {
  /** End of the standard output of the last run: up to 16,384 characters. A secret if there is an environment or a standard input. */
  declare readonly stdout: Output<string>;
  /** End of the standard error of the last run, as `stdout`. */
  declare readonly stderr: Output<string>;

  protected constructor(kind: string, name: string, args: CommandArgs, opts: CustomResourceOptions = {}) {
    const { environment, stdin } = args;
    const secret = environment === undefined && stdin === undefined ? [] : ["stdout", "stderr"];
    const additionalSecretOutputs = [...(opts.additionalSecretOutputs ?? []), ...secret];
    super(kind, name, { ...args }, ["stdout", "stderr", "isDone"], { ...opts, additionalSecretOutputs });
  }
}

/**
 * A command in a virtual machine or container.
 *
 * @example
 * ```typescript
 * new VmCommand("web1-trust", {
 *   cluster,
 *   instance: web1.name,
 *   command: ["update-ca-certificates"],
 *   triggers: [ciCertificate],
 * }, { deletedWith: web1 });
 * ```
 */
export class VmCommand extends Command {
  /** Name of the instance. */
  declare readonly instance: Output<string>;
  /** Project of the instance. */
  declare readonly project: Output<string>;

  constructor(name: string, args: VmCommandArgs, opts?: CustomResourceOptions) {
    super("VmCommand", name, args, opts);
  }
}

/**
 * A command on a host.
 *
 * @example
 * ```typescript
 * new HostCommand("bcn2-trust", {
 *   connection: { host: "192.168.1.102" },
 *   command: ["update-ca-certificates"],
 *   triggers: [ciCertificate],
 * });
 * ```
 */
export class HostCommand extends Command {
  constructor(name: string, args: HostCommandArgs, opts?: CustomResourceOptions) {
    super("HostCommand", name, args, opts);
  }
}

import * as z from "zod";
import { CommandError, hasCode, LostOperationError, OperationError, ResponseShapeError, tail } from "../../support/errors";
import type { CommandResult } from "../../transport/ssh";
import { api, type LxdClient, type Operation } from "../client/client";
import type { InstanceRef } from "./instance-lock";

export type { CommandResult };

export interface ExecRequest {
  /** Run without a shell. */
  readonly argv: readonly string[];
  /** Variables besides LXD's own PATH, HOME and USER. @default {} */
  readonly environment?: Readonly<Record<string, string>>;
  /** Numeric user and group to run as. @default root */
  readonly as?: { readonly uid: number; readonly gid: number };
  /** Whether to return a non-zero exit code instead of throwing. @default false */
  readonly allowFailure?: boolean;
  /** Whether to return its output, which costs four more requests. @default "text" */
  readonly output?: "text" | "none";
}

const endSchema = z.looseObject({
  /** The exit code. */
  return: z.number().optional(),
  /** URLs of its recorded output, by file descriptor. */
  output: z.record(z.string(), z.string()).nullish(),
});

/**
 * Runs a command in an instance and waits for its end. The command has no standard input: put what it reads into a file first.
 * LXD cannot cancel it, so a command that may hang must bring its own limit (`timeout 60 ...`).
 * @see https://documentation.ubuntu.com/lxd/latest/api/#/instances/instance_exec_post
 * @throws CommandError when it ends with a non-zero exit code (unless `allowFailure`); 127 means that the program does not exist.
 * LostOperationError when LXD no longer knows how it ended, which cannot be found out later. ApiError or OperationError when the
 * instance does not exist or does not run, or the agent of a virtual machine does not answer.
 */
export async function runInInstance({ lxd, project, name }: InstanceRef, request: ExecRequest): Promise<CommandResult> {
  const { argv, environment = {}, as } = request;
  const started = await lxd.begin("POST", api`/1.0/instances/${name}/exec`, {
    query: { project },
    body: {
      command: argv,
      environment,
      interactive: false,
      "wait-for-websocket": false,
      "record-output": request.output !== "none",
      ...(as === undefined ? {} : { user: as.uid, group: as.gid, cwd: "/" }),
    },
  });
  if (started === undefined) {
    throw new ResponseShapeError(`${lxd.title} answered a command in instance "${name}" without an operation`);
  }
  const { exitCode, failure, output } = await waitForEnd(lxd, started, `running ${argv[0]} in instance "${name}"`);
  try {
    if (exitCode === undefined) {
      throw failure;
    }
    const stdout = await readOutput(lxd, output["1"], project);
    const stderr = await readOutput(lxd, output["2"], project);
    if (exitCode !== 0 && request.allowFailure !== true) {
      throw new CommandError(`instance "${name}" (${lxd.title})`, argv[0] ?? "", exitCode, tail(stderr || stdout));
    }
    return { exitCode, stdout, stderr };
  } finally {
    // LXD keeps recorded output on the host until it is removed. A file that stays is not worth losing the result for. Only
    // records of this instance are removed, whatever URLs the answer contains.
    const records = Object.values(output).filter(
      (url) => url.startsWith(api`/1.0/instances/${name}/logs/`) && !url.includes(".."),
    );
    await Promise.allSettled(records.map((url) => lxd.remove(url, { project })));
  }
}

/** @returns `failure` says why there is no exit code. */
async function waitForEnd(
  lxd: LxdClient,
  started: Operation,
  what: string,
): Promise<{ exitCode: number | undefined; failure: unknown; output: Record<string, string> }> {
  let ended = started;
  let failure: unknown;
  try {
    ended = await lxd.finish(started, (operation) => {
      ended = operation;
    });
  } catch (error) {
    failure = hasCode(error, "lost") ? new LostOperationError(lxd.title, what, { cause: error }) : error;
  }
  const { return: code, output } = endSchema.safeParse(ended.metadata ?? {}).data ?? {};
  // For a program that cannot be started, LXD fails the operation, with the exit code 126 or 127.
  const exitCode = failure === undefined || hasCode(failure, "operation") ? code : undefined;
  if (exitCode === undefined && failure === undefined) {
    failure = new OperationError(lxd.title, started.description, "the server does not report the exit code of the command");
  }
  return { exitCode, failure, output: output ?? {} };
}

async function readOutput(lxd: LxdClient, url: string | undefined, project: string): Promise<string> {
  return url === undefined ? "" : (await lxd.getRaw(url, { project })).body.toString("utf8");
}

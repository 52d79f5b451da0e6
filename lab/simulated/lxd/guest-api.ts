/** Access to the inside of an instance: commands with recorded output, their logs, and SFTP. */
import type { Duplex } from "node:stream";
import { z } from "zod";
import { guestOf } from "../guest";
import { type ProgramResult, runProgram } from "../machine";
import { guestPrograms } from "../programs/guest";
import { reportIn, runReportIn, runStepsIn, stepsIn } from "../programs/steps";
import { limited, unwrap } from "../programs/wrappers";
import type { Instance } from "./database";
import { instanceOf } from "./instance-requests";
import { requireReachable } from "./instance-state";
import { LxdError, type Reply, sync } from "./reply";
import { type ApiRequest, decode, param, type Router } from "./router";
import { serveSftp } from "./sftp";

const execPost = z.object({
  command: z.array(z.string()).default([]),
  "wait-for-websocket": z.boolean().default(false),
  interactive: z.boolean().default(false),
  "record-output": z.boolean().default(false),
  environment: z.record(z.string(), z.string()).nullish(),
  user: z.number().default(0),
  group: z.number().default(0),
  cwd: z.string().default(""),
});

/** Adds exec, logs, SFTP and templates. */
export function addGuestApi(router: Router): void {
  router.add("/1.0/instances/{name}/exec", { POST: exec });
  router.add("/1.0/instances/{name}/logs", { GET: listLogs });
  router.add("/1.0/instances/{name}/logs/{file}", { GET: getLog, DELETE: deleteLog });
  router.add("/1.0/instances/{name}/logs/exec-output/{file}", { GET: getLog, DELETE: deleteLog });
  router.add("/1.0/instances/{name}/sftp", { GET: openSftp });
  router.add("/1.0/instances/{name}/metadata", { GET: getImageMetadata, PUT: putImageMetadata });
  router.add("/1.0/instances/{name}/metadata/templates", { POST: postTemplate });
}

function exec(request: ApiRequest): Reply {
  const body = decode(request, execPost);
  const instance = instanceOf(request);
  if (instance.status !== "Running") {
    throw new LxdError(400, instance.status === "Frozen" ? "Instance is frozen" : "Instance is not running");
  }
  if (body["wait-for-websocket"] || body.interactive) {
    throw new LxdError(400, "Commands over websockets are not simulated");
  }
  return runAsOperation(request, instance, body);
}

function runAsOperation(request: ApiRequest, instance: Instance, body: z.output<typeof execPost>): Reply {
  const { daemon } = instance.member;
  const url = `/1.0/instances/${instance.name}`;
  const operation = daemon.operate(
    {
      description: "Executing command",
      project: instance.project,
      resources:
        instance.type === "container"
          ? { containers: [url.replace("instances", "containers")], instances: [url] }
          : { instances: [url] },
    },
    async (running) => {
      requireReachable(instance);
      const result = await runInGuest(instance, body, request);
      const output: Record<string, string> = {};
      if (body["record-output"]) {
        const name = `exec_${running.id}`;
        for (const [index, stream, text] of [
          ["1", "stdout", result.stdout],
          ["2", "stderr", result.stderr],
        ] as const) {
          instance.execOutput.set(`${name}.${stream}`, Buffer.from(text));
          output[index] = `${url}/${daemon.behaviour.execOutputPath}/${name}.${stream}`;
        }
      }
      running.metadata = { return: result.exitCode, ...(body["record-output"] ? { output } : {}) };
      if (result.refusal !== undefined) {
        throw new LxdError(500, result.refusal);
      }
    },
  );
  return { kind: "async", operation, ...(daemon === request.daemon ? {} : { forwardedProject: instance.project }) };
}

/** Result of a command in a guest; `refusal` if LXD could not start it. */
type Ending = ProgramResult & { refusal?: string };

async function runInGuest(instance: Instance, body: z.output<typeof execPost>, request: ApiRequest): Promise<Ending> {
  const report = reportIn(body.command);
  if (report !== undefined) {
    return runReportIn(report, (command) => runOne(instance, body, request, command));
  }
  const steps = stepsIn(body.command);
  return steps === undefined
    ? runOne(instance, body, request, body.command)
    : runStepsIn(guestOf(instance).files, steps, (command, stdin) => runOne(instance, body, request, command, stdin));
}

async function runOne(
  instance: Instance,
  body: z.output<typeof execPost>,
  request: ApiRequest,
  command: string[],
  stdin = "/dev/null",
): Promise<Ending> {
  const wrapped = unwrap(command);
  if (wrapped !== undefined) {
    return limited(wrapped.seconds, runOne(instance, body, request, wrapped.command, wrapped.stdin ?? stdin));
  }
  const [program = "", ...args] = command;
  const effect = request.daemon.surroundings.faults.forGuestCommand(command);
  if (typeof effect === "object" && "status" in effect) {
    return { exitCode: effect.status, stdout: "", stderr: `${effect.error}\n` };
  }
  if (effect === "hang") {
    await new Promise<never>(() => undefined);
  }
  const guest = guestOf(instance);
  const env = { ...defaultEnvironment, ...body.environment };
  const user = { uid: body.user, gid: body.group };
  const input = async (): Promise<Buffer> => Buffer.from(stdin === "/dev/null" ? "" : guest.files.readText(stdin));
  const process = `/proc/${nextProcess++}`;
  guest.files.makeDirectory(process, { ...user, parents: true, mode: 0o555 });
  const result = await runProgram(guestPrograms, { machine: guest, program, args, env, user, stdin: input, process }).finally(
    () => {
      if (guest.files.exists(process)) {
        guest.files.remove(process, true);
      }
    },
  );
  if (result !== undefined) {
    return result;
  }
  if (guest.files.get(program)?.type === "file") {
    return { exitCode: 126, stdout: "", stderr: "", refusal: "Command not executable" };
  }
  request.daemon.surroundings.unknownGuestCommands.push(command);
  return { exitCode: 127, stdout: "", stderr: "", refusal: "Command not found" };
}

/** Id of the next process in a guest: each has a directory in its /proc while it runs. */
let nextProcess = 300;

/** Environment that LXD gives every command. */
const defaultEnvironment = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  container: "lxc",
  USER: "root",
  LANG: "C.UTF-8",
  HOME: "/root",
};

function listLogs(request: ApiRequest): Reply {
  const instance = instanceOf(request);
  return sync([...instance.execOutput.keys()].map((file) => `/1.0/instances/${instance.name}/logs/${file}`));
}

function getLog(request: ApiRequest): Reply {
  const instance = instanceOf(request);
  const body = instance.execOutput.get(param(request, "file"));
  if (body === undefined) {
    throw new LxdError(500, `open /var/log/lxd/${instance.name}/${param(request, "file")}: no such file or directory`);
  }
  return { kind: "raw", body, headers: { "content-type": "application/octet-stream" } };
}

function deleteLog(request: ApiRequest): Reply {
  if (!/^exec_/.test(param(request, "file"))) {
    throw new LxdError(400, `log file name ${param(request, "file")} not valid`);
  }
  const instance = instanceOf(request);
  if (!instance.execOutput.delete(param(request, "file"))) {
    throw new LxdError(404, `remove /var/log/lxd/${instance.name}/${param(request, "file")}: no such file or directory`);
  }
  return sync();
}

const imageMetadata = z.looseObject({ templates: z.record(z.string(), z.unknown()).nullish() });

/** The metadata of the image that an instance was made from, as the instance keeps it. */
function getImageMetadata(request: ApiRequest): Reply {
  const { architecture, templates } = instanceOf(request);
  return sync({ architecture, creation_date: 0, expiry_date: 0, properties: {}, templates: templates?.files ?? {} });
}

function putImageMetadata(request: ApiRequest): Reply {
  const instance = instanceOf(request);
  instance.templates = {
    files: decode(request, imageMetadata).templates ?? {},
    texts: instance.templates?.texts ?? new Map<string, string>(),
  };
  return sync();
}

function postTemplate(request: ApiRequest): Reply {
  const instance = instanceOf(request);
  const path = request.query.get("path") ?? "";
  if (path === "") {
    throw new LxdError(400, "missing path argument");
  }
  instance.templates ??= { files: {}, texts: new Map() };
  instance.templates.texts.set(path, request.body.toString("utf8"));
  return sync();
}

function openSftp(request: ApiRequest): Reply {
  if (request.headers.upgrade !== "sftp") {
    throw new LxdError(400, "Missing or invalid upgrade header");
  }
  const instance = instanceOf(request);
  requireReachable(instance);
  const { faults } = request.daemon.surroundings;
  const attach = (connection: Duplex): void =>
    serveSftp(connection, guestOf(instance).files, (act, path) => faults.forGuestFile(act, path));
  return { kind: "upgrade", protocol: "sftp", attach };
}

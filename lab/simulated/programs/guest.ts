/** The programs of a guest that are neither about files nor about accounts. */
import type { Guest } from "../guest";
import { failure, ok, type ProgramResult, type ProgramRun, type Programs, parseArguments, runProgram } from "../machine";
import { accountPrograms } from "./accounts";
import { filePrograms } from "./files";

/**
 * Runs a command in a guest; `undefined` when there is no such program. Of a shell only what replaces it by a program that reads
 * a file is known: `sh -c 'exec PROGRAM OPTIONS < "$1"' sh FILE`.
 */
export function runInShellOrDirectly(run: ProgramRun<Guest>): Promise<ProgramResult | undefined> {
  const [flag, script = "", , path = ""] = run.args;
  const redirected = /^exec ([\w-]+)((?: [\w-]+)*) < "\$1"$/.exec(script);
  if (!["sh", "/bin/sh"].includes(run.program) || flag !== "-c" || redirected === null) {
    return runProgram(guestPrograms, run);
  }
  const [, program = "", options = ""] = redirected;
  const stdin = async () => Buffer.from(run.machine.files.readText(path));
  return runProgram(guestPrograms, { ...run, program, args: options.split(" ").filter((word) => word !== ""), stdin });
}

/** Programs of a guest. */
const guestPrograms: Programs<Guest> = {
  ...(filePrograms as Programs<Guest>),
  ...accountPrograms,
  env: ({ env }) =>
    ok(
      Object.entries(env)
        .map(([key, value]) => `${key}=${value}\n`)
        .join(""),
    ),
  hostname: ({ machine }) => ok(`${machine.name}\n`),
  uname: () => ok("Linux\n"),
  which: ({ args }) => {
    const found = args.filter((program) => program in guestPrograms);
    return {
      exitCode: found.length === args.length ? 0 : 1,
      stdout: found.map((program) => `/usr/bin/${program}\n`).join(""),
      stderr: "",
    };
  },
  visudo: async ({ machine, args, stdin }) => {
    if (args[0] === "--version") {
      return ok("visudo version 1.9.13p3\nvisudo grammar version 50\n");
    }
    const { options } = parseArguments(args, { flags: ["-c", "--check", "-q", "--quiet"], valued: ["-f", "--file"] });
    const path = options.get("-f") ?? options.get("--file") ?? "/etc/sudoers";
    const text = path === "-" || path === "/dev/stdin" ? (await stdin()).toString() : machine.files.readText(path);
    const bad = text
      .split("\n")
      .findIndex(
        (line) => line !== "" && !/^(#|@|Defaults\b|[%\w.-]+ +\w+ *= *(\([\w:]+\))? *(NOPASSWD: *|PASSWD: *)?\S)/.test(line),
      );
    return bad < 0 ? ok(`${path}: parsed OK\n`) : failure(1, `${path}:${bad + 1}:1: syntax error`);
  },
  "cloud-init": ({ machine }) => {
    const source = machine.instance.foundByCloudInit ? "DataSourceLXD" : "DataSourceNone";
    return ok(`status: done\nboot_status_code: enabled-by-generator\ndetail:\n${source}\n`);
  },
  systemctl: ({ args }) => (args.includes("is-system-running") ? ok("running\n") : ok()),
  loginctl: () => ok(),
  pkill: () => failure(1, ""),
};

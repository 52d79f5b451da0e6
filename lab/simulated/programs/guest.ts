/** The programs of a guest that are neither about files nor about accounts. */
import type { Guest } from "../guest";
import { failure, ok, parseArguments, type Programs } from "../machine";
import { accountPrograms } from "./accounts";
import { filePrograms } from "./files";

/** Programs of a guest. */
export const guestPrograms: Programs<Guest> = {
  ...(filePrograms as Programs<Guest>),
  ...accountPrograms,
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
  "cloud-init": ({ args }) => {
    const json = args.includes("json");
    return ok(
      json
        ? '{"status": "done", "extended_status": "done", "errors": [], "boot_status_code": "enabled-by-generator"}\n'
        : "status: done\n",
    );
  },
  systemctl: ({ args }) => (args.includes("is-system-running") ? ok("running\n") : ok()),
  loginctl: () => ok(),
  pkill: () => failure(1, ""),
};

/** The programs that work on files, the same on hosts and in guests. */
import { createHash } from "node:crypto";
import { posix } from "node:path";
import { mountPoints } from "../../../provider/support/mountinfo";
import { failure, type Machine, ok, type ProgramResult, type ProgramRun, type Programs, parseArguments } from "../machine";
import { type FileNode, FileSystemError } from "../memory-files";
import { removeThroughMounts } from "./mounts";

type Run = ProgramRun<Machine>;

/** Interval at which a waiting program checks whether it was killed. */
const LOOK_MS = 100;

/** Exit code after SIGKILL: 128 plus the signal's number, as LXD reports it. */
const KILLED = 137;

/** Programs on files. */
export const filePrograms: Programs<Machine> = {
  true: () => ok(),
  false: () => failure(1, ""),
  cat: async ({ machine, args, stdin }) => {
    if (args.length === 0) {
      return ok((await stdin()).toString());
    }
    return overPaths("cat", args, (path) => machine.files.readText(path));
  },
  sleep: async ({ machine, args, process = "/proc/self" }) => {
    const end = performance.now() + Number(args[0]) * 1000;
    for (let left = end; left > 0; left = end - performance.now()) {
      // A forgotten one must not keep the process of the tests alive.
      await new Promise((resolve) => setTimeout(resolve, Math.min(left, LOOK_MS)).unref());
      if (!machine.files.exists(process)) {
        return failure(KILLED, "");
      }
    }
    return ok();
  },
  "update-ca-certificates": ({ machine: { files } }) => {
    const [from, to] = ["/usr/local/share/ca-certificates", "/etc/ssl/certs"];
    files.makeDirectory(to, { parents: true });
    const own = files.exists(from) ? files.list(from).map((name) => files.readText(`${from}/${name}`)) : [];
    files.writeFile(`${to}/ca-certificates.crt`, own.join(""));
    return ok();
  },
  printenv: ({ args, env }) => {
    const value = env[args[0] ?? ""];
    return value === undefined ? failure(1, "") : ok(`${value}\n`);
  },
  echo: ({ args }) => ok(`${args.join(" ")}\n`),
  test: ({ machine, args }) => ({ exitCode: evaluate(machine, args) ? 0 : 1, stdout: "", stderr: "" }),
  "[": ({ machine, args }) => ({ exitCode: evaluate(machine, args.slice(0, -1)) ? 0 : 1, stdout: "", stderr: "" }),
  stat: ({ machine, args }) => {
    const { options, operands } = parseArguments(args, { valued: ["-c", "--format", "--printf"], flags: ["-L"] });
    const format = options.get("-c") ?? options.get("--format") ?? "%n";
    return overPaths(
      "stat: cannot statx",
      operands,
      (path) => `${formatStat(format, path, requireNode(machine, path, options.has("-L")), machine)}\n`,
    );
  },
  ls: ({ machine, args }) => {
    const { operands } = parseArguments(args, { flags: ["-1", "-a", "-A"] });
    return overPaths(
      "ls: cannot access",
      operands,
      (path) => {
        const node = requireNode(machine, path, true);
        const names = node.type === "directory" ? machine.files.list(path) : [path];
        return names.map((name) => `${name}\n`).join("");
      },
      2,
    );
  },
  mkdir: ({ machine, args, user }) => {
    const { options, operands } = parseArguments(args, { flags: ["-p", "--parents"], valued: ["-m", "--mode"] });
    const mode = options.get("-m") ?? options.get("--mode");
    return overPaths("mkdir: cannot create directory", operands, (path) => {
      const parents = options.has("-p") || options.has("--parents");
      requireWritable(machine, posix.dirname(path), user);
      machine.files.makeDirectory(path, { parents, ...user, ...(mode === undefined ? {} : { mode: Number.parseInt(mode, 8) }) });
      return "";
    });
  },
  rm: ({ machine, args }) => {
    const { options, operands } = parseArguments(args, {
      flags: ["-r", "-R", "-f", "-d", "--recursive", "--force", "--one-file-system"],
    });
    const recursive = ["-r", "-R", "--recursive"].some((flag) => options.has(flag));
    const force = options.has("-f") || options.has("--force");
    return overPaths("rm: cannot remove", operands, (path) => {
      if (machine.files.get(path, false) === undefined && force) {
        return "";
      }
      if (machine.files.get(path, false)?.type === "directory" && !recursive && !options.has("-d")) {
        throw new FileSystemError("Is a directory");
      }
      if (recursive) {
        removeThroughMounts(machine, path);
      } else {
        machine.files.remove(path);
      }
      return "";
    });
  },
  realpath: ({ machine, args }) => {
    const { options, operands } = parseArguments(args, { flags: ["--canonicalize-missing", "--zero"] });
    const [path = ""] = operands;
    const node = machine.files.get(path, false);
    const real = node?.type === "symlink" ? posix.resolve(posix.dirname(path), node.content.toString()) : posix.resolve(path);
    return ok(`${real}${options.has("--zero") ? "\0" : "\n"}`);
  },
  rmdir: ({ machine, args }) =>
    overPaths("rmdir: failed to remove", args, (path) => {
      machine.files.remove(path);
      return "";
    }),
  mv: ({ machine, args, user }) => {
    const { options, operands } = parseArguments(args, { flags: ["-f", "-n", "-T", "--no-target-directory"] });
    const [from = "", to = ""] = operands;
    requireWritable(machine, posix.dirname(from), user);
    requireWritable(machine, posix.dirname(to), user);
    const target = machine.files.get(to, false);
    if (options.has("-T") && target?.type === "directory") {
      if (machine.files.get(from, false)?.type !== "directory") {
        return failure(1, `mv: cannot overwrite directory '${to}' with non-directory '${from}'`);
      }
      if (machine.files.list(to).length > 0) {
        return failure(1, `mv: cannot move '${from}' to '${to}': Directory not empty`);
      }
      machine.files.remove(to);
    }
    if (posix.normalize(to).startsWith(`${posix.normalize(from)}/`)) {
      return failure(1, `mv: cannot move '${from}' to a subdirectory of itself, '${to}'`);
    }
    machine.files.rename(from, to);
    return ok();
  },
  cp: ({ machine, args }) => {
    const { operands } = parseArguments(args, { flags: ["-a", "-p", "-f"] });
    const [from = "", to = ""] = operands;
    const node = requireNode(machine, from, true);
    machine.files.writeFile(to, node.content, node);
    return ok();
  },
  ln: ({ machine, args }) => {
    const { operands } = parseArguments(args, { flags: ["-s", "-f", "-n"] });
    const [target = "", path = ""] = operands;
    machine.files.makeSymlink(path, target);
    return ok();
  },
  touch: ({ machine, args, user }) =>
    overPaths("touch: cannot touch", args, (path) => {
      if (!machine.files.exists(path)) {
        machine.files.writeFile(path, "", user);
      }
      return "";
    }),
  dd: async ({ machine, args, stdin }) => {
    const [path = ""] = args.filter((word) => word.startsWith("of=")).map((word) => word.slice(3));
    machine.files.writeFile(path, await stdin());
    return ok();
  },
  tee: async ({ machine, args, stdin }) => {
    const { options, operands } = parseArguments(args, { flags: ["-a"] });
    const text = (await stdin()).toString();
    for (const path of operands) {
      machine.files.writeFile(path, options.has("-a") && machine.files.exists(path) ? machine.files.readText(path) + text : text);
    }
    return ok(text);
  },
  chmod: ({ machine, args, user }) => {
    const { options, operands } = parseArguments(args, { flags: ["-R"], valued: ["--reference"] });
    const model = options.get("--reference");
    const [mode = "", ...paths] =
      model === undefined ? operands : [requireNode(machine, model, true).mode.toString(8), ...operands];
    return overPaths("chmod: cannot access", paths, (path) => {
      const node = requireNode(machine, path, true);
      if (user !== undefined && user.uid !== 0 && node.uid !== user.uid) {
        throw new FileSystemError("Operation not permitted");
      }
      node.mode = Number.parseInt(mode, 8);
      return "";
    });
  },
  chown: ({ machine, args }) => {
    const { options, operands } = parseArguments(args, {
      flags: ["-R", "--recursive", "-h", "--no-dereference"],
      valued: ["--reference"],
    });
    const model = options.get("--reference");
    const like = model === undefined ? undefined : requireNode(machine, model, true);
    const [owner = "", ...paths] = like === undefined ? operands : [`${like.uid}:${like.gid}`, ...operands];
    return overPaths("chown: cannot access", paths, (path) => {
      const follow = !options.has("-h") && !options.has("--no-dereference");
      requireNode(machine, path, follow);
      const recursive = options.has("-R") || options.has("--recursive");
      for (const each of recursive ? machine.files.tree(path) : [path]) {
        setOwner(machine, requireNode(machine, each, follow), owner);
      }
      return "";
    });
  },
  install: installProgram,
  sha256sum: ({ machine, args }) =>
    overPaths(
      "sha256sum",
      args,
      (path) =>
        `${createHash("sha256")
          .update(requireNode(machine, path, true).content)
          .digest("hex")}  ${path}\n`,
    ),
  find: findProgram,
};

async function installProgram({ machine, args, stdin, user }: Run): Promise<ProgramResult> {
  const { options, operands } = parseArguments(args, {
    flags: ["-d", "-D", "-T", "--directory", "--no-target-directory"],
    valued: ["-m", "--mode", "-o", "--owner", "-g", "--group"],
  });
  const mode = Number.parseInt(options.get("-m") ?? options.get("--mode") ?? "755", 8);
  const group = options.get("-g") ?? options.get("--group");
  const owner = `${options.get("-o") ?? options.get("--owner") ?? ""}${group === undefined ? "" : `:${group}`}`;
  const directory = options.has("-d") || options.has("--directory");
  const targets = directory ? operands : operands.slice(-1);
  for (const path of targets) {
    requireWritable(machine, posix.dirname(path), user);
    if (directory) {
      machine.files.makeDirectory(path, { parents: true });
    } else {
      const from = operands[0] ?? "";
      const content =
        from === "/dev/stdin" ? await stdin() : from === "/dev/null" ? "" : requireNode(machine, from, true).content;
      if (machine.files.exists(path)) {
        machine.files.remove(path);
      }
      machine.files.writeFile(path, content);
    }
    const node = requireNode(machine, path, true);
    node.mode = mode;
    node.uid = user?.uid ?? 0;
    node.gid = user?.gid ?? 0;
    setOwner(machine, node, owner);
  }
  return ok();
}

/**
 * Supports what clears a directory, `find DIR [-xdev] [-mindepth 1] -delete`, and plain listing, also of several
 * directories and to a depth.
 */
function findProgram({ machine, args }: Run): ProgramResult {
  const [directory = "", ...rest] = args;
  const owner = rest.includes("-user") ? Number(rest[rest.indexOf("-user") + 1]) : undefined;
  const isOwners = (path: string): boolean => owner === undefined || machine.files.get(path, false)?.uid === owner;
  const [action, ...actionArgs] = rest.includes("-exec") ? rest.slice(rest.indexOf("-exec") + 1) : [];
  if (action === "chown") {
    const [noDereference, to = "", ...end] = actionArgs;
    if (noDereference !== "-h" || end.join(" ") !== "{} +" || !rest.includes("-xdev")) {
      return failure(127, `find: not simulated: ${rest.join(" ")}`);
    }
    return overPaths("find:", [directory], (top) => {
      requireNode(machine, top, false);
      const found = machine.files.tree(top).filter(isOwners);
      found.forEach((path) => setOwner(machine, requireNode(machine, path, false), to));
      return "";
    });
  }
  const depth = Number(rest[rest.indexOf("-maxdepth") + 1]);
  if (rest.includes("-maxdepth")) {
    return overPaths(
      "find:",
      args.filter((word) => word.startsWith("/")),
      (top) => {
        requireNode(machine, top, true);
        const start = machine.files.get(top, false);
        // A link is not followed, unless it is the start and -H is given.
        const real =
          start?.type === "symlink" && args[0] === "-H" ? posix.resolve(posix.dirname(top), start.content.toString()) : top;
        return machine.files
          .tree(real)
          .slice(1)
          .filter((path) => path.slice(real.length + 1).split("/").length <= depth)
          .filter((path) => !rest.includes("-name") || posix.basename(path) === rest[rest.indexOf("-name") + 1])
          .filter(isOwners)
          .filter((path) => !rest.includes("-type") || machine.files.get(path, false)?.type === "directory")
          .map((path) => {
            const format = rest.includes("-printf") ? rest[rest.indexOf("-printf") + 1] : "%p\\n";
            const values: Readonly<Record<string, string>> = {
              "%l": machine.files.get(path, false)?.content.toString() ?? "",
              "%f\\n": `${posix.basename(path)}\n`,
            };
            return values[format ?? ""] ?? `${top}${path.slice(real.length)}\n`;
          })
          .join("");
      },
    );
  }
  const rules = rest.join(" ").replace("-xdev", "").replace("-mindepth 1", "").trim();
  if (!machine.files.exists(directory)) {
    return failure(1, `find: '${directory}': No such file or directory`);
  }
  const below = machine.files.list(directory).map((name) => posix.join(directory, name));
  if (rules === "-delete") {
    return overPaths("find: cannot delete", below, (path) => {
      removeThroughMounts(machine, path);
      return "";
    });
  }
  if (rules === "") {
    return ok(
      machine.files
        .tree(directory)
        .slice(1)
        .map((path) => `${path}\n`)
        .join(""),
    );
  }
  return failure(127, `find: not simulated: ${rules}`);
}

/** Refuses a user other than root that does not own a directory. Unix checks more; this is enough here. */
function requireWritable(machine: Machine, directory: string, user: Run["user"]): void {
  const node = machine.files.get(directory);
  if (user === undefined || user.uid === 0 || node === undefined) {
    return;
  }
  if (node.uid !== user.uid && (node.mode & 0o002) === 0) {
    throw new FileSystemError("Permission denied");
  }
}

function overPaths(message: string, paths: string[], act: (path: string) => string, exitCode = 1): ProgramResult {
  let stdout = "";
  let stderr = "";
  for (const path of paths) {
    try {
      stdout += act(path);
    } catch (error) {
      if (!(error instanceof FileSystemError)) {
        throw error;
      }
      stderr += message === "cat" ? `cat: ${path}: ${error.message}\n` : `${message} '${path}': ${error.message}\n`;
    }
  }
  return { exitCode: stderr === "" ? 0 : exitCode, stdout, stderr };
}

function requireNode(machine: Machine, path: string, follow: boolean): FileNode {
  const node = machine.files.get(path, follow);
  if (node === undefined) {
    throw new FileSystemError("No such file or directory");
  }
  return node;
}

function evaluate(machine: Machine, args: string[]): boolean {
  if (args[0] === "!") {
    return !evaluate(machine, args.slice(1));
  }
  if (args.length === 1) {
    return args[0] !== "";
  }
  const [first = "", second = "", third = ""] = args;
  if (args.length === 3) {
    return second === "=" ? first === third : first !== third;
  }
  const node = machine.files.get(second, first !== "-L" && first !== "-h");
  switch (first) {
    case "-e":
      return node !== undefined;
    case "-f":
      return node?.type === "file";
    case "-d":
      return node?.type === "directory";
    case "-L":
    case "-h":
      return node?.type === "symlink";
    case "-s":
      return (node?.content.length ?? 0) > 0;
    case "-S":
      return machine.isSocket?.(second) ?? false;
    case "-x":
    case "-r":
    case "-w":
      return node !== undefined;
    case "-n":
      return second !== "";
    case "-z":
      return second === "";
    default:
      return false;
  }
}

function formatStat(format: string, path: string, node: FileNode, machine: Machine): string {
  const kinds = { file: "regular file", directory: "directory", symlink: "symbolic link" };
  const values: Record<string, string> = {
    a: node.mode.toString(8),
    u: String(node.uid),
    g: String(node.gid),
    U: nameOf(machine, "/etc/passwd", node.uid),
    G: nameOf(machine, "/etc/group", node.gid),
    s: String(node.content.length),
    F: kinds[node.type],
    d: String(deviceOf(machine, path)),
    n: path,
    Y: String(Math.floor(node.modified.getTime() / 1000)),
  };
  return format.replace(/%([a-zA-Z])/g, (whole, letter: string) => values[letter] ?? whole);
}

/** Each mount in the kernel's list has its own device. */
function deviceOf(machine: Machine, path: string): number {
  const list = "/proc/self/mountinfo";
  const targets = machine.files.exists(list) ? mountPoints(machine.files.readText(list), "the simulated host") : [];
  const longest = targets
    .filter((target) => target === "/" || target === path || path.startsWith(`${target}/`))
    .sort((one, other) => other.length - one.length)[0];
  return 40 + targets.indexOf(longest ?? "/");
}

function nameOf(machine: Machine, database: string, id: number): string {
  const lines = machine.files.exists(database) ? machine.files.readText(database).split("\n") : [];
  return lines.map((line) => line.split(":")).find((fields) => fields[2] === String(id))?.[0] ?? "UNKNOWN";
}

/** The number of a user or group given by name or number. */
function idOf(machine: Machine, database: "/etc/passwd" | "/etc/group", name: string, column = 2): number {
  if (/^\d+$/.test(name)) {
    return Number(name);
  }
  const lines = machine.files.exists(database) ? machine.files.readText(database).split("\n") : [];
  const fields = lines.map((line) => line.split(":")).find(([each]) => each === name);
  const id = fields?.[column];
  if (id === undefined) {
    throw new FileSystemError(`invalid ${database === "/etc/passwd" ? "user" : "group"}: '${name}'`);
  }
  return Number(id);
}

function setOwner(machine: Machine, node: FileNode, owner: string): void {
  const [user = "", group] = owner.split(":");
  if (user !== "") {
    node.uid = idOf(machine, "/etc/passwd", user);
  }
  if (group === "" && user !== "" && owner.includes(":")) {
    node.gid = idOf(machine, "/etc/passwd", user, 3);
  } else if (group !== undefined && group !== "") {
    node.gid = idOf(machine, "/etc/group", group);
  }
}

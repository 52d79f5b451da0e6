/** The programs of a host that show and change mounts, and those that delete with or without crossing mounts. */
import { posix } from "node:path";
import { failure, type Machine, ok, type ProgramResult, type ProgramRun, parseArguments } from "../machine";
import { FileSystemError } from "../memory-files";

type Run = ProgramRun<Machine>;

const isAtOrBelow = (directory: string) => (path: string) => path === directory || path.startsWith(`${directory}/`);

/** The kernel's list of mounts, in its format. */
export function mountinfo(machine: Machine): string {
  const escaped = (path: string): string =>
    path.replace(/[ \t\n\\]/g, (letter) => `\\${letter.charCodeAt(0).toString(8).padStart(3, "0")}`);
  return (machine.mounts ?? [])
    .map(
      ({ target, source }, at) =>
        `${at + 20} 1 8:1 ${escaped(source ?? "/")} ${escaped(target)} rw,relatime shared:1 - ext4 /dev/sda1 rw\n`,
    )
    .join("");
}

/** `mount --bind` and `mount --make-private`. */
export function mount({ machine, args }: Run): ProgramResult {
  const { options, operands } = parseArguments(args, { flags: ["--bind", "--rbind", "--make-private", "--make-shared"] });
  const [first = "", second = ""] = operands;
  const mounts = machine.mounts ?? [];
  if (options.has("--bind") || options.has("--rbind")) {
    if (!machine.files.exists(first) || !machine.files.exists(second)) {
      return failure(32, `mount: ${second}: mount point does not exist.`);
    }
    const below = options.has("--rbind") ? mounts.filter(({ target }) => target.startsWith(`${first}/`)) : [];
    mounts.push(
      { target: second, source: first },
      ...below.map((each) => ({ ...each, target: second + each.target.slice(first.length) })),
    );
    return ok();
  }
  return mounts.some(({ target }) => target === first) ? ok() : failure(32, `mount: ${first}: not mount point or bad option.`);
}

export function umount({ machine, args }: Run): ProgramResult {
  const { operands } = parseArguments(args, { flags: ["-l", "--lazy", "--no-canonicalize"] });
  const mounts = machine.mounts ?? [];
  for (const path of operands) {
    const at = mounts.map(({ target }) => target).lastIndexOf(path);
    if (at < 0) {
      return failure(32, `umount: ${path}: not mounted.`);
    }
    mounts.splice(at, 1);
  }
  return ok();
}

/** Removes a tree as rm(1) and find(1) do: deletes the content of a bind mount too, and its mount point is busy. */
export function removeThroughMounts(machine: Machine, path: string): void {
  const crossed = (machine.mounts ?? []).filter(({ target }) => isAtOrBelow(path)(target));
  for (const { source } of crossed) {
    if (source !== undefined) {
      machine.files.list(source).forEach((name) => machine.files.remove(posix.join(source, name), true));
    }
  }
  if (crossed.length > 0) {
    throw new FileSystemError("Device or resource busy");
  }
  machine.files.remove(path, true);
}

/**
 * A private mount namespace, supported for one purpose: deleting the content of a directory without the mounts below
 * it.
 */
export function unshare({ machine, args }: Run): ProgramResult {
  const [mountFlag, propagation, kind, shell, flag, script = "", , directory = ""] = args;
  const known = [mountFlag, propagation, kind, shell, flag].join(" ") === "--mount --propagation private sh -c";
  if (!known || !/^mount --bind .* exec find \. -mindepth 1 -delete$/.test(script)) {
    return failure(127, `unshare: not simulated: ${args.join(" ")}`);
  }
  if (machine.files.get(directory)?.type !== "directory") {
    return failure(32, `mount: ${directory}: special device ${directory} does not exist.`);
  }
  // The mounts exist in this namespace, too, but hidden: their mount points cannot be removed, everything else is.
  const busy = (machine.mounts ?? []).map(({ target }) => target).filter((target) => target.startsWith(`${directory}/`));
  for (const path of machine.files.tree(directory).slice(1).reverse()) {
    if (!busy.some((target) => target === path || target.startsWith(`${path}/`))) {
      machine.files.remove(path, true);
    }
  }
  return busy.length === 0
    ? ok()
    : failure(1, busy.map((path) => `find: cannot delete '${path}': Device or resource busy\n`).join(""));
}

/** rename(2): `perl -e SCRIPT FROM TO`, whose exit status is errno. */
export function rename({ machine, args }: Run): ProgramResult {
  const [, , from = "", to = ""] = args;
  const { mounts = [], files } = machine;
  if (mounts.some(({ target }) => target === from || target === to)) {
    return failure(16, "");
  }
  if (!files.exists(from) || !files.exists(posix.dirname(to))) {
    return failure(2, "");
  }
  if (files.exists(to)) {
    return failure(39, "");
  }
  files.rename(from, to);
  for (const each of mounts.filter(({ target }) => target.startsWith(`${from}/`))) {
    each.target = to + each.target.slice(from.length);
  }
  return ok();
}

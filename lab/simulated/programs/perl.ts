/** The library's own programs in Perl that read and create files on a host. */
import { createHash } from "node:crypto";
import { CREATE_FILE, FIND_PROGRAM, READ_FILES } from "../../../provider/machine/host";
import { failure, type Machine, ok, type ProgramResult, type ProgramRun } from "../machine";

/** Runs one of the programs; `undefined` for another. */
export async function runPerl({ machine, args, stdin }: ProgramRun<Machine>): Promise<ProgramResult | undefined> {
  const [, script, ...operands] = args;
  switch (script) {
    case READ_FILES: {
      const pairs = operands.flatMap((details, index) =>
        index % 2 === 0 ? [[details, operands[index + 1] ?? ""] as const] : [],
      );
      return ok(pairs.map(([details, path]) => `${readFile(machine, details, path)}\n`).join(""));
    }
    case CREATE_FILE: {
      const [path = "", mode = "", uid, gid] = operands;
      if (machine.files.get(path, false)?.type === "directory") {
        return failure(21, `${path}: Is a directory`);
      }
      if (machine.files.get(path, false) !== undefined) {
        machine.files.remove(path);
      }
      const owner = { mode: Number.parseInt(mode, 8), uid: Number(uid), gid: Number(gid) };
      machine.files.writeFile(path, await stdin(), owner);
      return ok();
    }
    case FIND_PROGRAM: {
      const found = operands.findIndex((path) => {
        const node = machine.files.get(path);
        return node?.type === "file" && (node.mode & 0o111) !== 0;
      });
      return ok(found < 0 ? "" : String(found));
    }
    default:
      return undefined;
  }
}

function readFile({ files }: Machine, details: string, path: string): string {
  const node = files.get(path, false);
  if (node === undefined) {
    return "absent";
  }
  const text = {
    file: node.content,
    symlink: details === "content" ? node.content : "",
    directory: details === "content" ? files.list(path).join("\0") : "",
  }[node.type];
  const shown =
    details === "digest" && node.type === "file"
      ? createHash("sha256").update(node.content).digest("hex")
      : Buffer.from(text).toString("hex");
  return `${node.type} ${node.mode.toString(8)} ${node.uid} ${node.gid} ${shown}`;
}

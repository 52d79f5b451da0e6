/**
 * A file system in memory, for simulated hosts and for the guests inside simulated instances. Paths are absolute and
 * normalised; symbolic links are followed in the last component only, which is enough for the lab.
 */
import { posix } from "node:path";

/** One file, directory or symbolic link. */
export interface FileNode {
  type: "file" | "directory" | "symlink";
  /** Content of a file, or the target of a symbolic link. */
  content: Buffer;
  mode: number;
  uid: number;
  gid: number;
  modified: Date;
}

/** Owner and mode given to a new node. */
export interface NodeOwner {
  mode?: number;
  uid?: number;
  gid?: number;
}

/** Thrown with the text that coreutils print after the path. */
export class FileSystemError extends Error {}

/** Files by absolute path. */
export class MemoryFiles {
  private readonly nodes = new Map<string, FileNode>();

  constructor() {
    this.nodes.set("/", newNode("directory", "", { mode: 0o755 }));
  }

  /** The node at a path; a symbolic link itself when `follow` is false. */
  get(path: string, follow = true): FileNode | undefined {
    const node = this.nodes.get(normalise(path));
    if (node?.type === "symlink" && follow) {
      return this.get(posix.resolve(posix.dirname(normalise(path)), node.content.toString()));
    }
    return node;
  }

  exists(path: string): boolean {
    return this.get(path) !== undefined;
  }

  /** Text of a file. Throws if it does not exist. */
  readText(path: string): string {
    const node = this.get(path);
    if (node === undefined) {
      throw new FileSystemError("No such file or directory");
    }
    if (node.type === "directory") {
      throw new FileSystemError("Is a directory");
    }
    return node.content.toString();
  }

  /**
   * Creates or overwrites a file; an existing one keeps its owner and mode, as with open(2). The directory must exist.
   */
  writeFile(path: string, content: string | Buffer, owner: NodeOwner = {}): FileNode {
    const target = this.resolveLink(path);
    const existing = this.nodes.get(target);
    if (existing?.type === "directory") {
      throw new FileSystemError("Is a directory");
    }
    if (existing !== undefined) {
      existing.content = Buffer.from(content);
      existing.modified = new Date();
      return existing;
    }
    this.requireParent(target);
    const node = newNode("file", content, { mode: 0o644, ...owner });
    this.nodes.set(target, node);
    return node;
  }

  /** Creates a directory; with `parents`, also those above it, without an error if it exists. */
  makeDirectory(path: string, options: NodeOwner & { parents?: boolean } = {}): void {
    const target = normalise(path);
    const existing = this.get(target);
    if (existing !== undefined) {
      if (options.parents === true && existing.type === "directory") {
        return;
      }
      throw new FileSystemError("File exists");
    }
    if (options.parents === true) {
      this.makeDirectory(posix.dirname(target), { parents: true });
    }
    this.requireParent(target);
    this.nodes.set(target, newNode("directory", "", { mode: 0o755, ...options }));
  }

  makeSymlink(path: string, linkTarget: string): void {
    const target = normalise(path);
    this.requireParent(target);
    this.nodes.set(target, newNode("symlink", linkTarget, { mode: 0o777 }));
  }

  /** Names in a directory, sorted. */
  list(path: string): string[] {
    const directory = normalise(path);
    const prefix = directory === "/" ? "/" : `${directory}/`;
    const names: string[] = [];
    for (const candidate of this.nodes.keys()) {
      if (candidate !== "/" && candidate.startsWith(prefix) && !candidate.slice(prefix.length).includes("/")) {
        names.push(candidate.slice(prefix.length));
      }
    }
    return names.sort();
  }

  /** Removes a file, a link or an empty directory; with `recursive`, a whole tree. */
  remove(path: string, recursive = false): void {
    const target = normalise(path);
    if (!this.nodes.has(target)) {
      throw new FileSystemError("No such file or directory");
    }
    const inside = this.tree(target).slice(1);
    if (inside.length > 0 && !recursive) {
      throw new FileSystemError("Directory not empty");
    }
    for (const each of [target, ...inside]) {
      this.nodes.delete(each);
    }
  }

  /** Moves a node and its whole tree; replaces a file with that name. */
  rename(from: string, to: string): void {
    const source = normalise(from);
    if (!this.nodes.has(source)) {
      throw new FileSystemError("No such file or directory");
    }
    const existing = this.get(to);
    const target = existing?.type === "directory" ? posix.join(normalise(to), posix.basename(source)) : normalise(to);
    this.requireParent(target);
    for (const each of this.tree(source)) {
      const node = this.nodes.get(each);
      if (node !== undefined) {
        this.nodes.delete(each);
        this.nodes.set(target + each.slice(source.length), node);
      }
    }
  }

  /** A path and every path below it. */
  tree(path: string): string[] {
    const target = normalise(path);
    const prefix = target === "/" ? "/" : `${target}/`;
    return [target, ...[...this.nodes.keys()].filter((candidate) => candidate !== "/" && candidate.startsWith(prefix))];
  }

  private resolveLink(path: string): string {
    const target = normalise(path);
    const node = this.nodes.get(target);
    return node?.type === "symlink" ? posix.resolve(posix.dirname(target), node.content.toString()) : target;
  }

  private requireParent(target: string): void {
    const parent = this.get(posix.dirname(target));
    if (parent === undefined) {
      throw new FileSystemError("No such file or directory");
    }
    if (parent.type !== "directory") {
      throw new FileSystemError("Not a directory");
    }
  }
}

function normalise(path: string): string {
  const normal = posix.normalize(path.startsWith("/") ? path : `/${path}`);
  return normal.length > 1 && normal.endsWith("/") ? normal.slice(0, -1) : normal;
}

function newNode(type: FileNode["type"], content: string | Buffer, owner: NodeOwner): FileNode {
  return {
    type,
    content: Buffer.from(content),
    mode: owner.mode ?? 0o644,
    uid: owner.uid ?? 0,
    gid: owner.gid ?? 0,
    modified: new Date(),
  };
}

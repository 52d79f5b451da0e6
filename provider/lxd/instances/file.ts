/** Owner and permissions of a file. */
interface FileOwnership {
  readonly uid: number;
  readonly gid: number;
  /** Permission bits, such as 0o644; setuid and similar bits cannot be set. */
  readonly mode: number;
}

/** An existing file. */
export interface InstanceFile extends FileOwnership {
  readonly type: "file" | "directory" | "symlink";
  /** Text of a file, absolute target of a symlink, or names in a directory as `{"metadata":["a","b"]}`. */
  readonly content: string;
}

/** A file to create: its owner, its permissions and its text. */
export type NewFile = FileOwnership & { readonly content: string };

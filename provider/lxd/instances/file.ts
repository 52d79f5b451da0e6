/** Who may do what with a file. */
interface FileOwnership {
  readonly uid: number;
  readonly gid: number;
  /** Permission bits, such as 0o644; setuid and its like cannot be given. */
  readonly mode: number;
}

/** A file as it is. */
export interface InstanceFile extends FileOwnership {
  readonly type: "file" | "directory" | "symlink";
  /** Text of a file, absolute target of a symlink, of a directory the names in it as `{"metadata":["a","b"]}`. */
  readonly content: string;
}

/** A file to be made: its owner, its permissions and its text. */
export type NewFile = FileOwnership & { readonly content: string };

/** What the package managers of the distributions have in common. */
import type { CommandResult } from "../machine";

/** An installed package. */
export interface PackageState {
  readonly version: string;
  /** Whether upgrades leave it as it is. */
  readonly isHeld: boolean;
}

/** The installed packages by name. */
export type PackageList = ReadonlyMap<string, PackageState>;

/** A package to install, or to bring to a version. */
export interface PackageChoice {
  readonly name: string;
  /** @default the package manager's choice */
  readonly version?: string | undefined;
}

/** What is to be installed and removed in one go. */
export interface Changes {
  readonly install: readonly PackageChoice[];
  readonly remove: readonly string[];
}

export interface PackageManager {
  /** As messages name it: `apt`. */
  readonly name: string;
  /** The command that releases a held package. `undefined` when it cannot hold any. */
  readonly release: string | undefined;
  /** The installed packages. `undefined` on a machine without this package manager. */
  list(): Promise<PackageList | undefined>;
  /** Whether it has updated its lists within a time, by the clock of the machine. */
  isFresh(seconds: number): Promise<boolean>;
  /** @returns Its message when it could not read all sources. The lists of the others are up to date. */
  updateLists(): Promise<string | undefined>;
  /** The versions that its lists have of packages with exactly these names. One that they do not have is not in the answer. */
  available(names: readonly string[]): Promise<ReadonlyMap<string, readonly string[]>>;
  isOlder(version: string, other: string): Promise<boolean>;
  /**
   * Finds out what changes would do. Touches nothing.
   * @returns Other packages that would be removed.
   * @throws RefusedError when the changes are not possible.
   */
  simulate(changes: Changes): Promise<readonly string[]>;
  /** Finishes what an interrupted run left. */
  finishInterrupted(): Promise<void>;
  /** Fetches packages without installing them. Absent when it does both in one step. */
  readonly download?: (packages: readonly PackageChoice[]) => Promise<CommandResult>;
  install(packages: readonly PackageChoice[]): Promise<CommandResult>;
  remove(names: readonly string[]): Promise<void>;
  setHold(names: readonly string[], isHeld: boolean): Promise<void>;
}

/** The start of a package manager's output, for messages. */
export function shown(text: string): string {
  return text.trim().split("\n").slice(0, 5).join("; ");
}

/** What a package manager says about its failure, for messages. */
export function saidBy({ stdout, stderr }: CommandResult): string {
  return shown(stderr || stdout);
}

/** apk of Alpine Linux as a package manager. It prints in English only. @see https://wiki.alpinelinux.org/wiki/Alpine_Package_Keeper */
import type { Deadline } from "../../support/deadline";
import { CommandError, RefusedError } from "../../support/errors";
import type { CommandResult, Machine } from "../machine";
import { type PackageChoice, type PackageList, type PackageManager, saidBy } from "./manager";

/** Has an entry for each installed package, with fields such as "P:jq" and "V:1.7.1-r0". */
const DATABASE = "/lib/apk/db/installed";

/** Where it keeps the indexes of its sources. */
const INDEXES = "/var/cache/apk";

export function apkOf(machine: Machine, deadline: Deadline): PackageManager {
  const apk = (...args: string[]): Promise<CommandResult> => machine.run(["apk", ...args], { allowFailure: true });
  /** For what changes packages: it waits for another one. */
  const wait = (): string[] => ["--wait", String(Math.max(1, Math.floor(deadline.remainingMs / 1000)))];
  const add = (packages: readonly PackageChoice[], ...options: string[]): Promise<CommandResult> =>
    apk("add", ...wait(), ...options, ...packages.map(wordOf));

  return {
    name: "apk",
    release: undefined,
    async list() {
      const { exitCode, stdout, stderr } = await machine.run(["cat", DATABASE], { allowFailure: true });
      if (exitCode === 0) {
        return packagesIn(stdout);
      }
      if ((await machine.findProgram("apk")) === undefined) {
        return undefined;
      }
      throw new CommandError(machine.name, `cat ${DATABASE}`, exitCode, stderr.trim());
    },
    async isFresh(seconds) {
      const argv = ["find", INDEXES, "-maxdepth", "0", "-mmin", `-${Math.ceil(seconds / 60)}`];
      return (await machine.run(argv, { allowFailure: true })).stdout.trim() !== "";
    },
    async updateLists() {
      const result = await apk("update", ...wait());
      return result.exitCode === 0 ? undefined : saidBy(result);
    },
    async available(names) {
      const { stdout } = await apk("search", "--exact", ...names);
      const lines = stdout.split("\n");
      return new Map(
        names.flatMap((name) => {
          const versions = lines.filter((line) => line.startsWith(`${name}-`)).map((line) => line.slice(name.length + 1));
          const own = versions.filter((version) => /^\d/.test(version));
          return own.length === 0 ? [] : [[name, [...new Set(own)]] as const];
        }),
      );
    },
    isOlder: async (version, other) => (await apk("version", "--test", version, other)).stdout.trim() === "<",
    async simulate({ install, remove }) {
      const refuse = (result: CommandResult, what: string): never => {
        throw new RefusedError(`apk ${machine.place} cannot ${what}: ${saidBy(result)}. Nothing was installed or removed`);
      };
      if (install.length > 0) {
        const result = await add(install, "--simulate");
        if (result.exitCode !== 0) {
          refuse(result, `install ${install.map(wordOf).join(", ")}`);
        }
      }
      if (remove.length > 0) {
        const result = await apk("del", ...wait(), "--simulate", ...remove);
        // lines such as "(1/2) Purging jq (1.7.1-r0)"
        const purged = [...result.stdout.matchAll(/^\(\d+\/\d+\) Purging (\S+)/gm)].map(([, name]) => name);
        const kept = remove.filter((name) => !purged.includes(name));
        if (result.exitCode !== 0 || kept.length > 0) {
          refuse(result, `remove ${kept.join(", ")}, which others need`);
        }
      }
      return []; // with a package go only those that nothing else needs, and that nobody asked for
    },
    finishInterrupted: () => Promise.resolve(),
    install: (packages) => add(packages),
    async remove(names) {
      const result = await apk("del", ...wait(), ...names);
      if (result.exitCode !== 0) {
        throw new CommandError(machine.name, "apk del", result.exitCode, saidBy(result));
      }
    },
    setHold: () => Promise.resolve(),
  };
}

function wordOf({ name, version }: PackageChoice): string {
  return version === undefined ? name : `${name}=${version}`;
}

function packagesIn(database: string): PackageList {
  const entries = database.split("\n\n").map((entry) => entry.split("\n"));
  const field = (entry: readonly string[], name: string): string | undefined =>
    entry.find((line) => line.startsWith(`${name}:`))?.slice(2);
  return new Map(
    entries.flatMap((entry) => {
      const [name, version] = [field(entry, "P"), field(entry, "V")];
      return name === undefined || version === undefined ? [] : [[name, { version, isHeld: false }] as const];
    }),
  );
}

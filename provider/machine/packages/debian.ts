/** apt and dpkg as a package manager. @see apt-get(8), apt-mark(8), dpkg-query(1) */
import type { Deadline } from "../../support/deadline";
import { CommandError, RefusedError } from "../../support/errors";
import type { Machine } from "../machine";
import {
  availableDebVersions,
  debsIn,
  finishInterrupted,
  installDebs,
  isOlderDeb,
  LIST_DEBS,
  removeDebs,
  setDebHold,
  simulateDebs,
  updateLists,
  wordOf,
} from "./apt";
import { type PackageManager, saidBy } from "./manager";

/** Exit status for a program that does not exist. */
const NO_PROGRAM = 127;

/** Changes when apt finds something new in its sources. If they have nothing new, the next look is only one too many. */
const LISTS = "/var/lib/apt/lists";

export function aptOf(machine: Machine, deadline: Deadline): PackageManager {
  return {
    name: "apt",
    release: "apt-mark unhold",
    async list() {
      const { exitCode, ...written } = await machine.run(LIST_DEBS, { allowFailure: true });
      if (exitCode === 0) {
        return debsIn(written.stdout);
      }
      // Other distributions have dpkg, too, as a tool that knows no package.
      if (exitCode === NO_PROGRAM || (await machine.findProgram("apt-get")) === undefined) {
        return undefined;
      }
      throw new CommandError(machine.name, "dpkg-query", exitCode, saidBy({ exitCode, ...written }));
    },
    async isFresh(seconds) {
      const argv = ["find", LISTS, "-maxdepth", "0", "-mmin", `-${(seconds / 60).toFixed(2)}`];
      return (await machine.run(argv, { allowFailure: true })).stdout.trim() !== "";
    },
    updateLists: () => updateLists(machine, deadline),
    available: (names) => availableDebVersions(machine, names),
    isOlder: (version, other) => isOlderDeb(machine, version, other),
    async simulate({ install, remove }) {
      const words = [...install.map(wordOf), ...remove.map((name) => `${name}-`)];
      const { removed, ...result } = await simulateDebs(machine, words, deadline);
      if (result.exitCode !== 0) {
        throw new RefusedError(
          `apt ${machine.place} cannot do this: ${saidBy(result)}. Nothing was installed or removed. To see why, type there: ` +
            `apt-get --simulate install ${words.join(" ")}`,
        );
      }
      return removed.filter((name) => !remove.includes(name));
    },
    finishInterrupted: () => finishInterrupted(machine, deadline),
    download: (packages) => installDebs(machine, packages, deadline, ["--download-only", "--allow-change-held-packages"]),
    install: (packages) => installDebs(machine, packages, deadline),
    remove: (names) => removeDebs(machine, names, deadline),
    setHold: (names, isHeld) => setDebHold(machine, names, isHeld, deadline),
  };
}

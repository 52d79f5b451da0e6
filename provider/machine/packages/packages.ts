/** Brings the packages of a machine to what is wanted, with the package manager that it has. */
import { type Deadline, until } from "../../support/deadline";
import { CommandError, RefusedError, undoing } from "../../support/errors";
import type { Machine } from "../machine";
import { apkOf } from "./alpine";
import { type PackageTerms, refuseUnavailable } from "./apt";
import { aptOf } from "./debian";
import { type Changes, type PackageChoice, type PackageList, type PackageManager, saidBy } from "./manager";

export type { PackageList };

/** A package of the program. */
export interface WantedPackage {
  readonly name: string;
  readonly version?: string | undefined;
  /** Whether it is held. @default as it is */
  readonly hold?: boolean | undefined;
  readonly absent?: boolean | undefined;
}

/** What a change of packages gets. */
export interface PackageWork {
  readonly machine: Machine;
  readonly deadline: Deadline;
  readonly progress: (text: string) => void;
  readonly warn: (text: string) => void;
}

const TERMS: PackageTerms = {
  missing: () => " (packages). Correct its name, or add the repository that has it on the machine",
  version: "packages",
};

/** @throws RefusedError when the machine has no package manager that is known. */
async function openPackages(machine: Machine, deadline: Deadline): Promise<{ manager: PackageManager; list: PackageList }> {
  for (const manager of [aptOf(machine, deadline), apkOf(machine, deadline)]) {
    const list = await manager.list();
    if (list !== undefined) {
      return { manager, list };
    }
  }
  throw new RefusedError(
    `${machine.name} has neither apt nor apk, so its packages cannot be managed. Use an image of Debian, Ubuntu or Alpine, or install ` +
      "packages there with another tool",
  );
}

/** The installed packages. */
export async function listPackages(machine: Machine, deadline: Deadline): Promise<PackageList> {
  return (await openPackages(machine, deadline)).list;
}

/** What is to be done, in the order of the program. */
interface Plan extends Changes {
  readonly install: readonly WantedPackage[];
  readonly hold: readonly string[];
  readonly release: readonly string[];
}

function planOf(wanted: readonly WantedPackage[], list: PackageList): Plan {
  const isMissing = ({ name, version }: WantedPackage): boolean => {
    const found = list.get(name);
    return found === undefined || (version !== undefined && version !== found.version);
  };
  const namesOf = (packages: readonly WantedPackage[]): string[] => packages.map(({ name }) => name);
  const present = wanted.filter(({ absent }) => absent !== true);
  return {
    install: present.filter(isMissing),
    remove: namesOf(wanted.filter(({ name, absent }) => absent === true && list.has(name))),
    hold: namesOf(present.filter(({ name, hold }) => hold === true && list.get(name)?.isHeld !== true)),
    release: namesOf(present.filter(({ name, hold }) => hold === false && list.get(name)?.isHeld === true)),
  };
}

/** @throws RefusedError for what is not possible, or would lose something. Touches nothing, and does not look at the sources. */
async function refusePlan(
  machine: Machine,
  manager: PackageManager,
  plan: Plan,
  list: PackageList,
  ownHolds: readonly string[],
): Promise<void> {
  if (manager.release === undefined && plan.hold.length > 0) {
    throw new RefusedError(
      `${manager.name} ${machine.place} cannot hold ${plan.hold.join(", ")} (packages). Leave hold out, and give a version instead`,
    );
  }
  for (const { name, version, hold } of plan.install) {
    const found = list.get(name);
    if (found === undefined || version === undefined) {
      continue;
    }
    if (found.isHeld && hold === undefined && !ownHolds.includes(name)) {
      throw new RefusedError(
        `"${name}" is held ${machine.place} in version ${found.version}, and packages asks for ${version}. Give its hold: true or false, or ` +
          `release it there: ${manager.release} ${name}`,
      );
    }
    if (await manager.isOlder(version, found.version)) {
      throw new RefusedError(
        `${machine.name} has "${name}" in version ${found.version}, but packages asks for ${version}, which is older. An older version may not read ` +
          `the files of a newer one. Give the version "${found.version}" or a newer one, or leave it out`,
      );
    }
  }
  refuseHeldRemoval(machine, manager, plan.remove, list, ownHolds);
}

function refuseHeldRemoval(
  machine: Machine,
  manager: PackageManager,
  names: readonly string[],
  list: PackageList,
  ownHolds: readonly string[],
): void {
  const held = names.filter((name) => list.get(name)?.isHeld === true && !ownHolds.includes(name));
  if (held.length > 0) {
    throw new RefusedError(
      `${held.join(", ")} cannot be removed: held ${machine.place}. Release it there: ${manager.release} ${held.join(" ")}`,
    );
  }
}

/** @throws RefusedError when the changes are not possible, or others would be removed. Touches nothing. */
async function refuseSideEffects(machine: Machine, manager: PackageManager, changes: Changes): Promise<void> {
  const { install, remove } = changes;
  if (install.length + remove.length === 0) {
    return;
  }
  const others = await manager.simulate(changes);
  if (others.length > 0) {
    const what = [
      ...(install.length === 0 ? [] : [`install ${install.map(({ name }) => name).join(", ")}`]),
      ...(remove.length === 0 ? [] : [`remove ${remove.join(", ")}`]),
    ].join(" and ");
    throw new RefusedError(
      `To ${what} ${machine.place}, ${manager.name} would also remove ${others.join(", ")}. Nothing was installed or removed. If the machine does not ` +
        `need them, give them in packages with absent: true; otherwise leave out what is in their way`,
    );
  }
}

/** Whether the lists have all of the packages, in the wanted versions. */
function hasAll(available: ReadonlyMap<string, readonly string[]>, wanted: readonly PackageChoice[]): boolean {
  return wanted.every(({ name, version }) => {
    const versions = available.get(name);
    return versions !== undefined && (version === undefined || versions.includes(version));
  });
}

/**
 * What `pulumi up` would meet, as far as the machine's present lists show it. Touches nothing.
 * @returns Notes for the preview.
 * @throws RefusedError as {@link bringPackages}.
 */
export async function foreseePackages(
  { machine, deadline }: Pick<PackageWork, "machine" | "deadline">,
  wanted: readonly WantedPackage[],
  ownHolds: readonly string[],
): Promise<string[]> {
  const { manager, list } = await openPackages(machine, deadline);
  const plan = planOf(wanted, list);
  await refusePlan(machine, manager, plan, list, ownHolds);
  const available = await manager.available(plan.install.map(({ name }) => name));
  if (hasAll(available, plan.install)) {
    await refuseSideEffects(machine, manager, plan);
    return [];
  }
  try {
    refuseUnavailable(machine, plan.install, available, TERMS);
    return [];
  } catch (error) {
    return [`pulumi up will refuse this, unless newer package lists have it. ${(error as Error).message}`];
  }
}

/**
 * Makes the packages as wanted, from any state. What may pass is waited for until the deadline: another package manager, and sources
 * that cannot be read.
 * @param changing - Called before the first change, with the names of packages that were not installed.
 * @returns The installed packages.
 * @throws RefusedError when it is not possible, or others would be removed; nothing is touched then.
 */
export async function bringPackages(
  work: PackageWork,
  wanted: readonly WantedPackage[],
  options: {
    readonly cacheSeconds: number;
    /** Packages that are held because of this resource. */
    readonly ownHolds: readonly string[];
    changing(missing: readonly string[], list: PackageList): void;
  },
): Promise<PackageList> {
  const { machine, deadline } = work;
  const { manager, list } = await openPackages(machine, deadline);
  const plan = planOf(wanted, list);
  const { install, remove, release, hold } = plan;
  if (install.length + remove.length + release.length + hold.length === 0) {
    return list;
  }
  await refusePlan(machine, manager, plan, list, options.ownHolds);
  if (install.length > 0) {
    await bringLists(work, manager, install, options.cacheSeconds);
  }
  await refuseSideEffects(machine, manager, plan);
  if (install.length + remove.length > 0) {
    await manager.finishInterrupted();
  }
  if (remove.length === 0) {
    await downloadPackages(work, manager, install); // otherwise what is to be removed may be in the way
  }
  options.changing(
    install.flatMap(({ name }) => (list.has(name) ? [] : [name])),
    list,
  );
  const isHeld = (name: string): boolean => list.get(name)?.isHeld === true;
  // A package manager neither upgrades nor removes what is held.
  const held = install.map(({ name }) => name).filter(isHeld);
  const released = [...held, ...release, ...remove.filter(isHeld)];
  if (released.length > 0) {
    await manager.setHold(released, false);
  }
  if (remove.length > 0) {
    work.progress(`removing ${remove.join(", ")} ${machine.place}`);
    await manager.remove(remove);
    await downloadPackages(work, manager, install);
  }
  if (install.length > 0) {
    const again = held.filter((name) => !release.includes(name));
    await undoing(
      () => (again.length === 0 ? Promise.resolve() : manager.setHold(again, true)),
      () => installPackages(work, manager, install),
    );
  }
  if (hold.length > 0) {
    await manager.setHold(hold, true);
  }
  return (await manager.list()) ?? new Map();
}

/** Updates the lists when they are old, or do not have a package. Waits for sources that cannot be read and may have it. */
async function bringLists(
  work: PackageWork,
  manager: PackageManager,
  wanted: readonly PackageChoice[],
  cacheSeconds: number,
): Promise<void> {
  const { machine, deadline } = work;
  const names = wanted.map(({ name }) => name);
  let available = await manager.available(names);
  if (hasAll(available, wanted) && cacheSeconds > 0 && (await manager.isFresh(cacheSeconds))) {
    return;
  }
  let unread: string | undefined;
  work.progress(`updating the package lists ${machine.place}`);
  await until(deadline, async (report) => {
    unread = await manager.updateLists();
    available = await manager.available(names);
    if (unread === undefined || hasAll(available, wanted)) {
      return true;
    }
    const missing = wanted.filter((each) => !hasAll(available, [each])).map(({ name }) => name);
    const waiting = `waiting for package sources ${machine.place} that cannot be read and may have ${missing.join(", ")}: ${unread}`;
    report(waiting);
    work.progress(waiting);
    return undefined;
  });
  refuseUnavailable(machine, wanted, available, TERMS, unread);
  if (unread !== undefined) {
    work.warn(
      `${manager.name} ${machine.place} cannot read all of its package sources: ${unread}. The packages come from the others`,
    );
  }
}

/** Repeats the download until it succeeds: that the packages can be installed is known. */
async function downloadPackages(
  { machine, deadline, progress }: PackageWork,
  { download }: PackageManager,
  packages: readonly PackageChoice[],
): Promise<void> {
  if (download === undefined || packages.length === 0) {
    return;
  }
  const what = `downloading ${packages.map(({ name }) => name).join(", ")} ${machine.place}`;
  progress(what);
  await until(deadline, async (report) => {
    const result = await download(packages);
    if (result.exitCode === 0) {
      return true;
    }
    const waiting = `${what} again, which failed: ${saidBy(result)}`;
    report(waiting);
    progress(waiting);
    return undefined;
  });
}

/** Repeats an installation that fails without a change, where it also downloads. @throws CommandError for other failures. */
async function installPackages(
  { machine, deadline, progress }: PackageWork,
  manager: PackageManager,
  packages: readonly PackageChoice[],
): Promise<void> {
  const names = packages.map(({ name }) => name).join(", ");
  const what = `installing ${names} ${machine.place}`;
  const before = manager.download === undefined ? await manager.list() : undefined;
  progress(what);
  await until(deadline, async (report) => {
    const result = await manager.install(packages);
    if (result.exitCode === 0) {
      return true;
    }
    if (before === undefined || !isSame(before, await manager.list())) {
      throw new CommandError(machine.name, `${manager.name}, installing ${names},`, result.exitCode, saidBy(result));
    }
    const waiting = `${what} again, which failed: ${saidBy(result)}`;
    report(waiting);
    progress(waiting);
    return undefined;
  });
}

function isSame(before: PackageList, now: PackageList | undefined): boolean {
  return now?.size === before.size && [...before].every(([name, { version }]) => now.get(name)?.version === version);
}

/** @throws RefusedError when the removal of packages is not possible, or others would go with them. Touches nothing. */
export async function refusePackageRemoval(
  machine: Machine,
  deadline: Deadline,
  names: readonly string[],
  ownHolds: readonly string[],
): Promise<void> {
  const { manager, list } = await openPackages(machine, deadline);
  const remove = names.filter((name) => list.has(name));
  refuseHeldRemoval(machine, manager, remove, list, ownHolds);
  await refuseSideEffects(machine, manager, { install: [], remove });
}

/** Removes those of the packages that are installed, and nothing else. */
export async function removePackages({ machine, deadline, progress }: PackageWork, names: readonly string[]): Promise<void> {
  const { manager, list } = await openPackages(machine, deadline);
  const remove = names.filter((name) => list.has(name));
  if (remove.length === 0) {
    return;
  }
  progress(`removing ${remove.join(", ")} ${machine.place}`);
  const held = remove.filter((name) => list.get(name)?.isHeld === true);
  await manager.finishInterrupted();
  if (held.length > 0) {
    await manager.setHold(held, false);
  }
  await manager.remove(remove);
}

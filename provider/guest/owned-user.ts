/** A user of an instance that a resource owns. The instance's config holds the mark of the owner. */
import { type Config, OWNER_KEY } from "../lxd/config";
import { setInstanceConfig } from "../lxd/instances/instances";
import { claim, type Owner, refuseTakenOver } from "../lxd/ownership";
import { afterChange, IncompleteError, messageOf, RefusedError } from "../support/errors";
import { type Account, readAccounts } from "./accounts";
import { requireIdle } from "./home";
import { enterInstance, type InsideWork } from "./instance";
import { ensureAccess, ensureAccount, findAccount, requireLogin, requirePossible, type UserSpec } from "./users";

interface Saver extends Owner {
  readonly mark: string;
  /** Whether a user that others made may be taken over. */
  readonly adopt: boolean;
  /** Whether the resource already owns the user. */
  readonly isKnown: boolean;
}

export function nameOfUser({ instance, name }: { readonly instance: string; readonly name: string }): string {
  return `User "${name}" of instance "${instance}"`;
}

export function idOfUser(project: string, instance: string, name: string): string {
  return `${project}/${instance}/${name}`;
}

/** Key of the instance's config that holds the mark of the resource that owns the user. */
export function markerOf(user: string): string {
  return MARKER + user;
}

const MARKER = "user.pulumi.user.";

/** Names of the users that resources own, by the config of their instance. */
export function ownedUsersIn(config: Config): string[] {
  return Object.entries(config).flatMap(([key, mark]) =>
    key.startsWith(MARKER) && mark !== "" ? [key.slice(MARKER.length)] : [],
  );
}

/**
 * Makes the user as wanted from any state. A user that others made must be adopted.
 * @param formerKeys - Public keys that were managed until now.
 * @throws IncompleteError when the user exists and is not finished.
 */
export async function saveUser<Outputs extends object>(
  work: InsideWork,
  spec: UserSpec,
  owner: Saver,
  formerKeys: readonly string[],
  outputsOf: (account: Account) => Outputs,
): Promise<Outputs> {
  const { lxd, project, name: instance } = work;
  const what = nameOfUser({ instance, name: spec.name });
  const inside = await enterInstance(
    work,
    `Setting up user "${spec.name}"`,
    `Start it (running: true of its LxdVm, or ${lxd.names.client} start), then run pulumi up again`,
  );
  if (inside === undefined) {
    throw new RefusedError(
      `User "${spec.name}" cannot be created: ${lxd.title} has no instance "${instance}" in project "${project}". Create it first, and let ` +
        "the user depend on it (instance: vm.name)",
    );
  }
  const { guest, found } = inside;
  const accounts = await readAccounts(guest);
  const existing = findAccount(accounts, spec.name);
  const marker = markerOf(spec.name);
  const mark = found.value.config[marker];
  if (owner.isKnown) {
    refuseTakenOver(what, lxd.host, mark, owner);
  } else if (existing !== undefined) {
    claim({
      what,
      host: lxd.host,
      description: `uid ${existing.uid}, home ${existing.home}`,
      config: mark === undefined ? {} : { [OWNER_KEY]: mark },
      urn: owner.urn,
      adopt: owner.adopt,
    });
  }
  await requirePossible(guest, spec, accounts);
  await requireLogin(guest, spec, accounts);
  await (existing && requireIdle(guest, spec, existing));
  if (owner.mark !== "" && mark !== owner.mark) {
    // The mark comes first, so that the next run recognizes a half-made user.
    await setInstanceConfig(work, { [marker]: owner.mark }, undefined, found);
  }
  let account = existing;
  try {
    account = await ensureAccount(guest, spec, accounts);
    await ensureAccess(guest, spec, account, formerKeys);
    return outputsOf(account);
  } catch (error) {
    if (account === undefined) {
      throw afterChange(error); // the mark exists
    }
    const message = `${what} exists, but is not finished: ${messageOf(error)}. The next pulumi up continues`;
    throw new IncompleteError(idOfUser(project, instance, spec.name), outputsOf(account), message, { cause: error });
  }
}

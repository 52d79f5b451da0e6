import * as z from "zod";
import { RefusedError } from "../../support/errors";
import { api, type LxdClient } from "../client/client";
import { OWNER_KEY } from "../config";
import { isOwnMark } from "../ownership";
import { findImage } from "./images";
import type { Importer } from "./imported-images";

const aliasSchema = z.looseObject({ name: z.string(), description: z.string().default(""), target: z.string() });

/** A name that points to an image. Only its description can hold the owner's mark. */
type Alias = z.output<typeof aliasSchema>;

export async function findAlias(lxd: LxdClient, project: string, name: string): Promise<Alias | undefined> {
  return lxd.find(api`/1.0/images/aliases/${name}`, aliasSchema, { project });
}

export async function createAlias(lxd: LxdClient, project: string, { name, description, target }: Alias): Promise<void> {
  await lxd.change("POST", "/1.0/images/aliases", { query: { project }, body: { name, description, target } });
}

/** Points an alias to another image. */
export async function moveAlias(lxd: LxdClient, project: string, { name, description, target }: Alias): Promise<void> {
  await lxd.change("PUT", api`/1.0/images/aliases/${name}`, { query: { project }, body: { description, target } });
}

/** Removes an alias. Succeeds when it does not exist. */
export async function deleteAlias(lxd: LxdClient, project: string, name: string): Promise<void> {
  await lxd.remove(api`/1.0/images/aliases/${name}`, { project });
}

/** Resource that wants an alias. */
type Claimant = Pick<Importer, "project" | "urn" | "adopt">;

/**
 * Checks, before any upload, whether the image can have its aliases.
 * @throws RefusedError when one points to an image of someone else.
 */
export async function refuseTakenAliases(
  lxd: LxdClient,
  claimant: Claimant,
  names: readonly string[],
  fingerprint: string,
): Promise<void> {
  for (const name of names) {
    const alias = await findAlias(lxd, claimant.project, name);
    if (alias !== undefined && alias.target !== fingerprint) {
      await refuseTaken(lxd, claimant, name, alias.target);
    }
  }
}

/**
 * Points an alias to the image.
 * @param image.created - Whether the claimant imported the image.
 * @param own - Aliases that belong to the claimant, whatever they point to. Gets the alias if the claimant owns it from now on.
 * @returns Whether anything was changed.
 */
export async function pointAlias(
  lxd: LxdClient,
  claimant: Claimant,
  name: string,
  { fingerprint, created }: { fingerprint: string; created: boolean },
  own: Set<string>,
): Promise<boolean> {
  const { project } = claimant;
  const alias = await findAlias(lxd, project, name);
  const mark = markOf(claimant);
  if (alias?.target === fingerprint) {
    // An interrupted run made it. For an image of others, another stack may have made the alias under this URN.
    if ((created || claimant.adopt) && mark !== "" && alias.description === mark) {
      own.add(name);
    }
    return false;
  }
  if (alias === undefined) {
    await createAlias(lxd, project, { name, description: mark, target: fingerprint });
  } else {
    if (!own.has(name)) {
      await refuseTaken(lxd, claimant, name, alias.target);
    }
    await moveAlias(lxd, project, { name, description: alias.description || mark, target: fingerprint });
  }
  own.add(name);
  return true;
}

/** Removes an alias if it still points to the image. */
export async function removeAlias(lxd: LxdClient, project: string, fingerprint: string, name: string): Promise<void> {
  const alias = await findAlias(lxd, project, name);
  if (alias?.target === fingerprint) {
    await deleteAlias(lxd, project, name);
  }
}

/** Refuses an alias that points to another image. Allows it for an earlier image of the same resource, or with `adopt`. */
async function refuseTaken(lxd: LxdClient, { project, urn, adopt }: Claimant, name: string, target: string): Promise<void> {
  const other = await findImage(lxd, project, target);
  if (adopt || (other !== undefined && isOwnMark(other.value.properties?.[OWNER_KEY], urn))) {
    return;
  }
  const description = other?.value.properties?.["description"] ?? "no description";
  throw new RefusedError(
    `The alias "${name}" of project "${project}" points to another image on ${lxd.host}: ${target.slice(0, 12)} (${description}). ` +
      "Set adopt: true to take it, choose another alias, or remove it first",
  );
}

function markOf({ urn }: Claimant): string {
  return urn === "" ? "" : `${OWNER_KEY}: ${urn}`;
}

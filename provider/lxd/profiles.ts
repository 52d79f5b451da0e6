import * as z from "zod";
import { api, type LxdClient } from "./client/client";
import type { Config, Devices } from "./config";
import { explainInUse } from "./in-use";
import { inTurnOnAll } from "./instances/turns";

/** `/1.0/profiles`: https://documentation.ubuntu.com/lxd/latest/api/#/profiles */
const profileSchema = z.looseObject({
  name: z.string(),
  description: z.string(),
  config: z.record(z.string(), z.string()),
  devices: z.record(z.string(), z.record(z.string(), z.string())),
  used_by: z.array(z.string()).default([]),
});

/** A profile as LXD shows it. */
export type Profile = z.output<typeof profileSchema>;

/** What can be written of a profile. */
export interface ProfilePut {
  readonly description: string;
  readonly config: Config;
  readonly devices: Devices;
}

/** A profile as it was read. */
export interface FoundProfile {
  readonly value: Profile;
  readonly etag: string | undefined;
}

/** The profile, or `undefined` when there is none of that name. */
export function findProfile(lxd: LxdClient, project: string, name: string): Promise<FoundProfile | undefined> {
  return lxd.findWithEtag(api`/1.0/profiles/${name}`, profileSchema, { project });
}

/** {@link findProfile} out of one list that all reads of this process share. */
export async function findProfileShared(lxd: LxdClient, project: string, name: string): Promise<Profile | undefined> {
  const profiles = await lxd.getShared("/1.0/profiles", z.array(profileSchema), { project, recursion: 1 });
  return profiles.find((profile) => profile.name === name);
}

/** Makes a profile. */
export async function createProfile(lxd: LxdClient, project: string, name: string, body: ProfilePut): Promise<void> {
  await lxd.change("POST", "/1.0/profiles", { query: { project }, body: { name, ...body } });
}

/**
 * Replaces a profile's contents, when this process does nothing else with the instances that use it. PUT, because a PATCH is not passed on to
 * the other members of a cluster.
 * @param found - The profile as it was read; when it is another by now, it is left as it is.
 */
export async function replaceProfile(
  lxd: LxdClient,
  project: string,
  name: string,
  body: ProfilePut,
  found: FoundProfile | undefined,
): Promise<void> {
  const replace = () => lxd.change("PUT", api`/1.0/profiles/${name}`, { query: { project }, body, etag: found?.etag });
  await inTurnOnAll(lxd, found?.value.used_by ?? [], replace);
}

/**
 * Removes a profile; one that is gone is done.
 * @throws RefusedError naming the instances that use it.
 */
export async function deleteProfile(lxd: LxdClient, project: string, name: string): Promise<void> {
  try {
    await lxd.remove(api`/1.0/profiles/${name}`, { project });
  } catch (error) {
    const users = (await findProfile(lxd, project, name))?.value.used_by ?? [];
    throw explainInUse(error, `Profile "${name}" of project "${project}"`, lxd.host, users);
  }
}

/**
 * The instances that refused a profile which LXD saved all the same, from LXD's answer, one text each. `undefined` when the answer
 * is about something else, and the profile is unchanged.
 */
export function refusalsOfSavedProfile(reply: string): string[] | undefined {
  if (!reply.includes("profile change still saved")) {
    return undefined;
  }
  return reply
    .split("\n")
    .filter((line) => line.trimStart().startsWith("- "))
    .map((line) => line.trim().slice(2));
}

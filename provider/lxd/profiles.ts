import * as z from "zod";
import { api, type LxdClient } from "./client/client";
import type { Config, Devices } from "./config";
import { explainInUse } from "./in-use";

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

/** The profile, or `undefined` when there is none of that name. */
export function findProfile(
  lxd: LxdClient,
  project: string,
  name: string,
): Promise<{ value: Profile; etag: string | undefined } | undefined> {
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

/** Replaces a profile's contents. PUT, because a PATCH is not passed on to the other members of a cluster. */
export async function replaceProfile(
  lxd: LxdClient,
  project: string,
  name: string,
  body: ProfilePut,
  etag: string | undefined,
): Promise<void> {
  await lxd.change("PUT", api`/1.0/profiles/${name}`, { query: { project }, body, etag });
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

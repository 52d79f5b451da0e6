import * as z from "zod";
import { listOf } from "./client/answers";
import { api, type LxdClient, type Tagged } from "./client/client";
import type { Config, Devices } from "./config";
import { explainInUse } from "./in-use";
import { withInstanceLocks } from "./instances/instance-lock";

/** `/1.0/profiles`: https://documentation.ubuntu.com/lxd/latest/api/#/profiles */
const profileSchema = z.looseObject({
  name: z.string(),
  description: z.string(),
  config: z.record(z.string(), z.string()),
  devices: z.record(z.string(), z.record(z.string(), z.string())),
  used_by: listOf(z.string()),
});

export type Profile = z.output<typeof profileSchema>;

export interface ProfilePut {
  readonly description: string;
  readonly config: Config;
  readonly devices: Devices;
}

export type FoundProfile = Tagged<Profile>;

export function findProfile(lxd: LxdClient, project: string, name: string): Promise<FoundProfile | undefined> {
  return lxd.findWithEtag(api`/1.0/profiles/${name}`, profileSchema, { project });
}

/** {@link findProfile} in one list that all reads of this process share. */
export async function findProfileShared(lxd: LxdClient, project: string, name: string): Promise<Profile | undefined> {
  return (await listProfilesShared(lxd, project)).find((profile) => profile.name === name);
}

export function listProfilesShared(lxd: LxdClient, project: string): Promise<Profile[]> {
  return lxd.getShared("/1.0/profiles", listOf(profileSchema), { project, recursion: 1 });
}

export async function createProfile(lxd: LxdClient, project: string, name: string, body: ProfilePut): Promise<void> {
  await lxd.change("POST", "/1.0/profiles", { query: { project }, body: { name, ...body } });
}

/**
 * Replaces a profile's contents while this process does nothing else with the instances that use it. Uses PUT, because LXD does not pass a
 * PATCH on to the other cluster members.
 * @param change - Returns the new contents for the live ones.
 */
export async function replaceProfile(
  lxd: LxdClient,
  project: string,
  name: string,
  change: (live: Profile) => ProfilePut,
  found: FoundProfile | undefined,
): Promise<void> {
  const modify = (): Promise<boolean> =>
    lxd.modify(api`/1.0/profiles/${name}`, profileSchema, change, { query: { project }, found });
  await withInstanceLocks(lxd, found?.value.used_by ?? [], modify);
}

/** @throws RefusedError naming the instances that use it. */
export async function deleteProfile(lxd: LxdClient, project: string, name: string): Promise<void> {
  try {
    await lxd.remove(api`/1.0/profiles/${name}`, { project });
  } catch (error) {
    const users = (await findProfile(lxd, project, name))?.value.used_by ?? [];
    throw explainInUse(error, `Profile "${name}" of project "${project}"`, lxd.title, users);
  }
}

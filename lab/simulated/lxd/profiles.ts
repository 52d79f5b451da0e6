/** `/1.0/profiles`. */
import { z } from "zod";
import { listed } from "./cluster";
import { type Config, type Database, type Devices, type Instance, keyOf, type Profile, urlOf } from "./database";
import { messageOf } from "./errors";
import { applyProfile } from "./instance-changes";
import { expandedConfig, expandedDevices, requireApiName, requireValidConfig, requireValidDevices } from "./instance-model";
import { async, created, LxdError, type Reply, requireEtag, sync } from "./reply";
import { type ApiRequest, decode, param, projectOf, type Router } from "./router";

const strings = z.record(z.string(), z.string());
const profileFields = {
  description: z.string().default(""),
  config: strings.nullish(),
  devices: z.record(z.string(), strings).nullish(),
};
const profilePut = z.object(profileFields).describe("ProfilePut");
const profilePost = z.object({ ...profileFields, name: z.string().default("") }).describe("ProfilesPost");
const nameOnly = z.object({ name: z.string().default("") });

/** Adds the endpoints of profiles. */
export function addProfiles(router: Router): void {
  router.add("/1.0/profiles", {
    GET: (request) => {
      const { database } = request.daemon;
      const holder = database.holder(projectOf(request), "profiles");
      const profiles = [...database.profiles.values()].filter((profile) => profile.project === holder);
      return listed(request, profiles, urlOfProfile, (profile) => toApi(database, profile));
    },
    POST: createProfile,
  });
  router.add("/1.0/profiles/{name}", {
    GET: (request) => {
      const profile = profileOf(request);
      return sync(toApi(request.daemon.database, profile), etagFields(profile));
    },
    PUT: (request) => changeProfile(request, true),
    PATCH: (request) => changeProfile(request, false),
    POST: renameProfile,
    DELETE: deleteProfile,
  });
}

function profileOf(request: ApiRequest, prefix = "Fetch profile: "): Profile {
  const { database } = request.daemon;
  const profile = database.profiles.get(keyOf(database.holder(projectOf(request), "profiles"), param(request, "name")));
  if (profile === undefined) {
    throw new LxdError(404, `${prefix}Profile not found`);
  }
  return profile;
}

/** The project that holds a profile. */
export function urlOfProfile(profile: Profile): string {
  return urlOf(`/1.0/profiles/${profile.name}`, profile.project);
}

function etagFields(profile: Profile) {
  return [profile.config, profile.description, profile.devices];
}

function usersOf(database: Database, profile: Profile) {
  return [...database.instances.values()].filter(
    (instance) => database.holder(instance.project, "profiles") === profile.project && instance.profiles.includes(profile.name),
  );
}

function toApi(database: Database, profile: Profile): Record<string, unknown> {
  return {
    name: profile.name,
    ...(database.members[0]?.daemon.behaviour.profileProject === true && { project: profile.project }),
    description: profile.description,
    config: profile.config,
    devices: profile.devices,
    used_by: usersOf(database, profile).map((instance) => urlOf(`/1.0/instances/${instance.name}`, instance.project)),
  };
}

function requireValid(request: ApiRequest, body: z.output<typeof profilePut>): void {
  const { behaviour, database } = request.daemon;
  requireValidConfig(behaviour, body.config ?? {});
  requireValidDevices(database, body.devices ?? {}, { instance: false, project: projectOf(request) });
}

function createProfile(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const body = decode(request, profilePost);
  const project = database.holder(projectOf(request), "profiles");
  if (body.name === "") {
    throw new LxdError(400, "No name provided");
  }
  if (body.name.includes("/")) {
    throw new LxdError(400, "Profile names may not contain slashes");
  }
  if ([".", ".."].includes(body.name)) {
    throw new LxdError(400, `Invalid profile name "${body.name}"`);
  }
  requireApiName(request.daemon.behaviour, body.name);
  requireValid(request, body);
  if (database.profiles.has(keyOf(project, body.name))) {
    throw new LxdError(500, `Error inserting "${body.name}" into database: The profile already exists`);
  }
  const profile: Profile = {
    name: body.name,
    project,
    description: body.description,
    config: body.config ?? {},
    devices: body.devices ?? {},
  };
  database.profiles.set(keyOf(project, body.name), profile);
  request.daemon.event("profile-created", urlOfProfile(profile), project);
  return created(`/1.0/profiles/${body.name}`);
}

function changeProfile(request: ApiRequest, replace: boolean): Reply {
  const { database } = request.daemon;
  const profile = profileOf(request, `Failed to retrieve profile "${param(request, "name")}": `);
  requireEtag(request.headers["if-match"], etagFields(profile));
  const body = decode(request, profilePut);
  requireValid(request, body);
  const change = () => {
    const users = usersOf(database, profile);
    const before = users.map((instance) => ({
      config: expandedConfig(database, instance),
      devices: expandedDevices(database, instance),
    }));
    const rootBefore = rootPool(profile);
    const old = { ...profile };
    profile.config = withoutEmpty({ ...(replace ? {} : profile.config), ...body.config });
    profile.devices = { ...(replace ? {} : profile.devices), ...body.devices };
    profile.description = body.description;
    const dependent = users.some((instance) => !Object.values(instance.devices).some((device) => device["path"] === "/"));
    if (rootBefore !== undefined && rootPool(profile) !== rootBefore && dependent) {
      Object.assign(profile, old);
      throw new LxdError(500, "At least one instance relies on this profile's root disk device");
    }
    request.daemon.event("profile-updated", urlOfProfile(profile), profile.project);
    // PATCH does not notify the other members, and offline members catch up when they start.
    const told = database.online().filter(({ daemon }) => replace || daemon === request.daemon);
    for (const member of [request.daemon.member, ...told.filter(({ daemon }) => daemon !== request.daemon)]) {
      const failures = users.flatMap((instance, index) =>
        instance.member === member ? refusalOf(database, instance, before[index]) : [],
      );
      if (failures.length > 0) {
        // A failure on the member that received the request keeps it from notifying the others.
        const prefix = member.daemon === request.daemon ? "" : `failed to notify peer ${member.address}: `;
        throw new LxdError(
          500,
          `${prefix}The following instances failed to update (profile change still saved):\n${failures.join("\n")}\n`,
        );
      }
    }
  };
  if (request.daemon.behaviour.asyncProfiles) {
    return async(request.daemon.operate({ description: "Updating profile", project: profile.project }, change));
  }
  change();
  return sync();
}

function refusalOf(database: Database, instance: Instance, before: { config: Config; devices: Devices } | undefined): string[] {
  if (before === undefined) {
    return [];
  }
  try {
    applyProfile(database, instance, before);
    return [];
  } catch (error) {
    return [` - Project: ${instance.project}, Instance: ${instance.name}: ${messageOf(error)}`];
  }
}

function withoutEmpty(config: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(config).filter(([, value]) => value !== ""));
}

function rootPool(profile: Profile): string | undefined {
  return Object.values(profile.devices).find((device) => device["type"] === "disk" && device["path"] === "/")?.["pool"];
}

function renameProfile(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const profile = profileOf(request);
  const { name } = decode(request, nameOnly);
  if (profile.name === "default") {
    throw new LxdError(403, 'The "default" profile cannot be renamed');
  }
  if (database.profiles.has(keyOf(profile.project, name))) {
    throw new LxdError(409, `Name "${name}" already in use`);
  }
  database.profiles.delete(keyOf(profile.project, profile.name));
  for (const instance of usersOf(database, profile)) {
    instance.profiles = instance.profiles.map((each) => (each === profile.name ? name : each));
  }
  profile.name = name;
  database.profiles.set(keyOf(profile.project, name), profile);
  request.daemon.event("profile-renamed", urlOfProfile(profile), profile.project);
  return created(`/1.0/profiles/${name}`);
}

function deleteProfile(request: ApiRequest): Reply {
  const { database } = request.daemon;
  if (param(request, "name") === "default") {
    throw new LxdError(403, 'The "default" profile cannot be deleted');
  }
  const profile = profileOf(request, "");
  if (usersOf(database, profile).length > 0) {
    throw new LxdError(500, "Profile is currently in use");
  }
  database.profiles.delete(keyOf(profile.project, profile.name));
  request.daemon.event("profile-deleted", urlOfProfile(profile), profile.project);
  return sync();
}

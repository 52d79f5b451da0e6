/** `/1.0/projects`. */
import { z } from "zod";
import { listed } from "./cluster";
import { type Config, type Database, keyOf, type Project, urlOf } from "./database";
import { requireApiName } from "./instance-model";
import { urlOfProfile } from "./profiles";
import { created, LxdError, type Reply, requireEtag, sync } from "./reply";
import { type ApiRequest, decode, param, type Router } from "./router";
import { urlOfVolume } from "./volumes";

const putFields = { description: z.string().default(""), config: z.record(z.string(), z.string()).nullish() };
const projectPut = z.object(putFields).describe("ProjectPut");
const projectPost = z.object({ ...putFields, name: z.string().default("") }).describe("ProjectsPost");

/** Features that LXD enables in a project by default, with the extension that introduced the later ones. */
const FEATURES = [
  { key: "features.images" },
  { key: "features.profiles" },
  { key: "features.storage.volumes" },
  { key: "features.storage.buckets", extension: "storage_buckets" },
];

/** Keys of a project's config. Limits of one pool or network contain its name in the key. */
const KNOWN_KEY =
  /^(user\..+|features\.(images|profiles|storage\.volumes|storage\.buckets|networks|networks\.zones)|limits\.(instances|containers|virtual-machines|memory|processes|cpu|disk|networks|disk\.pool\..+)|images\.(auto_update_cached|auto_update_interval|compression_algorithm|default_architecture|remote_cache_expiry)|backups\.compression_algorithm|restricted(\.[a-z.-]+)?)$/;

/** Adds the endpoints of projects. */
export function addProjects(router: Router): void {
  router.add("/1.0/projects", {
    GET: (request) => {
      const { database } = request.daemon;
      return listed(request, [...database.projects.values()], urlOfProject, (project) => toApi(database, project));
    },
    POST: createProject,
  });
  router.add("/1.0/projects/{name}", {
    GET: (request) => {
      const { database } = request.daemon;
      const project = database.project(param(request, "name"));
      return sync(toApi(database, project), etagFields(project));
    },
    PUT: changeProject,
    DELETE: deleteProject,
  });
}

function urlOfProject({ name }: Pick<Project, "name">): string {
  return `/1.0/projects/${name}`;
}

function etagFields({ description, config }: Project): unknown[] {
  return [description, config];
}

function createProject(request: ApiRequest): Reply {
  const { database, behaviour } = request.daemon;
  const { name, description, config } = decode(request, projectPost);
  requireValidName(name);
  requireApiName(behaviour, name);
  const features = FEATURES.filter(({ extension }) => extension === undefined || behaviour.apiExtensions.includes(extension));
  const defaults = Object.fromEntries(features.map(({ key }) => [key, "true"]));
  requireValidConfig(request, config ?? {});
  if (database.projects.has(name)) {
    const { status, text } = behaviour.duplicateRow("projects", "projects.name");
    throw new LxdError(status, `Failed creating project "${name}": Failed adding database record: ${text}`);
  }
  database.projects.set(name, { name, description, config: { ...defaults, ...config } });
  makeDefaultProfile(database, name);
  request.daemon.event("project-created", urlOfProject({ name }), name);
  return created(urlOfProject({ name }));
}

function changeProject(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const project = database.project(param(request, "name"));
  requireEtag(request.headers["if-match"], etagFields(project));
  const { description, config } = decode(request, projectPut);
  const wanted = config ?? {};
  const changed = [...new Set([...Object.keys(project.config), ...Object.keys(wanted)])].filter(
    (key) => key.startsWith("features.") && project.config[key] !== wanted[key],
  );
  if (project.name === "default" && changed.length > 0) {
    throw new LxdError(400, "You can't change the features of the default project");
  }
  const [first] = changed;
  if (first !== undefined && !isEmpty(database, project.name)) {
    throw new LxdError(
      400,
      `Project feature "${first}" cannot be ${wanted[first] === "true" ? "enabled" : "disabled"} on non-empty projects`,
    );
  }
  requireValidConfig(request, wanted);
  Object.assign(project, { description, config: wanted });
  if (changed.includes("features.profiles")) {
    database.profiles.delete(keyOf(project.name, "default"));
    makeDefaultProfile(database, project.name);
  }
  request.daemon.event("project-updated", urlOfProject(project), project.name);
  return sync();
}

function deleteProject(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const { name } = database.project(param(request, "name"), (each) => `Fetch project "${each}": `);
  if (name === "default") {
    throw new LxdError(403, "The 'default' project cannot be deleted");
  }
  if (!isEmpty(database, name)) {
    throw new LxdError(500, "Only empty projects can be removed");
  }
  database.projects.delete(name);
  database.profiles.delete(keyOf(name, "default"));
  request.daemon.event("project-deleted", urlOfProject({ name }), name);
  return sync();
}

/** A project with its own profiles has one named default. */
function makeDefaultProfile(database: Database, project: string): void {
  if (database.holder(project, "profiles") === project) {
    const description = `Default LXD profile for project ${project}`;
    database.profiles.set(keyOf(project, "default"), { name: "default", project, description, config: {}, devices: {} });
  }
}

function isEmpty(database: Database, name: string): boolean {
  const inProject = (item: { project: string; name?: string }) => item.project === name && item.name !== "default";
  const { instances, images, profiles, acls } = database;
  return ![...instances.values(), ...images.values(), ...profiles.values(), ...acls.values()].some(inProject);
}

function requireValidName(name: string): void {
  if (name === "") {
    throw new LxdError(400, "No name provided");
  }
  const forbidden = (
    [
      [/\//, "slashes"],
      [/\s/, "spaces"],
      [/_/, "underscores"],
      [/['"]/, "quotes"],
    ] as const
  ).find(([pattern]) => pattern.test(name));
  if (forbidden !== undefined) {
    throw new LxdError(400, `Project names may not contain ${forbidden[1]}`);
  }
  if (name === "*") {
    throw new LxdError(400, "Reserved project name");
  }
  if ([".", ".."].includes(name)) {
    throw new LxdError(400, `Invalid project name "${name}"`);
  }
}

function requireValidConfig(request: ApiRequest, config: Config): void {
  const hasBuckets = request.daemon.behaviour.apiExtensions.includes("storage_buckets");
  for (const [key, value] of Object.entries(config)) {
    if (!KNOWN_KEY.test(key) || (key === "features.storage.buckets" && !hasBuckets)) {
      throw new LxdError(400, `Invalid project configuration key "${key}"`);
    }
    const invalid = invalidValue(key, value);
    if (invalid !== undefined) {
      throw new LxdError(400, `Invalid project configuration key "${key}" value: ${invalid}`);
    }
  }
}

function invalidValue(key: string, value: string): string | undefined {
  if (value === "") {
    return undefined;
  }
  if (/^(features\..+|restricted)$/.test(key)) {
    return /^(true|false|1|0|yes|no|on|off)$/i.test(value) ? undefined : `Invalid value for a boolean "${value}"`;
  }
  if (/^limits\.(memory|disk)(\.|$)/.test(key)) {
    return /^\d+ *([kMGTPE]i?B|B)?$/.test(value) ? undefined : `Invalid value: ${value}`;
  }
  return /^limits\./.test(key) && !/^\d+$/.test(value) ? `Invalid value for an integer "${value}"` : undefined;
}

function toApi(database: Database, project: Project): Record<string, unknown> {
  const own = <Item extends { project: string }>(items: Iterable<Item>) =>
    [...items].filter((item) => item.project === project.name);
  return {
    ...project,
    used_by: [
      ...own(database.instances.values()).map(({ name }) => urlOf(`/1.0/instances/${name}`, project.name)),
      ...own(database.profiles.values()).map(urlOfProfile),
      ...own(database.images.values()).map(({ fingerprint }) => urlOf(`/1.0/images/${fingerprint}`, project.name)),
      ...[...database.pools.values()].flatMap((pool) =>
        own(pool.customVolumes).map((volume) => urlOfVolume(database, pool, volume)),
      ),
      ...own(database.acls.values()).map(({ name }) => urlOf(`/1.0/network-acls/${name}`, project.name)),
      ...own(database.networks.values()).map(({ name }) => urlOf(`/1.0/networks/${name}`, project.name)),
    ],
  };
}

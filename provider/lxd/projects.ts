import * as z from "zod";
import { listOf } from "./client/answers";
import { api, type LxdClient, type Tagged } from "./client/client";
import { type Config, isServerMade, sameConfigValue } from "./config";
import { describeUser } from "./in-use";

/** `/1.0/projects`: https://documentation.ubuntu.com/lxd/latest/api/#/projects */
const projectSchema = z.looseObject({
  name: z.string(),
  description: z.string(),
  config: z.record(z.string(), z.string()),
  used_by: listOf(z.string()),
});

export type Project = z.output<typeof projectSchema>;

export interface ProjectPut {
  readonly description: string;
  readonly config: Config;
}

export type FoundProject = Tagged<Project>;

export function findProject(lxd: LxdClient, name: string): Promise<FoundProject | undefined> {
  return lxd.findWithEtag(api`/1.0/projects/${name}`, projectSchema);
}

/** Returns those of the names that no project has, and the names of all projects. */
export async function findUnknownProjects(
  lxd: LxdClient,
  names: readonly string[],
): Promise<{ unknown: string[]; known: string[] }> {
  if (names.length === 0) {
    return { unknown: [], known: [] };
  }
  const all = await lxd.getShared("/1.0/projects", listOf(z.looseObject({ name: z.string() })), { recursion: 1 });
  const known = all.map(({ name }) => name);
  return { unknown: names.filter((name) => !known.includes(name)), known };
}

/** Returns the other projects that have images of their own. Projects without share those of `default`. */
export async function otherImageProjects(lxd: LxdClient, name: string): Promise<string[]> {
  const all = await lxd.getShared("/1.0/projects", listOf(projectSchema), { recursion: 1 });
  const withImages = all.filter((each) => each.name === "default" || each.config["features.images"] === "true");
  const own = withImages.some((each) => each.name === name) ? name : "default";
  return withImages.flatMap((each) => (each.name === own ? [] : [each.name]));
}

/** Creates a project. LXD adds a profile `default` to it, and enables the features that are not given. */
export async function createProject(lxd: LxdClient, name: string, body: ProjectPut): Promise<void> {
  await lxd.change("POST", "/1.0/projects", { body: { name, ...body } });
}

export async function replaceProject(lxd: LxdClient, found: FoundProject, change: (live: Project) => ProjectPut): Promise<void> {
  await lxd.modify(api`/1.0/projects/${found.value.name}`, projectSchema, change, { found });
}

export async function deleteProject(lxd: LxdClient, name: string): Promise<void> {
  await lxd.remove(api`/1.0/projects/${name}`);
}

/** Lists a project's contents for messages. Omits the profile `default`, which LXD makes and removes with the project. */
export function contentsOf({ name, used_by }: Project): string[] {
  return used_by
    .filter((path) => path !== api`/1.0/profiles/default?project=${name}`)
    .map((path) => describeUser(path.replace(/\?.*$/, "")));
}

export function isFeature(key: string): boolean {
  return key.startsWith("features.");
}

/** Explains why LXD refuses a change of a project's config. Returns `undefined` when LXD allows it. */
export function refusalOfChange(project: Project, wanted: Config): string | undefined {
  const contents = contentsOf(project);
  const changed = Object.keys(wanted).find((key) => isFeature(key) && !sameConfigValue(key, project.config[key], wanted[key]));
  return changed === undefined || contents.length === 0
    ? undefined
    : `Project "${project.name}" holds ${contents.join(", ")}, and ${changed} can be changed only in an empty project`;
}

/** Returns the keys that a change of a project keeps: features, which LXD has for every project, and server-made keys. */
export function keptOf({ config }: Project): Config {
  return Object.fromEntries(Object.entries(config).filter(([key]) => isFeature(key) || isServerMade(key)));
}

import * as z from "zod";
import { api, type LxdClient, type Tagged } from "./client/client";
import { type Config, sameConfigValue } from "./config";
import { describeUser } from "./in-use";

/** `/1.0/projects`: https://documentation.ubuntu.com/lxd/latest/api/#/projects */
const projectSchema = z.looseObject({
  name: z.string(),
  description: z.string(),
  config: z.record(z.string(), z.string()),
  used_by: z.array(z.string()).default([]),
});

/** A project as LXD shows it. */
export type Project = z.output<typeof projectSchema>;

/** What can be written of a project. */
export interface ProjectPut {
  readonly description: string;
  readonly config: Config;
}

/** A project as it was read. */
export type FoundProject = Tagged<Project>;

/** The project, or `undefined` when there is none of that name. */
export function findProject(lxd: LxdClient, name: string): Promise<FoundProject | undefined> {
  return lxd.findWithEtag(api`/1.0/projects/${name}`, projectSchema);
}

/** Makes a project. LXD gives it a profile `default` of its own, and turns on the features that are not given. */
export async function createProject(lxd: LxdClient, name: string, body: ProjectPut): Promise<void> {
  await lxd.change("POST", "/1.0/projects", { body: { name, ...body } });
}

/** Replaces description and config of a project by what `change` makes of what LXD has. */
export async function replaceProject(lxd: LxdClient, found: FoundProject, change: (live: Project) => ProjectPut): Promise<void> {
  await lxd.modify(api`/1.0/projects/${found.value.name}`, projectSchema, change, { found });
}

/** Removes a project. One that does not exist is done. */
export async function deleteProject(lxd: LxdClient, name: string): Promise<void> {
  await lxd.remove(api`/1.0/projects/${name}`);
}

/** What is in a project, as messages name it. The profile `default` is not counted: LXD makes and removes it with the project. */
export function contentsOf({ name, used_by }: Project): string[] {
  return used_by
    .filter((path) => path !== api`/1.0/profiles/default?project=${name}`)
    .map((path) => describeUser(path.replace(/\?.*$/, "")));
}

/** Whether a key turns something on that a project has for itself. */
export function isFeature(key: string): boolean {
  return key.startsWith("features.");
}

/** Why LXD does not change the config of a project as wanted; `undefined` when it does. */
export function refusalOfChange(project: Project, wanted: Config): string | undefined {
  const contents = contentsOf(project);
  const changed = Object.keys(wanted).find((key) => isFeature(key) && !sameConfigValue(key, project.config[key], wanted[key]));
  return changed === undefined || contents.length === 0
    ? undefined
    : `Project "${project.name}" holds ${contents.join(", ")}, and LXD changes ${changed} of an empty project only`;
}

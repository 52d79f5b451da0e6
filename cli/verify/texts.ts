import type { InstanceStatus } from "../status/contents";

/** A command for one instance: `lxc exec web1 --project shop -- ip route`. */
export function commandFor(
  client: string,
  verb: string,
  { project, name }: Pick<InstanceStatus, "project" | "name">,
  inside?: string,
): string {
  const inProject = project === "default" ? "" : ` --project ${project}`;
  return `${client} ${verb} ${name}${inProject}${inside === undefined ? "" : ` -- ${inside}`}`;
}

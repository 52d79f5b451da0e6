/** Shared by the endpoints of instances: finds the instance, and runs work on its member. */
import type { Instance } from "./database";
import { async, type Reply } from "./reply";
import { type ApiRequest, param, projectOf } from "./router";
import { reach } from "./server";

/** The instance that a path names, on a member that answers. */
export function instanceOf(request: ApiRequest): Instance {
  const instance = request.daemon.database.instance(projectOf(request), param(request, "name"));
  reach(instance.member.daemon);
  return instance;
}

/** A reply with an operation that runs on the instance's own member. */
export function onMember(
  instance: Pick<Instance, "member" | "project" | "name" | "type">,
  description: string,
  work: () => Promise<void> | void,
): Reply {
  const { daemon } = instance.member;
  const url = `/1.0/instances/${instance.name}`;
  const operation = daemon.operate({ description, project: instance.project, resources: resourcesOf(instance.type, url) }, work);
  return async(operation);
}

function resourcesOf(type: Instance["type"], url: string): Record<string, string[]> {
  return type === "container" ? { containers: [url.replace("instances", "containers")], instances: [url] } : { instances: [url] };
}

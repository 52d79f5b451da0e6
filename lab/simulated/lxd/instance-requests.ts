/** What the endpoints of instances share: finding the instance, and working on it where it is. */
import type { Instance } from "./database";
import type { Daemon } from "./daemon";
import { async, type Reply } from "./reply";
import { param, projectOf, type ApiRequest } from "./router";
import { reach } from "./server";

/** The instance that a path names, on a member that answers. */
export function instanceOf(request: ApiRequest): Instance {
  const instance = request.daemon.database.instance(projectOf(request), param(request, "name"));
  reach(instance.member.daemon);
  return instance;
}

/** An answer with an operation that runs on the instance's own member. */
export function onMember(
  request: ApiRequest,
  instance: Pick<Instance, "member" | "project" | "name" | "type">,
  description: string,
  work: () => Promise<void> | void,
): Reply {
  const { daemon } = instance.member;
  const url = `/1.0/instances/${instance.name}`;
  const operation = daemon.operate({ description, project: instance.project, resources: resourcesOf(instance.type, url) }, work);
  return forwarded(request, daemon, async(operation), instance.project);
}

function resourcesOf(type: Instance["type"], url: string): Record<string, string[]> {
  return type === "container" ? { containers: [url.replace("instances", "containers")], instances: [url] } : { instances: [url] };
}

/** A member that passes a request on adds the project to the operation's URL. */
function forwarded(request: ApiRequest, owner: Daemon, reply: Reply, project: string): Reply {
  return reply.kind === "async" && owner !== request.daemon ? { ...reply, forwardedProject: project } : reply;
}

/** `/1.0/instances/X/backups`: files with the complete instance, which LXD stores on its member. */
import { z } from "zod";
import { listed } from "./cluster";
import { LxdError } from "./errors";
import { instanceOf, onMember } from "./instance-requests";
import type { Reply } from "./reply";
import { type ApiRequest, decode, param, type Router } from "./router";

const backupPost = z.object({ name: z.string().default("") });

/** Adds the endpoints of backups. */
export function addBackups(router: Router): void {
  router.add("/1.0/instances/{name}/backups", {
    GET: (request) => {
      const { name, backups = [] } = instanceOf(request);
      return listed(request, backups, (backup) => `/1.0/instances/${name}/backups/${backup}`, backupToApi);
    },
    POST: createBackup,
  });
  router.add("/1.0/instances/{name}/backups/{backup}", { DELETE: deleteBackup });
}

/** LXD's JSON for a backup. */
export function backupToApi(name: string): Record<string, unknown> {
  return { name, expires_at: "0001-01-01T00:00:00Z", instance_only: false, container_only: false, optimized_storage: false };
}

function createBackup(request: ApiRequest): Reply {
  const instance = instanceOf(request);
  const { backups = [] } = instance;
  const { name } = decode(request, backupPost);
  return onMember(instance, "Backing up instance", () => {
    instance.backups = [...backups, name === "" ? `backup${backups.length}` : name];
  });
}

function deleteBackup(request: ApiRequest): Reply {
  const instance = instanceOf(request);
  const name = param(request, "backup");
  if (instance.backups?.includes(name) !== true) {
    throw new LxdError(404, "Instance backup not found");
  }
  return onMember(instance, "Deleting backup", () => {
    instance.backups = instance.backups?.filter((each) => each !== name) ?? [];
  });
}

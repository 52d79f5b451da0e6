import { existsSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { mountPoints } from "../../provider/support/mountinfo";

/**
 * Removes a folder that the lab created. The lab mounts only in its own namespaces, so a mount visible here is not the
 * lab's.
 * @throws Error if something is mounted at or below the folder. Nothing is removed then.
 */
export function removeFolder(folder: string): void {
  if (!existsSync(folder)) return;
  const real = realpathSync(folder);
  const mounted = mountPoints(readFileSync("/proc/self/mountinfo", "utf8"), "this machine").filter(
    (target) => target === real || target.startsWith(`${real}/`),
  );
  if (mounted.length > 0)
    throw new Error(
      `${folder} is not removed, because it has mounts: ${mounted.map((target) => JSON.stringify(target)).join(", ")}`,
    );
  rmSync(folder, { recursive: true, force: true });
}

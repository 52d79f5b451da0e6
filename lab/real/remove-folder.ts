import { existsSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { mountPoints } from "../../provider/support/mountinfo";

/**
 * Removes a folder that the lab has made. What it mounts, it mounts in namespaces of its own; a mount that is seen here is somebody else's.
 *
 * @throws Error when something is mounted at or below it. Nothing is removed then.
 */
export function removeFolder(folder: string): void {
  if (!existsSync(folder)) return;
  const real = realpathSync(folder);
  const mounted = mountPoints(readFileSync("/proc/self/mountinfo", "utf8")).filter(
    (target) => target === real || target.startsWith(`${real}/`),
  );
  if (mounted.length > 0)
    throw new Error(`${folder} is not removed: mounted there is ${mounted.map((target) => JSON.stringify(target)).join(", ")}`);
  rmSync(folder, { recursive: true, force: true });
}

import { readFileSync, writeFileSync } from "node:fs";

/**
 * Each systemd, dnsmasq and LXD of each host and guest uses some; the kernel's default of 128 for all processes of root
 * is too low.
 */
const INOTIFY_INSTANCES = 1024;

const INOTIFY_LIMIT = "/proc/sys/fs/inotify/max_user_instances";

/**
 * Raises limits that the kernel counts for the whole machine, as LXD's production setup recommends. Never lowers them.
 */
export function raiseKernelLimits(log: (line: string) => void): void {
  const present = Number(readFileSync(INOTIFY_LIMIT, "utf8"));
  if (present < INOTIFY_INSTANCES) {
    log(`raising fs.inotify.max_user_instances of this machine from ${present} to ${INOTIFY_INSTANCES} (until it restarts)`);
    writeFileSync(INOTIFY_LIMIT, String(INOTIFY_INSTANCES));
  }
}

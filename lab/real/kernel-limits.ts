import { readFileSync, writeFileSync } from "node:fs";

/** Each systemd, dnsmasq and LXD of each host and guest takes some; the kernel's default of 128 for all of root's is soon used up. */
const INOTIFY_INSTANCES = 1024;

const INOTIFY_LIMIT = "/proc/sys/fs/inotify/max_user_instances";

/** Raises what the kernel counts for the whole machine and hosts share, as LXD's own production setup asks; never lowers it. */
export function raiseKernelLimits(log: (line: string) => void): void {
  const present = Number(readFileSync(INOTIFY_LIMIT, "utf8"));
  if (present < INOTIFY_INSTANCES) {
    log(`raising fs.inotify.max_user_instances of this machine from ${present} to ${INOTIFY_INSTANCES} (until it restarts)`);
    writeFileSync(INOTIFY_LIMIT, String(INOTIFY_INSTANCES));
  }
}

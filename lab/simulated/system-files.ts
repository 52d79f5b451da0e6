/** The files that every small Debian system has: the accounts, sudo's rules, a shell. */
import type { MemoryFiles } from "./memory-files";
import { makeUnitFiles } from "./programs/systemd";

const FILES: [path: string, content: string, mode: number, group?: number][] = [
  [
    "/etc/passwd",
    "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    0o644,
  ],
  ["/etc/shadow", "root:*:19700:0:99999:7:::\ndaemon:*:19700:0:99999:7:::\nnobody:*:19700:0:99999:7:::\n", 0o640, 42],
  [
    "/etc/group",
    "root:x:0:\ndaemon:x:1:\nadm:x:4:\nsudo:x:27:\nshadow:x:42:\nstaff:x:50:\nusers:x:100:\nnogroup:x:65534:\n",
    0o644,
  ],
  ["/etc/gshadow", "root:*::\ndaemon:*::\nadm:*::\nsudo:*::\nshadow:*::\nstaff:*::\nusers:*::\nnogroup:*::\n", 0o640, 42],
  ["/etc/shells", "/bin/sh\n/bin/bash\n/usr/bin/bash\n", 0o644],
  ["/etc/sudoers", "root ALL=(ALL:ALL) ALL\n%sudo ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n", 0o440],
  ["/bin/sh", "", 0o755],
  ["/bin/bash", "", 0o755],
  ["/usr/sbin/visudo", "", 0o755],
  ["/usr/bin/apt-get", "", 0o755],
  ["/etc/sudoers.d/README", "# Files here are read by sudo.\n", 0o440],
  ["/etc/skel/.profile", "", 0o644],
  ["/proc/sys/net/ipv4/ip_forward", "0\n", 0o644],
  ["/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n", 0o644],
  ["/proc/sys/fs/inotify/max_user_instances", "128\n", 0o644],
  ["/proc/sys/vm/swappiness", "60\n", 0o644],
];

const DIRECTORIES = [
  ...["/bin", "/etc/sudoers.d", "/etc/skel", "/home", "/srv", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/var/lib", "/run"],
  ...["/proc/self", "/proc/sys/net/ipv4", "/proc/sys/fs/inotify", "/proc/sys/vm", "/etc/sysctl.d", "/var/lib/apt/lists"],
];

/** Makes the files of a system without anything installed on it. */
export function makeSystemFiles(files: MemoryFiles): void {
  for (const directory of DIRECTORIES) {
    files.makeDirectory(directory, { parents: true });
  }
  files.makeDirectory("/root", { mode: 0o700 });
  files.makeDirectory("/tmp", { mode: 0o1777 });
  files.makeDirectory("/var/tmp", { mode: 0o1777 });
  for (const [path, content, mode, gid = 0] of FILES) {
    files.writeFile(path, content, { mode, gid });
  }
  makeUnitFiles(files);
}

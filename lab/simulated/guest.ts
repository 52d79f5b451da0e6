/** The machine inside a simulated instance: the files of a small Debian system, and its programs. */
import type { Instance } from "./lxd/database";
import type { Machine } from "./machine";
import { MemoryFiles } from "./memory-files";

/** A guest. LXD's files API shows the same files. */
export interface Guest extends Machine {
  readonly instance: Instance;
}

const files: [path: string, content: string, mode: number, group?: number][] = [
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
  ["/etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n', 0o644],
  ["/etc/sudoers", "root ALL=(ALL:ALL) ALL\n%sudo ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n", 0o440],
  ["/bin/sh", "", 0o755],
  ["/bin/bash", "", 0o755],
  ["/usr/sbin/visudo", "", 0o755],
];

/** The files of a new guest. */
export function makeGuestFiles(instance: Instance): MemoryFiles {
  const made = new MemoryFiles();
  for (const directory of [
    "/bin",
    "/etc/sudoers.d",
    "/etc/skel",
    "/home",
    "/srv",
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/var/lib",
    "/run",
    "/proc/self",
  ]) {
    made.makeDirectory(directory, { parents: true });
  }
  made.makeDirectory("/root", { mode: 0o700 });
  made.makeDirectory("/tmp", { mode: 0o1777 });
  made.makeDirectory("/var/tmp", { mode: 0o1777 });
  for (const [path, content, mode, gid = 0] of files) {
    made.writeFile(path, content, { mode, gid });
  }
  made.writeFile("/etc/sudoers.d/README", "# Files here are read by sudo.\n", { mode: 0o440 });
  made.writeFile("/etc/skel/.profile", "");
  made.writeFile(
    "/proc/self/mountinfo",
    "36 35 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n37 36 0:21 / /run rw,nosuid - tmpfs tmpfs rw\n",
  );
  made.writeFile("/etc/hostname", `${instance.name}\n`);
  return made;
}

/** The guest of an instance. */
export function guestOf(instance: Instance): Guest {
  instance.files ??= makeGuestFiles(instance);
  return { name: instance.name, files: instance.files, instance };
}

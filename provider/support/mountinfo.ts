import { ResponseShapeError } from "./errors";

/**
 * The mount points in the text of `/proc/PID/mountinfo`, in its order: a mount on another mount comes after it. The kernel writes
 * spaces, tabs, newlines and backslashes of a path as octal numbers, and all other bytes unchanged.
 * @param where - The host or instance, for messages.
 * @throws ResponseShapeError for a line of another form. Its mount point is unknown then.
 * @see proc(5), and `show_mountinfo` in fs/proc_namespace.c of Linux
 */
export function mountPoints(mountinfo: string, where: string): string[] {
  return mountinfo
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      // id, parent, device, root, mount point, options, any number of tags, "-", type, source, file system options
      const fields = line.split(" ");
      const [id = "", , device = "", root = "", target = ""] = fields;
      if (
        !/^\d+$/.test(id) ||
        !/^\d+:\d+$/.test(device) ||
        root === "" ||
        !target.startsWith("/") ||
        fields.indexOf("-", 6) < 0
      ) {
        throw new ResponseShapeError(`A line of /proc/self/mountinfo on ${where} cannot be read: ${line}`);
      }
      return target.replace(/\\([0-3][0-7]{2})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    });
}

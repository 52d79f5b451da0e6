import type { Deadline } from "../support/deadline";
import { CommandError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";
import { isThere } from "./paths";

/**
 * Names of LXD's own bridges, by its files. They stay in the kernel when the daemon is stopped or removed. LXD creates no bridge
 * with the name of an existing interface.
 */
export async function bridgesOf(ssh: SshConnection, data: string, deadline: Deadline): Promise<string[]> {
  const networks = `${data}/networks`;
  if (!(await isThere(ssh, "-d", networks, deadline))) {
    return [];
  }
  const list = ["find", "-H", networks, "-mindepth", "1", "-maxdepth", "1", "-type", "d", "-printf", "%f\\n"];
  return (await ssh.run(list, { deadline })).stdout.split("\n").filter((name) => name !== "");
}

/** Deletes bridges from the kernel. An interface that has the name and is not a bridge stays. */
export async function endBridges(ssh: SshConnection, names: readonly string[], deadline: Deadline): Promise<void> {
  const isBridge = (name: string): Promise<boolean> => isThere(ssh, "-d", `/sys/class/net/${name}/bridge`, deadline);
  for (const name of names) {
    if (await isBridge(name)) {
      const { exitCode, stderr } = await ssh.run(["ip", "link", "delete", name], { deadline, allowFailure: true });
      if (exitCode !== 0 && (await isBridge(name))) {
        throw new CommandError(ssh.name, "ip", exitCode, stderr.trim());
      }
    }
  }
}

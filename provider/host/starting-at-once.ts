/**
 * Restarts of a server that do not wait until it is ready, and that no instance notices. Debian's units wait for up to ten minutes, and dpkg with
 * them; a member that was upgraded before others is ready only after these.
 */
import type { Deadline } from "../support/deadline";
import type { SshConnection } from "../transport/ssh";
import { namesOfUnits, type UnitPackaging } from "./units";

/** Drop-ins in /run end with the next boot, if an interruption leaves them. */
const [FOLDER, NAME] = ["/run/systemd/system", "pulumi-lxd-upgrade.conf"];

/** The daemon's unit starts without the command that waits. */
const DAEMON = "ExecStartPost=";

/**
 * The unit of the instances requires the server's socket, so a restart of the socket by the package restarts it too. Its own commands would shut
 * all instances down then, if they still reach the daemon, and start it again. A unit needs one command.
 */
const INSTANCES = "ExecStart=\nExecStop=\nExecStop=/bin/true";

/**
 * Runs work in which the server's units start at once. Running instances keep running.
 * @see systemd.unit(5), systemd.service(5), and postinst of Debian's packages
 */
export async function startingAtOnce<Result>(
  ssh: SshConnection,
  packaging: UnitPackaging,
  deadline: Deadline,
  work: () => Promise<Result>,
): Promise<Result> {
  const { daemon, instances } = namesOfUnits(packaging);
  const files = [daemon, instances].map((unit) => `${FOLDER}/${unit}.d/${NAME}`);
  await ssh.run(["mkdir", "-p", `${FOLDER}/${daemon}.d`, `${FOLDER}/${instances}.d`], { deadline });
  try {
    for (const [index, text] of [DAEMON, INSTANCES].entries()) {
      await ssh.run(["tee", files[index] ?? ""], { deadline, stdin: `[Service]\n${text}\n` });
    }
    await ssh.run(["systemctl", "daemon-reload"], { deadline });
    return await work();
  } finally {
    await ssh.run(["rm", "-f", ...files], { deadline });
    await ssh.run(["systemctl", "daemon-reload"], { deadline });
  }
}

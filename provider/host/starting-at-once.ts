/**
 * Starts of a server that do not wait until it is ready, and that no instance notices. Debian's units wait for up to ten minutes, and dpkg with
 * them; a member that was upgraded before others is ready only after these.
 */
import type { Deadline } from "../support/deadline";
import { undoing } from "../support/errors";
import type { SshConnection } from "../transport/ssh";
import { namesOfUnits, type UnitPackaging } from "./units";

/** Drop-ins in /run end with the next boot, if an interruption leaves them. */
const [FOLDER, NAME] = ["/run/systemd/system", "pulumi-lxd-upgrade.conf"];

/**
 * The daemon's unit starts without the command that waits. Debian's script that starts Incus runs nothing when its unit is already active, as it
 * would be at once without any such command.
 */
const DAEMON = "ExecStartPost=\nExecStartPost=/bin/sleep 5";

/**
 * The unit of the instances requires the server's socket, so a restart of the socket by the package restarts it too. Its own commands would shut
 * all instances down then, if they still reach the daemon, and start it again. A unit needs one command.
 */
const INSTANCES = "ExecStart=\nExecStop=\nExecStop=/bin/true";

/**
 * Runs work in which the server's units start at once. Running instances keep running. The daemon's unit stays so until {@link startAsPackaged}:
 * a daemon that waits for other members may exit when the last one is upgraded, because all change the database at the same time (Incus 7.0:
 * "database is locked"). systemd starts it again, but with the command that waits only ten minutes later.
 * @see systemd.unit(5), systemd.service(5), and postinst of Debian's packages
 */
export async function startingAtOnce<Result>(
  ssh: SshConnection,
  packaging: UnitPackaging,
  deadline: Deadline,
  work: () => Promise<Result>,
): Promise<Result> {
  const { daemon, instances } = namesOfUnits(packaging);
  await ssh.run(["mkdir", "-p", folderOf(daemon), folderOf(instances)], { deadline });
  let isDone = false;
  const undo = async (): Promise<void> => {
    await ssh.run(["rm", "-f", fileOf(instances), ...(isDone ? [] : [fileOf(daemon)])], { deadline });
    await ssh.run(["systemctl", "daemon-reload"], { deadline });
  };
  return undoing(undo, async () => {
    await ssh.run(["tee", fileOf(daemon)], { deadline, stdin: `[Service]\n${DAEMON}\n` });
    await ssh.run(["tee", fileOf(instances)], { deadline, stdin: `[Service]\n${INSTANCES}\n` });
    await ssh.run(["systemctl", "daemon-reload"], { deadline });
    const result = await work();
    isDone = true;
    return result;
  });
}

/** Lets the daemon's unit start as the package says again. For a daemon that is ready. */
export async function startAsPackaged(ssh: SshConnection, packaging: UnitPackaging, deadline: Deadline): Promise<void> {
  const file = fileOf(namesOfUnits(packaging).daemon);
  if ((await ssh.run(["test", "-e", file], { deadline, allowFailure: true })).exitCode === 0) {
    await ssh.run(["rm", "-f", file], { deadline });
    await ssh.run(["systemctl", "daemon-reload"], { deadline });
  }
}

function folderOf(unit: string): string {
  return `${FOLDER}/${unit}.d`;
}

function fileOf(unit: string): string {
  return `${folderOf(unit)}/${NAME}`;
}

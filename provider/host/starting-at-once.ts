/**
 * Starts of a server that do not wait until it is ready. Debian's units wait for up to ten minutes, and dpkg with them; a member that was
 * upgraded before others is ready only after these.
 */
import type { Deadline } from "../support/deadline";
import type { SshConnection } from "../transport/ssh";
import { namesOfUnits, type UnitPackaging } from "./units";

/** Drop-ins in /run end with the next boot, if an interruption leaves them. */
const [FOLDER, NAME] = ["/run/systemd/system", "pulumi-lxd-upgrade.conf"];

/**
 * Runs work in which the server's units start at once: the daemon's without the command that waits, the one of the instances without the command
 * that starts those for which the daemon was never started. Running instances are not affected.
 * @see systemd.unit(5), systemd.service(5)
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
    for (const [index, text] of ["ExecStartPost=", "ExecStart="].entries()) {
      await ssh.run(["tee", files[index] ?? ""], { deadline, stdin: `[Service]\n${text}\n` });
    }
    await ssh.run(["systemctl", "daemon-reload"], { deadline });
    return await work();
  } finally {
    await ssh.run(["rm", "-f", ...files], { deadline });
    await ssh.run(["systemctl", "daemon-reload"], { deadline });
  }
}

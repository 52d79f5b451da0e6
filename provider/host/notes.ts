/**
 * Notes on a host. Neither state nor LXD's `user.*` keys can hold them: a wipe that is killed has written no state, and has
 * removed the LXD with the keys. Without a note, the next run would treat a half-wiped host as a fresh one. A note is a symbolic
 * link, because a link is created in one step with its text. Text that may be secret is in a file that only root can read, never
 * on a command line.
 */
import { type Server, serverConfig } from "../lxd/server";
import type { Deadline } from "../support/deadline";
import type { SshConnection } from "../transport/ssh";
import { isThere } from "./paths";

const DIRECTORY = "/var/lib";

export type Note =
  /** Exists from before LXD's data is wiped until LXD runs again. */
  | "pulumi-lxd-wipe"
  /** The address on which LXD listens only because the host is a cluster member. */
  | "pulumi-lxd-https-address"
  /** Exists from before a member is evacuated for its upgrade until it is restored. */
  | "pulumi-lxd-upgrade";

export function pathOfNote(note: Note): string {
  return `${DIRECTORY}/${note}`;
}

export async function writeNote(ssh: SshConnection, note: Note, text: string, deadline: Deadline): Promise<void> {
  await ssh.run(["ln", "-s", "-f", "-n", text, pathOfNote(note)], { deadline });
}

export async function readNote(ssh: SshConnection, note: Note, deadline: Deadline): Promise<string | undefined> {
  // readlink(1) ends with the same status when the link does not exist and when it fails.
  const { stdout } = await ssh.run(["find", DIRECTORY, "-maxdepth", "1", "-name", note, "-printf", "%l"], { deadline });
  return stdout === "" ? undefined : stdout;
}

export async function removeNote(ssh: SshConnection, note: Note, deadline: Deadline): Promise<void> {
  await ssh.run(["rm", "-f", pathOfNote(note)], { deadline });
}

/** Notes an address that will come with the membership: a host that is no longer a member must listen as before. */
export async function noteHttpsAddress(ssh: SshConnection, server: Server, address: string, deadline: Deadline): Promise<void> {
  if ((serverConfig(server)["core.https_address"] ?? "") === "") {
    await writeNote(ssh, "pulumi-lxd-https-address", address, deadline);
  }
}

/** File that keeps the settings of LXD's snap during a wipe. They may be secret. */
export const SNAP_SETTINGS = `${DIRECTORY}/pulumi-lxd-wipe-snap`;

/** Exists while {@link SNAP_SETTINGS} is written. */
const PARTIAL = `${SNAP_SETTINGS}.new`;

/** Writes {@link SNAP_SETTINGS} so that the file is either complete and on the disk, or does not exist. */
export async function writeSnapSettings(ssh: SshConnection, text: string, deadline: Deadline): Promise<void> {
  await ssh.run(["install", "-m", "600", "/dev/null", PARTIAL], { deadline });
  await ssh.run(["dd", `of=${PARTIAL}`, "conv=fsync", "status=none"], { deadline, stdin: text });
  await ssh.run(["mv", "-f", "-T", PARTIAL, SNAP_SETTINGS], { deadline });
}

export async function readSnapSettings(ssh: SshConnection, deadline: Deadline): Promise<string | undefined> {
  const exists = await isThere(ssh, "-e", SNAP_SETTINGS, deadline);
  return exists ? (await ssh.run(["cat", SNAP_SETTINGS], { deadline })).stdout : undefined;
}

/** Removes all notes, that of the wipe last: while it exists, the next run finishes the wipe. */
export async function removeNotes(ssh: SshConnection, deadline: Deadline): Promise<void> {
  const notes: readonly Note[] = ["pulumi-lxd-https-address", "pulumi-lxd-upgrade", "pulumi-lxd-wipe"];
  await ssh.run(["rm", "-f", PARTIAL, SNAP_SETTINGS, ...notes.map(pathOfNote)], { deadline });
}

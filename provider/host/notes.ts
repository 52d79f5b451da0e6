/**
 * Notes on a host. They are neither in state nor in LXD's `user.*` keys: a wipe that is killed has written no state and has removed the LXD
 * that held the keys, and without a note the next run would take a half-wiped host for a fresh one. A note is a symbolic link, because that is
 * made in one step with its text. What may be secret is a file that only root can read, and is in no command line.
 */
import type { Deadline } from "../support/deadline";
import type { SshConnection } from "../transport/ssh";
import { isThere } from "./paths";

const DIRECTORY = "/var/lib";

/** By the name of the link. */
export type Note =
  /** Stands from before LXD's data is wiped until LXD runs again. */
  | "pulumi-lxd-wipe"
  /** The address at which LXD listens on the network for its membership alone. */
  | "pulumi-lxd-https-address";

/** Where a note is. */
export function pathOfNote(note: Note): string {
  return `${DIRECTORY}/${note}`;
}

export async function writeNote(ssh: SshConnection, note: Note, text: string, deadline: Deadline): Promise<void> {
  await ssh.run(["ln", "-s", "-f", "-n", text, pathOfNote(note)], { deadline });
}

/** The text of a note; `undefined` when there is none. */
export async function readNote(ssh: SshConnection, note: Note, deadline: Deadline): Promise<string | undefined> {
  // readlink(1) ends alike when there is none and when it fails.
  const { stdout } = await ssh.run(["find", DIRECTORY, "-maxdepth", "1", "-name", note, "-printf", "%l"], { deadline });
  return stdout === "" ? undefined : stdout;
}

/** Where it is kept what was set on LXD's snap while that is wiped. It may be secret. */
export const SNAP_SETTINGS = `${DIRECTORY}/pulumi-lxd-wipe-snap`;

/** Stands while {@link SNAP_SETTINGS} is written. */
const PARTIAL = `${SNAP_SETTINGS}.new`;

/** Writes {@link SNAP_SETTINGS}, which is there as a whole, on the disk, or not at all. */
export async function writeSnapSettings(ssh: SshConnection, text: string, deadline: Deadline): Promise<void> {
  await ssh.run(["install", "-m", "600", "/dev/null", PARTIAL], { deadline });
  await ssh.run(["dd", `of=${PARTIAL}`, "conv=fsync", "status=none"], { deadline, stdin: text });
  await ssh.run(["mv", "-f", "-T", PARTIAL, SNAP_SETTINGS], { deadline });
}

/** The text of {@link SNAP_SETTINGS}; `undefined` when there is none. */
export async function readSnapSettings(ssh: SshConnection, deadline: Deadline): Promise<string | undefined> {
  if (!(await isThere(ssh, "-e", SNAP_SETTINGS, deadline))) {
    return undefined;
  }
  return (await ssh.run(["cat", SNAP_SETTINGS], { deadline })).stdout;
}

/** All of them, that of the wipe as the last: as long as it stands, an interrupted wipe is finished. */
export async function removeNotes(ssh: SshConnection, deadline: Deadline): Promise<void> {
  const notes: readonly Note[] = ["pulumi-lxd-https-address", "pulumi-lxd-wipe"];
  await ssh.run(["rm", "-f", PARTIAL, SNAP_SETTINGS, ...notes.map(pathOfNote)], { deadline });
}

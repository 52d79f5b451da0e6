/** A repository for apt that the user gives, as one file in deb822 format. @see sources.list(5) */
import type { Deadline } from "../support/deadline";
import { RefusedError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";
import { isThere } from "./paths";

/** Fields of an entry in sources.list(5), with its names. */
export interface AptRepository {
  readonly uris: readonly string[];
  readonly suites: readonly string[];
  readonly components: readonly string[];
  /** The public key as text, or the path of a keyring on the host. */
  readonly signedBy?: string | undefined;
}

export const REPOSITORY_FILE = "/etc/apt/sources.list.d/pulumi-lxd-cluster.sources";

/** apt ignores files with this suffix. */
const PARTIAL = `${REPOSITORY_FILE}.new`;

const HEADER = "# Written by pulumi-lxd-cluster (install.repository of LxdNode), which overwrites changes\n";

/** The text of the file. */
function entryOf({ uris, suites, components, signedBy }: AptRepository): string {
  const fields = [
    ["Types", "deb"],
    ["URIs", uris.join(" ")],
    ["Suites", suites.join(" ")],
    ["Components", components.join(" ")],
    ["Signed-By", signedBy === undefined ? "" : continued(signedBy)],
  ];
  const lines = fields
    .filter(([, value]) => value !== "")
    .map(([name, value = ""]) => `${name}:${value.startsWith("\n") ? "" : " "}${value}\n`);
  return HEADER + lines.join("");
}

/** A key as the further lines of a field. A dot stands for an empty line. */
function continued(text: string): string {
  const lines = text.trim().split(/\r?\n/);
  return lines.length === 1 ? text.trim() : lines.map((line) => `\n ${line.trim() === "" ? "." : line.trimEnd()}`).join("");
}

/** Whether the host has the repository exactly as given. */
export async function hasRepository(ssh: SshConnection, wanted: AptRepository, deadline: Deadline): Promise<boolean> {
  return (await readEntry(ssh, deadline)) === entryOf(wanted);
}

/**
 * Writes the file, or removes it when no repository is wanted. Does not update apt's lists.
 * @returns Whether it changed the host.
 * @throws RefusedError when the file exists and was not written by this package.
 */
export async function bringRepository(
  ssh: SshConnection,
  wanted: AptRepository | undefined,
  deadline: Deadline,
): Promise<boolean> {
  const present = await readEntry(ssh, deadline);
  const isOurs = present === undefined || present.startsWith(HEADER);
  const text = wanted === undefined ? undefined : entryOf(wanted);
  if (present === text || (text === undefined && !isOurs)) {
    return false;
  }
  if (!isOurs) {
    throw new RefusedError(
      `${REPOSITORY_FILE} on ${ssh.name} was not written by pulumi-lxd-cluster, and install.repository would overwrite it. Rename or remove it there`,
    );
  }
  if (text === undefined) {
    await ssh.run(["rm", "-f", REPOSITORY_FILE], { deadline });
    return true;
  }
  await ssh.run(["install", "-m", "644", "/dev/null", PARTIAL], { deadline });
  await ssh.run(["dd", `of=${PARTIAL}`, "conv=fsync", "status=none"], { deadline, stdin: text });
  await ssh.run(["mv", "-f", "-T", PARTIAL, REPOSITORY_FILE], { deadline });
  return true;
}

async function readEntry(ssh: SshConnection, deadline: Deadline): Promise<string | undefined> {
  const exists = await isThere(ssh, "-e", REPOSITORY_FILE, deadline);
  return exists ? (await ssh.run(["cat", REPOSITORY_FILE], { deadline })).stdout : undefined;
}

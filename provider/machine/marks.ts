/**
 * Marks of the resources that own what is on a machine: for a guest in the config of its instance, which LXD keeps; for a host in
 * a directory of its own.
 */
import { createHash } from "node:crypto";
import type { Config } from "../lxd/config";
import { type Machine, namesIn } from "./machine";

const PREFIX = "user.pulumi.";

/** Keeps what the library must find again on a machine. Only root can enter it. */
const DIRECTORY = "/var/lib/pulumi-lxd-cluster";

/** Key of an instance's config that holds a mark. */
export function configKeyOf(mark: string): string {
  return PREFIX + mark;
}

const USER = configKeyOf("user.");

/** Names of the users that resources own, by the config of their instance. */
export function ownedUsersIn(config: Config): string[] {
  return Object.entries(config).flatMap(([key, mark]) => (key.startsWith(USER) && mark !== "" ? [key.slice(USER.length)] : []));
}

/** Path at which the library keeps something about an object of a machine. */
export function keptPath(what: "mark" | "former" | "pending" | "made", object: string): string {
  return `${DIRECTORY}/${what}-${createHash("sha256").update(object).digest("hex").slice(0, 32)}`;
}

/** Makes the directory of {@link keptPath}. */
export async function makeKeptDirectory(machine: Machine): Promise<void> {
  await machine.run(["mkdir", "-p", "-m", "700", DIRECTORY]);
}

/** Removes the directory of {@link keptPath} when nothing is kept in it. */
export async function clearKeptDirectory(machine: Machine): Promise<void> {
  const directory = await machine.readFile(DIRECTORY);
  if (directory?.type === "directory" && namesIn(directory).length === 0) {
    await machine.removeFile(DIRECTORY);
  }
}

/** The mark of an object on a host. */
export async function readHostMark(host: Machine, mark: string): Promise<string | undefined> {
  const text = (await host.readFile(keptPath("mark", mark)))?.content.trimEnd();
  return text === "" ? undefined : text;
}

/** @param text - The empty text removes the mark. */
export async function writeHostMark(host: Machine, mark: string, text: string): Promise<void> {
  const path = keptPath("mark", mark);
  if (text === "") {
    await host.removeFile(path);
    await clearKeptDirectory(host);
    return;
  }
  await makeKeptDirectory(host);
  await host.createFile(`${path}.new`, { uid: 0, gid: 0, mode: 0o600, content: `${text}\n` });
  await host.run(["mv", "-f", "-T", `${path}.new`, path]);
}

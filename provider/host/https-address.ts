/**
 * Bootstrapping or joining a cluster makes LXD listen on the network. A host that is no longer a member must listen as before.
 */
import type { Config } from "../lxd/config";
import { LOCAL_CONFIG, type Server, serverConfig } from "../lxd/server";
import type { Deadline } from "../support/deadline";
import type { SshConnection } from "../transport/ssh";
import { readNote, writeNote } from "./notes";

/** Writes a note that `core.https_address` will come with the membership, unless the host already has one. */
export async function noteHttpsAddress(ssh: SshConnection, server: Server, address: string, deadline: Deadline): Promise<void> {
  if ((serverConfig(server)["core.https_address"] ?? "") === "") {
    await writeNote(ssh, "pulumi-lxd-https-address", address, deadline);
  }
}

/** The host's own part of LXD's config: without what came with the membership, and without keys that name a volume. */
export async function configOfHost(ssh: SshConnection, server: Server, deadline: Deadline): Promise<Config> {
  const noted = await readNote(ssh, "pulumi-lxd-https-address", deadline);
  const isOwn = ([key, value]: [string, string]): boolean =>
    LOCAL_CONFIG.test(key) && !key.endsWith("_volume") && !(key === "core.https_address" && value === noted);
  return Object.fromEntries(Object.entries(serverConfig(server)).filter(isOwn));
}

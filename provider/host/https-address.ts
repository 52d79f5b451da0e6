/**
 * Bootstrapping a cluster and joining one make LXD listen on the network. When its host is no member any more, it is to listen as it did
 * before: the host's own config stays, and what came with the membership goes.
 */
import type { Config } from "../lxd/config";
import { LOCAL_CONFIG, type Server, serverConfig } from "../lxd/server";
import type { Deadline } from "../support/deadline";
import type { SshConnection } from "../transport/ssh";
import { readNote, writeNote } from "./notes";

/** Notes, before a host becomes a member, that `core.https_address` comes with that, unless the host has one. */
export async function noteHttpsAddress(ssh: SshConnection, server: Server, address: string, deadline: Deadline): Promise<void> {
  if ((serverConfig(server)["core.https_address"] ?? "") === "") {
    await writeNote(ssh, "pulumi-lxd-https-address", address, deadline);
  }
}

/** What of LXD's config is the host's own, and neither came with its membership nor names a volume. */
export async function configOfHost(ssh: SshConnection, server: Server, deadline: Deadline): Promise<Config> {
  const noted = await readNote(ssh, "pulumi-lxd-https-address", deadline);
  const isOwn = ([key, value]: [string, string]): boolean =>
    LOCAL_CONFIG.test(key) && !key.endsWith("_volume") && !(key === "core.https_address" && value === noted);
  return Object.fromEntries(Object.entries(serverConfig(server)).filter(isOwn));
}

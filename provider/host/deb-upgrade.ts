/** The version of a server that was installed as Debian's package, and its upgrade. */
import type { ServerKind } from "../lxd/client/endpoint";
import { hostMachine } from "../machine/host";
import type { Machine } from "../machine/machine";
import {
  debHolds,
  installedDebVersions,
  isOlderDeb,
  type PackageTerms,
  setDebHold,
  upgradeDebPackage,
} from "../machine/packages/apt";
import type { Deadline } from "../support/deadline";
import { RefusedError, undoing } from "../support/errors";
import type { SshConnection } from "../transport/ssh";
import { DAEMON_PACKAGES } from "./installed";
import { startingAtOnce } from "./starting-at-once";

const INCUS = ". Debian 13 has it, and Debian 12 in bookworm-backports (install.repository and install.targetRelease)";

/** Ends of a message, by packages that the host's sources may not have. */
const WHERE_TO_FIND: Readonly<Record<string, string>> = {
  lxd: '. Debian 12 and 13 have it; on Ubuntu use install: {method: "snap"}',
  incus: INCUS,
  "incus-base": INCUS,
};

/** The packages of LxdNode. */
export const NODE_TERMS: PackageTerms = {
  missing: (name) => WHERE_TO_FIND[name] ?? " (install.packages)",
  version: "install.version",
};

/** What a server is upgraded from and to, for messages: `5.0.2-5`, `5.0.2-6`. */
export interface Versions {
  readonly from: string;
  readonly to: string;
}

/** Whether the package with the daemon is to be held, or not; `undefined` when that is left to the host's users. */
export function wantedHold({ hold, version }: { hold?: boolean; version?: string }): boolean | undefined {
  return hold ?? (version === undefined ? undefined : true);
}

/** Whether all installed packages with the daemon are held. */
export async function isDaemonHeld(ssh: SshConnection, server: ServerKind, deadline: Deadline): Promise<boolean> {
  return ![...(await debHolds(hostMachine(ssh, deadline), DAEMON_PACKAGES[server])).values()].includes(false);
}

/** Holds the packages with the daemon, or releases them. */
export function holdDaemon(ssh: SshConnection, server: ServerKind, isHeld: boolean, deadline: Deadline): Promise<void> {
  return setDebHold(hostMachine(ssh, deadline), DAEMON_PACKAGES[server], isHeld, deadline);
}

/** The version of the package with the daemon; `undefined` when it is not installed. */
export function versionOfDaemon(installed: ReadonlyMap<string, string>, server: ServerKind): string | undefined {
  return DAEMON_PACKAGES[server].map((name) => installed.get(name)).find((version) => version !== undefined);
}

/**
 * Returns from what to what the server is to be upgraded; `undefined` when it has the wanted version, or is not installed.
 * @throws RefusedError when the wanted version is older.
 */
export async function findDebUpgrade(
  ssh: SshConnection,
  { server, version: to }: { readonly server: ServerKind; readonly version?: string | undefined },
  deadline: Deadline,
): Promise<Versions | undefined> {
  if (to === undefined) {
    return undefined;
  }
  const host = hostMachine(ssh, deadline);
  const from = versionOfDaemon(await installedDebVersions(host, DAEMON_PACKAGES[server]), server);
  if (from === undefined || from === to) {
    return undefined;
  }
  if (await isOlderDeb(host, to, from)) {
    throw new RefusedError(
      `${ssh.name} has the package ${server} in version ${from}, but install.version is ${to}, which is older. The server does not start on the ` +
        `data of a newer version. Set install.version to "${from}" or a newer one, or leave it out`,
    );
  }
  return { from, to };
}

/**
 * Upgrades the package of the daemon, and those that were built together with it.
 * @returns apt's message about package sources that it could not read.
 */
export async function upgradeDeb(
  ssh: SshConnection,
  server: ServerKind,
  version: string,
  deadline: Deadline,
  targetRelease?: string,
): Promise<string | undefined> {
  const host = hostMachine(ssh, deadline);
  const installed = await installedDebVersions(host, DAEMON_PACKAGES[server]);
  const name = DAEMON_PACKAGES[server].find((each) => installed.has(each)) ?? server;
  return upgradeDebPackage(host, { name, version }, { deadline, terms: NODE_TERMS, targetRelease }, (work) =>
    withoutHold(host, DAEMON_PACKAGES[server], deadline, () =>
      startingAtOnce(ssh, server === "lxd" ? "deb" : "incus", deadline, work),
    ),
  );
}

/** apt does not upgrade held packages, and could be told so only for all of the host's. */
async function withoutHold<Result>(
  host: Machine,
  names: readonly string[],
  deadline: Deadline,
  work: () => Promise<Result>,
): Promise<Result> {
  const held = [...(await debHolds(host, names))].flatMap(([name, isHeld]) => (isHeld ? [name] : []));
  await setDebHold(host, held, false, deadline);
  return undoing(() => setDebHold(host, held, true, deadline), work);
}

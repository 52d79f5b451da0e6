/** Installs LXD or Incus on a host and keeps it installed. Checks whether that is allowed before it changes the host. */
import type { Connection, Context, SshConnection } from "../engine/lifecycle";
import { bringRepository, hasRepository } from "../host/apt-repository";
import {
  findDebUpgrade,
  holdDaemon,
  isDaemonHeld,
  NODE_TERMS,
  upgradeDeb,
  type Versions,
  versionOfDaemon,
  wantedHold,
} from "../host/deb-upgrade";
import { DAEMON_PACKAGES, findRival, isInstalled, packagingOf } from "../host/installed";
import { bringSnap, findSnap, isElsewhere, judgeSnap, startSnap } from "../host/snapd";
import { direction, sameChannel } from "../host/snapd-channels";
import { startDaemon } from "../host/units";
import { type ApiSocket, findSocket, namesOf, type Packaging } from "../lxd/client/endpoint";
import { hostMachine } from "../machine/host";
import { installDebPackages, installedDebPackages, installedDebVersions } from "../machine/packages/apt";
import type { PackageChoice } from "../machine/packages/manager";
import type { Deadline } from "../support/deadline";
import { sameJson } from "../support/equality";
import { afterChange, hasCode, havingChanged, RefusedError } from "../support/errors";
import type { DebInstall, Install } from "./lxd-node-install-schema";
import { previewUpgrade, type ServerThere, type Upgraded, upgradeServer } from "./lxd-node-upgrade";

/** An installation that accepts what a host has, for messages. */
const INSTALL_OF: Readonly<Record<Packaging, string>> = {
  deb: '{method: "deb"}',
  snap: '{method: "snap"}',
  incus: '{method: "deb", server: "incus"}',
};

/**
 * Makes sure that LXD is installed on the host and listens: installs it when it is missing, and starts it when it does not run.
 * Checks an existing installation and does not change it.
 * @returns Whether anything on the host was changed.
 * @throws RefusedError when LXD is installed in another way than wanted, or is newer, or the host has the other server.
 */
export async function ensureInstalled(context: Context, ssh: SshConnection, wanted: Install): Promise<boolean> {
  const socket = await findSocket(ssh, context.deadline);
  if (wanted === false) {
    if (socket === undefined) {
      throw new RefusedError(
        `Neither LXD nor Incus runs on ${ssh.name}, and install is false. Install one there, or set install to ${INSTALL_OF.snap}, ` +
          `${INSTALL_OF.deb} or ${INSTALL_OF.incus}`,
      );
    }
    return false;
  }
  const packaging = packagingOf(wanted);
  await refuseRival(context, ssh, packaging, socket);
  if (socket !== undefined && socket.packaging !== packaging) {
    throw new RefusedError(
      `${namesOf(socket.packaging).name} on ${ssh.name} was installed from a ${socket.packaging} (${socket.path}), but install.method is ${wanted.method}. Set install: false to ` +
        "use it, or remove it from the host",
    );
  }
  if (socket === undefined && !(await isInstalled(ssh, context.deadline, wanted))) {
    await applyInstall(context, ssh, wanted);
  } else if (wanted.method === "snap") {
    await judgeSnap(ssh, wanted, context);
  } else {
    await findDebUpgrade(ssh, wanted, context.deadline);
  }
  if (socket !== undefined) {
    return false;
  }
  // Somebody may have stopped LXD, or the host forbids packages to start their services.
  await havingChanged(async () => {
    if ((await findSocket(ssh, context.deadline)) === undefined) {
      await start(context, ssh, packaging);
    }
  });
  return true;
}

/**
 * A host runs one of the two servers: each makes its own bridges and pools, and the API of the wrong one would show nothing of
 * what the other holds.
 * @throws RefusedError when the host has the other server, running or not.
 */
async function refuseRival(
  context: Context,
  ssh: SshConnection,
  packaging: Packaging,
  socket: ApiSocket | undefined,
): Promise<void> {
  const wanted = namesOf(packaging);
  const running = socket !== undefined && namesOf(socket.packaging).server !== wanted.server ? socket.packaging : undefined;
  const rival = running ?? (await findRival(ssh, wanted.server, context.deadline));
  if (rival === undefined) {
    return;
  }
  const other = namesOf(rival);
  const both = running === undefined && socket !== undefined;
  const has = both ? `both ${wanted.name} and ${other.name}` : other.name;
  const moves = other.server === "lxd" ? " (the command lxd-to-incus moves it to Incus)" : "";
  const alternative = both ? "" : `, or manage ${other.name}: install: ${INSTALL_OF[rival]}`;
  throw new RefusedError(
    `${ssh.name} has ${has}, and install asks for ${wanted.name}. A host runs one of the two. Save what ${other.name} holds${moves}, and remove it ` +
      `there (${other.purge})${alternative}`,
  );
}

/**
 * Installs the server where there is none, or brings the installation to the wanted packages, version, channel, revision and hold.
 * @param server - The server that is there.
 */
export async function applyInstall(
  context: Context,
  ssh: SshConnection,
  wanted: Install,
  server?: ServerThere,
): Promise<Upgraded | "kept"> {
  if (wanted === false) {
    return "kept";
  }
  const versions = server && (await findUpgrade(context, ssh, wanted));
  if (server !== undefined && versions !== undefined) {
    const host = { ...server, ssh, evacuates: wanted.evacuate === true };
    return upgradeServer(context, host, versions, () => bring(context, ssh, wanted, versions.to));
  }
  await bring(context, ssh, wanted);
  return "kept";
}

/**
 * Brings the packages to what is wanted.
 * @param upgradeTo - The version of Debian's package to which an installed server is upgraded.
 */
async function bring(context: Context, ssh: SshConnection, wanted: Exclude<Install, false>, upgradeTo?: string): Promise<void> {
  const { deadline } = context;
  if (wanted.method === "snap") {
    const installed = await findSnap(ssh, deadline);
    if (installed === undefined) {
      const what = wanted.revision === undefined ? "" : `revision ${wanted.revision} `;
      context.progress(`installing the LXD snap ${what}from ${wanted.channel} on ${ssh.name}`);
    }
    await bringSnap(ssh, wanted, context);
    return;
  }
  const isChanged = await bringRepository(ssh, wanted.repository, deadline);
  try {
    await installMissing(context, ssh, wanted);
    if (upgradeTo !== undefined) {
      warnOfUnread(context, ssh, await upgradeDeb(ssh, wanted.server, upgradeTo, deadline, wanted.targetRelease));
    }
    const hold = wantedHold(wanted);
    if (hold !== undefined) {
      await holdDaemon(ssh, wanted.server, hold, deadline);
    }
  } catch (error) {
    throw isChanged ? afterChange(error) : error;
  }
}

/**
 * Returns from what to what an installed server is to be upgraded; `undefined` when it is as wanted, or not there.
 * @throws RefusedError when the wanted version is older.
 */
async function findUpgrade(context: Context, ssh: SshConnection, wanted: Exclude<Install, false>): Promise<Versions | undefined> {
  if (wanted.method === "deb") {
    return findDebUpgrade(ssh, wanted, context.deadline);
  }
  const installed = await findSnap(ssh, context.deadline);
  if (installed === undefined || !isElsewhere(installed, wanted) || wanted.revision === installed.revision) {
    return undefined;
  }
  await judgeSnap(ssh, wanted, context);
  const { version, revision: present = "of a file" } = installed;
  const revision = wanted.revision === undefined ? "" : `revision ${wanted.revision} of `;
  return { from: `${version} (revision ${present})`, to: `${revision}${wanted.channel}` };
}

function warnOfUnread(context: Context, ssh: SshConnection, unread: string | undefined): void {
  if (unread !== undefined) {
    context.warn(
      `apt on ${ssh.name} cannot read all of its package sources: ${unread}. The packages were installed from the others`,
    );
  }
}

async function installMissing(context: Context, ssh: SshConnection, wanted: DebInstall): Promise<void> {
  const { deadline } = context;
  const { packages, targetRelease, version } = wanted;
  const daemons: readonly string[] = DAEMON_PACKAGES[wanted.server];
  const host = hostMachine(ssh, deadline);
  const there = await installedDebPackages(host, [...daemons, ...packages]);
  const missing: PackageChoice[] = [
    ...daemonsToInstall(wanted, there).map((name) => ({ name, version })),
    ...packages.filter((name) => !there.includes(name)).map((name) => ({ name })),
  ];
  if (missing.length === 0) {
    return;
  }
  const names = missing.map(({ name }) => name).join(", ");
  context.progress(`installing the Debian packages ${names} on ${ssh.name}`);
  warnOfUnread(context, ssh, await installDebPackages(host, missing, { deadline, terms: NODE_TERMS, targetRelease }));
  if (daemons.some((name) => there.includes(name))) {
    const { name, restart } = namesOf(packagingOf(wanted));
    context.warn(`${name} on ${ssh.name} uses ${names} only after a restart: ${restart} (instances keep running)`);
  }
}

/** The daemon's package if it is missing. `incus-base` is a part of `incus`. */
function daemonsToInstall({ server, serverPackage = "incus" }: DebInstall, there: readonly string[]): string[] {
  if (server === "lxd") {
    return there.includes("lxd") ? [] : ["lxd"];
  }
  const accepted = serverPackage === "incus" ? ["incus"] : DAEMON_PACKAGES.incus;
  return accepted.some((name) => there.includes(name)) ? [] : [serverPackage];
}

async function start(context: Context, ssh: SshConnection, packaging: Packaging): Promise<void> {
  context.progress(`starting ${namesOf(packaging).name} on ${ssh.name}`);
  if (packaging === "snap") {
    await startSnap(ssh, context);
  } else {
    await startDaemon(ssh, packaging, context.deadline);
  }
}

/** How LXD is installed on a host. */
export interface Installed {
  /** Spelled as in state, where the meaning is the same. */
  readonly install: Install;
  /** Revision of the snap. */
  readonly revision?: number | undefined;
  /** Version of the package with the daemon, or of the snap. */
  readonly packageVersion?: string | undefined;
}

/**
 * Reads how LXD is installed, for the refresh. Drift is another packaging, a changed channel, revision or hold, or a missing
 * package.
 */
export async function readInstall(context: Context, ssh: SshConnection, socket: ApiSocket, known: Install): Promise<Installed> {
  if (known === false) {
    return { install: known };
  }
  if (socket.packaging !== "snap") {
    const { server } = namesOf(socket.packaging);
    return known.method === "deb" && known.server === server
      ? readDebInstall(context, ssh, known)
      : { install: { method: "deb", server, packages: [] } };
  }
  const snap = await findSnap(ssh, context.deadline);
  const { channel, held, revision, version: packageVersion } = snap ?? { channel: "", held: false };
  if (known.method !== "snap") {
    return { install: { method: "snap", channel, cohort: false, hold: held ?? false }, revision, packageVersion };
  }
  const { revision: pinned, ...rest } = known;
  return {
    install: {
      ...rest,
      channel: sameChannel(channel, known.channel) ? known.channel : channel,
      hold: held ?? known.hold,
      ...(pinned === undefined || revision === undefined ? {} : { revision }),
    },
    revision,
    packageVersion,
  };
}

async function readDebInstall(context: Context, ssh: SshConnection, known: DebInstall): Promise<Installed> {
  const { deadline } = context;
  const { serverPackage, repository, packages, version, hold: _hold, ...rest } = known;
  const there = await installedDebVersions(hostMachine(ssh, deadline), [...DAEMON_PACKAGES[known.server], ...packages]);
  const isBaseOnly = there.has("incus-base") && !there.has("incus");
  const found = isBaseOnly ? "incus-base" : serverPackage;
  const packageVersion = versionOfDaemon(there, known.server);
  const install: DebInstall = {
    ...rest,
    packages: packages.filter((name) => there.has(name)),
    ...(found !== undefined && { serverPackage: found }),
    ...(repository !== undefined && (await hasRepository(ssh, repository, deadline)) && { repository }),
    ...(version !== undefined && { version: packageVersion ?? version }),
    ...(await observeHold(ssh, known, deadline)),
  };
  return { install, packageVersion };
}

/** The hold, if it is managed, spelled as in state where that means the same. */
async function observeHold(ssh: SshConnection, known: DebInstall, deadline: Deadline): Promise<Pick<DebInstall, "hold">> {
  if (wantedHold(known) === undefined) {
    return {};
  }
  const hold = await isDaemonHeld(ssh, known.server, deadline);
  const { hold: _, ...pinned } = known;
  return hold === wantedHold(pinned) && hold !== known.hold ? {} : { hold };
}

/** Whether the installation is the wanted one. `targetRelease` and `evacuate` say only how it becomes so. */
export function sameInstall({ install: found, revision }: Installed, wanted: Install): boolean {
  if (found !== false && wanted !== false && found.method === "snap" && wanted.method === "snap") {
    return (
      sameChannel(found.channel, wanted.channel) &&
      found.hold === wanted.hold &&
      (wanted.revision === undefined || wanted.revision === (revision ?? found.revision))
    );
  }
  if (found !== false && wanted !== false && found.method === "deb" && wanted.method === "deb") {
    return sameJson(comparable(found), comparable(wanted));
  }
  return sameJson(found, wanted);
}

function comparable({ targetRelease: _, evacuate: _evacuate, serverPackage = "incus", ...install }: DebInstall): object {
  return { ...install, serverPackage, hold: wantedHold(install) };
}

/** Releases the hold that an installation asks for, when it no longer does. */
export async function releaseHold(context: Context, ssh: SshConnection, former: Install, wanted: Install = false): Promise<void> {
  const stays = wanted !== false && wanted.method === "deb" && wantedHold(wanted) !== undefined;
  if (former !== false && former.method === "deb" && wantedHold(former) === true && !stays) {
    await holdDaemon(ssh, former.server, false, context.deadline);
  }
}

/** Returns the refusals of a change of `install` that are known without a request. Pure. */
export function installWarnings(
  { install: found, revision, lxdVersion }: Installed & { readonly lxdVersion: string },
  wanted: Install,
  host: string,
): string[] {
  if (found === false || wanted === false) {
    return [];
  }
  const [has, asks] = [namesOf(packagingOf(found)), namesOf(packagingOf(wanted))];
  if (has.server !== asks.server) {
    return [`pulumi up will refuse this. ${host} has ${has.name}, but install asks for ${asks.name}`];
  }
  const refused = `pulumi up will refuse this. ${has.name} on ${host} was installed from`;
  if (found.method !== "snap" || wanted.method !== "snap") {
    return found.method === wanted.method ? [] : [`${refused} a ${found.method}, but install.method is ${wanted.method}`];
  }
  const isSame = sameChannel(found.channel, wanted.channel);
  if (!isSame && direction({ channel: found.channel, version: lxdVersion }, wanted) === "backwards") {
    return [`${refused} ${found.channel}, but install.channel is ${wanted.channel}, which is older`];
  }
  const present = revision ?? found.revision;
  if (wanted.revision === undefined || present === undefined || wanted.revision >= present) {
    return [];
  }
  return isSame
    ? [`${refused} the snap's revision ${present}, but install.revision is the older ${wanted.revision}`]
    : [
        `${refused} the snap's revision ${present}, but install.revision is ${wanted.revision}, which is older unless the store has a newer version for it`,
      ];
}

/** What a preview tells of a change of `install` that upgrades the server, or that is refused. */
export async function previewInstall(
  context: Context,
  connection: Connection,
  wanted: Exclude<Install, false>,
): Promise<string[]> {
  const ssh = await context.host(connection);
  try {
    const versions = await findUpgrade(context, ssh, wanted);
    return versions === undefined
      ? []
      : await previewUpgrade(await context.lxd(connection), connection.host, versions, wanted.evacuate === true);
  } catch (error) {
    if (!hasCode(error, "refused")) {
      throw error;
    }
    // installWarnings tells it of the snap.
    return wanted.method === "snap" ? [] : [`pulumi up will refuse this. ${error.message}`];
  }
}

/** Describes an installation briefly: `the snap from 5.21/stable, held`. */
export function describeInstall(install: Install): string {
  if (install === false) {
    return "neither the snap nor Debian's package";
  }
  if (install.method === "deb") {
    const { server, serverPackage = "incus", version, hold } = install;
    const what = server === "incus" ? `Incus, Debian's package ${serverPackage}` : "Debian's package";
    return `${what}${version === undefined ? "" : ` in version ${version}`}${install.packages.length === 0 ? "" : ` with ${install.packages.join(", ")}`}${hold === undefined ? "" : hold ? ", held" : ", not held"}`;
  }
  const { channel, hold, revision } = install;
  return `the snap from ${channel || "a file"}${revision === undefined ? "" : ` in revision ${revision}`}${hold ? ", held" : ", not held"}`;
}

/** Installs LXD or Incus on a host and keeps it installed. Checks whether that is allowed before it changes the host. */
import * as z from "zod";
import type { Context, SshConnection } from "../engine/lifecycle";
import { installDebPackages, installedDebPackages } from "../host/apt";
import { bringRepository, hasRepository } from "../host/apt-repository";
import { DAEMON_PACKAGES, findRival, isInstalled, packagingOf } from "../host/installed";
import { bringSnap, findSnap, isElsewhere, judgeSnap, startSnap } from "../host/snapd";
import { direction, sameChannel } from "../host/snapd-channels";
import { startDaemon } from "../host/units";
import { type ApiSocket, findSocket, namesOf, type Packaging } from "../lxd/client/endpoint";
import { sameJson } from "../support/equality";
import { afterChange, havingChanged, RefusedError } from "../support/errors";

const word = z.string().regex(/^[^\s#]+$/, "must be one word");

/** The text of a public key, or the path of a keyring on the host. */
const signedBySchema = z
  .string()
  .regex(
    /^(\/\S+|\s*-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n[\x20-\x7e\r\n]*-----END PGP PUBLIC KEY BLOCK-----\s*)$/,
    'must be the text of a public key, from "-----BEGIN PGP PUBLIC KEY BLOCK-----" to its end, or the path of a keyring on the host',
  );

const repositorySchema = z
  .strictObject({
    uris: z
      .array(word.regex(/^[a-z][a-z0-9+]*:/, 'is not a URI such as "https://deb.debian.org/debian"'))
      .min(1, "must name one"),
    suites: z.array(word).min(1, "must name one"),
    components: z.array(word).default([]),
    signedBy: signedBySchema.exactOptional(),
  })
  .superRefine(({ suites, components }, context) => {
    const isFlat = suites.every((suite) => suite.endsWith("/"));
    if (isFlat !== (components.length === 0)) {
      const message = isFlat ? "must be empty, because the suite is a directory" : 'must name one, such as "main"';
      context.addIssue({ code: "custom", path: ["components"], message });
    }
  });

const debSchema = z
  .strictObject({
    method: z.literal("deb"),
    server: z.enum(["lxd", "incus"], 'must be "lxd" or "incus"').default("lxd"),
    serverPackage: z.enum(DAEMON_PACKAGES.incus, 'must be "incus" or "incus-base"').exactOptional(),
    packages: z.array(z.string().regex(/^[a-z0-9][a-z0-9.+-]+$/, "is not the name of a Debian package")).default([]),
    repository: repositorySchema.exactOptional(),
    targetRelease: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9.+~/-]*$/, 'is not the name of a release such as "trixie-backports"')
      .exactOptional(),
  })
  .superRefine(({ server, serverPackage }, context) => {
    if (serverPackage !== undefined && server !== "incus") {
      context.addIssue({ code: "custom", path: ["serverPackage"], message: 'is only for server: "incus"' });
    }
  });

const snapSchema = z.strictObject({
  method: z.literal("snap"),
  server: z.literal("lxd", 'must be "lxd": Incus has no snap. Use { method: "deb", server: "incus" }').exactOptional(),
  channel: z
    .string()
    .regex(/^[a-z0-9.-]+(\/[a-z]+)?(\/[\w.-]+)?$/, 'is not a snap channel such as "5.21/stable"')
    .default("5.21/stable"),
  cohort: z.boolean().default(true),
  hold: z.boolean().default(true),
  revision: z.number().int().positive().exactOptional(),
});

/** The input `install` of an LxdNode. */
export const installSchema = z.union([
  z.literal(false),
  z.discriminatedUnion("method", [debSchema, snapSchema], {
    error: ({ input }) =>
      input !== null && typeof input === "object" ? 'must be "deb" or "snap"' : 'must be { method: "deb" } or { method: "snap" }',
  }),
]);

/** See {@link installSchema}. */
export type Install = z.output<typeof installSchema>;

type DebInstall = z.output<typeof debSchema>;

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
 * Installs LXD, or brings the installation to the wanted packages, channel, revision and hold.
 * @returns Whether that restarted LXD.
 */
export async function applyInstall(context: Context, ssh: SshConnection, wanted: Install): Promise<boolean> {
  if (wanted === false) {
    return false;
  }
  const { deadline } = context;
  if (wanted.method === "snap") {
    const installed = await findSnap(ssh, deadline);
    if (installed === undefined || isElsewhere(installed, wanted)) {
      const what = wanted.revision === undefined ? "" : `revision ${wanted.revision} `;
      context.progress(`installing the LXD snap ${what}from ${wanted.channel} on ${ssh.name}`);
    }
    return bringSnap(ssh, wanted, context);
  }
  const isChanged = await bringRepository(ssh, wanted.repository, deadline);
  try {
    await installMissing(context, ssh, wanted);
  } catch (error) {
    throw isChanged ? afterChange(error) : error;
  }
  return false;
}

async function installMissing(context: Context, ssh: SshConnection, wanted: DebInstall): Promise<void> {
  const { deadline } = context;
  const { packages, targetRelease } = wanted;
  const daemons: readonly string[] = DAEMON_PACKAGES[wanted.server];
  const there = await installedDebPackages(ssh, [...daemons, ...packages], deadline);
  const missing = [...daemonsToInstall(wanted, there), ...packages.filter((name) => !there.includes(name))];
  if (missing.length === 0) {
    return;
  }
  context.progress(`installing the Debian packages ${missing.join(", ")} on ${ssh.name}`);
  const unread = await installDebPackages(ssh, missing, deadline, targetRelease);
  if (unread !== undefined) {
    context.warn(
      `apt on ${ssh.name} cannot read all of its package sources: ${unread}. The packages were installed from the others`,
    );
  }
  if (daemons.some((name) => there.includes(name))) {
    const { name, restart } = namesOf(packagingOf(wanted));
    context.warn(`${name} on ${ssh.name} uses ${missing.join(", ")} only after a restart: ${restart} (instances keep running)`);
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
    const isKnown = known.method === "deb" && known.server === server;
    return { install: isKnown ? await readDebInstall(context, ssh, known) : { method: "deb", server, packages: [] } };
  }
  const snap = await findSnap(ssh, context.deadline);
  const { channel, held, revision } = snap ?? { channel: "", held: false, revision: undefined };
  if (known.method !== "snap") {
    return { install: { method: "snap", channel, cohort: false, hold: held ?? false }, revision };
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
  };
}

async function readDebInstall(context: Context, ssh: SshConnection, known: DebInstall): Promise<DebInstall> {
  const { deadline } = context;
  const { serverPackage, repository, packages, ...rest } = known;
  const there = await installedDebPackages(ssh, [...DAEMON_PACKAGES[known.server], ...packages], deadline);
  const isBaseOnly = there.includes("incus-base") && !there.includes("incus");
  const found = isBaseOnly ? "incus-base" : serverPackage;
  return {
    ...rest,
    packages: packages.filter((name) => there.includes(name)),
    ...(found !== undefined && { serverPackage: found }),
    ...(repository !== undefined && (await hasRepository(ssh, repository, deadline)) && { repository }),
  };
}

/** Whether the installation is the wanted one. `targetRelease` says only from where packages are installed. */
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

function comparable({ targetRelease: _, serverPackage = "incus", ...install }: DebInstall): object {
  return { ...install, serverPackage };
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

/** Describes an installation briefly: `the snap from 5.21/stable, held`. */
export function describeInstall(install: Install): string {
  if (install === false) {
    return "neither the snap nor Debian's package";
  }
  if (install.method === "deb") {
    const { server, serverPackage = "incus" } = install;
    const what = server === "incus" ? `Incus, Debian's package ${serverPackage}` : "Debian's package";
    return `${what}${install.packages.length === 0 ? "" : ` with ${install.packages.join(", ")}`}`;
  }
  const { channel, hold, revision } = install;
  return `the snap from ${channel || "a file"}${revision === undefined ? "" : ` in revision ${revision}`}${hold ? ", held" : ", not held"}`;
}

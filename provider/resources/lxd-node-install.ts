/** Installs LXD on a host and keeps it installed. Checks whether that is allowed before it changes the host. */
import * as z from "zod";
import type { Context, SshConnection } from "../engine/lifecycle";
import { hasDebPackage, installDebPackages } from "../host/apt";
import { isInstalled } from "../host/installed";
import { bringSnap, findSnap, isElsewhere, judgeSnap, startSnap } from "../host/snapd";
import { direction, sameChannel } from "../host/snapd-channels";
import { type ApiSocket, findSocket } from "../lxd/client/endpoint";
import { sameJson } from "../support/equality";
import { havingChanged, RefusedError } from "../support/errors";

/** The input `install` of an LxdNode. */
export const installSchema = z.union([
  z.literal(false),
  z.discriminatedUnion(
    "method",
    [
      z.strictObject({
        method: z.literal("deb"),
        packages: z.array(z.string().regex(/^[a-z0-9][a-z0-9.+-]+$/, "is not the name of a Debian package")).default([]),
      }),
      z.strictObject({
        method: z.literal("snap"),
        channel: z
          .string()
          .regex(/^[a-z0-9.-]+(\/[a-z]+)?(\/[\w.-]+)?$/, 'is not a snap channel such as "5.21/stable"')
          .default("5.21/stable"),
        cohort: z.boolean().default(true),
        hold: z.boolean().default(true),
        revision: z.number().int().positive().exactOptional(),
      }),
    ],
    {
      error: ({ input }) =>
        input !== null && typeof input === "object"
          ? 'must be "deb" or "snap"'
          : 'must be { method: "deb" } or { method: "snap" }',
    },
  ),
]);

/** See {@link installSchema}. */
export type Install = z.output<typeof installSchema>;

/**
 * Makes sure that LXD is installed on the host and listens: installs it when it is missing, and starts it when it does not run.
 * Checks an existing installation and does not change it.
 * @returns Whether anything on the host was changed.
 * @throws RefusedError when LXD is installed in another way than wanted, or is newer.
 */
export async function ensureInstalled(context: Context, ssh: SshConnection, wanted: Install): Promise<boolean> {
  const socket = await findSocket(ssh, context.deadline);
  if (wanted === false) {
    if (socket === undefined) {
      throw new RefusedError(
        `LXD does not run on ${ssh.name}, and install is false. Install it there, or set install to {method: "deb"} or {method: "snap"}`,
      );
    }
    return false;
  }
  if (socket !== undefined && socket.packaging !== wanted.method) {
    const { packaging, path } = socket;
    const found = packaging === "incus" ? `${ssh.name} runs Incus` : `LXD on ${ssh.name} was installed from a ${packaging}`;
    throw new RefusedError(
      `${found} (${path}), but install.method is ${wanted.method}. Set install: false to use it, or remove it from the host`,
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
      await start(context, ssh, wanted.method);
    }
  });
  return true;
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
  const missing: string[] = [];
  for (const name of ["lxd", ...wanted.packages]) {
    if (!(await hasDebPackage(ssh, name, deadline))) {
      missing.push(name);
    }
  }
  if (missing.length > 0) {
    context.progress(`installing the Debian packages ${missing.join(", ")} on ${ssh.name}`);
    const unread = await installDebPackages(ssh, missing, deadline);
    if (unread !== undefined) {
      context.warn(
        `apt on ${ssh.name} cannot read all of its package sources: ${unread}. The packages were installed from the others`,
      );
    }
    if (!missing.includes("lxd")) {
      context.warn(
        `LXD on ${ssh.name} uses ${missing.join(", ")} only after a restart: systemctl restart lxd (instances keep running)`,
      );
    }
  }
  return false;
}

async function start(context: Context, ssh: SshConnection, method: "deb" | "snap"): Promise<void> {
  context.progress(`starting LXD on ${ssh.name}`);
  if (method === "snap") {
    await startSnap(ssh, context);
  } else {
    await ssh.run(["systemctl", "start", "lxd.socket", "lxd.service"], { deadline: context.deadline });
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
    const packages = known.method === "deb" ? known.packages : [];
    const there = await Promise.all(packages.map((name) => hasDebPackage(ssh, name, context.deadline)));
    const found = { method: "deb" as const, packages: packages.filter((_, index) => there[index]) };
    return { install: socket.packaging === "deb" ? found : false }; // false differs from both deb and snap
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

/** Whether the installation is the wanted one. */
export function sameInstall({ install: found, revision }: Installed, wanted: Install): boolean {
  if (found !== false && wanted !== false && found.method === "snap" && wanted.method === "snap") {
    return (
      sameChannel(found.channel, wanted.channel) &&
      found.hold === wanted.hold &&
      (wanted.revision === undefined || wanted.revision === (revision ?? found.revision))
    );
  }
  return sameJson(found, wanted);
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
  const refused = `pulumi up will refuse this. LXD on ${host} was installed from`;
  if (found.method !== "snap" || wanted.method !== "snap") {
    return found.method === wanted.method ? [] : [`${refused} a ${found.method}, but install.method is ${wanted.method}`];
  }
  const isSame = sameChannel(found.channel, wanted.channel);
  if (!isSame && direction({ channel: found.channel, version: lxdVersion }, wanted) === "backwards") {
    return [`${refused} ${found.channel}, but install.channel is ${wanted.channel}, which is older`];
  }
  const has = revision ?? found.revision;
  if (wanted.revision === undefined || has === undefined || wanted.revision >= has) {
    return [];
  }
  return isSame
    ? [`${refused} the snap's revision ${has}, but install.revision is the older ${wanted.revision}`]
    : [
        `${refused} the snap's revision ${has}, but install.revision is ${wanted.revision}, which is older unless the store has a newer version for it`,
      ];
}

/** Describes an installation briefly: `the snap from 5.21/stable, held`. */
export function describeInstall(install: Install): string {
  if (install === false) {
    return "neither the snap nor Debian's package";
  }
  if (install.method === "deb") {
    return `Debian's package${install.packages.length === 0 ? "" : ` with ${install.packages.join(", ")}`}`;
  }
  const { channel, hold, revision } = install;
  return `the snap from ${channel || "a file"}${revision === undefined ? "" : ` in revision ${revision}`}${hold ? ", held" : ", not held"}`;
}

/**
 * Settings of the LXD snap that snapd forgets with the snap: its configuration, and interfaces that were connected by hand. snapd
 * remembers which interfaces were disconnected (tried with 2.57.6).
 */
import * as z from "zod";
import { hasCode, SnapdError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";
import { control } from "./snapd";
import { type Patience, SNAP, Snapd } from "./snapd-api";

const CONFIG = `${SNAP}/conf`;

const configSchema = z.record(z.string(), z.unknown());

const linkSchema = z.object({
  plug: z.object({ snap: z.string(), plug: z.string() }),
  slot: z.object({ snap: z.string(), slot: z.string() }),
});

const connectionsSchema = z.looseObject({
  established: z.array(linkSchema.extend({ manual: z.boolean().default(false) })),
});

/** Stored as JSON. Values of the configuration may be secret. */
export const snapSettingsSchema = z.object({ config: configSchema, links: z.array(linkSchema) });

export type SnapSettings = z.output<typeof snapSettingsSchema>;

/** The settings of the installed snap, or `undefined` when it has only defaults. */
export async function findSnapSettings(ssh: SshConnection, patience: Patience): Promise<SnapSettings | undefined> {
  const snapd = await Snapd.require(ssh, patience);
  const config = await snapd.get(CONFIG, configSchema);
  const { established } = await snapd.get("/v2/connections?snap=lxd", connectionsSchema);
  const links = established.filter(({ manual }) => manual).map(({ plug, slot }) => ({ plug, slot }));
  return Object.keys(config).length + links.length === 0 ? undefined : { config, links };
}

/**
 * Restores the settings and restarts the snap's services, which read their configuration when they start.
 * @param cure - How to continue without the settings.
 * @throws SnapdError when snapd refuses one.
 */
export async function applySnapSettings(
  ssh: SshConnection,
  { config, links }: SnapSettings,
  cure: string,
  patience: Patience,
): Promise<void> {
  const snapd = await Snapd.require(ssh, patience);
  for (const { plug, slot } of links) {
    await restoring(`snap connect ${plug.snap}:${plug.plug} ${slot.snap}:${slot.slot}`, cure, () =>
      snapd.change("/v2/interfaces", { action: "connect", plugs: [plug], slots: [slot] }),
    );
  }
  if (Object.keys(config).length > 0) {
    await restoring("snap set lxd", cure, () => snapd.change(CONFIG, config, "PUT"), "hide reply");
  }
  await control(snapd, "restart");
}

/**
 * Adds to a refusal by snapd the command that would do the same, and how to continue.
 * @param hide - The snap's own check of its configuration may quote values in snapd's reply.
 */
async function restoring(command: string, cure: string, work: () => Promise<void>, hide?: "hide reply"): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!hasCode(error, "snapd")) {
      throw error;
    }
    const { host, request, status, kind, reply } = error;
    const said =
      hide === undefined ? reply : "the reply is not shown, because it may quote values (see snap changes; snap tasks ID)";
    throw new SnapdError(host, request, status, kind, `${said}. This was to restore what "${command}" had set. ${cure}`);
  }
}

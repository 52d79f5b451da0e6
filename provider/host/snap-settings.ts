/**
 * Settings of a snap that snapd forgets with the snap: its configuration, and interfaces that were connected by hand.
 * snapd remembers by itself which interfaces were disconnected (tried with 2.57.6).
 */
import * as z from "zod";
import { hasCode, SnapdError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";
import { requireSnapd } from "./snapd";
import { type Patience, SERVICES } from "./snapd-api";

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

/** The settings of an installed snap, or `undefined` when it has only defaults. */
export async function findSnapSettings(ssh: SshConnection, name: string, patience: Patience): Promise<SnapSettings | undefined> {
  const snapd = await requireSnapd(ssh, patience);
  const config = await snapd.get(configPath(name), configSchema);
  const { established } = await snapd.get(`/v2/connections?snap=${encodeURIComponent(name)}`, connectionsSchema);
  const links = established.filter(({ manual }) => manual).map(({ plug, slot }) => ({ plug, slot }));
  return Object.keys(config).length + links.length === 0 ? undefined : { config, links };
}

/**
 * Restores the settings and restarts the snap's services, which read their configuration when they start. Running it
 * twice is safe.
 * @param cure - How to continue without the settings.
 * @throws SnapdError when snapd refuses one.
 */
export async function applySnapSettings(
  ssh: SshConnection,
  name: string,
  { config, links }: SnapSettings,
  cure: string,
  patience: Patience,
): Promise<void> {
  const snapd = await requireSnapd(ssh, patience);
  for (const { plug, slot } of links) {
    await telling(`snap connect ${plug.snap}:${plug.plug} ${slot.snap}:${slot.slot}`, cure, () =>
      snapd.change("/v2/interfaces", name, { action: "connect", plugs: [plug], slots: [slot] }),
    );
  }
  if (Object.keys(config).length > 0) {
    await telling(`snap set ${name}`, cure, () => snapd.change(configPath(name), name, config, "PUT"), "hide");
  }
  await snapd.change(SERVICES, name, { action: "restart", names: [name] });
}

/**
 * Adds to a refusal by snapd the command that would do the same, and how to continue.
 * @param words - "hide" leaves out snapd's reply: a snap's own check of its configuration may quote values.
 */
async function telling(command: string, cure: string, work: () => Promise<void>, words?: "hide"): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!hasCode(error, "snapd")) {
      throw error;
    }
    const { host, request, status, kind, reply } = error;
    const said = words === "hide" ? "what it says is not shown here, it may quote values (snap changes; snap tasks ID)" : reply;
    throw new SnapdError(host, request, status, kind, `${said}. It was to do again what "${command}" did by hand. ${cure}`);
  }
}

function configPath(name: string): string {
  return `/v2/snaps/${encodeURIComponent(name)}/conf`;
}

import * as z from "zod";

/**
 * Names of the members whose heartbeats the cluster misses. LXD shows that of an evacuated member only in its database. The clock is that of the
 * member that answers; the default is that of `cluster.offline_threshold`.
 */
export const UNHEARD_MEMBERS =
  "SELECT name FROM nodes WHERE strftime('%s', 'now') - strftime('%s', heartbeat) > " +
  "COALESCE((SELECT CAST(value AS INTEGER) FROM config WHERE key = 'cluster.offline_threshold'), 20)";

/** Status of a member that is evacuated, whether or not its host is up. */
export const EVACUATED = "Evacuated";

const rowSchema = z.tuple([z.string()]);

/**
 * Returns the names of the members that are down, as far as the cluster knows: offline, or evacuated and not heard of. One that has just lost its
 * power is none of them yet.
 * @param select - Reads the database, and returns no rows when it may not be read.
 */
export async function downIn(
  members: readonly { readonly server_name: string; readonly status: string }[],
  select: (query: string, row: typeof rowSchema) => Promise<z.output<typeof rowSchema>[]>,
): Promise<string[]> {
  const evacuated = members.some(({ status }) => status === EVACUATED);
  const unheard = new Set((evacuated ? await select(UNHEARD_MEMBERS, rowSchema) : []).map(([name]) => name));
  const isDown = ({ server_name, status }: (typeof members)[number]): boolean =>
    status === "Offline" || (status === EVACUATED && unheard.has(server_name));
  return members.filter(isDown).map(({ server_name }) => server_name);
}

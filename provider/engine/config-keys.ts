import { type ConfigOwner, INCUS_KEYS, isKnownKey, KNOWN_KEYS, matches, serversKeys } from "../lxd/config-keys";
import { nearest } from "../support/spelling";
import type { Context } from "./lifecycle";
import { look, type Preview, redactedLog } from "./previews";
import type { Properties } from "./properties";

interface Key {
  readonly owner: ConfigOwner;
  /** Of a device. */
  readonly type: string;
  readonly path: string;
  readonly key: string;
}

/**
 * Warns of keys that LXD does not have. Asks the server only about a key that is not in the list. A key that was in the former
 * inputs was accepted then, and is not checked again.
 */
export async function previewConfigKeys<Inputs extends object, Outputs extends object>(
  preview: Preview<Inputs, Outputs>,
  olds: Properties,
  properties: Properties,
): Promise<void> {
  const { configOf } = preview.lifecycle;
  if (configOf === undefined) {
    return;
  }
  const before = new Set(keysIn(configOf, olds).map(({ path }) => path));
  const strange = keysIn(configOf, properties).filter(({ owner, path, key }) => !before.has(path) && !isKnownKey(owner, key));
  if (strange.length === 0) {
    return;
  }
  const place = (properties["cluster"] ?? properties["connection"]) as Parameters<Context["lxd"]>[0];
  const keysOf = await look(preview, properties, async (context) => serversKeys(await context.lxd(place))).catch(
    // The host has no server or is down: only the list is used.
    () => () => undefined,
  );
  const { warn } = redactedLog(preview.log, properties);
  for (const { owner, type, path, key } of strange) {
    const keys = keysOf(owner, type);
    const meant = nearest(key, keys ?? [...KNOWN_KEYS[owner], ...INCUS_KEYS[owner]]);
    if (keys === undefined ? meant !== undefined && !matches(INCUS_KEYS[owner], key) : !matches(keys, key)) {
      const fact = keys === undefined ? "is not a known key of LXD or Incus" : "is not a key of this server; pulumi up will fail";
      warn(`${path} ${fact}${meant === undefined ? "" : `. Did you mean ${meant}?`}`);
    }
  }
}

function keysIn(owner: ConfigOwner, { config, devices, memberConfig }: Properties): Key[] {
  const keysOf = (map: unknown, of: ConfigOwner, path: string, type = ""): Key[] =>
    Object.keys(map ?? {}).map((key) => ({ owner: of, type, path: `${path}.${key}`, key }));
  return [
    ...keysOf(config, owner, "config"),
    ...(owner === "pool" || owner === "network" || owner === "server"
      ? Object.entries(memberConfig ?? {}).flatMap(([name, own]) => keysOf(own, owner, `memberConfig.${name}`))
      : []),
    ...Object.entries(devices ?? {}).flatMap(([name, device]: [string, { type?: unknown } | null]) =>
      keysOf(device, "device", `devices.${name}`, String(device?.type)),
    ),
  ];
}

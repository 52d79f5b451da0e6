import * as z from "zod";
import { listOf } from "./client/answers";
import { api, type LxdClient } from "./client/client";

/** Kinds of objects that distinguish a daemon from a fresh installation. */
export const INVENTORY_KINDS = ["instances", "custom-volumes", "images", "storage-pools", "networks", "cluster"] as const;

export type InventoryKind = (typeof INVENTORY_KINDS)[number];

/** Names by kind. Kinds without objects are absent. */
export type Inventory = Partial<Record<InventoryKind, string[]>>;

const instanceSchema = z.looseObject({
  name: z.string(),
  project: z.string().default("default"),
  location: z.string().default(""),
});
const volumeSchema = z.looseObject({ name: z.string(), type: z.string(), location: z.string().default("") });
const namedSchema = z.looseObject({ name: z.string() });
const networkSchema = z.looseObject({ name: z.string(), managed: z.boolean() });
const imageSchema = z.looseObject({ fingerprint: z.string(), aliases: listOf(namedSchema) });

/**
 * Lists a daemon's objects in all projects.
 * @param location - Limits instances and custom volumes to this cluster member.
 */
export async function takeInventory(lxd: LxdClient, location?: string): Promise<Inventory> {
  const here = (at: string): boolean => location === undefined || at === location;
  const projects = await list(lxd, "/1.0/projects", namedSchema);
  const pools = await list(lxd, "/1.0/storage-pools", namedSchema);
  const networks = await list(lxd, "/1.0/networks", networkSchema);
  const found: Record<Exclude<InventoryKind, "cluster">, string[]> = {
    instances: [],
    "custom-volumes": [],
    images: [],
    "storage-pools": pools.map(({ name }) => name),
    networks: networks.filter(({ managed }) => managed).map(({ name }) => name),
  };
  for (const { name: project } of projects) {
    const prefix = project === "default" ? "" : `${project}/`;
    const instances = await list(lxd, "/1.0/instances", instanceSchema, project);
    found.instances.push(...instances.filter((instance) => here(instance.location)).map(({ name }) => prefix + name));
    const images = await list(lxd, "/1.0/images", imageSchema, project);
    found.images.push(...images.map(({ aliases, fingerprint }) => prefix + (aliases[0]?.name ?? fingerprint.slice(0, 12))));
    for (const { name: pool } of pools) {
      const volumes = await list(lxd, api`/1.0/storage-pools/${pool}/volumes`, volumeSchema, project);
      const custom = volumes.filter((volume) => volume.type === "custom" && here(volume.location));
      found["custom-volumes"].push(...custom.map(({ name }) => `${prefix}${pool}/${name}`));
    }
  }
  return withoutEmpty(found);
}

function list<Item extends z.ZodType>(lxd: LxdClient, path: string, item: Item, project?: string): Promise<z.output<Item>[]> {
  return lxd.get(path, listOf(item), { recursion: 1, project });
}

function withoutEmpty(found: Readonly<Record<string, string[]>>): Record<string, string[]> {
  return Object.fromEntries(Object.entries(found).filter(([, names]) => names.length > 0));
}

/** The part of an inventory that cannot be made again: instances and custom volumes. */
export function dataIn({ instances, "custom-volumes": volumes }: Inventory): Inventory {
  return { ...(instances && { instances }), ...(volumes && { "custom-volumes": volumes }) };
}

const profileSchema = z.looseObject({
  name: z.string(),
  config: z.looseObject({}).default({}),
  devices: z.looseObject({}).default({}),
});

/** Lists projects and profiles beyond those of a fresh daemon. They hold no data, but show that somebody uses the daemon. */
export async function takeNames(lxd: LxdClient): Promise<{ projects?: string[]; profiles?: string[] }> {
  const projects = await list(lxd, "/1.0/projects", namedSchema);
  const profiles = await list(lxd, "/1.0/profiles", profileSchema);
  return withoutEmpty({
    projects: projects.map(({ name }) => name).filter((name) => name !== "default"),
    profiles: profiles
      .filter(({ name, config, devices }) => name !== "default" || Object.keys({ ...config, ...devices }).length > 0)
      .map(({ name }) => name),
  });
}

/** Formats an inventory as one line for messages: `instances c1, c2; storage-pools default`. */
export function describeInventory(inventory: Inventory): string {
  return Object.entries(inventory)
    .map(
      ([kind, names]) => `${kind} ${names.slice(0, 10).join(", ")}${names.length > 10 ? ` and ${names.length - 10} more` : ""}`,
    )
    .join("; ");
}

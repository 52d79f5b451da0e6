/**
 * Which members have an image. The API does not tell. The server's own client for questions of this kind, `lxd sql`, asks the cluster's
 * database, and so does this; it only reads.
 * @see https://documentation.ubuntu.com/lxd/latest/debugging/#running-custom-queries-from-the-console
 */
import * as z from "zod";
import { fallback } from "../../support/errors";
import type { LxdClient } from "../client/client";

/** A row for each image, member that has it, and alias. */
export const IMAGES_BY_MEMBER =
  "SELECT images.fingerprint, projects.name, nodes.name, images_aliases.name FROM images_nodes " +
  "JOIN images ON images.id = images_nodes.image_id JOIN projects ON projects.id = images.project_id " +
  "JOIN nodes ON nodes.id = images_nodes.node_id LEFT JOIN images_aliases ON images_aliases.image_id = images.id " +
  "ORDER BY projects.name, images_aliases.name, images.fingerprint";

const rowSchema = z.tuple([z.string(), z.string(), z.string(), z.string().nullable()]);

/**
 * Lists the images that no other member has, by an alias or the start of their fingerprint, with the project unless that is the default one.
 * `undefined` when the server does not let its database be read.
 */
export async function imagesOnlyOn(lxd: LxdClient, member: string): Promise<string[] | undefined> {
  const rows = await lxd.select(IMAGES_BY_MEMBER, rowSchema).catch(fallback(undefined, "api", "response-shape"));
  if (rows === undefined) {
    return undefined;
  }
  const members = new Map<string, Set<string>>();
  for (const [fingerprint, , name] of rows) {
    members.set(fingerprint, (members.get(fingerprint) ?? new Set()).add(name));
  }
  const isOnlyThere = (fingerprint: string): boolean => {
    const names = members.get(fingerprint);
    return names?.size === 1 && names.has(member);
  };
  const titles = new Map<string, string>();
  for (const [fingerprint, project, , alias] of rows.filter(([each]) => isOnlyThere(each))) {
    const key = `${project}/${fingerprint}`;
    const title = `${project === "default" ? "" : `${project}/`}${alias ?? fingerprint.slice(0, 12)}`;
    titles.set(key, titles.get(key) ?? title);
  }
  return [...titles.values()];
}

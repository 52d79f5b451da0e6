/** Images of image servers: their copies, and the newer ones that replace these. */
import { type Image, type InstanceType, keyOf, type LxdServer } from "./database";
import { LxdError } from "./reply";
import type { RemoteImage } from "./surroundings";

type NewImage = Pick<Image, "fingerprint" | "project" | "type" | "properties"> & Partial<Image>;

/** Inserts an image into the database with the values that LXD adds. */
export function addImage(daemon: LxdServer, image: NewImage): Image {
  const added: Image = {
    filename: "",
    size: 0,
    architecture: (image.properties["architecture"] ?? "amd64").replace("amd64", "x86_64"),
    public: false,
    cached: false,
    autoUpdate: false,
    expiresAt: "1970-01-01T00:00:00Z",
    profiles: ["default"],
    createdAt: new Date(),
    uploadedAt: new Date(),
    aliases: [],
    members: new Set([daemon.member]),
    agent: true,
    ...image,
  };
  daemon.database.images.set(keyOf(added.project, added.fingerprint), added);
  daemon.database.distributeImages();
  daemon.event("image-created", `/1.0/images/${added.fingerprint}`, added.project);
  return added;
}

/** What a server offers: a simplestreams server of the lab, or the cluster itself, which offers its public images. */
function offeredBy({ surroundings, database }: LxdServer, server: string): Omit<RemoteImage, "server">[] {
  const { host } = URL.canParse(server) ? new URL(server) : { host: "" };
  const isOwn = database.members.some(({ address }) => address === host);
  const own = [...database.images.values()].filter((image) => isOwn && image.public && image.project === "default");
  return [
    ...surroundings.remoteImages.filter((image) => image.server.replace(/\/$/, "") === server.replace(/\/$/, "")),
    ...own.map(({ aliases, ...image }) => ({ ...image, aliases: aliases.map(({ name }) => name) })),
  ];
}

type ImageSource = Partial<Record<"server" | "alias" | "fingerprint" | "protocol" | "certificate", string>>;

/** Finds the image on its server, and copies it unless the project has it. */
export function download(daemon: LxdServer, project: string, type: InstanceType, source: ImageSource): Image {
  const { server = "", alias = "", fingerprint = "", protocol = "simplestreams", certificate = "" } = source;
  const offered = offeredBy(daemon, server);
  if (offered.length === 0) {
    const host = URL.canParse(server) ? new URL(server).host : server;
    throw new LxdError(
      500,
      `Failed getting remote image info: Failed getting image: Get "${server}/streams/v1/index.json": Unable to connect to: ${host}:443`,
    );
  }
  const remote = offered.find(
    (image) =>
      image.type === type && (image.aliases.includes(alias) || (fingerprint !== "" && image.fingerprint.startsWith(fingerprint))),
  );
  if (remote === undefined) {
    throw new LxdError(500, "Failed getting remote image info: Failed getting image: The requested image couldn't be found");
  }
  const existing = daemon.database.images.get(keyOf(project, remote.fingerprint));
  if (existing !== undefined) {
    return existing;
  }
  // An image that another project has is not downloaded, and is updated if it is there.
  const elsewhere = [...daemon.database.images.values()].find((image) => image.fingerprint === remote.fingerprint);
  return addImage(daemon, {
    fingerprint: remote.fingerprint,
    project,
    type,
    size: 1 << 20,
    cached: true,
    autoUpdate: elsewhere?.autoUpdate ?? true,
    properties: { ...remote.properties },
    updateSource: { alias, certificate, image_type: type, protocol, server },
  });
}

/**
 * Replaces an image by the newer one that its server has under the alias: that one gets the aliases, `public` and the profiles, and has the
 * properties of the server alone. The server removes the files of the former one, also when another project has that image.
 * @returns Whether there is a newer one.
 */
export function replaceByNewer(daemon: LxdServer, image: Image): boolean {
  const { project, type, updateSource, fingerprint } = image;
  if (updateSource === undefined) {
    throw new LxdError(404, "Image source not found");
  }
  const newer = download(daemon, project, type, updateSource);
  if (newer === image) {
    return false;
  }
  Object.assign(newer, { public: image.public, cached: image.cached, profiles: image.profiles });
  newer.aliases.push(...image.aliases);
  daemon.database.images.delete(keyOf(project, fingerprint));
  for (const elsewhere of daemon.database.images.values()) {
    elsewhere.lostFiles ||= elsewhere.fingerprint === fingerprint;
  }
  daemon.event("image-refreshed", `/1.0/images/${newer.fingerprint}`, project);
  return true;
}

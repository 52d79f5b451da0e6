/** `/1.0/images`: uploads in one part or two, aliases, and copies from simplestreams servers. */
import { createHash, randomBytes } from "node:crypto";
import { z } from "zod";
import { listed } from "./cluster";
import { type Config, type Database, type Image, type InstanceType, keyOf, type LxdServer, urlOf } from "./database";
import { addImage, download, replaceByNewer } from "./image-servers";
import { requireApiName } from "./instance-model";
import { async, created, LxdError, type Reply, requireEtag, sync } from "./reply";
import { type ApiRequest, decode, param, projectOf, type Router } from "./router";

const strings = z.record(z.string(), z.string());
const imageSource = z.object({
  type: z.string().default(""),
  alias: z.string().default(""),
  fingerprint: z.string().default(""),
  server: z.string().default(""),
  protocol: z.string().default(""),
  certificate: z.string().default(""),
  image_type: z.string().default(""),
});
const imagesPost = z.object({
  source: imageSource,
  public: z.boolean().default(false),
  auto_update: z.boolean().default(false),
  properties: strings.nullish(),
  aliases: z.array(z.object({ name: z.string(), description: z.string().default("") })).nullish(),
});
const imagePut = z.object({
  public: z.boolean().default(false),
  auto_update: z.boolean().default(false),
  properties: strings.nullish(),
  expires_at: z.string().nullish(),
  profiles: z.array(z.string()).nullish(),
});
const aliasPost = z.object({ name: z.string().default(""), description: z.string().default(""), target: z.string().default("") });

/** Adds the endpoints of images. */
export function addImages(router: Router): void {
  router.add("/1.0/images", {
    GET: (request) =>
      listed(request, imagesOf(request), (image) => urlOf(`/1.0/images/${image.fingerprint}`, image.project), toApi),
    POST: (request) => (isUpload(request) ? upload(request) : copyRemote(request)),
  });
  router.add("/1.0/images/aliases", {
    GET: (request) => {
      const aliases = imagesOf(request).flatMap((image) => image.aliases.map((alias) => ({ image, alias })));
      return listed(
        request,
        aliases,
        ({ image, alias }) => urlOf(`/1.0/images/aliases/${alias.name}`, image.project),
        ({ image, alias }) => aliasToApi(image, alias),
      );
    },
    POST: createAlias,
  });
  router.add("/1.0/images/aliases/{name}", {
    GET: (request) => {
      const { image, alias } = aliasOf(request);
      const shown = aliasToApi(image, alias);
      return sync(shown, shown);
    },
    PUT: changeAlias,
    PATCH: changeAlias,
    DELETE: (request) => {
      const { image, alias } = aliasOf(request);
      image.aliases.splice(image.aliases.indexOf(alias), 1);
      request.daemon.event("image-alias-deleted", `/1.0/images/aliases/${alias.name}`, image.project);
      return sync();
    },
  });
  router.add("/1.0/images/{fingerprint}", {
    GET: (request) => {
      const image = imageOf(request);
      return sync(toApi(image), etagFields(image));
    },
    PUT: (request) => changeImage(request, true),
    PATCH: (request) => changeImage(request, false),
    DELETE: deleteImage,
  });
  router.add("/1.0/images/{fingerprint}/refresh", { POST: refreshImage });
  router.add("/1.0/images/{fingerprint}/secret", {
    POST: (request) => {
      const image = imageOf(request);
      return async(
        request.daemon.operate(
          { description: "Executing operation", metadata: { secret: randomBytes(32).toString("hex") }, project: image.project },
          () => undefined,
        ),
      );
    },
  });
}

function imagesOf(request: ApiRequest): Image[] {
  const { database } = request.daemon;
  const project = database.holder(projectOf(request), "images");
  return [...database.images.values()].filter((image) => image.project === project);
}

function imageOf(request: ApiRequest): Image {
  const wanted = param(request, "fingerprint");
  const found = imagesOf(request).filter((image) => image.fingerprint.startsWith(wanted));
  if (found.length > 1) {
    throw new LxdError(400, "More than one image matches");
  }
  const [image] = found;
  if (image === undefined || wanted === "") {
    throw new LxdError(404, "Image not found");
  }
  return image;
}

function aliasOf(request: ApiRequest): { image: Image; alias: Image["aliases"][number] } {
  const name = param(request, "name");
  for (const image of imagesOf(request)) {
    const alias = image.aliases.find((each) => each.name === name);
    if (alias !== undefined) {
      return { image, alias };
    }
  }
  throw new LxdError(404, "Image alias not found");
}

function etagFields(image: Image) {
  return [image.public, image.autoUpdate, image.properties, image.profiles];
}

function toApi(image: Image): Record<string, unknown> {
  return {
    fingerprint: image.fingerprint,
    type: image.type,
    filename: image.filename,
    size: image.size,
    architecture: image.architecture,
    public: image.public,
    cached: image.cached,
    auto_update: image.autoUpdate,
    properties: image.properties,
    profiles: image.profiles,
    aliases: image.aliases,
    created_at: image.createdAt.toISOString(),
    uploaded_at: image.uploadedAt.toISOString(),
    last_used_at: "0001-01-01T00:00:00Z",
    expires_at: image.expiresAt,
    ...(image.updateSource === undefined ? {} : { update_source: image.updateSource }),
  };
}

function aliasToApi(image: Image, alias: Image["aliases"][number]): Record<string, unknown> {
  return { name: alias.name, description: alias.description, target: image.fingerprint, type: image.type };
}

function isUpload(request: ApiRequest): boolean {
  return /^(multipart\/form-data|application\/octet-stream)/.test(request.headers["content-type"] ?? "");
}

function upload(request: ApiRequest): Reply {
  const { daemon } = request;
  const project = daemon.database.holder(projectOf(request), "images");
  const boundary = /boundary="?([^";]+)"?/.exec(request.headers["content-type"] ?? "")?.[1];
  const parts = boundary === undefined ? [] : formParts(request.body, boundary);
  const content = boundary === undefined ? [request.body] : parts.map((part) => part.content);
  const isVm = parts.some((part) => part.name === "rootfs.img");
  // Each server ignores the headers of the other.
  const header = (name: string) => String(request.headers[`x-${daemon.behaviour.server}-${name}`] ?? "");
  const operation = daemon.operate({ description: "Downloading image", project }, (running) => {
    const [metadata, rootfs] = parts;
    if (boundary !== undefined && metadata?.name !== "metadata") {
      throw new LxdError(500, `Invalid multipart image`);
    }
    if (boundary !== undefined && (rootfs === undefined || !["rootfs", "rootfs.img"].includes(rootfs.name))) {
      throw new LxdError(500, `Invalid multipart image`);
    }
    const hash = createHash("sha256");
    for (const part of content) {
      hash.update(part);
    }
    const fingerprint = hash.digest("hex");
    const expected = header("fingerprint");
    if (expected !== "" && expected !== fingerprint) {
      throw new LxdError(500, `fingerprints don't match, got ${fingerprint} expected ${expected}`);
    }
    if (daemon.database.images.has(keyOf(project, fingerprint))) {
      throw new LxdError(500, "Image with same fingerprint already exists");
    }
    addImage(daemon, {
      fingerprint,
      project,
      type: isVm ? "virtual-machine" : "container",
      filename: /filename="?([^";]*)/.exec(rootfs?.disposition ?? "")?.[1] ?? header("filename"),
      size: content.reduce((sum, part) => sum + part.length, 0),
      public: header("public") === "1" || header("public") === "true",
      properties: {
        architecture: "x86_64",
        description: "Simulated image",
        os: "debian",
        ...Object.fromEntries(new URLSearchParams(header("properties"))),
      },
      aliases: Object.keys(Object.fromEntries(new URLSearchParams(header("aliases")))).map((name) => ({
        name,
        description: "",
      })),
    });
    running.metadata = { fingerprint, size: String(content.reduce((sum, part) => sum + part.length, 0)) };
  });
  return async(operation);
}

/** The parts of a form, with each part's `Content-Disposition`. */
function formParts(body: Buffer, boundary: string): { name: string; disposition: string; content: Buffer }[] {
  const delimiter = Buffer.from(`--${boundary}`);
  const parts: { name: string; disposition: string; content: Buffer }[] = [];
  let at = body.indexOf(delimiter);
  while (at >= 0) {
    const start = at + delimiter.length + 2;
    const next = body.indexOf(delimiter, start);
    const headersEnd = body.indexOf("\r\n\r\n", start);
    if (next < 0 || headersEnd < 0 || headersEnd > next) {
      break;
    }
    const disposition = /content-disposition:([^\r\n]*)/i.exec(body.subarray(start, headersEnd).toString())?.[1] ?? "";
    parts.push({
      name: /\bname="?([^";]+)/.exec(disposition)?.[1] ?? "",
      disposition,
      content: body.subarray(headersEnd + 4, next - 2),
    });
    at = next;
  }
  return parts;
}

function copyRemote(request: ApiRequest): Reply {
  const { daemon } = request;
  const body = decode(request, imagesPost);
  const project = daemon.database.holder(projectOf(request), "images");
  if (body.source.type !== "image" || body.source.server === "") {
    throw new LxdError(400, "Invalid images JSON");
  }
  const type = body.source.image_type === "virtual-machine" ? "virtual-machine" : "container";
  const operation = daemon.operate({ description: "Downloading image", project }, (running) => {
    const image = download(daemon, project, type, body.source);
    const isNew = image.cached;
    image.cached = false;
    // An image that the server has keeps what it has, unless the request says something of it.
    if (isNew || body.public || body.auto_update || Object.keys(body.properties ?? {}).length > 0) {
      image.public = body.public;
      image.autoUpdate = body.auto_update;
      Object.assign(image.properties, body.properties);
    }
    image.aliases.push(...(body.aliases ?? []));
    running.metadata = { fingerprint: image.fingerprint, size: String(image.size) };
  });
  return async(operation);
}

/** The image for a new instance: a local one, or one to download when the work begins. */
export function requireImage(
  daemon: LxdServer,
  project: string,
  type: InstanceType,
  source: { alias: string; fingerprint: string; server: string; protocol: string; properties?: Config | null | undefined },
): Image {
  const { database } = daemon;
  const holder = database.holder(project, "images");
  if (source.server !== "") {
    return download(daemon, holder, type, source);
  }
  if (source.alias === "" && source.fingerprint === "" && !source.properties) {
    throw new LxdError(500, "Must specify one of alias, fingerprint or properties for init from image");
  }
  for (const image of database.images.values()) {
    const named =
      source.fingerprint !== ""
        ? image.fingerprint.startsWith(source.fingerprint)
        : image.aliases.some((alias) => alias.name === source.alias);
    if (image.project === holder && named) {
      return image;
    }
  }
  throw new LxdError(404, source.alias === "" ? "Image not found" : "Image alias not found");
}

function requireFreeAlias(database: Database, project: string, name: string): void {
  for (const image of database.images.values()) {
    if (image.project === project && image.aliases.some((alias) => alias.name === name)) {
      throw new LxdError(409, `Alias "${name}" already exists`);
    }
  }
}

function createAlias(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const body = decode(request, aliasPost);
  if (body.name === "" || body.target === "") {
    throw new LxdError(400, "name and target are required");
  }
  requireApiName(request.daemon.behaviour, body.name, true);
  const project = database.holder(projectOf(request), "images");
  requireFreeAlias(database, project, body.name);
  const image = database.images.get(keyOf(project, body.target));
  if (image === undefined) {
    throw new LxdError(404, "Image not found");
  }
  image.aliases.push({ name: body.name, description: body.description });
  request.daemon.event("image-alias-created", `/1.0/images/aliases/${body.name}`, project);
  return created(`/1.0/images/aliases/${body.name}`);
}

function changeAlias(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const { image, alias } = aliasOf(request);
  requireEtag(request.headers["if-match"], aliasToApi(image, alias));
  const body = decode(request, aliasPost);
  const target = database.images.get(keyOf(image.project, body.target === "" ? image.fingerprint : body.target));
  if (target === undefined) {
    throw new LxdError(404, "Image not found");
  }
  image.aliases.splice(image.aliases.indexOf(alias), 1);
  target.aliases.push({ name: alias.name, description: body.description });
  request.daemon.event("image-alias-updated", `/1.0/images/aliases/${alias.name}`, image.project);
  return sync();
}

function changeImage(request: ApiRequest, replace: boolean): Reply {
  const image = imageOf(request);
  requireEtag(request.headers["if-match"], etagFields(image));
  const body = decode(request, imagePut);
  image.public = body.public;
  image.autoUpdate = body.auto_update;
  if (typeof body.expires_at === "string") {
    image.expiresAt = new Date(body.expires_at).toISOString().replace(".000Z", "Z");
  }
  image.properties = { ...(replace ? {} : image.properties), ...body.properties };
  image.profiles = body.profiles ?? image.profiles;
  request.daemon.event("image-updated", `/1.0/images/${image.fingerprint}`, image.project);
  return sync();
}

function refreshImage(request: ApiRequest): Reply {
  const { daemon } = request;
  const image = imageOf(request);
  const operation = daemon.operate({ description: "Refreshing image", project: image.project }, (running) => {
    running.metadata = { refreshed: replaceByNewer(daemon, image) };
  });
  return async(operation);
}

function deleteImage(request: ApiRequest): Reply {
  const { daemon } = request;
  const image = imageOf(request);
  const operation = daemon.operate(
    { description: "Deleting image", project: image.project, resources: { images: [`/1.0/images/${image.fingerprint}`] } },
    () => {
      daemon.database.images.delete(keyOf(image.project, image.fingerprint));
      daemon.event("image-deleted", `/1.0/images/${image.fingerprint}`, image.project);
    },
  );
  return async(operation);
}

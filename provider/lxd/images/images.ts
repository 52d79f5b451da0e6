import * as z from "zod";
import { FailedError, ResponseShapeError } from "../../support/errors";
import { listOf } from "../client/answers";
import { api, type LxdClient, type Tagged } from "../client/client";
import { type Operation, untilKnown } from "../client/operations";
import type { Config } from "../config";
import type { serverImageSchema } from "../instances/image-source";
import type { InstanceType } from "../instances/instances";
import { type ImageFiles, imageHeaders, uploadOf } from "./files";

/** `/1.0/images`: https://documentation.ubuntu.com/lxd/latest/api/#/images */
const imageSchema = z.looseObject({
  fingerprint: z.string(),
  aliases: z.array(z.looseObject({ name: z.string() })).nullish(),
  properties: z.record(z.string(), z.string()).nullish(),
  public: z.boolean(),
  auto_update: z.boolean().default(false),
  expires_at: z.string().nullish(),
  profiles: z.array(z.string()).nullish(),
  type: z.string().default("container"),
  architecture: z.string().default(""),
  size: z.number().default(0),
  update_source: z.looseObject({ alias: z.string(), server: z.string(), protocol: z.string() }).nullish(),
});

export type Image = z.output<typeof imageSchema>;

const importedSchema = z.looseObject({ fingerprint: z.string() });

/** @param fingerprint - Or a prefix of it. */
export function findImage(lxd: LxdClient, project: string, fingerprint: string): Promise<Tagged<Image> | undefined> {
  return lxd.findWithEtag(api`/1.0/images/${fingerprint}`, imageSchema, { project });
}

/** {@link findImage} in one list that all reads of this process share. */
export async function findImageShared(lxd: LxdClient, project: string, fingerprint: string): Promise<Image | undefined> {
  const images = await lxd.getShared("/1.0/images", listOf(imageSchema), { project, recursion: 1 });
  return images.find((image) => image.fingerprint === fingerprint);
}

export async function listFingerprints(lxd: LxdClient, project: string): Promise<string[]> {
  const urls = await lxd.get("/1.0/images", listOf(z.string()), { project });
  return urls.map((url) => url.split("?")[0]?.split("/").at(-1) ?? "");
}

/**
 * Uploads an image, straight from disk. LXD copies it to the other members before the operation ends.
 * @param image.fingerprint - Fingerprint of the files; LXD refuses files with another one.
 * @throws FailedError when the server has not refused other files.
 */
export async function uploadImage(
  lxd: LxdClient,
  project: string,
  files: ImageFiles,
  image: { fingerprint: string; public: boolean; properties: Config },
  progress: (text: string) => void,
): Promise<void> {
  let shown = -1;
  const upload = await uploadOf(files, (sent) => {
    const percent = Math.floor((sent / upload.bytes) * 100);
    if (percent > shown) {
      shown = percent;
      progress(`uploading: ${percent} % (${mebibytes(sent)} of ${mebibytes(upload.bytes)} MiB)`);
    }
  });
  const headers = {
    ...upload.headers,
    ...imageHeaders({
      fingerprint: image.fingerprint,
      public: String(image.public),
      properties: new URLSearchParams(image.properties).toString(),
    }),
  };
  const path = `/1.0/images?${new URLSearchParams({ project }).toString()}`;
  const isThere = async (): Promise<boolean> => (await findImage(lxd, project, image.fingerprint)) !== undefined;
  await untilKnown(async () => {
    const operation = await lxd.beginRaw({ method: "POST", path, headers, body: () => upload.open() });
    if (operation !== undefined) {
      progress(`${lxd.names.name} unpacks the image and copies it to the other members`);
      const imported = importedSchema.safeParse((await lxd.finish(operation)).metadata);
      if (imported.success && imported.data.fingerprint !== image.fingerprint) {
        await deleteImage(lxd, project, imported.data.fingerprint);
        throw new FailedError(
          `The image files changed while they were uploaded to ${lxd.host}: it got an image with the fingerprint ` +
            `${imported.data.fingerprint} instead of ${image.fingerprint}, which was removed again. Run pulumi up again`,
        );
      }
    }
  }, isThere);
}

/**
 * Makes LXD copy an image from another server. LXD does not download an image that it already has.
 * @returns Its fingerprint.
 */
export async function copyImage(
  lxd: LxdClient,
  project: string,
  source: z.output<typeof serverImageSchema>,
  instanceType: InstanceType,
  progress: (text: string) => void,
): Promise<string> {
  const { server, protocol, alias, fingerprint } = source;
  progress(`${lxd.names.name} asks ${server} for the image`);
  let finished: Operation | undefined;
  const copy = async (): Promise<void> => {
    const operation = await lxd.begin("POST", "/1.0/images", {
      query: { project },
      body: {
        source: { type: "image", mode: "pull", server, protocol, alias, fingerprint, image_type: instanceType },
        public: false,
        auto_update: false,
      },
    });
    finished =
      operation &&
      (await lxd.finish(operation, ({ metadata }) => {
        const seen = metadata?.["download_progress"];
        if (typeof seen === "string") {
          progress(`${lxd.names.name} downloads the image: ${seen}`);
        }
      }));
  };
  await untilKnown(copy, async () => false); // LXD reports the fingerprint of an image that it already has
  const imported = importedSchema.safeParse(finished?.metadata);
  if (!imported.success) {
    throw new ResponseShapeError(
      `${lxd.title} copied an image from ${server}, but did not report its fingerprint. Look for it with ${lxd.names.client} image list`,
    );
  }
  return imported.data.fingerprint;
}

/** Changes the given properties of an image, and keeps the rest as LXD has it. */
export async function changeImage(
  lxd: LxdClient,
  project: string,
  found: Tagged<Image>,
  change: (live: Image) => { public: boolean; properties: Config; auto_update?: boolean; expires_at?: string },
): Promise<void> {
  const contents = (live: Image): object => {
    const { auto_update, expires_at, profiles } = live;
    return {
      auto_update,
      ...(typeof expires_at === "string" ? { expires_at } : {}),
      ...(profiles ? { profiles } : {}),
      ...change(live),
    };
  };
  await lxd.modify(api`/1.0/images/${found.value.fingerprint}`, imageSchema, contents, { query: { project }, found });
}

/** Removes an image with its aliases. Succeeds when it does not exist. Instances made from it stay. */
export async function deleteImage(lxd: LxdClient, project: string, fingerprint: string): Promise<void> {
  await lxd.remove(api`/1.0/images/${fingerprint}`, { project });
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0);
}

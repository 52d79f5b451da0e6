import type * as z from "zod";
import { sameJson } from "../../support/equality";
import { hasCode, RefusedError, replyOf } from "../../support/errors";
import type { LxdClient, Tagged } from "../client/client";
import { type Config, OWNER_KEY, ownerKey } from "../config";
import { DEFAULT_INSTANCE_TYPE, type serverImageSchema } from "../instances/image-source";
import type { InstanceType } from "../instances/instances";
import { sameInstant } from "../meaning";
import { isOwnMark, isUnfinishedWork, OWN_MARK } from "../ownership";
import { changeImage, copyImage, findImage, type Image, listFingerprints, uploadImage } from "./images";

/** The resource that imports an image. */
export interface Importer {
  readonly project: string;
  readonly urn: string;
  readonly mark: string;
  /** Whether it may take over the work of others. */
  readonly adopt: boolean;
  readonly progress: (text: string) => void;
  readonly warn: (text: string) => void;
}

/** Local files or an image of a server, with the properties to give to it. */
interface ImageToImport {
  readonly metadataPath?: string | undefined;
  readonly rootfsPath?: string | undefined;
  readonly sourceFingerprint?: string | undefined;
  readonly source?: z.output<typeof serverImageSchema> | undefined;
  readonly instanceType?: InstanceType | undefined;
  readonly public: boolean;
  /** Left as it is on an image of others when it is not given. */
  readonly autoUpdate?: boolean | undefined;
  readonly properties: Config;
  readonly expiresAt?: string | undefined;
}

export function nameOfImage(fingerprint: string): string {
  return `Image ${fingerprint.slice(0, 12)}`;
}

/**
 * Uploads an image, or makes LXD copy it.
 * @returns Its fingerprint, and whether the resource owns it: somebody may have imported the same image meanwhile.
 */
export async function importImage(
  lxd: LxdClient,
  by: Importer,
  image: ImageToImport,
): Promise<{ fingerprint: string; created: boolean }> {
  // Without `source`, check requires the files.
  const { source, metadataPath = "", rootfsPath, sourceFingerprint: fingerprint = "", public: isPublic } = image;
  const { progress } = by;
  if (source !== undefined) {
    const before = await listFingerprints(lxd, by.project);
    const copied = await copyImage(lxd, by.project, source, image.instanceType ?? DEFAULT_INSTANCE_TYPE, progress);
    const created = !before.includes(copied) || isOwnedBy(by, (await findImage(lxd, by.project, copied))?.value);
    return { fingerprint: copied, created };
  }
  const properties = { ...image.properties, ...ownerKey(by.mark) };
  try {
    await uploadImage(lxd, by.project, { metadataPath, rootfsPath }, { fingerprint, public: isPublic, properties }, progress);
    return { fingerprint, created: true };
  } catch (error) {
    const found = await findImage(lxd, by.project, fingerprint);
    if (found !== undefined) {
      return { fingerprint, created: isOwnedBy(by, found.value) };
    }
    const paths = [metadataPath, rootfsPath].filter((path) => path !== undefined).join(" with ");
    throw hasCode(error, "operation")
      ? new RefusedError(`${lxd.title} does not accept ${paths} as an image: ${replyOf(error)}`, {
          cause: error,
        })
      : error;
  }
}

/** Whether the resource imported the existing image before, and removes it. */
export function isOwnedBy({ urn, adopt, warn }: Importer, image: Image | undefined): boolean {
  const mark = image?.properties?.[OWNER_KEY];
  if (image === undefined || !isOwnMark(mark, urn)) {
    return false;
  }
  const isOwned = adopt || isUnfinishedWork(mark, urn);
  if (!isOwned) {
    const name = nameOfImage(image.fingerprint);
    warn(`${name} already exists and is used unchanged. It stays when this resource is removed, because ${OWN_MARK}`);
  }
  return isOwned;
}

/**
 * Sets the properties of an image.
 * @param own - Whether the resource owns the image.
 * @param dropped - Keys that the program no longer gives. They stay on an image of others, unless `adopt` is set.
 * @returns Whether anything was changed.
 * @throws RefusedError when an image of others would change without `adopt`.
 */
export async function setImageProperties(
  lxd: LxdClient,
  by: Importer,
  found: Tagged<Image>,
  wanted: Pick<ImageToImport, "public" | "autoUpdate" | "properties" | "expiresAt">,
  { own, dropped }: { own: boolean; dropped: readonly string[] },
): Promise<boolean> {
  const mayChange = own || by.adopt;
  const propertiesFor = ({ properties }: Image): Config => {
    const kept = Object.entries(properties ?? {}).filter(([key]) => !(mayChange && dropped.includes(key)));
    return { ...Object.fromEntries(kept), ...wanted.properties, ...(own && ownerKey(by.mark)) };
  };
  const { fingerprint, properties, public: isPublic, auto_update, expires_at } = found.value;
  const live = properties ?? {};
  const expiry =
    wanted.expiresAt === undefined || sameInstant(wanted.expiresAt, expires_at) ? {} : { expires_at: wanted.expiresAt };
  const isOtherExpiry = "expires_at" in expiry;
  const autoUpdate = wanted.autoUpdate ?? (own ? false : auto_update);
  const isOtherUpdate = autoUpdate !== auto_update;
  if (sameJson(propertiesFor(found.value), live) && wanted.public === isPublic && !isOtherExpiry && !isOtherUpdate) {
    return false;
  }
  if (!mayChange) {
    const keys = Object.keys(wanted.properties).filter((key) => wanted.properties[key] !== live[key]);
    const what = [
      ...keys.map((key) => `properties.${key}`),
      ...(wanted.public === isPublic ? [] : ["public"]),
      ...(isOtherUpdate ? ["autoUpdate"] : []),
      ...(isOtherExpiry ? ["expiresAt"] : []),
    ];
    throw new RefusedError(
      `${nameOfImage(fingerprint)} on ${lxd.host} was not made by this resource, and differs in ${what.join(", ")}. ` +
        "Set adopt: true to change it, or leave these out",
    );
  }
  await changeImage(lxd, by.project, found, (image) => ({
    public: wanted.public,
    auto_update: autoUpdate,
    properties: propertiesFor(image),
    ...expiry,
  }));
  return true;
}

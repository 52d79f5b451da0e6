/**
 * Images that the server itself replaces by newer ones of their image server. The newer image is another one: it has the aliases, `public` and
 * the profiles of the former one, and the properties of the image server alone.
 */
import type * as z from "zod";
import type { LxdClient, Tagged } from "../client/client";
import { OWNER_KEY } from "../config";
import type { serverImageSchema } from "../instances/image-source";
import { sameServer } from "../meaning";
import { isOwnMark } from "../ownership";
import { otherImageProjects } from "../projects";
import { findAlias } from "./aliases";
import { findImage, findImageShared, type Image } from "./images";

/** An image as its resource last saw it. */
interface KnownImage {
  readonly project: string;
  readonly fingerprint: string;
  readonly type: string;
  /** Aliases that pointed to it. */
  readonly aliases: Iterable<string>;
  readonly source?: z.output<typeof serverImageSchema> | undefined;
  /** Whether the server may have replaced it. */
  readonly autoUpdate?: boolean | undefined;
}

/** The image that stands for a known one: the one itself, or the newer one of the same source to which the server moved its aliases. */
export async function findCurrentImage(lxd: LxdClient, known: KnownImage): Promise<Tagged<Image> | undefined> {
  const { project, fingerprint, autoUpdate } = known;
  // Asked for first: the server moves the aliases before it removes the former image.
  const found = await findImage(lxd, project, fingerprint);
  for (const name of autoUpdate === true ? known.aliases : []) {
    const target = (await findAlias(lxd, project, name))?.target;
    const newer = target === undefined || target === fingerprint ? undefined : await findImage(lxd, project, target);
    if (newer !== undefined && isFromSource(newer.value, known)) {
      return newer;
    }
  }
  return found;
}

function isFromSource({ type, update_source: from }: Image, { type: wanted, source }: KnownImage): boolean {
  return (
    type === wanted &&
    from?.alias === source?.alias &&
    from?.protocol === source?.protocol &&
    sameServer(from?.server ?? "", source?.server ?? "")
  );
}

/**
 * Other projects that have the same image, and whose copy the server does not replace. When it replaces the image of the project, it removes the
 * files, which the copies share: `autoUpdateImage` of LXD and Incus looks at one project alone.
 */
export async function projectsThatLoseFiles(
  lxd: LxdClient,
  { project, fingerprint }: Pick<KnownImage, "project" | "fingerprint">,
): Promise<string[]> {
  const others = await otherImageProjects(lxd, project);
  const copies = await Promise.all(others.map((other) => findImageShared(lxd, other, fingerprint)));
  return others.filter((_other, index) => copies[index]?.auto_update === false);
}

/** The fingerprints that an image had before. */
export function formerFingerprintsOf(
  known: { readonly fingerprint: string; readonly formerFingerprints?: readonly string[] | undefined },
  current: string,
): string[] {
  const all = new Set([...(known.formerFingerprints ?? []), known.fingerprint]);
  all.delete(current);
  return [...all];
}

/**
 * The ownership mark of an image. A mark of another resource on one that replaced a former image comes from the image server, which has a
 * program of its own.
 */
export function markOfImage(image: Image | undefined, formerFingerprints: readonly string[], urn: string): string | undefined {
  const mark = image?.properties?.[OWNER_KEY];
  return formerFingerprints.length === 0 || isOwnMark(mark, urn) ? mark : undefined;
}

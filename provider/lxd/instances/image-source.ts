import * as z from "zod";
import { imageAliasSchema } from "../names";

/** Default type of an instance, and of an image from a server. */
export const DEFAULT_INSTANCE_TYPE = "virtual-machine";

export const instanceTypeSchema = z.enum(["virtual-machine", "container"], 'must be "virtual-machine" or "container"');

const serverSchema = z.url({ protocol: /^https$/, error: "must be the https:// address of an image server" });
const protocolSchema = z.enum(["simplestreams", "lxd", "incus"], "must be simplestreams, lxd or incus");
const fingerprintSchema = z
  .string()
  .regex(/^[0-9a-f]{12,64}$/, "is not a fingerprint: 12 to 64 hexadecimal digits in lower case");
const nameFields = { alias: imageAliasSchema.optional(), fingerprint: fingerprintSchema.optional() };

function hasOneName({ alias, fingerprint }: { alias?: string | undefined; fingerprint?: string | undefined }): boolean {
  return (alias === undefined) !== (fingerprint === undefined);
}

/** An image of an image server, from which LXD downloads it. */
export const serverImageSchema = z
  .strictObject({ ...nameFields, server: serverSchema, protocol: protocolSchema.default("simplestreams") })
  .refine(hasOneName, "needs either alias or fingerprint");

/**
 * Source of an instance: an image of the cluster, or of an image server from which LXD downloads it. LxdVm takes `formerFingerprints` from an
 * LxdImage that the server replaces by newer ones: an instance that was made from one of those is not replaced.
 */
export const imageSourceSchema = z
  .strictObject({
    ...nameFields,
    server: serverSchema.optional(),
    protocol: protocolSchema.optional(),
    formerFingerprints: z.array(fingerprintSchema).optional(),
  })
  .refine(hasOneName, "needs either alias or fingerprint")
  .refine(({ server, protocol }) => protocol === undefined || server !== undefined, {
    path: ["protocol"],
    message: "is only for an image of a server; give image.server, too",
  })
  .transform(({ protocol, ...image }) =>
    image.server === undefined ? image : { ...image, protocol: protocol ?? ("simplestreams" as const) },
  );

export type ImageSource = z.output<typeof imageSourceSchema>;

export function describeImage({ alias, fingerprint, server }: ImageSource): string {
  return `"${alias ?? fingerprint}"${server === undefined ? "" : ` of ${server}`}`;
}

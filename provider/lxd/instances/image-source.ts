import * as z from "zod";
import { imageAliasSchema } from "../names";

/** What an instance is made from: an image of the cluster, or of an image server from which LXD downloads it itself. */
export const imageSourceSchema = z
  .strictObject({
    alias: imageAliasSchema.optional(),
    fingerprint: z
      .string()
      .regex(/^[0-9a-f]{12,64}$/, "is not a fingerprint: 12 to 64 hexadecimal digits")
      .optional(),
    server: z.url({ protocol: /^https$/, error: "is not an https:// address of an image server" }).optional(),
    protocol: z.enum(["simplestreams", "lxd"], "must be simplestreams or lxd").optional(),
  })
  .refine(({ alias, fingerprint }) => (alias === undefined) !== (fingerprint === undefined), "needs either alias or fingerprint")
  .refine(({ server, protocol }) => protocol === undefined || server !== undefined, {
    path: ["protocol"],
    message: "is only for an image of a server; give image.server, too",
  })
  .transform(({ protocol, ...image }) =>
    image.server === undefined ? image : { ...image, protocol: protocol ?? ("simplestreams" as const) },
  );

/** See {@link imageSourceSchema}. */
export type ImageSource = z.output<typeof imageSourceSchema>;

/** An image as a message names it. */
export function describeImage({ alias, fingerprint, server }: ImageSource): string {
  return `"${alias ?? fingerprint}"${server === undefined ? "" : ` of ${server}`}`;
}

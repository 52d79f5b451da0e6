import * as z from "zod";
import { connectionSchema } from "../../transport/connection";

/** SHA-256 of a certificate, as LXD writes it. */
export const fingerprintSchema = z
  .string()
  .toLowerCase()
  .regex(
    /^[0-9a-f]{64}$/,
    "must be the SHA-256 of a certificate, 64 hexadecimal digits: certificate_fingerprint in `lxc info` or `incus info`",
  );

/** API of a cluster, or of one standalone server: its hosts, in the order in which they are tried, and its identity. */
export const clusterConnectionSchema = z.strictObject({
  endpoints: z.array(connectionSchema).min(1, "needs at least one host"),
  certificateFingerprint: fingerprintSchema.optional(),
});

export type ClusterConnection = z.output<typeof clusterConnectionSchema>;

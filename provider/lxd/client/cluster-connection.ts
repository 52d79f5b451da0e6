import * as z from "zod";
import { connectionSchema } from "../../transport/connection";

/** Where the API of a cluster (or of one standalone server) is found: its hosts, in the order in which they are tried. */
export const clusterConnectionSchema = z.strictObject({
  endpoints: z.array(connectionSchema).min(1, "needs at least one host"),
});

/** A cluster's endpoints, with all defaults in place. */
export type ClusterConnection = z.output<typeof clusterConnectionSchema>;

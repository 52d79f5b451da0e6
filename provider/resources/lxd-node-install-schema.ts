/** The input `install` of an LxdNode. */
import * as z from "zod";
import { DAEMON_PACKAGES } from "../host/installed";

const word = z.string().regex(/^[^\s#]+$/, "must be one word");

/** The text of a public key, or the path of a keyring on the host. */
const signedBySchema = z
  .string()
  .regex(
    /^(\/\S+|\s*-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n[\x20-\x7e\r\n]*-----END PGP PUBLIC KEY BLOCK-----\s*)$/,
    'must be the text of a public key, from "-----BEGIN PGP PUBLIC KEY BLOCK-----" to its end, or the path of a keyring on the host',
  );

const repositorySchema = z
  .strictObject({
    uris: z
      .array(word.regex(/^[a-z][a-z0-9+]*:/, 'is not a URI such as "https://deb.debian.org/debian"'))
      .min(1, "must name one"),
    suites: z.array(word).min(1, "must name one"),
    components: z.array(word).default([]),
    signedBy: signedBySchema.exactOptional(),
  })
  .superRefine(({ suites, components }, context) => {
    const isFlat = suites.every((suite) => suite.endsWith("/"));
    if (isFlat !== (components.length === 0)) {
      const message = isFlat ? "must be empty, because the suite is a directory" : 'must name one, such as "main"';
      context.addIssue({ code: "custom", path: ["components"], message });
    }
  });

const debSchema = z
  .strictObject({
    method: z.literal("deb"),
    server: z.enum(["lxd", "incus"], 'must be "lxd" or "incus"').default("lxd"),
    serverPackage: z.enum(DAEMON_PACKAGES.incus, 'must be "incus" or "incus-base"').exactOptional(),
    packages: z.array(z.string().regex(/^[a-z0-9][a-z0-9.+-]+$/, "is not the name of a Debian package")).default([]),
    repository: repositorySchema.exactOptional(),
    targetRelease: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9.+~/-]*$/, 'is not the name of a release such as "trixie-backports"')
      .exactOptional(),
    evacuate: z.boolean().exactOptional(),
    hold: z.boolean().exactOptional(),
    version: z
      .string()
      .regex(/^(\d+:)?\d[A-Za-z0-9.+~-]*$/, 'is not the version of a Debian package such as "5.0.2-5"')
      .exactOptional(),
  })
  .superRefine(({ server, serverPackage }, context) => {
    if (serverPackage !== undefined && server !== "incus") {
      context.addIssue({ code: "custom", path: ["serverPackage"], message: 'is only for server: "incus"' });
    }
  });

const snapSchema = z.strictObject({
  method: z.literal("snap"),
  server: z.literal("lxd", 'must be "lxd": Incus has no snap. Use { method: "deb", server: "incus" }').exactOptional(),
  channel: z
    .string()
    .regex(/^[a-z0-9.-]+(\/[a-z]+)?(\/[\w.-]+)?$/, 'is not a snap channel such as "5.21/stable"')
    .default("5.21/stable"),
  cohort: z.boolean().default(true),
  hold: z.boolean().default(true),
  revision: z.number().int().positive().exactOptional(),
  evacuate: z.boolean().exactOptional(),
});

/** The input `install` of an LxdNode. */
export const installSchema = z.union([
  z.literal(false),
  z.discriminatedUnion("method", [debSchema, snapSchema], {
    error: ({ input }) =>
      input !== null && typeof input === "object" ? 'must be "deb" or "snap"' : 'must be { method: "deb" } or { method: "snap" }',
  }),
]);

/** See {@link installSchema}. */
export type Install = z.output<typeof installSchema>;

/** An {@link Install} of a Debian package. */
export type DebInstall = z.output<typeof debSchema>;

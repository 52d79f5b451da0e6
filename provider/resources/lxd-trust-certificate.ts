/**
 * A client's certificate in the trust store of a cluster: a tool with its key may use the API over the network.
 * @see https://documentation.ubuntu.com/lxd/latest/authentication/ (LXD 5.0 to 6)
 */
import type { CustomResourceOptions, Input, Output } from "@pulumi/pulumi";
import * as z from "zod";
import { inCluster } from "../engine/connection-inputs";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import {
  addCertificate,
  CLIENT_TYPES,
  changeCertificate,
  describesCertificates,
  expiryOfCertificate,
  type FoundCertificate,
  faultOfCertificate,
  findCertificate,
  findCertificateShared,
  fingerprintOfCertificate,
  isOfClient,
  nameCertificate,
  removeCertificate,
  sameCertificate,
} from "../lxd/certificates";
import type { LxdClient } from "../lxd/client/client";
import { certificateNameSchema, projectNameSchema } from "../lxd/names";
import { findUnknownProjects } from "../lxd/projects";
import { knownFirst, sameSet } from "../support/equality";
import { RefusedError } from "../support/errors";
import type { ClusterInput } from "./common-args";
import { markedObjectLifecycle } from "./marked-object";

const trustCertificateSchema = z.strictObject({
  ...inCluster,
  name: certificateNameSchema,
  certificate: z.string().superRefine((pem, context) => {
    const fault = faultOfCertificate(pem);
    if (fault !== undefined) {
      context.addIssue({ code: "custom", message: fault });
    }
  }),
  type: z.enum(CLIENT_TYPES).default("client"),
  restricted: z.boolean().default(true),
  projects: z
    .array(projectNameSchema)
    .superRefine((projects, context) => {
      projects.forEach((project, index) => {
        if (projects.indexOf(project) < index) {
          context.addIssue({ code: "custom", path: [index], message: `names ${project} a second time` });
        }
      });
    })
    .default([]),
  description: z.string().default(""),
  adopt: z.boolean().default(false),
});

/** Arguments of {@link LxdTrustCertificate}. */
export interface LxdTrustCertificateArgs {
  /** The cluster, or standalone server, that trusts the certificate. */
  cluster: ClusterInput;
  /** Name of the client, as `lxc config trust list` shows it. */
  name: Input<string>;
  /**
   * The client's certificate in PEM form: one certificate, no key. Another certificate replaces this one. Between the removal of the former
   * and the addition of the new one, neither is trusted: for a change without a gap, add the new one as a second resource first.
   */
  certificate: Input<string>;
  /** What the client may use: the API, or only the metrics. Another type replaces the entry. @default "client" */
  type?: Input<"client" | "metrics">;
  /**
   * Whether the client may use only `projects`. With `false`, a client can do everything on all members, as root on a host can.
   * @default true
   */
  restricted?: Input<boolean>;
  /** Names of the projects that the client may use, in any order. Only with `restricted`. @default [] */
  projects?: Input<Input<string>[]>;
  /** Purpose of the client. Only Incus keeps it; LXD refuses one that is not empty. @default "" */
  description?: Input<string>;
  /**
   * Take over an entry of that certificate that others made. It is removed with this resource. The certificate of a member is never taken
   * over.
   * @default false
   */
  adopt?: Input<boolean>;
  /** Time limits in seconds, for each call. @default 60 for every call */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<typeof trustCertificateSchema>;

interface Outputs {
  readonly fingerprint: string;
  readonly expiresAt: string;
}

const SOON_MS = 30 * 24 * 60 * 60 * 1000;

/** See {@link LxdTrustCertificate}. @internal */
export const trustCertificateLifecycle = markedObjectLifecycle<Inputs, Outputs, FoundCertificate>({
  kind: "LxdTrustCertificate",
  schemaVersion: 1,
  schema: trustCertificateSchema,
  immutable: ["certificate", "type"],
  stableOutputs: { fingerprint: ["certificate"], expiresAt: ["certificate"] },
  timeouts: { create: 60, read: 60, update: 60, delete: 60 },
  sameBy: { certificate: sameCertificate, projects: sameSet },

  checkTogether: ({ restricted, projects }) =>
    restricted || projects.length === 0
      ? []
      : [{ property: "projects", reason: "has no effect with restricted: false. Leave it out, or set restricted: true" }],

  replacementLoss: ({ name, certificate }) =>
    `${nameOf({ name })} (${fingerprintOfCertificate(certificate)}) will be removed, then the new one is added. Until then, neither is trusted`,

  standingWarnings: (_state, inputs) => warningsOf(inputs),

  async previewCreation(context, inputs) {
    return [...warningsOf(inputs), ...(await foreseenRefusals(await context.lxd(inputs.cluster), inputs))];
  },

  async previewEffects(context, inputs) {
    return foreseenRefusals(await context.lxd(inputs.cluster), inputs);
  },

  nameOf,
  idOf: ({ certificate }) => fingerprintOfCertificate(certificate),

  async find(lxd, { certificate }, state) {
    const found = await findCertificate(lxd, fingerprintOfCertificate(certificate));
    // One that became a member's is no longer the client's entry, and is never changed or removed.
    return state !== undefined && found !== undefined && !isOfClient(found.value.type) ? undefined : found;
  },

  async findShared(lxd, { certificate }) {
    const found = await findCertificateShared(lxd, fingerprintOfCertificate(certificate));
    return found !== undefined && isOfClient(found.type) ? found : undefined;
  },

  describe: ({ name, type, restricted, projects }) =>
    `a ${type} certificate${name === "" ? "" : ` named "${name}"`}, ${
      restricted ? `restricted to ${projects.length === 0 ? "no project" : projects.join(", ")}` : "unrestricted"
    }`,

  unmarked: ({ names }) => `${names.name} does not say who made it; a pulumi up that was killed may have`,

  refuseOther(lxd, { type }, inputs) {
    if (!isOfClient(type)) {
      throw new RefusedError(
        `${nameOf(inputs)}: certificate is in the trust store of ${lxd.host} as one of type "${type}": it is a member's own. Give the client its own ` +
          "key and certificate",
      );
    }
    if (type !== inputs.type) {
      throw new RefusedError(
        `${nameOf(inputs)}: certificate is in the trust store of ${lxd.host} with the type "${type}", which cannot be changed. Set type: "${type}", or ` +
          "remove it there first",
      );
    }
  },

  observe: (_lxd, { name, type, restricted, projects, description }, state) =>
    Promise.resolve({
      inputs: {
        name,
        type: isOfClient(type) ? type : state.type,
        restricted,
        projects: sameSet(projects, state.projects) ? state.projects : knownFirst(state.projects, projects, (each) => each),
        ...(description !== undefined && { description }),
      },
      outputs: outputsOf(state),
    }),

  async save(context, lxd, inputs, found) {
    const [refusal] = await refusalsOf(lxd, inputs);
    if (refusal !== undefined) {
      throw new RefusedError(`${refusal}. Nothing was changed`);
    }
    const { certificate, type } = inputs;
    await (found === undefined
      ? addCertificate(lxd, certificate, type, inputs, context.mark)
      : changeCertificate(lxd, found.value.fingerprint, inputs, context.mark));
    return outputsOf(inputs);
  },

  writeMark: (lxd, { name }, found) => nameCertificate(lxd, found.value.fingerprint, name),
  remove: (_context, lxd, _state, found) => removeCertificate(lxd, found.value.fingerprint),
});

function nameOf({ name }: Pick<Inputs, "name">): string {
  return `Trusted certificate "${name}"`;
}

function outputsOf({ certificate }: Pick<Inputs, "certificate">): Outputs {
  return { fingerprint: fingerprintOfCertificate(certificate), expiresAt: expiryOfCertificate(certificate) };
}

/** What the user should know of a certificate for as long as it is true. */
function warningsOf({ name, certificate, restricted, projects }: Inputs): string[] {
  const expiresAt = expiryOfCertificate(certificate);
  const leftMs = Date.parse(expiresAt) - Date.now();
  const expiry =
    leftMs < 0
      ? [`${nameOf({ name })} expired at ${expiresAt}: servers refuse it. Give the client a new one`]
      : [`${nameOf({ name })} expires at ${expiresAt}. Give the client a new one before`];
  return [
    ...(leftMs < SOON_MS ? expiry : []),
    ...(restricted && projects.length === 0
      ? [`${nameOf({ name })} is restricted to no project, so its client can use none. List projects, or set restricted: false`]
      : []),
  ];
}

async function foreseenRefusals(lxd: LxdClient, inputs: Inputs): Promise<string[]> {
  const refusals = await refusalsOf(lxd, inputs);
  return refusals.map((refusal) => `${refusal}. Unless that changes before, pulumi up will refuse this`);
}

/** Why the server will not take the entry as wanted. */
async function refusalsOf(lxd: LxdClient, { name, projects, description }: Inputs): Promise<string[]> {
  const { unknown, known } = await findUnknownProjects(lxd, projects);
  return [
    ...(unknown.length === 0
      ? []
      : [
          `${nameOf({ name })}: projects names ${unknown.join(", ")}, which ${lxd.host} does not have (its projects are ${known.join(", ")})`,
        ]),
    ...(description === "" || (await describesCertificates(lxd))
      ? []
      : [`${nameOf({ name })}: ${lxd.names.name} of ${lxd.host} keeps no description of a certificate. Remove description`]),
  ];
}

/**
 * A client's certificate that a cluster trusts. Other tools reach the API of the cluster with its key.
 *
 * @example
 * ```typescript
 * const shop = new LxdProject("shop", { cluster, name: "shop" });
 * const ci = new LxdTrustCertificate("ci", {
 *   cluster,
 *   name: "ci",
 *   certificate: ciCertificate, // the text of ci.crt
 *   projects: [shop.name],
 * });
 * export const ciFingerprint = ci.fingerprint;
 * ```
 */
export class LxdTrustCertificate extends LxdResource {
  /** Name of the client. */
  declare readonly name: Output<string>;
  /** The client's certificate in PEM form. */
  declare readonly certificate: Output<string>;
  /** What the client may use. */
  declare readonly type: Output<"client" | "metrics">;
  /** Whether the client may use only `projects`. */
  declare readonly restricted: Output<boolean>;
  /** Names of the projects that the client may use. */
  declare readonly projects: Output<string[]>;
  /** Purpose of the client. */
  declare readonly description: Output<string>;
  /** SHA-256 of the certificate in hexadecimal, as LXD identifies it. */
  declare readonly fingerprint: Output<string>;
  /** End of the certificate's validity: `2035-12-31T00:00:00.000Z`. */
  declare readonly expiresAt: Output<string>;

  constructor(name: string, args: LxdTrustCertificateArgs, opts?: CustomResourceOptions) {
    super("LxdTrustCertificate", name, { ...args }, ["fingerprint", "expiresAt"], opts);
  }
}

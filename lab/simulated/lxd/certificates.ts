/** The trust store: `/1.0/certificates`. */
import { X509Certificate } from "node:crypto";
import { z } from "zod";
import { listed } from "./cluster";
import type { Database, LxdServer, TrustedCertificate } from "./database";
import { created, LxdError, type Reply, requireEtag, sync } from "./reply";
import { type ApiRequest, decode, param, type Router } from "./router";

const fields = {
  name: z.string().default(""),
  type: z.string().default(""),
  certificate: z.string().default(""),
  restricted: z.boolean().default(false),
  projects: z.array(z.string()).nullish(),
  description: z.string().default(""),
};
const certificatePut = z.object(fields).describe("CertificatePut");
const certificatePost = z.object({ ...fields, token: z.boolean().default(false) }).describe("CertificatesPost");

/** Adds the endpoints of the trust store. */
export function addTrustStore(router: Router): void {
  router.add("/1.0/certificates", {
    GET: (request) => {
      const { daemon } = request;
      return listed(request, [...daemon.database.certificates.values()], urlOf, (each) => toApi(daemon, each));
    },
    POST: trust,
  });
  router.add("/1.0/certificates/{fingerprint}", {
    GET: (request) => {
      const certificate = toApi(request.daemon, find(request));
      return sync(certificate, certificate);
    },
    PUT: change,
    DELETE: distrust,
  });
}

function urlOf({ fingerprint }: Pick<TrustedCertificate, "fingerprint">): string {
  return `/1.0/certificates/${fingerprint}`;
}

function trust(request: ApiRequest): Reply {
  const { daemon } = request;
  const { name, type, certificate, restricted, projects, description, token } = decode(request, certificatePost);
  if (token || certificate === "") {
    throw new LxdError(400, "Client is already trusted");
  }
  if (type !== "client" && type !== "server" && type !== "metrics") {
    throw new LxdError(400, daemon.behaviour.server === "incus" ? "Invalid certificate type" : "Unknown request type");
  }
  const parsed = parse(certificate);
  if (Date.parse(parsed.validTo) < Date.now()) {
    throw new LxdError(400, "The provided certificate is expired");
  }
  const fingerprint = parsed.fingerprint256.replaceAll(":", "").toLowerCase();
  if (daemon.database.certificates.has(fingerprint)) {
    throw new LxdError(409, "Certificate already in trust store");
  }
  daemon.database.certificates.set(fingerprint, {
    ...{ fingerprint, pem: parsed.toString(), type, restricted, description },
    name: name === "" ? (/^CN=(.*)$/m.exec(parsed.subject)?.[1] ?? "") : name,
    projects: existing(daemon.database, projects),
  });
  daemon.event("certificate-created", urlOf({ fingerprint }));
  return created(urlOf({ fingerprint }));
}

function change(request: ApiRequest): Reply {
  const { daemon } = request;
  const found = find(request);
  requireEtag(request.headers["if-match"], toApi(daemon, found));
  const { name, type, restricted, projects, description } = decode(request, certificatePut);
  if (type !== found.type) {
    throw new LxdError(daemon.behaviour.server === "incus" ? 400 : 403, "The certificate type cannot be changed");
  }
  Object.assign(found, { name, restricted, description, projects: existing(daemon.database, projects) });
  daemon.event("certificate-updated", urlOf(found));
  return sync();
}

function distrust(request: ApiRequest): Reply {
  const { daemon } = request;
  const certificate = find(request);
  if (certificate.type === "server" && daemon.behaviour.since521) {
    throw new LxdError(400, "Cannot delete a server certificate. Remove the cluster member instead");
  }
  daemon.database.certificates.delete(certificate.fingerprint);
  daemon.event("certificate-deleted", urlOf(certificate));
  return sync();
}

function find(request: ApiRequest): TrustedCertificate {
  const prefix = param(request, "fingerprint");
  const found = [...request.daemon.database.certificates.values()].find(({ fingerprint }) => fingerprint.startsWith(prefix));
  if (found === undefined) {
    throw new LxdError(404, "Certificate not found");
  }
  return found;
}

function parse(certificate: string): X509Certificate {
  try {
    return new X509Certificate(certificate.startsWith("-----") ? certificate : Buffer.from(certificate, "base64"));
  } catch {
    throw new LxdError(400, "Invalid certificate material: x509: malformed certificate");
  }
}

/** The names, all of which must be of projects. */
function existing(database: Database, projects: readonly string[] | null | undefined): string[] {
  return (projects ?? []).map((name) => database.project(name).name);
}

function toApi({ behaviour, database }: LxdServer, { pem, description = "", projects, ...own }: TrustedCertificate): object {
  return {
    ...own,
    certificate: pem,
    projects: projects.filter((name) => database.projects.has(name)),
    ...(behaviour.apiExtensions.includes("certificate_description") && { description }),
  };
}

/** The trust store: `/1.0/certificates`, and certificates themselves. */
import { X509Certificate } from "node:crypto";
import * as z from "zod";
import { listOf } from "./client/answers";
import { api, type LxdClient } from "./client/client";
import { type Config, ownerKey } from "./config";
import { isMarkOfCreate } from "./ownership";
import { getServerShared } from "./server";

/** https://documentation.ubuntu.com/lxd/latest/api/#/certificates */
const trustedSchema = z.looseObject({
  fingerprint: z.string(),
  name: z.string(),
  type: z.string(),
  certificate: z.string(),
  restricted: z.boolean().default(false),
  projects: listOf(z.string()),
  /** Only Incus has one. */
  description: z.string().optional(),
});

type ApiTrusted = z.output<typeof trustedSchema>;

/** Types of certificates that are clients'. Those of members have the type `server`. */
export const CLIENT_TYPES = ["client", "metrics"] as const;

type ClientType = (typeof CLIENT_TYPES)[number];

/** An entry of the trust store. */
export interface TrustedCertificate {
  readonly fingerprint: string;
  /** Empty until the create of the entry has ended: the mark is in its place. */
  readonly name: string;
  readonly type: string;
  readonly certificate: string;
  readonly restricted: boolean;
  readonly projects: readonly string[];
  /** Absent if the server has none. */
  readonly description: string | undefined;
  /** The owner's mark, until the create of the entry has ended: servers keep no config of it. */
  readonly config: Config;
}

export interface FoundCertificate {
  readonly value: TrustedCertificate;
  readonly etag: string | undefined;
}

export interface CertificatePut {
  readonly name: string;
  readonly restricted: boolean;
  readonly projects: readonly string[];
  readonly description: string;
}

/** Says what is wrong with a text that is to be one certificate, in a sentence that begins with the property's name. */
export function faultOfCertificate(pem: string): string | undefined {
  if (/-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----/.test(pem)) {
    return "holds a private key, which belongs to the client alone. Give only the certificate, and replace the key if others may have seen it";
  }
  const count = pem.split(BEGIN).length - 1;
  if (count !== 1) {
    return count === 0
      ? `is not a certificate in PEM form: it has no line ${BEGIN}`
      : `has ${count} certificates. Give the one that the client presents, without those of its issuers`;
  }
  const certificate = parsed(pem);
  if (certificate === undefined) {
    return "is not a valid certificate in PEM form";
  }
  const { asymmetricKeyType, asymmetricKeyDetails } = certificate.publicKey;
  const bits = asymmetricKeyDetails?.modulusLength ?? 0;
  return asymmetricKeyType === "rsa" && bits < 2048
    ? `has an RSA key of ${bits} bits, and servers take no less than 2048`
    : undefined;
}

const BEGIN = "-----BEGIN CERTIFICATE-----";

function parsed(pem: string): Pick<X509Certificate, "raw" | "publicKey"> | undefined {
  try {
    const { raw, publicKey } = new X509Certificate(pem.slice(pem.indexOf(BEGIN)));
    return { raw, publicKey };
  } catch {
    return undefined; // the parser's texts differ between versions of Node
  }
}

/** The SHA-256 of a certificate's DER form in lower-case hexadecimal, by which servers identify it. */
export function fingerprintOfCertificate(pem: string): string {
  return new X509Certificate(pem.slice(pem.indexOf(BEGIN))).fingerprint256.replaceAll(":", "").toLowerCase();
}

/** Whether two texts, of which a check has accepted at least one, are one certificate. */
export function sameCertificate(a: string, b: string): boolean {
  const [left, right] = [parsed(a), parsed(b)];
  return a === b || (left !== undefined && right !== undefined && left.raw.equals(right.raw));
}

/** The end of a certificate's validity, in ISO form. */
export function expiryOfCertificate(pem: string): string {
  return new Date(new X509Certificate(pem.slice(pem.indexOf(BEGIN))).validTo).toISOString();
}

/** Finds the entry of a certificate, also one of a member. */
export async function findCertificate(lxd: LxdClient, fingerprint: string): Promise<FoundCertificate | undefined> {
  const found = await lxd.findWithEtag(pathOf(fingerprint), trustedSchema);
  return found && { value: fromApi(found.value), etag: found.etag };
}

/** {@link findCertificate} in one list that all reads of this process share. */
export async function findCertificateShared(lxd: LxdClient, fingerprint: string): Promise<TrustedCertificate | undefined> {
  const all = await lxd.getShared("/1.0/certificates", listOf(trustedSchema), { recursion: 1 });
  const found = all.find((each) => each.fingerprint === fingerprint);
  return found && fromApi(found);
}

/** The certificates of clients, without those of members. */
export async function listClientCertificates(lxd: LxdClient): Promise<TrustedCertificate[]> {
  const all = await lxd.get("/1.0/certificates", listOf(trustedSchema), { recursion: 1 });
  return all.filter(({ type }) => isOfClient(type)).map(fromApi);
}

/** Whether a type of the trust store is that of clients, and not of members. */
export function isOfClient(type: string): type is ClientType {
  return CLIENT_TYPES.some((each) => each === type);
}

/** Adds a certificate. Until its create has ended, its name is the mark. */
export async function addCertificate(
  lxd: LxdClient,
  pem: string,
  type: ClientType,
  { name, ...put }: CertificatePut,
  mark: string,
): Promise<void> {
  const certificate = new X509Certificate(pem.slice(pem.indexOf(BEGIN))).raw.toString("base64");
  const body = { ...(await toApi(lxd, put)), certificate, type, name: isMarkOfCreate(mark) ? mark : name };
  await lxd.change("POST", "/1.0/certificates", { body });
}

/** Changes an entry. A mark in place of its name, of a create that did not end, is replaced by that of a new one. */
export async function changeCertificate(
  lxd: LxdClient,
  fingerprint: string,
  { name, ...put }: CertificatePut,
  mark: string,
): Promise<void> {
  const fields = await toApi(lxd, put);
  const nameOf = (live: ApiTrusted): string => (isMarkOfCreate(live.name) && isMarkOfCreate(mark) ? mark : name);
  await modify(lxd, fingerprint, (live) => ({ ...fields, name: nameOf(live) }));
}

/** Replaces the mark of a create by the name. Changes nothing else. */
export async function nameCertificate(lxd: LxdClient, fingerprint: string, name: string): Promise<void> {
  await modify(lxd, fingerprint, (live) => (isMarkOfCreate(live.name) ? { name } : undefined));
}

export async function removeCertificate(lxd: LxdClient, fingerprint: string): Promise<void> {
  await lxd.remove(pathOf(fingerprint));
}

/** Whether the server keeps descriptions of certificates. */
export async function describesCertificates(lxd: LxdClient): Promise<boolean> {
  return (await getServerShared(lxd)).api_extensions.includes("certificate_description");
}

async function modify(lxd: LxdClient, fingerprint: string, change: (live: ApiTrusted) => object | undefined): Promise<void> {
  const path = pathOf(fingerprint);
  const isFound = await lxd.modify(path, trustedSchema, (live) => {
    const changed = change(live);
    const { fingerprint: _, ...own } = live;
    return changed && { ...own, ...changed };
  });
  if (!isFound) {
    await lxd.get(path, trustedSchema); // says that it is not there
  }
}

async function toApi(
  lxd: LxdClient,
  { restricted, projects, description }: Omit<CertificatePut, "name">,
): Promise<Omit<CertificatePut, "name" | "description"> & { description?: string }> {
  return { restricted, projects, ...((await describesCertificates(lxd)) && { description }) };
}

function fromApi({ fingerprint, name, type, certificate, restricted, projects, description }: ApiTrusted): TrustedCertificate {
  const isMark = isMarkOfCreate(name);
  return {
    ...{ fingerprint, type, certificate, restricted, projects, description },
    name: isMark ? "" : name,
    config: isMark ? ownerKey(name) : {},
  };
}

function pathOf(fingerprint: string): string {
  return api`/1.0/certificates/${fingerprint}`;
}

/**
 * Equality by meaning: whether two texts name the same server, image, address or path in any spelling. A difference causes an update, or a
 * replacement where LXD cannot change the object, so no decision depends on spelling.
 */
import { isIPv4, isIPv6 } from "node:net";

const LXD_PORT = "8443";

function sameBy(canonical: (text: string) => string): (a: string, b: string) => boolean {
  return (a, b) => a === b || canonical(a) === canonical(b);
}

export const sameMac = sameBy((text) => text.trim().toLowerCase());

/** A missing domain means 0000. */
export const samePci = sameBy((text) => {
  const address = text.trim().toLowerCase();
  return /^[0-9a-f]{2}:/.test(address) ? `0000:${address}` : address;
});

/** Keeps `..`, because its meaning depends on symbolic links. */
export const samePath = sameBy((text) => {
  const path = text.replace(/\/(\.?\/)+/g, "/").replace(/\/\.$/, "/");
  return path.length > 1 ? path.replace(/\/$/, "") : path;
});

/** Compares comma-separated lists of addresses, networks or ranges. */
export const sameAddresses = sameBy(canonicalAddresses);

/** Compares comma-separated lists of names whose order does not matter. */
export const sameNames = sameBy((text) =>
  text
    .split(",")
    .map((name) => name.trim())
    .sort()
    .join(),
);

/** Returns a comma-separated list of addresses, networks or ranges in one spelling. */
export function canonicalAddresses(text: string): string {
  return text
    .split(",")
    .map((item) => item.trim().split("-").map(canonicalAddress).join("-"))
    .join();
}

/** Compares addresses to listen on or to connect to. A missing port means LXD's default. */
export const sameListener = sameBy((text) => {
  const { host, port } = splitPort(text.trim());
  return text === "" ? "" : `${canonicalAddress(host)} ${port ?? LXD_PORT}`;
});

export const sameServer = sameBy((text) => {
  try {
    const { protocol, host, pathname, search } = new URL(text.trim());
    return `${protocol}//${host}${pathname.replace(/\/+/g, "/").replace(/\/$/, "")}${search}`;
  } catch {
    return text;
  }
});

/** Shortest prefix of a fingerprint that LXD accepts in place of the whole. */
const SHORTEST_FINGERPRINT = 12;

/** Whether two fingerprints identify the same image or certificate. Either may be shortened. */
export function sameFingerprint(a: string, b: string): boolean {
  const [short = "", long = ""] = [a.trim().toLowerCase(), b.trim().toLowerCase()].sort((x, y) => x.length - y.length);
  return short === long || (short.length >= SHORTEST_FINGERPRINT && long.startsWith(short));
}

type ImageReference = Readonly<Partial<Record<"alias" | "fingerprint" | "server" | "protocol", string | undefined>>> & {
  readonly formerFingerprints?: readonly string[] | undefined;
};

/**
 * Whether a program still refers to the image that an object was made from.
 * @param made - The program's reference at creation, and the fingerprint of the image used; empty when unknown.
 */
export function sameImage(made: { image: ImageReference; fingerprint: string }, wanted: ImageReference): boolean {
  const { image, fingerprint } = made;
  if (wanted.fingerprint !== undefined) {
    // The content decides, not its source.
    const used = fingerprint !== "" ? fingerprint : (image.fingerprint ?? "");
    return [wanted.fingerprint, ...(wanted.formerFingerprints ?? [])].some((each) => sameFingerprint(each, used));
  }
  return (
    image.alias === wanted.alias &&
    sameServer(image.server ?? "", wanted.server ?? "") &&
    (image.protocol ?? "") === (wanted.protocol ?? "")
  );
}

/** Whether two times in ISO form are one instant, to the second; servers keep more or fewer digits. Absent is like absent. */
export function sameInstant(a: string | null | undefined, b: string | null | undefined): boolean {
  const [left, right] = [a, b].map((text) => (text ? Math.floor(Date.parse(text) / 1000) : undefined));
  return left === right;
}

/** Compares booleans as LXD reads them (`shared.IsTrue`, `shared.IsFalse`), and other texts by their letters. */
export const sameTruth = sameBy((text) => {
  const word = text.toLowerCase();
  if (["true", "1", "yes", "on"].includes(word)) {
    return "true";
  }
  return ["false", "0", "no", "off"].includes(word) ? "false" : text;
});

/** Takes an IPv4 or IPv6 address or network, or a host name. */
function canonicalAddress(text: string): string {
  const [address = "", ...prefix] = text.trim().split("/");
  const bare = address.replace(/^\[(.*)\]$/, "$1");
  const canonical = isIPv6(bare) && !bare.includes("%") ? new URL(`http://[${bare}]`).hostname.slice(1, -1) : bare.toLowerCase();
  return [canonical, ...prefix.map((each) => (/^\d+$/.test(each) ? String(Number(each)) : each))].join("/");
}

function splitPort(text: string): { host: string; port?: string } {
  if (isIPv4(text) || isIPv6(text)) {
    return { host: text };
  }
  const [, host = text, port] = /^(.*?)(?::(\d+))?$/.exec(text) ?? [];
  return port === undefined ? { host } : { host, port: String(Number(port)) };
}

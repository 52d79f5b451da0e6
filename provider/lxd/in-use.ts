import { hasCode, RefusedError, replyOf } from "../support/errors";

/**
 * Returns the error of a removal, with the users of the object when LXD refused to remove it while it is in use.
 * @param server - The server and its host: `Incus on root@192.168.1.102`.
 * @param users - `used_by` of the object: paths of LXD's API.
 */
export function explainInUse(error: unknown, what: string, server: string, users: readonly string[]): unknown {
  const isRefusal = (hasCode(error, "api") && error.status < 500) || hasCode(error, "operation");
  if (users.length === 0 || !isRefusal) {
    return error;
  }
  return new RefusedError(
    `${what} cannot be removed: ${server} says "${replyOf(error)}". It is used by ${users.map(describeUser).join(", ")}`,
    { cause: error },
  );
}

const NAMES_SHOWN = 3;

/** Counts users by their kind, with some names: `2 instances (web1, web2), 1 image`. */
export function countUsers(urls: readonly string[]): string {
  const byNoun = new Map<string, string[]>();
  for (const url of urls) {
    const [noun = "", ...name] = describeUser(url).split(" ");
    byNoun.set(noun, [...(byNoun.get(noun) ?? []), name.join(" ")]);
  }
  return [...byNoun]
    .map(([noun, names]) => {
      const shown = names.slice(0, NAMES_SHOWN).join(", ") + (names.length > NAMES_SHOWN ? ", ..." : "");
      const hasNames = noun !== "image"; // a fingerprint says nothing
      return `${names.length} ${noun}${names.length === 1 ? "" : "s"}${hasNames ? ` (${shown})` : ""}`;
    })
    .join(", ");
}

/** Formats `/1.0/instances/web1?project=shop` for messages: `instance web1 (project shop)`. `/1.0` is the server. */
export function describeUser(url: string): string {
  if (url === "/1.0") {
    return "the server itself, for its backups or images";
  }
  const [path = "", query = ""] = url.split("?");
  const [collection = "", ...names] = path
    .replace(/^\/1\.0\//, "")
    .split("/")
    .map(decoded);
  const project = new URLSearchParams(query).get("project");
  const noun = collection === "storage-pools" ? "volume" : collection.replace(/s$/, "");
  return `${noun} ${names.at(-1) ?? url}${project === null || project === "default" ? "" : ` (project ${project})`}`;
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment; // shown undecoded
  }
}

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { RequestRecord } from "../../../lab/simulated";

/** Where the calls that the contract makes are written down, for those who run without it. */
export const CALLS_PATH = join(__dirname, "calls.json");

/** The calls that the contract makes. */
export function callsInContract(): string[] {
  return JSON.parse(readFileSync(CALLS_PATH, "utf8")) as string[];
}

/**
 * A call of LXD's API as the contract and the library are compared by: method, endpoint, and what of the query makes it another call.
 */
function callOf({ method, path, route }: Pick<RequestRecord, "method" | "path" | "route">): string {
  const query = new URL(path, "http://lxd").searchParams;
  const telling = ["recursion", "target", "force"].filter((name) => query.has(name));
  const shown = telling.map((name) => (name === "target" ? name : `${name}=${query.get(name) ?? ""}`));
  return `${method} ${route}${shown.length === 0 ? "" : `?${shown.join("&")}`}`;
}

/** Those calls among some requests that LXD itself answered, in order. snapd's have a contract of their own. */
export function callsOf(requests: readonly RequestRecord[]): string[] {
  return [
    ...new Set(requests.filter(({ answer, route }) => answer !== undefined && !route.startsWith("/v2/")).map(callOf)),
  ].sort();
}

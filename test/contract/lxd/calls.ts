import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { RequestRecord } from "../../../lab/simulated";

/** File with the calls of the contract, for runs without it. */
export const CALLS_PATH = join(__dirname, "calls.json");

/** The calls that the contract makes. */
export function callsInContract(): string[] {
  return JSON.parse(readFileSync(CALLS_PATH, "utf8")) as string[];
}

/**
 * Identifies a call of LXD's API for the comparison of contract and library: method, endpoint, and the significant part
 * of the query.
 */
function callOf({ method, path, route }: Pick<RequestRecord, "method" | "path" | "route">): string {
  const query = new URL(path, "http://lxd").searchParams;
  const telling = ["recursion", "target", "force"].filter((name) => query.has(name));
  const shown = telling.map((name) => (name === "target" ? name : `${name}=${query.get(name) ?? ""}`));
  return `${method} ${route}${shown.length === 0 ? "" : `?${shown.join("&")}`}`;
}

/** The calls among some requests that LXD itself answered, in order. snapd's have their own contract. */
export function callsOf(requests: readonly RequestRecord[]): string[] {
  return [
    ...new Set(requests.filter(({ answer, route }) => answer !== undefined && !route.startsWith("/v2/")).map(callOf)),
  ].sort();
}

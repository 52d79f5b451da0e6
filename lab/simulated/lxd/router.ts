/** Finds the handler of a request among LXD's endpoints, and parses the request. */
import type { z } from "zod";
import { LxdError } from "./errors";
import type { ApiRequest, Handler } from "./request";

export type { ApiRequest, Handler } from "./request";

interface Route {
  pattern: string;
  segments: string[];
  methods: Record<string, Handler>;
  /** Available before the daemon is ready, and on a member that has lost its cluster. */
  internal: boolean;
}

/** The endpoints of the simulated LXD. */
export class Router {
  private readonly routes: Route[] = [];

  /** Adds an endpoint, such as `/1.0/profiles/{name}`, with a handler per method. */
  add(pattern: string, methods: Record<string, Handler>): void {
    this.routes.push({ pattern, segments: pattern.split("/").slice(1), methods, internal: pattern.startsWith("/internal/") });
  }

  /**
   * The handler for a request, or LXD's error: 404 for an unknown path, 501 for a method that the path does not have.
   */
  find(method: string, path: string): { handler: Handler; params: Record<string, string>; internal: boolean } {
    const { route, params } = this.match(path);
    const handler = route.methods[method] ?? (method === "HEAD" ? route.methods["GET"] : undefined);
    if (handler === undefined) {
      throw new LxdError(501, "not implemented");
    }
    return { handler, params, internal: route.internal };
  }

  /** The pattern of the endpoint that a path belongs to; the path itself if there is none. */
  patternOf(path: string): string {
    try {
      return this.match(path).route.pattern;
    } catch {
      return path;
    }
  }

  private match(path: string): { route: Route; params: Record<string, string> } {
    const segments = path.split("/").slice(1);
    for (const route of this.routes) {
      const params = match(route.segments, segments);
      if (params === undefined) {
        continue;
      }
      return { route, params };
    }
    throw new LxdError(404, "not found");
  }
}

function match(pattern: string[], segments: string[]): Record<string, string> | undefined {
  if (pattern.length !== segments.length) {
    return undefined;
  }
  const params: Record<string, string> = {};
  for (const [index, part] of pattern.entries()) {
    const segment = segments[index] ?? "";
    if (part.startsWith("{")) {
      params[part.slice(1, -1)] = decodeURIComponent(segment);
    } else if (part !== segment) {
      return undefined;
    }
  }
  return params;
}

/** A path segment that the pattern contains. */
export function param(request: ApiRequest, name: string): string {
  const value = request.params[name];
  if (value === undefined) {
    throw new Error(`the pattern has no {${name}}`);
  }
  return value;
}

/** The project of a request. */
export function projectOf(request: ApiRequest): string {
  return request.query.get("project") ?? "default";
}

/** The recursion level of a request; 0 means URLs only. */
export function recursionOf(request: ApiRequest): number {
  return Number.parseInt(request.query.get("recursion") ?? "0", 10) || 0;
}

/**
 * Decodes a JSON body as Go would: ignores unknown fields, refuses wrong types with Go's messages. The schema's
 * description stands for the name of the Go type.
 */
export function decode<Schema extends z.ZodType>(request: ApiRequest, schema: Schema): z.output<Schema> {
  let json: unknown;
  try {
    json = JSON.parse(request.body.toString() || "null");
  } catch {
    throw new LxdError(400, "invalid character in JSON body");
  }
  if (json === null) {
    throw new LxdError(400, "EOF");
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const path = issue?.path ?? [];
    const found = path.reduce<unknown>((value, key) => (value as Record<PropertyKey, unknown> | undefined)?.[key], json);
    const wanted =
      issue?.code === "invalid_type" && ["string", "boolean", "number"].includes(issue.expected) ? issue.expected : "struct";
    throw new LxdError(
      400,
      `json: cannot unmarshal ${goType(found)} into Go struct field ${schema.description ?? ""}.${String(path[0] ?? "")} of type ${wanted}`,
    );
  }
  return parsed.data;
}

function goType(value: unknown): string {
  if (Array.isArray(value)) {
    return "array";
  }
  switch (typeof value) {
    case "boolean":
      return "bool";
    case "number":
    case "string":
      return typeof value;
    default:
      return "object";
  }
}

import { readFileSync } from "node:fs";
import { isIPv4, isIPv6 } from "node:net";
import { homedir } from "node:os";
import { join } from "node:path";
import * as z from "zod";
import { withoutUndefined } from "../support/equality";
import { messageOf, RefusedError } from "../support/errors";

/**
 * How to reach a host by SSH. Names, meaning and defaults are those of `@pulumi/command`'s remote connection, so that one object serves
 * both; `privateKeyPath` and `hostKeyPolicy` are additions. {@link withDefaults} adds the defaults: state and outputs hold what was given.
 * @see https://www.pulumi.com/registry/packages/command/api-docs/remote/command/#connection
 */
const endpointShape = {
  host: z
    .string()
    .min(1)
    .refine((text) => hostProblem(text) === undefined, { error: ({ input }) => hostProblem(String(input)) }),
  port: z.int().min(1).max(65535).optional(),
  user: z.string().min(1).optional(),
  password: z.string().optional(),
  privateKey: z.string().optional(),
  privateKeyPath: z.string().min(1).optional(),
  privateKeyPassword: z.string().optional(),
  agentSocketPath: z.string().min(1).optional(),
  hostKey: z.string().refine(isPublicKey, 'is not a public host key such as "ssh-ed25519 AAAA..."').optional(),
  hostKeyPolicy: z.enum(["known-hosts", "insecure"]).optional(),
  dialErrorLimit: z.int().min(-1).optional(),
  perDialTimeout: z.number("must be a number of seconds, such as 15, or 0 for no limit").min(0, "must be at least 0").optional(),
};

/** A jump host: a connection without a further proxy. */
const proxySchema = z.strictObject(endpointShape);

export const connectionSchema = z.strictObject({ ...endpointShape, proxy: proxySchema.optional() });

export type Connection = z.output<typeof connectionSchema>;

const DEFAULTS = { port: 22, user: "root", hostKeyPolicy: "known-hosts", dialErrorLimit: 10, perDialTimeout: 15 } as const;

export type ResolvedConnection = z.output<typeof proxySchema> & {
  [Name in keyof typeof DEFAULTS]-?: NonNullable<Connection[Name]>;
};

export function withDefaults(connection: Connection): ResolvedConnection & { proxy?: ResolvedConnection } {
  const { proxy, ...endpoint } = withoutUndefined(connection) as Connection;
  return { ...DEFAULTS, ...endpoint, ...(proxy && { proxy: { ...DEFAULTS, ...proxy } }) } as ResolvedConnection & {
    proxy?: ResolvedConnection;
  };
}

/** A connection without the properties that only limit dialling. */
export function withoutPatience(connection: Connection): object {
  const { dialErrorLimit: _limit, perDialTimeout: _timeout, proxy, ...way } = withDefaults(connection);
  return { ...way, ...(proxy && { proxy: withoutPatience(proxy) }) };
}

/** `user@host:port`, as messages name a host. */
export function describeConnection(connection: Pick<Connection, "user" | "host" | "port">): string {
  const { user, host, port } = withDefaults(connection);
  return `${user}@${host.includes(":") ? `[${host}]` : host}${port === DEFAULTS.port ? "" : `:${port}`}`;
}

/** Credentials for sshd. They are read at each use, so that rotated ones work without a plan. */
export type Credentials = Pick<Connection, "privateKey" | "privateKeyPassword" | "password" | "agentSocketPath">;

/** @throws RefusedError when a key file cannot be read, or the connection has no credentials. */
export function resolveCredentials(connection: Connection): Credentials {
  const { privateKey = readKeyFile(connection), privateKeyPassword, password } = connection;
  const agentSocketPath = connection.agentSocketPath ?? (process.env["SSH_AUTH_SOCK"] || undefined);
  if (privateKey === undefined && password === undefined && agentSocketPath === undefined) {
    throw new RefusedError(
      `There is no way to log in to ${describeConnection(connection)}: give connection.privateKeyPath, connection.privateKey or ` +
        "connection.password, or start an SSH agent (SSH_AUTH_SOCK is not set)",
    );
  }
  return { privateKey, privateKeyPassword, password, agentSocketPath };
}

function readKeyFile(connection: Connection): string | undefined {
  const { privateKeyPath } = connection;
  try {
    return privateKeyPath === undefined ? undefined : readFileSync(expandHome(privateKeyPath), "utf8");
  } catch (error) {
    const name = describeConnection(connection);
    throw new RefusedError(`The private key for ${name} cannot be read (connection.privateKeyPath): ${messageOf(error)}`);
  }
}

export function expandHome(path: string): string {
  return path === "~" || path.startsWith("~/") ? join(homedir(), path.slice(1)) : path;
}

/** Why a text is not a host, as the end of a sentence that begins with the property. */
function hostProblem(text: string): string | undefined {
  const [, bracketed, port] = /^\[([0-9A-Fa-f:.%\w-]+)\](?::(\d+))?$/.exec(text) ?? [];
  if (bracketed !== undefined && isIPv6(bracketed)) {
    return `is an IPv6 address in brackets: give ${bracketed}${port === undefined ? "" : ` here, and ${port} as port`}`;
  }
  const [, name, after] = /^([\w.-]+):(\d{1,5})$/.exec(text) ?? [];
  if (name !== undefined) {
    return `has a port in it: give ${name} here, and ${after} as port`;
  }
  if (/^fe[89ab][0-9a-f]:/i.test(text) && isIPv6(text) && !text.includes("%")) {
    return `is a link-local address without an interface: give it with its interface, as in ${text}%eth0`;
  }
  return isHost(text) ? undefined : "is neither a host name nor an IP address";
}

function isHost(text: string): boolean {
  if (/^\d+(\.\d+)+$/.test(text)) {
    return isIPv4(text); // otherwise digits and dots that are not an address would count as a DNS name
  }
  return /^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(text) || (isIPv6(text) && !/%[^\w]/.test(text));
}

function isPublicKey(text: string): boolean {
  return /^[a-z0-9@.-]+ [A-Za-z0-9+/]+=*( .*)?$/.test(text.trim());
}

import type { Mark } from "../../provider/lxd/ownership";

/** A member of a cluster, or a standalone server. */
export interface MemberStatus {
  readonly name: string;
  /** As LXD shows it; an evacuated member that is down has `Evacuated, down`. */
  readonly status: string;
  readonly isDown: boolean;
  /** What LXD says of the status. */
  readonly message: string;
  /** Of the cluster's network, with the port; empty for a standalone server. */
  readonly address: string;
  readonly roles: readonly string[];
}

/** A pool, or a network that LXD manages. */
export interface ObjectStatus {
  readonly project: string;
  readonly name: string;
  /** A pool's driver, or a network's type. */
  readonly type: string;
  /** Status on each member; that of the member where it was not read. */
  readonly statuses: Readonly<Record<string, string>>;
  /** Of the resource that owns it. */
  readonly mark: Mark | undefined;
}

/** An instance. That of a member that is down has no more than a name and a place. */
export interface InstanceStatus {
  readonly project: string;
  readonly name: string;
  readonly type: string;
  readonly status: string;
  readonly member: string;
  /** Member that it left, or was stopped on, when that was evacuated: it returns, or starts, when the member is restored. */
  readonly origin: string | undefined;
  /** Global addresses of its NICs. */
  readonly addresses: readonly string[];
  /** Names of the networks, or interfaces of the host, that its NICs are on. */
  readonly nics: readonly string[];
  /** Names of the users that resources own. */
  readonly users: readonly string[];
  /** Of the resource that owns it. */
  readonly mark: Mark | undefined;
}

/** What a cluster has. */
export interface ClusterStatus {
  /** Server and version: `LXD 5.0.2`. */
  readonly title: string;
  /** The host that was asked. */
  readonly host: string;
  /** Name of the server's command. */
  readonly client: string;
  readonly clustered: boolean;
  readonly members: readonly MemberStatus[];
  /** What may still fail, when a voter is offline. */
  readonly quorum: string | undefined;
  readonly pools: readonly ObjectStatus[];
  readonly networks: readonly ObjectStatus[];
  readonly instances: readonly InstanceStatus[];
  /** What LXD does in the background. */
  readonly operations: readonly { readonly description: string; readonly since: string }[];
  /** What is not as it should be, or goes on, one sentence each. */
  readonly unfinished: readonly string[];
}

/** Name of an object with its project, for people. */
export function named({ project, name }: { readonly project: string; readonly name: string }): string {
  return project === "default" ? name : `${project}/${name}`;
}

/** The first line of what is printed about a cluster. */
export function titleOf({
  title,
  host,
  clustered,
  members,
}: Pick<ClusterStatus, "title" | "host" | "clustered" | "members">): string {
  const size = members.length === 1 ? "one member" : `${members.length} members`;
  return `${title}, ${clustered ? `a cluster of ${size}, asked on ${host}` : `a standalone server on ${host}`}`;
}

/** One status where all members have the same. */
export function statusText({ statuses }: Pick<ObjectStatus, "statuses">): string {
  const entries = Object.entries(statuses);
  const [first] = Object.values(statuses);
  return first !== undefined && entries.every(([, status]) => status === first)
    ? first
    : entries.map(([member, status]) => `${status} (${member})`).join(", ");
}

import type { Agent } from "node:http";
import pLimit from "p-limit";
import type { Deadline } from "../../support/deadline";
import { RefusedError } from "../../support/errors";
import { SingleFlight } from "../../support/single-flight";
import type { SshConnection } from "../../transport/ssh";

/** Packaging of LXD, or its fork Incus, on a host. */
export type Packaging = "snap" | "deb" | "incus";

/** Which of the two servers runs on a host. */
export type ServerKind = "lxd" | "incus";

/** Names and commands of a server, for messages. */
export interface ServerNames {
  readonly server: ServerKind;
  readonly name: "LXD" | "Incus";
  /** The command-line client. */
  readonly client: "lxc" | "incus";
  /** Command that shows the daemon's log on the host. */
  readonly log: string;
  /** Command that restarts the daemon. */
  readonly restart: string;
  /** Command that removes the server from the host, with its data. */
  readonly purge: string;
}

const LXD = { server: "lxd", name: "LXD", client: "lxc" } as const;

const NAMES: Readonly<Record<Packaging, ServerNames>> = {
  deb: { ...LXD, log: "journalctl --unit lxd", restart: "systemctl restart lxd", purge: "apt-get purge lxd" },
  snap: { ...LXD, log: "journalctl --unit snap.lxd.daemon", restart: "snap restart lxd", purge: "snap remove --purge lxd" },
  incus: {
    server: "incus",
    name: "Incus",
    client: "incus",
    log: "journalctl --unit incus",
    restart: "systemctl restart incus",
    purge: "apt-get purge incus incus-base",
  },
};

export function namesOf(packaging: Packaging): ServerNames {
  return NAMES[packaging];
}

export interface ApiSocket {
  readonly path: string;
  readonly packaging: Packaging;
}

/**
 * Sockets of the daemon, in the order of LXD's own client.
 * @see https://github.com/canonical/lxd/blob/main/client/connection.go
 */
const API_SOCKETS: readonly ApiSocket[] = [
  { path: "/var/snap/lxd/common/lxd/unix.socket", packaging: "snap" },
  { path: "/var/lib/lxd/unix.socket", packaging: "deb" },
  { path: "/run/incus/unix.socket", packaging: "incus" },
  { path: "/var/lib/incus/unix.socket", packaging: "incus" },
];

/** The server that listens at a path; LXD at any other path. */
export function serverAt(path: string): ServerKind {
  return API_SOCKETS.some((socket) => socket.path === path && socket.packaging === "incus") ? "incus" : "lxd";
}

/** The API of the daemon on one host. */
export interface Endpoint {
  readonly host: string;
  /** The daemon and its host as messages name them: `Incus on root@192.168.1.102`. */
  readonly title: string;
  readonly socket: ApiSocket;
  readonly agent: Agent;
  /** Whether the connection to the host is still open. The daemon causes each failure on an open connection. */
  isOpen(): boolean;
  /**
   * Holds back requests until a socket is free. Node's agent does not count sockets that are still opening: it would open one for each of
   * many requests, and those without a free channel would never use the sockets that are kept alive.
   */
  readonly requests: pLimit.Limit;
}

export async function findSocket(ssh: SshConnection, deadline: Deadline): Promise<ApiSocket | undefined> {
  const found = await ssh.listener(
    API_SOCKETS.map(({ path }) => path),
    deadline,
  );
  return API_SOCKETS.find(({ path }) => path === found);
}

/** Endpoints of this process: one HTTP agent per connection, which keeps its sockets alive between requests. */
const endpoints = new WeakMap<SshConnection, SingleFlight<Endpoint>>();

/** @throws RefusedError when no daemon listens there. */
export async function endpointOf(ssh: SshConnection, deadline: Deadline): Promise<Endpoint> {
  const shared = endpoints.get(ssh) ?? new SingleFlight<Endpoint>();
  endpoints.set(ssh, shared);
  return shared.join(deadline, `looking for the API of LXD or Incus on ${ssh.name}`, () => openEndpoint(ssh, deadline));
}

async function openEndpoint(ssh: SshConnection, deadline: Deadline): Promise<Endpoint> {
  const socket = await findSocket(ssh, deadline);
  if (socket === undefined) {
    throw new RefusedError(
      `Neither LXD nor Incus runs on ${ssh.name}: none of their API sockets answers (${API_SOCKETS.map(({ path }) => path).join(", ")}). ` +
        "Install it (LxdNode with install), or start it",
    );
  }
  await refuseSecondServer(ssh, socket, deadline);
  const agent = ssh.unixSocketAgent(socket.path);
  // Reserves one socket for polling operations: LXD forgets an operation while a poll waits behind other requests.
  const title = `${namesOf(socket.packaging).name} on ${ssh.name}`;
  return { host: ssh.name, title, socket, agent, isOpen: () => ssh.open, requests: pLimit(Math.max(1, agent.maxSockets - 1)) };
}

/** @throws RefusedError when LXD and Incus both run on the host: what one of them holds would seem to be gone in the other. */
async function refuseSecondServer(ssh: SshConnection, { path, packaging }: ApiSocket, deadline: Deadline): Promise<void> {
  const first = namesOf(packaging);
  const others = API_SOCKETS.filter((socket) => namesOf(socket.packaging).server !== first.server);
  const second = await ssh.listener(
    others.map((socket) => socket.path),
    deadline,
  );
  const other = others.find((socket) => socket.path === second);
  if (other !== undefined) {
    const { name, purge } = namesOf(other.packaging);
    throw new RefusedError(
      `${ssh.name} runs both ${first.name} (${path}) and ${name} (${other.path}), and it is unknown which one is meant. Save what the other one ` +
        `holds, and remove it there: ${first.purge}, or ${purge}`,
    );
  }
}

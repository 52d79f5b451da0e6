import { createHash } from "node:crypto";
import { type Deadline, until } from "../support/deadline";
import { canonicalJson } from "../support/equality";
import { hasCode, messageOf } from "../support/errors";
import { SingleFlight } from "../support/single-flight";
import { type Connection, describeConnection, withDefaults, withoutPatience } from "./connection";
import { SshConnection } from "./ssh";

/** The connections of this process: one per host and credentials. The process lives for one engine operation. */
const connections = new Map<string, SingleFlight<SshConnection>>();

/**
 * Returns the connection to a host, and dials when none is open. Callers share one dial; each caller decides how often to repeat it.
 * @param options.patient - Dial up to `dialErrorLimit` times, for a host that may still be booting. Otherwise once.
 * @throws TransportError, RefusedError
 */
export async function connect(
  connection: Connection,
  options: { deadline: Deadline; patient?: boolean },
): Promise<SshConnection> {
  const { deadline, patient = false } = options;
  const key = createHash("sha256")
    .update(canonicalJson(withoutPatience(connection)))
    .digest("base64");
  const limit = patient ? withDefaults(connection).dialErrorLimit : 1;
  let failures = 0;
  return until(deadline, async (report) => {
    try {
      return await dial(key, connection, deadline, patient);
    } catch (error) {
      failures += 1;
      report(messageOf(error));
      if (!hasCode(error, "transport") || (limit !== -1 && failures >= limit)) {
        throw error;
      }
      return undefined;
    }
  });
}

/** @param patient - Whether to dial a host that recently did not answer. */
async function dial(key: string, connection: Connection, deadline: Deadline, patient: boolean): Promise<SshConnection> {
  for (;;) {
    const shared = connections.get(key) ?? new SingleFlight<SshConnection>();
    connections.set(key, shared);
    const begin = (): Promise<SshConnection> => SshConnection.dial(connection, deadline);
    const established = await shared.join(deadline, `dialling ${describeConnection(connection)}`, begin, patient);
    if (established.open) {
      return established;
    }
    if (connections.get(key) === shared) {
      connections.delete(key);
    }
  }
}

const forgetting: (() => void)[] = [];

/** Registers what also ends with all connections: knowledge that one engine operation keeps. */
export function whenDisconnected(forget: () => void): void {
  forgetting.push(forget);
}

/** Ends all connections. For programs that continue after they used the library; a provider process just ends. */
export async function disconnectAll(): Promise<void> {
  const open = [...connections.values()].flatMap(({ result }) => result ?? []);
  connections.clear();
  forgetting.forEach((forget) => forget());
  for (const connection of await Promise.allSettled(open)) {
    if (connection.status === "fulfilled") {
      connection.value.close();
    }
  }
}

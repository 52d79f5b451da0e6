import { connect } from "node:net";
import type { Duplex } from "node:stream";
import { type AnyAuthMethod, Client, type ParsedKey } from "ssh2";
import type { Deadline } from "../support/deadline";
import { hasCode, RefusedError, TransportError } from "../support/errors";
import {
  type Connection,
  type Credentials,
  describeConnection,
  type ResolvedConnection,
  resolveCredentials,
  withDefaults,
} from "./connection";
import { expectedHostKey } from "./host-key";
import { KeyProblem, readPrivateKey } from "./private-key";
import { endWhenSilent, KEEPALIVE_INTERVAL_MS } from "./silence";

/** Logs in once, through the proxy if there is one. Each of proxy and host gets `perDialTimeout` seconds. */
export async function login(connection: Connection, deadline: Deadline): Promise<Client> {
  const { proxy, ...host } = withDefaults(connection);
  if (proxy === undefined) {
    return dial(host, deadline);
  }
  const jump = await dial(proxy, deadline);
  try {
    const client = await dial(host, deadline, await openTunnel(jump, host, deadline));
    client.on("close", () => jump.end());
    return client;
  } catch (error) {
    jump.end();
    throw error;
  }
}

/** Makes the jump host connect to the host. The jump host's own timeout may be minutes. */
async function openTunnel(jump: Client, connection: ResolvedConnection, deadline: Deadline): Promise<Duplex> {
  const name = describeConnection(connection);
  const unreachable = (why: string): TransportError =>
    new TransportError(name, `${name} cannot be reached through the proxy: ${why}`);
  const seconds = dialSeconds(connection, deadline);
  const tunnel = new Promise<Duplex>((resolve, reject) => {
    jump.forwardOut("127.0.0.1", 0, connection.host, connection.port, (error, channel) =>
      error ? reject(unreachable(error.message)) : resolve(channel),
    );
    jump.once("close", () => reject(unreachable("the proxy closed the connection")));
  });
  return deadline
    .atMost(seconds, `dialling ${name}`)
    .race(tunnel, "")
    .catch((error: unknown) => {
      throw hasCode(error, "timeout") ? unreachable(`no answer within ${seconds} s`) : error;
    });
}

/** Seconds that one dial may take: `perDialTimeout`, where 0 means no limit, and at most the time to the deadline. */
function dialSeconds({ perDialTimeout }: ResolvedConnection, deadline: Deadline): number {
  const left = Number((deadline.remainingMs / 1000).toPrecision(3));
  return perDialTimeout === 0 ? left : Math.min(perDialTimeout, left);
}

/** @param tunnel - To the host, instead of a new TCP connection. */
function dial(connection: ResolvedConnection, deadline: Deadline, tunnel?: Duplex): Promise<Client> {
  const name = describeConnection(connection);
  const credentials = resolveCredentials(connection);
  const expectation = expectedHostKey(connection);
  const { methods, tried } = waysToLogIn(connection, credentials);
  const seconds = dialSeconds(connection, deadline);
  const algorithms = new Algorithms();
  let refusal: string | undefined;

  const explain = (error: Failure): Error => {
    if (refusal !== undefined) {
      return new RefusedError(`${name} was not trusted: ${refusal}`);
    }
    const rejected = `${name} did not accept the login (tried: ${tried.join("; ")})`;
    if (error.level === "client-authentication") {
      const check =
        credentials.password === undefined || credentials.privateKey !== undefined
          ? "that the host has this key in its authorized_keys"
          : "that its sshd accepts passwords and this is the right one";
      return new RefusedError(`${rejected}. Check connection.user, and ${check}`);
    }
    if (/too many authentication failures/i.test(error.message)) {
      return new RefusedError(
        `${rejected}: ${error.message}. Its sshd limits the attempts (MaxAuthTries), and each key of an agent is one. Give the right ` +
          "key as connection.privateKeyPath, or keep fewer keys in the agent",
      );
    }
    if (error.level === "handshake") {
      return new RefusedError(`The SSH handshake with ${name} failed: ${error.message}${algorithms.difference()}`);
    }
    const why = error.level === "client-timeout" ? `no answer within ${seconds} s` : error.message;
    const hint = "Check that it is switched on, and that connection.host and connection.port lead to its sshd";
    return new TransportError(name, `${name} cannot be reached by SSH: ${why}. ${hint}`, { cause: error });
  };

  return new Promise((resolve, reject) => {
    const client = new Client();
    const fail = (error: Failure): void => {
      if (error.level === "agent") {
        tried.push(`the agent at ${credentials.agentSocketPath} failed: ${error.message}`);
        return; // ssh2 continues with the next method, or reports that none is left
      }
      client.removeAllListeners();
      client.on("error", () => undefined);
      client.destroy();
      reject(explain(error));
    };
    const onEarlyClose = (): void => fail(new Error("the host closed the connection"));
    client.on("error", fail);
    client.once("close", onEarlyClose);
    client.once("ready", () => {
      client.off("error", fail).off("close", onEarlyClose);
      client.on("error", () => undefined); // without a listener, an error would end the process; "close" follows
      resolve(client);
    });
    try {
      const sock = tunnel ?? connect(connection.port, connection.host);
      client.once("ready", () => endWhenSilent(client, sock));
      client.connect({
        sock,
        username: connection.user,
        readyTimeout: Math.max(1, seconds * 1000), // 0 would be no limit
        keepaliveInterval: KEEPALIVE_INTERVAL_MS,
        keepaliveCountMax: Number.POSITIVE_INFINITY, // see endWhenSilent
        authHandler: methods,
        debug: (line) => algorithms.note(line),
        hostVerifier: (key: Buffer) => {
          refusal = expectation.refusal(key);
          return refusal === undefined;
        },
        ...(expectation.types && { algorithms: { serverHostKey: expectation.types as never } }),
      });
      // ssh2 without its native part sends a packet in pieces. The host's TCP would wait 40 ms to acknowledge the first.
      client.setNoDelay(true);
    } catch (error) {
      fail(error as Failure);
    }
  });
}

type Failure = Error & { level?: string };

/**
 * Lists the methods for sshd, and their names for messages.
 * @throws RefusedError when the only credential is a private key that cannot be used.
 */
function waysToLogIn(connection: ResolvedConnection, credentials: Credentials): { methods: AnyAuthMethod[]; tried: string[] } {
  const { password, agentSocketPath: agent } = credentials;
  const username = connection.user;
  const methods: AnyAuthMethod[] = [];
  const tried: string[] = [];
  const key = usableKey(credentials);
  if (key instanceof KeyProblem) {
    tried.push(`private key, which cannot be used: ${key.why}`);
  } else if (key !== undefined) {
    tried.push("private key");
    methods.push({ type: "publickey", username, key });
  }
  if (password !== undefined) {
    tried.push("password", "keyboard-interactive");
    methods.push({ type: "password", username, password });
    methods.push({
      type: "keyboard-interactive",
      username,
      prompt: (_name, _instructions, _language, prompts, finish) => finish(prompts.map(() => password)),
    });
  }
  if (agent !== undefined) {
    tried.push("SSH agent");
    methods.push({ type: "agent", username, agent });
  }
  if (methods.length === 0 && key instanceof KeyProblem) {
    throw new RefusedError(
      `The private key for ${describeConnection(connection)} cannot be used: ${key.why}. Give ` +
        `${key.encrypted ? "its passphrase as connection.privateKeyPassword, give " : ""}another key, or start an SSH agent that holds it`,
    );
  }
  return { methods, tried };
}

/** The algorithms that both sides offer for one purpose: the last that they negotiated. Only ssh2's log has them. */
class Algorithms {
  private readonly offers = new Map<string, string>();
  private kind = "";

  note(line: string): void {
    const [, side, kind, offer] = /^Handshake: \((local|remote)\) ([^:]+): (.*)$/.exec(line) ?? [];
    if (side !== undefined && kind !== undefined && offer !== undefined) {
      this.kind = kind;
      this.offers.set(side, offer.replaceAll(",", ", "));
    }
  }

  /** The difference, as the end of a sentence; empty when the two sides exchanged no offers. */
  difference(): string {
    const { kind, offers } = this;
    return kind === ""
      ? ""
      : `. It offers these for ${kind}: ${offers.get("remote")}. This client supports: ${offers.get("local")}. Let its sshd offer one of the ` +
          "latter (KexAlgorithms, HostKeyAlgorithms, Ciphers, MACs in sshd_config)";
  }
}

const parsedKeys = new Map<string, ParsedKey | KeyProblem>();

/**
 * The private key, or why it cannot be used: ssh2 would skip such a key silently, as if the host had refused it. Kept for the next hosts,
 * because deriving a key from a passphrase takes seconds.
 */
function usableKey({ privateKey, privateKeyPassword }: Credentials): ParsedKey | KeyProblem | undefined {
  if (privateKey === undefined) {
    return undefined;
  }
  const text = JSON.stringify([privateKey, privateKeyPassword]);
  const key = parsedKeys.get(text) ?? readPrivateKey(privateKey, privateKeyPassword);
  parsedKeys.set(text, key);
  return key;
}

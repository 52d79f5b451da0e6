import type { Duplex } from "node:stream";
import { type AnyAuthMethod, Client, type ConnectConfig, type ParsedKey } from "ssh2";
import type { Deadline } from "../support/deadline";
import { hasCode, RefusedError, TransportError } from "../support/errors";
import { type Credentials, describeConnection, type ResolvedConnection, resolveCredentials } from "./connection";
import { expectedHostKey } from "./host-key";
import { KeyProblem, readPrivateKey } from "./private-key";

const KEEPALIVE_INTERVAL_MS = 10_000;

/** Makes the jump host connect to the host. The jump host's own timeout may be minutes. */
export async function openTunnel(jump: Client, connection: ResolvedConnection, deadline: Deadline): Promise<Duplex> {
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

/**
 * Dials a host once and logs in.
 * @param sock - A tunnel to the host, instead of a new TCP connection.
 * @throws RefusedError for a host key or credentials that are not accepted; TransportError for everything else.
 */
export function dialClient(connection: ResolvedConnection, deadline: Deadline, sock?: Duplex): Promise<Client> {
  const name = describeConnection(connection);
  const credentials = resolveCredentials(connection);
  const expectation = expectedHostKey(connection);
  const methods: AnyAuthMethod[] = [];
  const tried: string[] = [];
  const key = usableKey(credentials);
  if (key instanceof KeyProblem) {
    tried.push(`private key, which cannot be used: ${key.why}`);
  } else if (key !== undefined) {
    tried.push("private key");
    methods.push({ type: "publickey", username: connection.user, key });
  }
  if (credentials.password !== undefined) {
    const { password } = credentials;
    tried.push("password", "keyboard-interactive");
    methods.push({ type: "password", username: connection.user, password });
    methods.push({
      type: "keyboard-interactive",
      username: connection.user,
      prompt: (_name, _instructions, _language, prompts, finish) => finish(prompts.map(() => password)),
    });
  }
  if (credentials.agentSocketPath !== undefined) {
    tried.push("SSH agent");
    methods.push({ type: "agent", username: connection.user, agent: credentials.agentSocketPath });
  }
  if (methods.length === 0) {
    const { why, encrypted } = key instanceof KeyProblem ? key : new KeyProblem("it is empty");
    throw new RefusedError(
      `The private key for ${name} cannot be used: ${why}. Give ${encrypted ? "its passphrase as connection.privateKeyPassword, give " : ""}` +
        "another key, or start an SSH agent that holds it",
    );
  }

  const seconds = dialSeconds(connection, deadline);
  const config: ConnectConfig = {
    host: connection.host,
    port: connection.port,
    username: connection.user,
    readyTimeout: Math.max(1, seconds * 1000), // 0 would be no limit
    keepaliveInterval: KEEPALIVE_INTERVAL_MS,
    keepaliveCountMax: 3,
    ...(sock === undefined ? {} : { sock }),
  };

  return new Promise((resolve, reject) => {
    const client = new Client();
    let refusal: string | undefined;
    const algorithms = new Algorithms();
    const fail = (error: Error & { level?: string }): void => {
      if (error.level === "agent") {
        tried.push(`the agent at ${credentials.agentSocketPath} failed: ${error.message}`);
        return; // ssh2 continues with the next method, or reports that none is left
      }
      client.removeAllListeners();
      client.on("error", () => undefined);
      client.destroy();
      if (refusal !== undefined) {
        reject(new RefusedError(`${name} was not trusted: ${refusal}`));
      } else if (error.level === "client-authentication") {
        reject(
          new RefusedError(
            `${name} did not accept the login (tried: ${tried.join("; ")}). Check connection.user, and ` +
              (credentials.password === undefined || credentials.privateKey !== undefined
                ? "that the host has this key in its authorized_keys"
                : "that its sshd accepts passwords and this is the right one"),
          ),
        );
      } else if (/too many authentication failures/i.test(error.message)) {
        reject(
          new RefusedError(
            `${name} did not accept the login (tried: ${tried.join("; ")}), and wanted no more: ${error.message}. Its sshd takes so many tries ` +
              "and no more (MaxAuthTries), and each key of an agent is one: give the right key as connection.privateKeyPath, or leave " +
              "fewer keys in the agent",
          ),
        );
      } else if (error.level === "handshake") {
        reject(new RefusedError(`${name} cannot be spoken to: ${error.message}${algorithms.difference()}`));
      } else {
        const why = error.level === "client-timeout" ? `no answer within ${seconds} s` : error.message;
        const hint = "Check that it is switched on, and that connection.host and connection.port lead to its sshd";
        reject(new TransportError(name, `${name} cannot be reached by SSH: ${why}. ${hint}`, { cause: error }));
      }
    };
    client.once("ready", () => {
      client.removeListener("error", fail);
      client.on("error", () => undefined); // without a listener, an error would end the process; "close" follows
      client.removeListener("close", onEarlyClose);
      resolve(client);
    });
    const onEarlyClose = (): void => fail(new Error("the host closed the connection"));
    client.on("error", fail);
    client.once("close", onEarlyClose);
    try {
      client.connect({
        ...config,
        authHandler: methods,
        debug: (line) => algorithms.note(line),
        hostVerifier: (key: Buffer) => {
          refusal = expectation.refusal(key);
          return refusal === undefined;
        },
        ...(expectation.types === undefined ? {} : { algorithms: { serverHostKey: expectation.types as never } }),
      });
      // ssh2 without its native part sends a packet in pieces. The host's TCP would wait 40 ms to acknowledge the
      // first.
      client.setNoDelay(true);
    } catch (error) {
      fail(error instanceof Error ? error : new Error(String(error)));
    }
  });
}

/** The algorithms that both sides offer, by kind, up to the kind without a common one. Only ssh2's log has them. */
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
      : `. It offers as ${kind}: ${offers.get("remote")}. Known here are: ${offers.get("local")}. Let its sshd offer one of these ` +
          "(KexAlgorithms, HostKeyAlgorithms, Ciphers, MACs in sshd_config)";
  }
}

const parsedKeys = new Map<string, ParsedKey | KeyProblem>();

/**
 * The private key, or why it cannot be used: ssh2 would skip such a key silently, as if the host had refused it. Kept
 * for the next hosts, because deriving a key from a passphrase takes seconds.
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

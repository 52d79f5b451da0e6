import { createRequire } from "node:module";

/** Where a provider process sends its messages. Only those of progress disappear from the screen. */
export interface EngineLog {
  progress(urn: string, text: string): void;
  info(urn: string, text: string): void;
  warn(urn: string, text: string): void;
}

const PACE_MS = 1000;

interface Shown {
  text: string;
  at: number;
  next?: { text: string; readonly timer: NodeJS.Timeout }; // came too soon
}

/**
 * Shows progress in order: for each resource at most once a second, and only new texts. The last text is always shown, at the
 * latest when the resource has ended, which an empty text signals.
 * @param deliver - Resolves when the message has arrived. Each message waits for the one before it.
 */
export function paced(
  deliver: (urn: string, text: string) => Promise<void>,
  now: () => number = Date.now,
): (urn: string, text: string) => void {
  const resources = new Map<string, Shown>();
  let delivered = Promise.resolve();
  const show = (urn: string, text: string): void => {
    resources.set(urn, { text, at: now() });
    delivered = delivered.then(() => deliver(urn, text));
  };
  const flush = (urn: string): void => {
    const next = resources.get(urn)?.next;
    if (next !== undefined) {
      clearTimeout(next.timer);
      show(urn, next.text);
    }
  };
  return (urn, text) => {
    const shown = resources.get(urn);
    if (text === "") {
      flush(urn);
      show(urn, "");
      resources.delete(urn);
    } else if (shown === undefined) {
      show(urn, text);
    } else if (shown.next !== undefined) {
      shown.next.text = text;
    } else if (shown.text !== text) {
      const wait = shown.at + PACE_MS - now();
      if (wait <= 0) {
        show(urn, text);
      } else {
        shown.next = { text, timer: setTimeout(() => flush(urn), wait).unref() };
      }
    }
  };
}

interface EngineClient {
  log(request: unknown, callback: (error: unknown) => void): void;
}

type EngineMessages = typeof import("@pulumi/pulumi/proto/engine_pb");
type EngineServices = { EngineClient: new (address: string, credentials: unknown) => EngineClient };
type Grpc = { credentials: { createInsecure(): unknown } };

/** The engine's address, which is an argument of the provider processes that it starts; `undefined` in any other process. */
export function engineAddress(argv: readonly string[]): string | undefined {
  return argv.slice(2).find((argument) => /^[\w.-]+:\d+$/.test(argument));
}

/** The engine's log service. A message that cannot be delivered is dropped. Outside a provider process, nothing is sent. */
export function engineLog(argv: readonly string[] = process.argv): EngineLog {
  const address = engineAddress(argv);
  if (address === undefined) {
    return { progress: () => undefined, info: () => undefined, warn: () => undefined };
  }
  let client: EngineClient | undefined;
  const send = (severity: "INFO" | "WARNING", urn: string, text: string, ephemeral = false): Promise<void> =>
    new Promise((arrived) => {
      try {
        // Loaded only inside a provider process, which has loaded the SDK already. gRPC is the SDK's dependency.
        const sdk = createRequire(require.resolve("@pulumi/pulumi"));
        const messages = sdk("@pulumi/pulumi/proto/engine_pb") as EngineMessages;
        const { EngineClient } = sdk("@pulumi/pulumi/proto/engine_grpc_pb") as EngineServices;
        const { credentials } = sdk("@grpc/grpc-js") as Grpc;
        client ??= new EngineClient(address, credentials.createInsecure());
        const request = new messages.LogRequest();
        request.setSeverity(messages.LogSeverity[severity]);
        request.setMessage(text);
        request.setUrn(urn);
        request.setEphemeral(ephemeral);
        client.log(request, () => arrived());
      } catch {
        arrived(); // a lost message is not a failure
      }
    });
  return {
    progress: paced((urn, text) => send("INFO", urn, text, true)),
    info: (urn, text) => void send("INFO", urn, text),
    warn: (urn, text) => void send("WARNING", urn, text),
  };
}

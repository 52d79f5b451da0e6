import { createRequire } from "node:module";

/** Where messages of a provider process go. */
export interface EngineLog {
  /** Shown beside the resource while it works; not kept. */
  progress(urn: string, text: string): void;
  /** Kept on the screen. */
  info(urn: string, text: string): void;
  /** Kept on the screen. */
  warn(urn: string, text: string): void;
}

interface EngineClient {
  log(request: unknown, callback: (error: unknown) => void): void;
}

type EngineMessages = typeof import("@pulumi/pulumi/proto/engine_pb");
type EngineServices = { EngineClient: new (address: string, credentials: unknown) => EngineClient };
type Grpc = { credentials: { createInsecure(): unknown } };

/** Where the engine listens, as it tells the provider processes that it starts; `undefined` in any other process. */
export function engineAddress(argv: readonly string[]): string | undefined {
  return argv.slice(2).find((argument) => /^[\w.-]+:\d+$/.test(argument));
}

/**
 * The engine's own log service. Its address is the last argument of a provider process. Messages are a courtesy: when they cannot
 * be delivered, nothing else changes.
 */
export function engineLog(argv: readonly string[] = process.argv): EngineLog {
  const address = engineAddress(argv);
  if (address === undefined) {
    return { progress: () => undefined, info: () => undefined, warn: () => undefined };
  }
  let client: EngineClient | undefined;
  const send = (severity: "INFO" | "WARNING", urn: string, text: string, ephemeral: boolean): void => {
    try {
      // Loaded only inside a provider process, which has the SDK loaded already. gRPC is the SDK's dependency, not ours.
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
      client.log(request, () => undefined);
    } catch {
      // See above: a message that is lost is not a failure.
    }
  };
  return {
    progress: (urn, text) => send("INFO", urn, text, true),
    info: (urn, text) => send("INFO", urn, text, false),
    warn: (urn, text) => send("WARNING", urn, text, false),
  };
}

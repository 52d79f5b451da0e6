import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";

/** Dependencies of the SDK whose types it does not export. */
const sdk = createRequire(require.resolve("@pulumi/pulumi"));

interface CheckRequest {
  setUrn(urn: string): void;
  setOlds(olds: unknown): void;
  setNews(news: unknown): void;
}

interface CheckResponse {
  getFailuresList(): { getReason(): string }[];
}

interface ProviderClient {
  check(request: CheckRequest, answer: (error: { details: string } | null, response: CheckResponse) => void): void;
  close(): void;
}

/** Answer of a provider process to `check`, and its output. */
export interface Answer {
  /** Reasons of the failures; undefined if the call itself fails. */
  readonly failures?: readonly string[];
  /** Message of the error of the call. */
  readonly error?: string;
  /** Complete output of the process. */
  readonly output: string;
}

/**
 * Starts Pulumi's script for dynamic providers in a program's folder, resolved as Pulumi's plugin resolves it, and asks
 * it to check a resource. Needs neither CLI nor engine.
 */
export async function checkInProcess(folder: string, inputs: Readonly<Record<string, unknown>>): Promise<Answer> {
  const script = createRequire(`${folder}/`).resolve("@pulumi/pulumi/cmd/dynamic-provider");
  const child = spawn(process.execPath, [script, "127.0.0.1:1"], { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  child.stderr.on("data", (data: Buffer) => {
    output += data.toString();
  });
  try {
    const [port] = (await Promise.race([once(child.stdout, "data"), once(child, "exit")])) as [Buffer];
    const answer = await check(port.toString().trim(), inputs);
    return { ...answer, output };
  } finally {
    child.kill();
  }
}

async function check(port: string, inputs: Readonly<Record<string, unknown>>): Promise<Omit<Answer, "output">> {
  const { ResourceProviderClient } = sdk("@pulumi/pulumi/proto/provider_grpc_pb") as {
    ResourceProviderClient: new (address: string, credentials: unknown) => ProviderClient;
  };
  const { CheckRequest } = sdk("@pulumi/pulumi/proto/provider_pb") as { CheckRequest: new () => CheckRequest };
  const { Struct } = sdk("google-protobuf/google/protobuf/struct_pb") as { Struct: { fromJavaScript(value: object): unknown } };
  const { credentials } = sdk("@grpc/grpc-js") as { credentials: { createInsecure(): unknown } };
  const client = new ResourceProviderClient(`127.0.0.1:${port}`, credentials.createInsecure());
  const request = new CheckRequest();
  request.setUrn("urn:pulumi:test::test::pulumi-nodejs:dynamic/lxd:LxdVm::test");
  request.setOlds(Struct.fromJavaScript({}));
  request.setNews(Struct.fromJavaScript(inputs));
  try {
    return await new Promise((resolve) => {
      client.check(request, (error, response) => {
        resolve(error ? { error: error.details } : { failures: response.getFailuresList().map((each) => each.getReason()) });
      });
    });
  } finally {
    client.close();
  }
}

import { createRequire } from "node:module";
import { sep } from "node:path";
import { RunError } from "@pulumi/pulumi";

/**
 * What the engine stores as a dynamic resource's `__provider`: where to find the provider's code, instead of the code. So state
 * never contains outdated code, and a new version of this package makes no difference in a preview.
 *
 * Resolves the package from the program's folder, then from where Pulumi's script for dynamic providers was loaded: a wrapper
 * package under pnpm or in a workspace has it there. The error's text replaces the SDK's stack trace.
 *
 * These bytes are in the state of every stack. Changing them is a decision (docs/adr/0001).
 */
export function providerPointer(kind: string): string {
  return `exports.handler = () => {
  const { createRequire } = require("node:module");
  for (const from of [process.cwd() + "/", require.main.filename]) {
    const load = createRequire(from);
    let path;
    try {
      path = load.resolve("pulumi-lxd-cluster/provider");
    } catch {
      continue;
    }
    return load(path).provider(${JSON.stringify(kind)});
  }
  const message = "Pulumi does not find pulumi-lxd-cluster: run npm install pulumi-lxd-cluster in " + process.cwd();
  throw Object.assign(new Error(message), { stack: "not found", toString: () => "pulumi-lxd-cluster" });
};
`;
}

/**
 * The script by which Pulumi's language host starts programs. Its process can try {@link providerPointer} before it registers
 * anything.
 */
const PROGRAM_SCRIPT = ["", "@pulumi", "pulumi", "cmd", "run", "index.js"].join(sep);

/**
 * Resolves what {@link providerPointer} will resolve in the provider's process, which has the same folder and the same SDK. Does
 * nothing in a test with mocks or an inline program: that process has another folder, or does not exist.
 * @throws RunError, of which the SDK prints only the message.
 */
export function requireProvider(main = require.main?.filename, folder = process.cwd()): void {
  if (main?.endsWith(PROGRAM_SCRIPT) !== true || [`${folder}${sep}`, main].some(resolves)) {
    return;
  }
  throw new RunError(`Pulumi does not find pulumi-lxd-cluster: run npm install pulumi-lxd-cluster in ${folder}`);
}

function resolves(from: string): boolean {
  try {
    createRequire(from).resolve("pulumi-lxd-cluster/provider");
    return true;
  } catch {
    return false;
  }
}

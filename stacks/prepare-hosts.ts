import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import type * as command from "@pulumi/command";
import * as pulumi from "@pulumi/pulumi";
import type { StackConfig } from "./config-schema";

type Host = StackConfig["hosts"][number];
type CommandConnection = command.types.input.remote.ConnectionArgs;

/**
 * The commands that prepare a host before LXD is installed, run one after the other by `@pulumi/command`.
 * @returns What the host's further resources depend on: nothing when there are no commands. The plugin of `@pulumi/command` is then not needed either.
 */
export function prepareHost(host: Omit<Host, "prepare">, prepare: readonly string[]): pulumi.Resource[] {
  if (prepare.length === 0) {
    return [];
  }
  // Loaded only now, because the engine looks for the plugin of every package that a program has loaded.
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- an import at the top would load it always
  const { remote } = require("@pulumi/command") as typeof command;
  const connection = commandConnection(host.connection);
  const commands: pulumi.Resource[] = [];
  prepare.forEach((create, index) => {
    commands.push(
      new remote.Command(`prepare-${host.name}-${index + 1}`, { connection, create }, { dependsOn: commands.slice(-1) }),
    );
  });
  return commands.slice(-1);
}

/** The same connection for `@pulumi/command`, which has neither key files nor a policy for host keys. */
function commandConnection({ proxy, ...host }: Host["connection"]): CommandConnection {
  return { ...withKeyContents(host), ...(proxy && { proxy: withKeyContents(proxy) }) };
}

function withKeyContents(connection: Omit<Host["connection"], "proxy">): Omit<CommandConnection, "proxy"> {
  const { privateKeyPath, hostKeyPolicy: _, privateKey, ...shared } = connection;
  if (privateKey === undefined && privateKeyPath === undefined) {
    return shared;
  }
  const path = privateKeyPath?.replace(/^~(?=\/)/, homedir()) ?? "";
  return { ...shared, privateKey: pulumi.secret(privateKey ?? readFileSync(path, "utf8")) };
}

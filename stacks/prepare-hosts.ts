import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import type * as command from "@pulumi/command";
import * as pulumi from "@pulumi/pulumi";
import type { StackConfig } from "./config-schema";

type Host = StackConfig["hosts"][number];
type CommandConnection = command.types.input.remote.ConnectionArgs;

/**
 * Runs the commands that prepare a host before LXD is installed, one after the other, with `@pulumi/command`.
 * @returns Dependencies of the host's further resources: none without commands. The plugin of `@pulumi/command` is then not
 * needed.
 */
export function prepareHost(host: Omit<Host, "prepare">, prepare: readonly string[]): pulumi.Resource[] {
  if (prepare.length === 0) {
    return [];
  }
  // Loaded here, because the engine requires the plugin of every package that a program loads.
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

/** The connection for `@pulumi/command`, which has neither key files nor a policy for host keys. */
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

#!/usr/bin/env node
/** The command `pulumi-lxd-cluster adopt`: writes a program that adopts a running cluster. */
import { messageOf } from "../provider/support/errors";
import { disconnectAll } from "../provider/transport/pool";
import { parseArguments, USAGE, UsageError } from "./arguments";
import { readCluster } from "./inventory";
import { programOf } from "./program";
import { refuseToOverwrite, writeProject } from "./project";
import { describe } from "./report";

async function main(argv: readonly string[]): Promise<number> {
  const asked = parseArguments(argv);
  if (asked === undefined) {
    process.stdout.write(USAGE);
    return 0;
  }
  refuseToOverwrite(asked);
  const cluster = await readCluster(asked, (text) => process.stderr.write(`${text}\n`));
  const program = programOf(cluster);
  const written = writeProject(asked, program.text);
  process.stdout.write(describe(cluster, program, written));
  return 0;
}

void main(process.argv.slice(2))
  .catch((error: unknown) => {
    process.stderr.write(`${messageOf(error)}\n${error instanceof UsageError ? `\n${USAGE}` : ""}`);
    return error instanceof UsageError ? 2 : 1;
  })
  .then((code) => {
    process.exitCode = code;
    return disconnectAll();
  });

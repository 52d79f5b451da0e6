#!/usr/bin/env node
/** The command `pulumi-lxd-cluster`: shows a running cluster, checks it, or writes a program that adopts it. */
import { writeFileSync } from "node:fs";
import { messageOf } from "../provider/support/errors";
import { disconnectAll } from "../provider/transport/pool";
import { type Asked, type AskedStatus, type AskedVerify, parseArguments, USAGE, UsageError } from "./arguments";
import { readCluster } from "./inventory";
import { programOf } from "./program";
import { programIn, refuseToOverwrite, writeProject } from "./project";
import { describe } from "./report";
import { readStatus } from "./status";
import { drawStatus } from "./status/picture";
import { describeStatus } from "./status/text";
import { readFacts } from "./verify";
import { rowsOf } from "./verify/checks";
import { describeRows, hasPassed } from "./verify/text";

async function main(argv: readonly string[]): Promise<number> {
  const asked = parseArguments(argv);
  if (asked === undefined) {
    process.stdout.write(USAGE);
    return 0;
  }
  switch (asked.command) {
    case "adopt":
      await adopt(asked);
      return 0;
    case "status":
      await status(asked);
      return 0;
    case "verify":
      return verify(asked);
  }
}

function tell(text: string): void {
  process.stderr.write(`${text}\n`);
}

async function adopt(asked: Asked): Promise<void> {
  refuseToOverwrite(programIn(asked.out), asked.force, "another folder with --out");
  const cluster = await readCluster(asked, tell);
  const program = programOf(cluster);
  const written = writeProject(asked, program.text);
  process.stdout.write(describe(cluster, program, written));
}

async function status({ hosts, svg, force }: AskedStatus): Promise<void> {
  if (svg !== undefined) {
    refuseToOverwrite(svg, force, "another file with --svg");
  }
  const found = await readStatus(hosts, tell);
  process.stdout.write(describeStatus(found));
  if (svg !== undefined) {
    writeFileSync(svg, drawStatus(found));
    process.stdout.write(`Written: ${svg}\n`);
  }
}

async function verify(asked: AskedVerify): Promise<number> {
  const facts = await readFacts(asked, tell);
  const rows = rowsOf(facts);
  process.stdout.write(asked.json ? `${JSON.stringify(rows, undefined, 2)}\n` : describeRows(facts.status, rows));
  return hasPassed(rows) ? 0 : 1;
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

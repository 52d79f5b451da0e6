/** Result of the suite on one flavour, as one line of JSON: `tools/run.js servers` makes a table of these. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ContractLab } from "./harness";

/** Names the folder for the results. Without it they are printed only. */
const FOLDER = process.env["SERVERS_REPORT"];

/** Counts the cases of one run. */
export class Report {
  private passed = 0;
  private failed = 0;

  count(test: Mocha.Test | undefined): void {
    this.passed += test?.isPassed() === true ? 1 : 0;
    this.failed += test?.isFailed() === true ? 1 : 0;
  }

  /** Prints the result, and keeps it if `SERVERS_REPORT` names a folder. */
  write({ harness: { flavour, kind: hosts }, server }: ContractLab): void {
    const { passed, failed } = this;
    const { debian, version, apiExtensions } = server;
    const line = JSON.stringify({ flavour, hosts, server: debian.server, version, apiExtensions, passed, failed });
    console.log(line);
    if (FOLDER !== undefined) {
      mkdirSync(FOLDER, { recursive: true });
      writeFileSync(join(FOLDER, `${flavour}-${hosts}.json`), `${line}\n`);
    }
  }
}

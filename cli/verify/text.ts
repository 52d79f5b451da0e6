/** The result of the checks as text. Pure. */
import { type ClusterStatus, titleOf } from "../status/contents";
import { table } from "../table";
import type { Row } from "./rows";

const RESULTS = { passed: "ok", failed: "FAILED", "not checked": "not checked" } as const;

export function describeRows(status: ClusterStatus, rows: readonly Row[]): string {
  const faults = rows.filter(({ result }) => result === "failed");
  return [
    `${titleOf(status)}\n`,
    table(
      ["RESULT", "CHECK", "ON", "EXPECTED", "FOUND"],
      rows.map(({ result, check, on, expected, found }) => [RESULTS[result], check, on, expected, found]),
    ),
    ...(faults.length === 0
      ? []
      : [`How to fix:\n${faults.map(({ check, on, fix = "" }) => `  - ${check}, ${on}: ${fix}\n`).join("")}`]),
    `${summaryOf(rows)}\n`,
  ].join("\n");
}

function summaryOf(rows: readonly Row[]): string {
  const number = (wanted: Row["result"]): number => rows.filter(({ result }) => result === wanted).length;
  return `${rows.length} checks: ${number("passed")} passed, ${number("failed")} failed, ${number("not checked")} not checked`;
}

export function hasPassed(rows: readonly Row[]): boolean {
  return rows.every(({ result }) => result === "passed");
}

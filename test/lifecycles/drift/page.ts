/**
 * Prints docs/guide/drift-table.md, generated from the tables that test/lifecycles/drift.test.ts runs. For `npm run
 * docs`.
 */
import { inspect } from "node:util";
import { DRIFT_TABLES } from "./index";
import { descriptionOf } from "./manual-changes";
import { ANSWERS, type Case, casesOf, type DriftTable } from "./table";

const tried = DRIFT_TABLES.flatMap(casesOf).filter(({ entry }) => entry.answer !== "cannot drift").length;

const INTRODUCTION = `# Drift, property by property

This page shows what happens to each property of each resource after a change outside Pulumi. \`npm run docs\` generates it from the tables in
\`test/lifecycles/drift\`. A test makes each of the ${tried} changes on simulated hosts, between a \`pulumi up\` and a preview with refresh, and
verifies the result. A property without an entry fails the checks. [Drift](drift.md) explains the rules.

| Result | Meaning |
|---|---|
${Object.entries(ANSWERS)
  .map(([answer, meaning]) => `| **${answer}** | ${meaning} |`)
  .join("\n")}

**No result stops or restarts an instance**, unless the program sets \`allowRestart\`, or \`running: false\`. Nothing on a
host is restarted either, except LXD on an empty host that has left its cluster or leaves it.
`;

/** A certificate is another one each time; the page shows its beginning. */
const CERTIFICATE = /(-----BEGIN CERTIFICATE-----)[^"]*/g;

function section(table: DriftTable): string {
  const rows = casesOf(table).map(({ part, name, entry }) => row(part === "object" ? `*${name}*` : `\`${name}\``, entry));
  const object = rows.slice(0, Object.values(table.object).flat().length);
  const inputs = casesOf(table).filter(({ part }) => part === "inputs").length;
  return `## ${table.lifecycle.kind}

Tried with \`${inspect(table.given, { depth: null, breakLength: Number.POSITIVE_INFINITY }).replaceAll("'", '"').replace(CERTIFICATE, "$1...")}\`, or with the named difference.

| Property | Manual change | Result | Reason |
|---|---|---|---|
${[...object, ...rows.slice(object.length, object.length + inputs)].join("\n")}

| Output | Manual change | Result | Reason |
|---|---|---|---|
${rows.slice(object.length + inputs).join("\n")}
`;
}

function row(name: string, entry: Case): string {
  if (entry.answer === "cannot drift") {
    return cells(name, "", entry.answer, entry.why);
  }
  const changes = (Array.isArray(entry.byHand) ? entry.byHand : [entry.byHand]).map(descriptionOf).join(", ");
  const which = entry.program === undefined ? name : `${name}, ${entry.program}`;
  return cells(which, changes, `**${entry.answer}**`, entry.why);
}

function cells(...texts: string[]): string {
  return `| ${texts.map((text) => text.replaceAll("|", "\\|")).join(" | ")} |`;
}

process.stdout.write([INTRODUCTION, ...DRIFT_TABLES.map(section)].join("\n"));

/**
 * Prints docs/guide/drift-table.md, made of the tables that test/lifecycles/drift.test.ts tries out. For `npm run docs`.
 */
import { inspect } from "node:util";
import { wordsOf } from "./by-hand";
import { DRIFT_TABLES } from "./index";
import { ANSWERS, type Case, casesOf, type DriftTable } from "./table";

const tried = DRIFT_TABLES.flatMap(casesOf).filter(({ entry }) => entry.answer !== "cannot drift").length;

const INTRODUCTION = `# Drift, property by property

What becomes of each property of each resource that is changed behind Pulumi's back. This page is made by \`npm run docs\` of the tables in
\`test/lifecycles/drift\`; each of its ${tried} changes is carried out there on simulated hosts, between a \`pulumi up\` and a preview with
refresh, and the answer is what was seen. A property without an entry does not pass the checks. [Drift](drift.md) tells the rules behind it.

| Answer | What it means |
|---|---|
${Object.entries(ANSWERS)
  .map(([answer, meaning]) => `| **${answer}** | ${meaning} |`)
  .join("\n")}

**No answer stops or restarts an instance**, unless the program says \`allowRestart\`, or \`running: false\`. Nothing on a host is
restarted either; LXD alone is started anew on a host that has left its cluster, or leaves it, and holds nothing.
`;

function section(table: DriftTable): string {
  const rows = casesOf(table).map(({ part, name, entry }) => row(part === "object" ? `*${name}*` : `\`${name}\``, entry));
  const object = rows.slice(0, Object.values(table.object).flat().length);
  const inputs = casesOf(table).filter(({ part }) => part === "inputs").length;
  return `## ${table.lifecycle.kind}

Tried with \`${inspect(table.given, { depth: null, breakLength: Number.POSITIVE_INFINITY }).replaceAll("'", '"')}\`, or with the difference that is told.

| Property | Changed by hand | Answer | Why |
|---|---|---|---|
${[...object, ...rows.slice(object.length, object.length + inputs)].join("\n")}

| Output | Changed by hand | Answer | Why |
|---|---|---|---|
${rows.slice(object.length + inputs).join("\n")}
`;
}

function row(name: string, entry: Case): string {
  if (entry.answer === "cannot drift") {
    return cells(name, "", entry.answer, entry.why);
  }
  const hands = (Array.isArray(entry.byHand) ? entry.byHand : [entry.byHand]).map(wordsOf).join(", ");
  const which = entry.program === undefined ? name : `${name}, ${entry.program}`;
  return cells(which, hands, `**${entry.answer}**`, entry.why);
}

function cells(...texts: string[]): string {
  return `| ${texts.map((text) => text.replaceAll("|", "\\|")).join(" | ")} |`;
}

process.stdout.write([INTRODUCTION, ...DRIFT_TABLES.map(section)].join("\n"));

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { DebianServer } from "../../../lab/debian-servers";

/** Commands that the guide shows in one block, and the hosts on which they run. */
interface Step {
  readonly on: readonly string[];
  readonly script: string;
}

const PAGE = readFileSync(join(__dirname, "../../../docs/guide/recovery.md"), "utf8");

/** The commands of the guide's page about recovery under a heading, in order, for a server as its table says. */
export function recipe(heading: string, server: DebianServer): Step[] {
  const section = PAGE.split(/^## /m).find((text) => text.startsWith(`${heading}\n`));
  assert.ok(section, `recovery.md has no section "${heading}"`);
  const steps = [...section.matchAll(/^```sh\n# on (.*)\n([\s\S]*?)^```/gm)].map(([, on = "", script = ""]) => ({
    on: on.split(", "),
    script: translated(script, server),
  }));
  assert.ok(steps.length > 0, `"${heading}" has no commands`);
  return steps;
}

/** Replaces the left column of the page's table by the one of the server. */
function translated(script: string, { server }: DebianServer): string {
  if (server === "lxd") {
    return script;
  }
  return tableRows().reduce((text, [lxd, incus]) => text.replaceAll(lxd, incus), script);
}

/** The texts of the table: of Debian's LXD and of Incus, longer ones first. */
function tableRows(): [lxd: string, incus: string][] {
  const rows = [...PAGE.matchAll(/^\| (`[^|]+`) \| [^|]+ \| (`[^|]+`) \|$/gm)].flatMap(([, lxd = "", incus = ""]) => {
    const [left, right] = [lxd, incus].map((cell) =>
      [...cell.matchAll(/`([^`]+)`/g)].map(([, text = ""]) => text.replace(/ ?\.\.\.$/, "")),
    );
    assert.equal(left?.length, right?.length, lxd);
    return (left ?? []).map((text, index): [string, string] => [text, right?.[index] ?? ""]);
  });
  assert.ok(rows.length > 0, "recovery.md has no table of servers");
  return rows;
}

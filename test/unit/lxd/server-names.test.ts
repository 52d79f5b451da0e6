import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { namesOf } from "../../../provider/lxd/client/endpoint";

/** Commands that only one of the two servers has. `snap` is not among them: only LXD is a snap. */
const COMMANDS = [/(?<![[.-])\blxc [a-z]/, /(?<!install )\blxd [a-z]+ [a-z-]+/, /--unit lxd/, /systemctl [a-z]+ lxd/];

const ROOT = join(__dirname, "../../..");

function literalsOf(path: string): string[] {
  const source = ts.createSourceFile(path, readFileSync(path, "utf8"), ts.ScriptTarget.Latest, true);
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node)) {
      found.push(node.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

function namesOneServer(text: string): boolean {
  return COMMANDS.some((command) => command.test(text)) && !/\bincus\b/.test(text);
}

describe("Names of the server in messages", () => {
  it("come from the server at hand: no text has a command that only LXD has", () => {
    const own = join(ROOT, "provider/lxd/client/endpoint.ts"); // the table of both servers' commands
    const files = ["provider", "cli", "components", "stacks"].flatMap((room) =>
      readdirSync(join(ROOT, room), { recursive: true, encoding: "utf8" })
        .filter((file) => file.endsWith(".ts"))
        .map((file) => join(ROOT, room, file)),
    );
    assert.ok(files.length > 100);
    const found = files
      .filter((file) => file !== own)
      .flatMap((file) =>
        literalsOf(file)
          .filter(namesOneServer)
          .map((text) => `${file.slice(ROOT.length + 1)}: ${text.trim()}`),
      );
    assert.deepEqual(found, []);
  });

  it("would be found in a text", () => {
    assert.ok(
      ["Look for it with lxc image list", "Restore it (lxc cluster restore ", "lxd cluster list-database"].every(namesOneServer),
    );
    assert.ok(!["lxc or incus config edit", "^\\[lxc monitor\\] ", "raw.lxc is set"].some(namesOneServer));
  });

  it("are LXD's for both of its packagings, and Incus's for Incus", () => {
    assert.deepEqual(
      (["deb", "snap", "incus"] as const).map((packaging) => [
        namesOf(packaging).name,
        namesOf(packaging).client,
        namesOf(packaging).log,
      ]),
      [
        ["LXD", "lxc", "journalctl --unit lxd"],
        ["LXD", "lxc", "journalctl --unit snap.lxd.daemon"],
        ["Incus", "incus", "journalctl --unit incus"],
      ],
    );
  });
});

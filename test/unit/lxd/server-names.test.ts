import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { namesOf } from "../../../provider/lxd/client/endpoint";

/** Commands that only one of the two servers has. `snap` is not among them: only LXD is a snap. */
const COMMANDS = [/(?<![[.-])\blxc [a-z]/, /(?<!install )\blxd [a-z]+ [a-z-]+/, /--unit lxd/, /systemctl [a-z]+ lxd/];

/** LXD by name. A text about its snap, or about cloud-init's data source of that name, is about LXD alone. */
const NAME = /(?<!data source )\bLXD\b/;

const ROOT = join(__dirname, "../../..");

/** The texts of a file, each with the parts that `${}` and `+` join. */
function textsOf(path: string): string[] {
  const source = ts.createSourceFile(path, readFileSync(path, "utf8"), ts.ScriptTarget.Latest, true);
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    const isJoined = ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.PlusToken;
    if (isJoined || ts.isTemplateExpression(node) || ts.isStringLiteralLike(node)) {
      found.push(literalsIn(node).join(""));
    } else {
      ts.forEachChild(node, visit);
    }
  };
  visit(source);
  return found;
}

function literalsIn(node: ts.Node): string[] {
  const isLiteral = ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node);
  const inside: string[] = [];
  ts.forEachChild(node, (child) => void inside.push(...literalsIn(child)));
  return isLiteral ? [node.text] : inside;
}

function namesOneServer(text: string): boolean {
  const hasCommand = COMMANDS.some((command) => command.test(text)) && !/\bincus\b/.test(text);
  return hasCommand || (NAME.test(text) && !/\bIncus\b|\bsnapd?\b/.test(text));
}

describe("Names of the server in messages", () => {
  it("come from the server at hand: no text has a name or a command that only LXD has", () => {
    const own = join(ROOT, "provider/lxd/client/endpoint.ts"); // the table of both servers' names
    const files = ["provider", "cli", "components", "stacks"].flatMap((room) =>
      readdirSync(join(ROOT, room), { recursive: true, encoding: "utf8" })
        .filter((file) => file.endsWith(".ts"))
        .map((file) => join(ROOT, room, file)),
    );
    assert.ok(files.length > 100);
    const found = files
      .filter((file) => file !== own)
      .flatMap((file) =>
        textsOf(file)
          .filter(namesOneServer)
          .map((text) => `${file.slice(ROOT.length + 1)}: ${text.trim()}`),
      );
    assert.deepEqual(found, []);
  });

  it("would be found in a text", () => {
    assert.ok(
      [
        ...["Look for it with lxc image list", "Restore it (lxc cluster restore ", "lxd cluster list-database"],
        ...["LXD on the host may be half joined", "LXD's log", "only an empty LXD can join"],
      ].every(namesOneServer),
    );
    assert.ok(!["lxc or incus config edit", "^\\[lxc monitor\\] ", "raw.lxc is set"].some(namesOneServer));
    assert.ok(!["Neither LXD nor Incus runs", "the LXD snap 5.0 is held", "LxdNode"].some(namesOneServer));
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

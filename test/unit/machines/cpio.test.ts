import assert from "node:assert/strict";
import { cpioArchive, file, folder } from "../../../lab/machines/cpio";

/** The members of an archive, read by the rules of the kernel's "initramfs buffer format". */
function membersOf(archive: Buffer): { name: string; mode: string; content: string }[] {
  const members: { name: string; mode: string; content: string }[] = [];
  const padded = (size: number): number => Math.ceil(size / 4) * 4;
  for (let at = 0; ; ) {
    assert.equal(archive.toString("latin1", at, at + 6), "070701");
    const field = (index: number): number =>
      Number.parseInt(archive.toString("latin1", at + 6 + index * 8, at + 14 + index * 8), 16);
    const nameEnd = at + 110 + field(11);
    const name = archive.toString("utf8", at + 110, nameEnd - 1);
    if (name === "TRAILER!!!") return members;
    const start = padded(nameEnd);
    members.push({ name, mode: field(1).toString(8), content: archive.toString("utf8", start, start + field(6)) });
    at = padded(start + field(6));
  }
}

describe("an initial file system of a machine", () => {
  it("is an archive as Linux reads it", () => {
    const archive = cpioArchive([
      folder("etc"),
      file("etc/a", "x"),
      file("etc/long name", "häl\n", 0o600),
      file("init", "#!", 0o755),
    ]);
    assert.deepEqual(membersOf(archive), [
      { name: "etc", mode: "40755", content: "" },
      { name: "etc/a", mode: "100644", content: "x" },
      { name: "etc/long name", mode: "100600", content: "häl\n" },
      { name: "init", mode: "100755", content: "#!" },
    ]);
  });

  it("may be followed by another one", () => {
    const archive = Buffer.concat([cpioArchive([file("a", "1")]), cpioArchive([file("b", "2")])]);
    const second = archive.subarray(cpioArchive([file("a", "1")]).length);
    assert.deepEqual([archive.length % 4, membersOf(second).map(({ name }) => name)], [0, ["b"]]);
  });
});

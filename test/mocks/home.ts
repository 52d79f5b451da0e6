import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** The user's public key in {@link withHome}. */
export const PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVrzBKBtzdiMxHDHVXUQAFmnwAFTpLHHpvIxBmcmXAX somebody";

/** For a suite: a home directory with the public key and more files, by their paths in it. */
export function withHome(files: Readonly<Record<string, string>>): void {
  const home = mkdtempSync(join(tmpdir(), "home-"));
  const former = process.env["HOME"];
  before(() => {
    for (const [path, content] of Object.entries({ ".ssh/id_ed25519.pub": `${PUBLIC_KEY}\n`, ...files })) {
      mkdirSync(dirname(join(home, path)), { recursive: true });
      writeFileSync(join(home, path), content);
    }
    process.env["HOME"] = home;
  });
  after(() => {
    process.env["HOME"] = former;
    rmSync(home, { recursive: true });
  });
}

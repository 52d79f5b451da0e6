import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * A home directory without known hosts, and no SSH agent, for the tests of the calling suite.
 * @returns The directory, and a function that writes its known_hosts.
 */
export function ownHome(): { path(name: string): string; knowHosts(...lines: string[]): void } {
  const before_ = { HOME: process.env["HOME"], SSH_AUTH_SOCK: process.env["SSH_AUTH_SOCK"] };
  let home = "";

  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), "home-"));
    mkdirSync(join(home, ".ssh"));
    process.env["HOME"] = home;
    delete process.env["SSH_AUTH_SOCK"];
  });

  afterEach(() => {
    for (const [name, value] of Object.entries(before_)) {
      if (value === undefined) {
        delete process.env[name];
      } else {
        process.env[name] = value;
      }
    }
    rmSync(home, { recursive: true });
  });

  return {
    path: (name) => join(home, name),
    knowHosts: (...lines) => writeFileSync(join(home, ".ssh", "known_hosts"), `${lines.join("\n")}\n`),
  };
}

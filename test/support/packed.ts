import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const ROOT = resolve(__dirname, "../..");

/** Packs the compiled package as `npm publish` would. Returns the path of the tarball in `folder`. */
export function pack(folder: string): string {
  const argv = ["pack", "--silent", "--ignore-scripts", "--pack-destination", folder];
  const name = execFileSync("npm", argv, { cwd: ROOT, encoding: "utf8" }).trim();
  return join(folder, name);
}

/** Unpacks an npm tarball into a folder, which becomes the package. */
export function unpack(tarball: string, into: string): void {
  mkdirSync(into, { recursive: true });
  execFileSync("tar", ["-xzf", tarball, "-C", into, "--strip-components=1"]);
}

/** A folder inside node_modules of this repository, where what packages depend on is found further up. */
export function folderInModules(): ReturnType<typeof temporaryFolder> {
  const cache = join(ROOT, "node_modules/.cache");
  mkdirSync(cache, { recursive: true });
  return temporaryFolder(cache);
}

/** A temporary folder. */
export function temporaryFolder(parent = tmpdir()): { path: string; remove: () => void } {
  const path = mkdtempSync(join(parent, "lxd-cluster-packed-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ImageFiles } from "../../provider/lxd/images/files";

/** Makes a unified tarball of an image that has nothing to run: for tests of what becomes of images. Its content depends on the name alone. */
export function tinyImage(name: string): ImageFiles & { readonly metadataPath: string } {
  const folder = mkdtempSync(join(tmpdir(), "tiny-image-"));
  const metadata = `architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  description: ${name}\n`;
  writeFileSync(join(folder, "metadata.yaml"), metadata);
  mkdirSync(join(folder, "rootfs"));
  const metadataPath = join(folder, "image.tar");
  const reproducible = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"];
  execFileSync("tar", ["-C", folder, ...reproducible, "-cf", metadataPath, "metadata.yaml", "rootfs"]);
  return { metadataPath };
}

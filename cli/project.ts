import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { RefusedError } from "../provider/support/errors";
import type { Asked } from "./arguments";

const PROGRAM = "index.ts";
const MANIFEST = "Pulumi.yaml";

/** The written files, and advice about existing ones. */
export interface Written {
  readonly files: readonly string[];
  readonly advice: readonly string[];
}

/** @throws RefusedError when a program exists and `--force` is not given. */
export function refuseToOverwrite({ out, force }: Asked): void {
  if (!force && existsSync(join(out, PROGRAM))) {
    throw new RefusedError(`${join(out, PROGRAM)} exists. Choose another folder with --out, or overwrite it with --force`);
  }
}

/** Writes the program, and a Pulumi.yaml when none exists. */
export function writeProject({ out }: Asked, program: string): Written {
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, PROGRAM), program);
  const manifest = join(out, MANIFEST);
  if (existsSync(manifest)) {
    const refreshes = /^\s*refresh:\s*always\b/m.test(readFileSync(manifest, "utf8"));
    const advice = `Add to ${manifest}, so that every operation reads the hosts first: options: { refresh: always }`;
    return { files: [join(out, PROGRAM)], advice: refreshes ? [] : [advice] };
  }
  const name = basename(resolve(out)).replace(/[^\w.-]/g, "-") || "lxd-cluster";
  writeFileSync(manifest, `name: ${name}\nruntime: nodejs\noptions:\n  refresh: always\n`);
  return { files: [join(out, PROGRAM), manifest], advice: [] };
}

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

/** Path of the program in a folder. */
export function programIn(folder: string): string {
  return join(folder, PROGRAM);
}

/**
 * @param choice - What to choose instead, for the message: "another folder with --out".
 * @throws RefusedError when the file exists and `--force` is not given.
 */
export function refuseToOverwrite(file: string, force: boolean, choice: string): void {
  if (!force && existsSync(file)) {
    throw new RefusedError(`${file} exists. Choose ${choice}, or overwrite it with --force`);
  }
}

/** Writes the program, and a Pulumi.yaml when none exists. */
export function writeProject({ out }: Asked, program: string): Written {
  mkdirSync(out, { recursive: true });
  writeFileSync(programIn(out), program);
  const manifest = join(out, MANIFEST);
  if (existsSync(manifest)) {
    const refreshes = /^\s*refresh:\s*always\b/m.test(readFileSync(manifest, "utf8"));
    const advice = `Add to ${manifest}, so that every operation reads the hosts first: options: { refresh: always }`;
    return { files: [programIn(out)], advice: refreshes ? [] : [advice] };
  }
  const name = basename(resolve(out)).replace(/[^\w.-]/g, "-") || "lxd-cluster";
  writeFileSync(manifest, `name: ${name}\nruntime: nodejs\noptions:\n  refresh: always\n`);
  return { files: [programIn(out), manifest], advice: [] };
}

/**
 * Parameters of the kernel: their present values, and a file in `/etc/sysctl.d` for the next boot.
 * @see sysctl(8), sysctl.d(5)
 */
import { FailedError, RefusedError } from "../support/errors";
import { ensureFile, type FileSpec, prepareFile, sha256Of } from "./files";
import type { Machine } from "./machine";
import { clearKeptDirectory, keptPath, makeKeptDirectory } from "./marks";

export type Sysctls = Readonly<Record<string, string>>;

export function pathOfSysctls(name: string): string {
  return `/etc/sysctl.d/${name}.conf`;
}

function fileOf(name: string, values: Sysctls): FileSpec {
  const lines = Object.entries(values).map(([key, value]) => `${key} = ${value}\n`);
  const content = Buffer.from(`# Managed by Pulumi; changes made here are undone.\n${lines.join("")}`);
  return { path: pathOfSysctls(name), content, owner: "root", group: "root", mode: 0o644 };
}

/** Some parameters have several values, which the kernel separates by tabs. */
export function sameSysctl(a: string, b: string): boolean {
  const meaning = (text: string): string => text.trim().replace(/\s+/g, " ");
  return meaning(a) === meaning(b);
}

/** All parameters that the kernel has. */
export async function readSysctls(machine: Machine): Promise<Sysctls> {
  // Of all: asked for some, sysctl fails in the same way for one that does not exist and for one that cannot be read.
  const { stdout } = await machine.run(["sysctl", "--all", "--ignore"]);
  return Object.fromEntries(
    stdout.split("\n").flatMap((line) => {
      const at = line.indexOf(" = ");
      return at < 0 ? [] : [[line.slice(0, at), line.slice(at + 3).trim()]];
    }),
  );
}

/** Whether the file for the next boot is as wanted; `undefined` when there is none. */
export async function isFileIntact(machine: Machine, name: string, values: Sysctls): Promise<boolean | undefined> {
  const { path, content, mode } = fileOf(name, values);
  const found = await machine.digestFile(path);
  return found && found.type === "file" && found.uid === 0 && found.mode === mode && found.sha256 === sha256Of(content);
}

/** @throws RefusedError for a parameter that the kernel does not have. Touches nothing. */
export async function requireSysctls(machine: Machine, name: string, values: Sysctls): Promise<void> {
  const live = await readSysctls(machine);
  const unknown = Object.keys(values).filter((key) => live[key] === undefined);
  if (unknown.length > 0) {
    throw new RefusedError(
      `The kernel ${machine.place} has no ${unknown.join(", ")}. Correct the name, or load the kernel's module that has it first ` +
        "(a HostFile in /etc/modules-load.d, with onChange)",
    );
  }
  await prepareFile(machine, fileOf(name, values));
}

/** The values from before they were managed. They are noted before the first change. */
async function readFormer(machine: Machine, name: string): Promise<Sysctls> {
  const noted = await machine.readFile(noteOf(name));
  return noted === undefined ? {} : (JSON.parse(noted.content) as Sysctls);
}

async function writeFormer(machine: Machine, name: string, former: Sysctls): Promise<void> {
  await makeKeptDirectory(machine);
  await machine.createFile(noteOf(name), { uid: 0, gid: 0, mode: 0o600, content: JSON.stringify(former) });
}

function noteOf(name: string): string {
  return keptPath("former", `sysctls.${name}`);
}

/**
 * Sets the values, now and for the next boot. Those that are no longer wanted get their former value again.
 * @throws FailedError when the kernel keeps another value than the one that was set.
 */
export async function ensureSysctls(machine: Machine, name: string, values: Sysctls): Promise<void> {
  const [live, former] = await Promise.all([readSysctls(machine), readFormer(machine, name)]);
  const kept = Object.fromEntries(Object.keys(values).map((key) => [key, former[key] ?? live[key] ?? ""]));
  await writeFormer(machine, name, { ...former, ...kept });
  await ensureFile(machine, fileOf(name, values), { notes: false });
  const dropped = Object.entries(former).filter(([key]) => !(key in values));
  await setSysctls(machine, live, { ...Object.fromEntries(dropped), ...values });
  await writeFormer(machine, name, kept);
}

async function setSysctls(machine: Machine, live: Sysctls, wanted: Sysctls): Promise<void> {
  const differing = Object.entries(wanted).filter(([key, value]) => live[key] !== undefined && !sameSysctl(live[key], value));
  if (differing.length === 0) {
    return;
  }
  await machine.run(["sysctl", "--load=-"], { stdin: differing.map(([key, value]) => `${key} = ${value}\n`).join("") });
  const now = await readSysctls(machine);
  const others = differing.filter(([key, value]) => !sameSysctl(now[key] ?? "", value));
  if (others.length > 0) {
    const shown = others.map(([key, value]) => `${key} is ${now[key] ?? "gone"} after it was set to ${value}`);
    throw new FailedError(
      `The kernel ${machine.place} does not take every value: ${shown.join("; ")}. Set a value that it takes`,
    );
  }
}

/** Restores the values from before. They stay noted, so that this can be repeated. */
export async function restoreSysctls(machine: Machine, name: string): Promise<void> {
  const [live, former] = await Promise.all([readSysctls(machine), readFormer(machine, name)]);
  await setSysctls(machine, live, former);
}

export async function forgetSysctls(machine: Machine, name: string): Promise<void> {
  await machine.removeFile(noteOf(name));
  await clearKeptDirectory(machine);
}

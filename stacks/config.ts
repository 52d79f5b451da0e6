import * as pulumi from "@pulumi/pulumi";
import * as runtimeConfig from "@pulumi/pulumi/runtime/config";
import type * as z from "zod";
import { type StackConfig, stackSchema } from "./config-schema";

/** Part of the SDK, but missing in its declarations. */
const { isConfigSecret } = runtimeConfig as unknown as { isConfigSecret: (key: string) => boolean };

/** @throws RunError naming every wrong config key, and what to write instead. */
export function readConfig(): StackConfig {
  return parseConfig(pulumi.getProject(), pulumi.runtime.allConfig(), isConfigSecret);
}

/**
 * Parses the config of a stack and reads the key files that it names.
 * @param project - Prefix of the project's keys.
 * @param entries - Texts by their full keys, as Pulumi passes them: structured values are JSON.
 * @param isSecret - Whether the value of a full key contains a secret; Pulumi does not report where.
 */
export function parseConfig(
  project: string,
  entries: Readonly<Record<string, string>>,
  isSecret: (key: string) => boolean = () => false,
): StackConfig {
  const given = Object.fromEntries(
    Object.entries(entries)
      .filter(([key]) => key.startsWith(`${project}:`))
      .map(([key, text]) => [key.slice(project.length + 1), fromJson(text)]),
  );
  const result = stackSchema.safeParse(given);
  const faults = result.success ? crossFaults(result.data) : result.error.issues.flatMap((issue) => describe(issue, given));
  if (!result.success || faults.length > 0) {
    const lines = faults.map(({ path, reason }) => `  - ${project}:${pathText(path)} ${reason}`);
    throw new pulumi.RunError(`The config of this stack (Pulumi.<stack>.yaml) is not usable:\n${lines.join("\n")}`);
  }
  const kept = Object.entries(result.data).map(([key, value]) => [
    key,
    isSecret(`${project}:${key}`) ? withSecretTexts(value) : value,
  ]);
  return Object.fromEntries(kept) as StackConfig;
}

/** Properties whose values are the user's texts and may contain a secret. LxdResource detects credentials by their names. */
const TEXTS: ReadonlySet<string> = new Set(["config", "cloudInit", "properties", "prepare", "command"]);

/** The value, with each text of the user marked as a secret. */
function withSecretTexts(value: unknown, isText = false): unknown {
  if (Array.isArray(value)) {
    return value.map((member: unknown) => withSecretTexts(member, isText));
  }
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(
      Object.entries(value).map(([key, member]) => [key, withSecretTexts(member, isText || TEXTS.has(key))]),
    );
  }
  return isText && value !== undefined ? pulumi.secret(value) : value;
}

type Path = readonly PropertyKey[];

interface Fault {
  readonly path: Path;
  /** The fault and its cure; continues the sentence that the path begins. */
  readonly reason: string;
}

/** Pulumi passes structured values as JSON, others unchanged. */
function fromJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function describe(issue: z.core.$ZodIssue, given: unknown): Fault[] {
  const path = issue.path;
  switch (issue.code) {
    case "unrecognized_keys":
      return issue.keys.map((key) => ({
        path: [...path, key],
        reason: "is not a known key; see the comments in Pulumi.lab.yaml",
      }));
    case "invalid_union": {
      // The alternative with the deepest issue is the intended one.
      const meant = [...issue.errors].sort((a, b) => depth(b) - depth(a))[0] ?? [];
      return meant.length === 0 || depth(meant) === 0
        ? [{ path, reason: lowerFirst(issue.message) }]
        : meant.flatMap((inner) => describe({ ...inner, path: [...path, ...inner.path] }, given));
    }
    case "invalid_type":
      return [{ path, reason: valueAt(given, path) === undefined ? "is missing" : `must be of type ${issue.expected}` }];
    case "invalid_value":
      return [{ path, reason: `must be ${issue.values.map((value) => JSON.stringify(value)).join(" or ")}` }];
    default:
      return [{ path, reason: lowerFirst(issue.message) }];
  }
}

function depth(issues: readonly z.core.$ZodIssue[]): number {
  return Math.max(0, ...issues.map((issue) => issue.path.length + (issue.code === "unrecognized_keys" ? 1 : 0)));
}

function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (current, key) =>
      current !== null && typeof current === "object" ? (current as Record<PropertyKey, unknown>)[key] : undefined,
    value,
  );
}

/** Writes `hosts[0].connection.port`, as `pulumi config set --path` expects it. */
function pathText(path: Path): string {
  return path.map((key, index) => (typeof key === "number" ? `[${key}]` : `${index === 0 ? "" : "."}${String(key)}`)).join("");
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

/** Faults between values that are valid by themselves. */
function crossFaults(config: StackConfig): Fault[] {
  const { hosts, pools, networks, vmDefaults, vms } = config;
  const members = hosts.map((host) => host.name);
  const faults: Fault[] = [
    ...duplicates("hosts", "name", hosts, "host"),
    ...duplicates("hosts", "address", hosts, "host"),
    ...duplicates("vms", "name", vms, "instance"),
  ];
  const requireMember = (member: string | undefined, path: Path): void => {
    // Only LXD knows the members of a group (@group).
    if (member !== undefined && !member.startsWith("@") && !members.includes(member)) {
      faults.push({ path, reason: `"${member}" is not one of the hosts (${members.join(", ")})` });
    }
  };
  const shared: Record<string, Record<string, { memberConfig?: object }>> = { pools, networks };
  for (const [kind, objects] of Object.entries(shared)) {
    for (const [object, { memberConfig = {} }] of Object.entries(objects)) {
      Object.keys(memberConfig).forEach((member) => requireMember(member, [kind, object, "memberConfig", member]));
    }
  }
  requireMember(vmDefaults.target, ["vmDefaults", "target"]);
  vms.forEach((vm, index) => {
    requireMember(vm.target, ["vms", index, "target"]);
    if (vm.image === undefined && vmDefaults.image === undefined) {
      faults.push({ path: ["vms", index, "image"], reason: "is missing, here and in vmDefaults" });
    }
  });
  hosts.forEach(({ prepare, connection }, index) => {
    if (prepare.length > 0 && connection.hostKey === undefined && connection.hostKeyPolicy !== "insecure") {
      faults.push({
        path: ["hosts", index, "connection", "hostKey"],
        reason:
          "is required with prepare: @pulumi/command runs these commands, and it does not read known_hosts. Give the verified " +
          `output of ssh-keyscan -t ed25519 ${connection.host}, or set hostKeyPolicy: insecure`,
      });
    }
  });
  return faults;
}

function duplicates<Key extends string>(
  list: string,
  key: Key,
  entries: readonly Readonly<Record<Key, string>>[],
  noun: string,
): Fault[] {
  const values = entries.map((entry) => entry[key]);
  return values.flatMap((value, index) =>
    values.indexOf(value) < index
      ? [{ path: [list, index, key], reason: `"${value}" is also the ${key} of another ${noun}` }]
      : [],
  );
}

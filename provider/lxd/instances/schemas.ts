import { LineCounter, parseDocument } from "yaml";
import * as z from "zod";
import { parseSize } from "../../support/units";
import { configSchema } from "../config";

/** Keys of an instance that separate arguments set, and keys reserved for LXD or this package. */
const RESERVED_KEYS: readonly [RegExp, string][] = [
  [/^limits\.cpu$/, "has its own argument: use cpu"],
  [/^limits\.memory$/, "has its own argument: use memory"],
  [/^(cloud-init|user)\.user-data$/, "has its own argument: use cloudInit.userData"],
  [/^(cloud-init|user)\.vendor-data$/, "has its own argument: use cloudInit.vendorData"],
  [/^(cloud-init|user)\.network-config$/, "has its own argument: use cloudInit.networkConfig"],
  [/^volatile\./, "is written by the server; set a MAC address with devices.<nic>.hwaddr"],
  [/^image\./, "is written by the server; choose the image with image"],
  [/^user\.pulumi\./, "is written by this package; choose another key"],
];

/** Config of an instance, except for keys that have a separate argument. */
export const instanceConfigSchema = configSchema.superRefine((config, issues) => {
  for (const key of Object.keys(config)) {
    const message = RESERVED_KEYS.find(([pattern]) => pattern.test(key))?.[1];
    if (message !== undefined) {
      issues.addIssue({ code: "custom", path: [key], message });
    }
  }
});

/** A number of CPUs, or a set of them, such as "0-3" or "0,2". */
export const cpuSchema = z
  .union([
    z.int("must be a whole number").min(1, "must be at least 1"),
    z.string().regex(/^([1-9]\d*|\d+[-,]\d+([-,]\d+)*)$/, 'is neither a number of CPUs nor a set of them such as "0-3"'),
  ])
  .transform(String);

/** Memory such as "4GiB", or in percent of the host's. */
export const memorySchema = z
  .string()
  .refine(
    (text) => /^[1-9]\d?%$|^100%$/.test(text) || (parseSize(text) ?? 0n) > 0n,
    "is not an amount of memory such as 4GiB or 512MiB",
  );

/** Documents that cloud-init reads in the guest. */
export const cloudInitSchema = z.strictObject({
  userData: z.string().superRefine(requireCloudConfig).optional(),
  vendorData: z.string().superRefine(requireCloudConfig).optional(),
  networkConfig: z.string().superRefine(requireYamlMap).optional(),
});

/** Checks a document whose first line is `#cloud-config`. Passes cloud-init's many other formats on unchecked. */
function requireCloudConfig(text: string, issues: z.RefinementCtx): void {
  if (text.split("\n", 1)[0]?.trimEnd() === "#cloud-config") {
    requireYamlMap(text, issues);
  }
}

/**
 * Longer text, such as one that contains whole files, is left for cloud-init to check: parsing it as YAML would take seconds.
 */
const LONGEST_CHECKED = 256 * 1024;

/** Requires a YAML mapping. The message names the position and never quotes the text, which may hold secrets. */
function requireYamlMap(text: string, issues: z.RefinementCtx): void {
  if (text.length > LONGEST_CHECKED) {
    return;
  }
  const refuse = (message: string): void => {
    issues.addIssue({ code: "custom", message });
  };
  const lines = new LineCounter();
  try {
    const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: false, logLevel: "error" });
    const [error] = document.errors;
    if (error !== undefined) {
      const { line, col } = lines.linePos(error.pos[0]);
      refuse(`is not valid YAML at line ${line}, column ${col} (${error.code})`);
      return;
    }
    const value: unknown = document.toJS();
    if (value !== null && (typeof value !== "object" || Array.isArray(value))) {
      refuse("is not a YAML mapping");
    }
  } catch {
    // Errors that are thrown rather than listed: an alias without its anchor, endlessly multiplying aliases, endless nesting.
    refuse("is not valid YAML: its aliases (*name) or its nesting cannot be resolved");
  }
}

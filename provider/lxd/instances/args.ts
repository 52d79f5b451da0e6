import { LineCounter, parseDocument } from "yaml";
import * as z from "zod";
import { parseSize } from "../../support/units";
import { configSchema } from "../config";

/** Keys that {@link localConfig} of an instance sets from arguments of their own, and those that are LXD's own. */
const RESERVED_KEYS: readonly [RegExp, string][] = [
  [/^limits\.cpu$/, "has an argument of its own: use cpu"],
  [/^limits\.memory$/, "has an argument of its own: use memory"],
  [/^(cloud-init|user)\.user-data$/, "has an argument of its own: use cloudInit.userData"],
  [/^(cloud-init|user)\.vendor-data$/, "has an argument of its own: use cloudInit.vendorData"],
  [/^(cloud-init|user)\.network-config$/, "has an argument of its own: use cloudInit.networkConfig"],
  [/^volatile\./, "is kept by LXD itself; a MAC address is set with devices.<nic>.hwaddr"],
  [/^image\./, "is kept by LXD itself; the image is chosen with image"],
  [/^user\.pulumi\./, "is kept by this package; choose another key"],
];

/** Config of an instance besides what has an argument of its own. */
export const instanceConfigSchema = configSchema.superRefine((config, issues) => {
  for (const key of Object.keys(config)) {
    const message = RESERVED_KEYS.find(([pattern]) => pattern.test(key))?.[1];
    if (message !== undefined) {
      issues.addIssue({ code: "custom", path: [key], message });
    }
  }
});

/** A number of CPUs, or which ones, such as "0-3" or "0,2". */
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

/** What cloud-init finds in the guest. */
export const cloudInitSchema = z.strictObject({
  userData: z.string().superRefine(requireCloudConfig).optional(),
  vendorData: z.string().superRefine(requireCloudConfig).optional(),
  networkConfig: z.string().superRefine(requireYamlMap).optional(),
});

/** The first line says what it is. Of cloud-init's many formats this one alone is read; all others are passed on as they are. */
function requireCloudConfig(text: string, issues: z.RefinementCtx): void {
  if (text.split("\n", 1)[0]?.trimEnd() === "#cloud-config") {
    requireYamlMap(text, issues);
  }
}

/** Longer text, as with whole files in it, is left to cloud-init to judge: reading it as YAML would take seconds. */
const LONGEST_CHECKED = 256 * 1024;

/** The message tells the place and never quotes the text, which may hold secrets. */
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
    // Thrown rather than listed as errors: an alias without its anchor, aliases that multiply without end, nesting without end.
    refuse("is not valid YAML: its aliases (*name) or its nesting cannot be resolved");
  }
}

import * as z from "zod";
import type { Config } from "../config";

/** Key of an instance's config with its labels, separated by commas. An instance has those of its profiles, too. */
const LABELS_KEY = "user.placement";

const labelSchema = z.string().regex(/^[^\s,\p{Control}]+$/u, "is not a label: it must not be empty, or have spaces or commas");

/** How a member is chosen for a new instance. */
export const placementSchema = z.strictObject({
  policy: z
    .enum(["roundRobin", "leastInstances", "leastMemory", "leastCpu"], {
      error: "must be roundRobin, leastInstances, leastMemory or leastCpu",
    })
    .default("leastInstances"),
  spreadFailureDomains: z.boolean().default(false),
  affinity: labelSchema.optional(),
  antiAffinity: labelSchema.optional(),
});

export type Placement = z.output<typeof placementSchema>;

/** Returns what is wrong with a placement together with the target. */
export function faultsOfPlacement(
  placement: Placement | undefined,
  target: string | undefined,
): { property: string; reason: string }[] {
  if (placement === undefined) {
    return [];
  }
  const faults: { property: string; reason: string }[] = [];
  if (target !== undefined && !target.startsWith("@")) {
    const reason = `cannot be given together with a member as target ("${target}"): leave out one of them, or give a group (@group) as target`;
    faults.push({ property: "placement", reason });
  }
  if (placement.affinity !== undefined && placement.affinity === placement.antiAffinity) {
    faults.push({ property: "placement.antiAffinity", reason: "cannot be the label of placement.affinity" });
  }
  return faults;
}

export function labelsOf(config: Config): string[] {
  const labels = (config[LABELS_KEY] ?? "").split(",").map((label) => label.trim());
  return [...new Set(labels)].filter((label) => label !== "");
}

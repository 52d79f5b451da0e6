import { type ClusterContents, KINDS } from "./inventory";
import type { Program } from "./program";
import type { Written } from "./project";

/** What was done, and what to do next, for a person. */
export function describe({ hosts, taken, leftOut }: ClusterContents, { secrets }: Program, { files, advice }: Written): string {
  const counts = KINDS.map((kind) => [kind, taken.filter((each) => each.kind === kind).length] as const).filter(
    ([, count]) => count > 0,
  );
  const first = [
    ...advice,
    ...(secrets.length === 0 ? [] : ["Bring into the stack's config what may be secret (pulumi stack init first):"]),
  ];
  return [
    `Found on ${hosts.map(({ name }) => name).join(", ")}: ${counts.map(([kind, count]) => `${kind} ${count}`).join(", ")}`,
    ...(leftOut.length === 0 ? [] : ["Left out:", ...leftOut.map((sentence) => `  - ${sentence}`)]),
    `Written: ${files.join(", ")}`,
    ...first,
    ...secrets.map(({ command }) => `  ${command}`),
    "Then look at pulumi preview: it says of each object what adopting it would change, which is nothing but the mark of its owner",
    "",
  ].join("\n");
}

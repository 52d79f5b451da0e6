import { type ClusterContents, KINDS } from "./inventory";
import type { Program } from "./program";
import type { Written } from "./project";

/** Describes what was done and what to do next. */
export function describe({ hosts, taken, leftOut }: ClusterContents, { secrets }: Program, { files, advice }: Written): string {
  const counts = KINDS.map((kind) => [kind, taken.filter((each) => each.kind === kind).length] as const).filter(
    ([, count]) => count > 0,
  );
  const first = [
    ...advice,
    ...(secrets.length === 0 ? [] : ["Run pulumi stack init, then write what may be secret to the stack's config:"]),
  ];
  return [
    `Found on ${hosts.map(({ name }) => name).join(", ")}: ${counts.map(([kind, count]) => `${kind} ${count}`).join(", ")}`,
    ...(leftOut.length === 0 ? [] : ["Left out:", ...leftOut.map((sentence) => `  - ${sentence}`)]),
    `Written: ${files.join(", ")}`,
    ...first,
    ...secrets.map(({ command }) => `  ${command}`),
    "Then run pulumi preview. It should show for each object that nothing in it changes",
    "",
  ].join("\n");
}

/** Compares a preview with the changes that `up` then made to the live objects. */
import { isDeepStrictEqual } from "node:util";
import type { LifecycleEvent } from "../../../lab/simulated";
import type { Planned, Properties, Run, Stored } from "../engine-model";
import { facets, type Live, resolved } from "./live";
import { kindOf, type Program } from "./program";
import { IMMUTABLE } from "./world";

/** A preview, the `up` after it, and the live objects before and after. */
export interface Seen {
  readonly program: Program;
  readonly stateBefore: readonly Stored[];
  readonly preview: Run;
  readonly run: Run;
  readonly before: Live;
  readonly after: Live;
  /** Events of stopped instances. */
  readonly stops: readonly LifecycleEvent[];
  /** Paths of all DELETE requests. */
  readonly deletions: readonly string[];
}

/** Differences to the preview, and the number of compared properties. */
export function previewErrors(seen: Seen): { wrong: string[]; compared: number } {
  const { preview, run } = seen;
  const wrong: string[] = [];
  let compared = 0;
  if (preview.failures.length > 0 || run.failures.some(({ resource }) => !run.steps.has(resource))) {
    return { wrong, compared }; // a failed read or check is shown as an error
  }
  for (const [name, done] of run.steps) {
    const shown = preview.steps.get(name);
    // An up that fails may end after the deletion for a replacement.
    const isHalf = shown?.op === "replace" && done.op === "delete" && run.failures.length > 0;
    if (shown === undefined || !(isHalf || sameOutcome(shown, done))) {
      wrong.push(
        `${name}: the preview says ${shown?.op ?? "nothing"} ${shown?.changed.join() ?? ""}, up does ${done.op} ${done.changed.join()}`,
      );
      continue;
    }
    compared += comparedFacets(seen, name, done, shown, wrong);
    wrong.push(...restarts(seen, name, done), ...replacements(name, shown));
  }
  if (run.failures.length === 0) {
    wrong.push(...[...preview.steps.keys()].filter((name) => !run.steps.has(name)).map((name) => `${name}: shown, but not done`));
  }
  return { wrong: [...wrong, ...wrongDeletions(seen)], compared };
}

/** An unknown input may resolve to its former value. */
function sameOutcome(shown: Planned, done: Planned): boolean {
  return shown.op === done.op || (shown.op === "update" && done.op === "same" && shown.unknown.length > 0);
}

/** The input that defines a part of an object. */
const INPUT: Readonly<Record<string, string>> = { keys: "authorizedKeys" };

/** Parts that a preview does not name stay unchanged. */
function comparedFacets(
  { program, preview, before, after, stateBefore }: Seen,
  name: string,
  done: Planned,
  shown: Planned,
  wrong: string[],
): number {
  const old = stateBefore.find((stored) => stored.name === name);
  if ((done.op !== "same" && done.op !== "update") || old?.outputs["unfinished"] !== undefined) {
    return 0; // an unfinished one is shown as such, with the reason
  }
  if (before.members.size === 0) {
    return 0; // there was no cluster yet to read
  }
  const args = resolved(program, name);
  const [then, now] = [facets(before, name, args), facets(after, name, args)];
  if (then === undefined && kindOf(name) === "LxdClusterMember" && shown.op === "update") {
    return 0; // it was removed, and is shown to join again
  }
  const isMoved = evacuates(preview, args);
  for (const [facet, seen] of Object.entries(now ?? {})) {
    if (isMoved && (facet === "target" || facet === "running")) {
      continue;
    }
    const input = INPUT[facet] ?? facet;
    // A member that joins adds its own part of a pool or network, and removes it when it leaves.
    const isShared = facet === "memberConfig";
    const value = isShared ? common(seen as Properties, then?.[facet] as Properties) : seen;
    const former = isShared ? common(then?.[facet] as Properties, seen as Properties) : then?.[facet];
    if (!isDeepStrictEqual(value, former) && !(done.op === "update" && shown.changed.includes(input))) {
      wrong.push(
        `${name}: ${facet} changed from ${JSON.stringify(then?.[facet])} to ${JSON.stringify(value)}, which the preview did not show`,
      );
    }
  }
  return Object.keys(now ?? {}).length;
}

/** The part of one that the other has, too. */
function common(one: Properties, other: Properties): Properties {
  return Object.fromEntries(Object.entries(one).filter(([key]) => key in other));
}

/** An instance is stopped only with permission and if the preview says so; and it stays the same instance. */
function restarts({ program, preview, run, before, after, stops }: Seen, name: string, done: Planned): string[] {
  if (kindOf(name) !== "LxdVm" || (done.op !== "same" && done.op !== "update")) {
    return [];
  }
  const wrong: string[] = [];
  const args: Properties = resolved(program, name);
  const live = String(args["name"]);
  if (evacuates(preview, args)) {
    return wrong;
  }
  const failed = run.failures.some(({ resource }) => resource === name);
  const said = preview.warnings.filter(([resource]) => resource === name).map(([, text]) => text);
  const stopped = stops.some(({ source }) => source === `/1.0/instances/${live}`);
  const keepsRunning = args["running"] !== false && before.instances.get(live)?.status === "Running";
  if (stopped && keepsRunning && (args["allowRestart"] ?? false) === false) {
    wrong.push(`${name} was stopped without allowRestart`);
  }
  const isSaid =
    said.some((text) => /(will|may) be stopped and started/.test(text)) ||
    (done.op === "update" && preview.warnings.some(([, text]) => saysOfProfile(text, live)));
  if (stopped && keepsRunning && !isSaid) {
    wrong.push(`${name} was restarted, which the preview did not say`);
  }
  if (!stopped && !failed && said.some((text) => /will be stopped and started/.test(text))) {
    wrong.push(`${name} was to be restarted, and was not`);
  }
  if (!failed && said.some((text) => /will refuse this/.test(text))) {
    wrong.push(`${name} was to be refused, and was not: ${said.join("; ")}`);
  }
  const identity = ({ instances }: Live): unknown => instances.get(live)?.config?.["volatile.uuid"];
  if (identity(before) !== identity(after)) {
    wrong.push(`${name} is another instance after a step of "${done.op}"`);
  }
  return wrong;
}

/**
 * Whether a profile's preview names the instance as one that does not apply its change, and announces that the same
 * `up` restarts it if it changes both.
 */
function saysOfProfile(text: string, instance: string): boolean {
  const [, names = ""] = /^Profile ".*" (?:will be|was) changed.* \d+ instances? \((.*?)\)/.exec(text) ?? [];
  return names.split(", ").includes(instance) && text.includes("in the same pulumi up if that changes it too");
}

/** Whether the preview of a member says what its evacuation, or the end of that, does to an instance. */
function evacuates({ warnings }: Run, { name }: Properties): boolean {
  return warnings.some(([, text]) => /^The (evacuation|restore) of /.test(text) && text.split(/\W+/).includes(String(name)));
}

/** No object is replaced for a property that can change in place. */
function replacements(name: string, { op, replaces }: Planned): string[] {
  const immutable = IMMUTABLE[kindOf(name)] ?? [];
  const others = replaces.filter((property) => !immutable.includes(property));
  return op === "replace" && (replaces.length === 0 || others.length > 0) ? [`${name} is replaced for ${replaces.join()}`] : [];
}

/** No object is deleted unless shown as deleted or replaced. */
function wrongDeletions({ stateBefore, preview, deletions }: Seen): string[] {
  const going = stateBefore.filter(({ name, kind, outputs }) => {
    const op = preview.steps.get(name)?.op;
    const isAnew = preview.warnings.some(([resource, text]) => resource === name && /removes the old member/.test(text));
    // A volume that moves to another member is removed from the former one.
    const moves = op === "update" && kind === "LxdStorageVolume" && preview.steps.get(name)?.changed.includes("target");
    return op === "delete" || op === "replace" || moves || outputs["unfinished"] !== undefined || isAnew;
  });
  const names = going.flatMap(({ outputs }) => [String(outputs["name"]), String(outputs["fingerprint"])]);
  return deletions
    .map(
      (path) =>
        /^\/1\.0\/(?:profiles|network-acls|projects|certificates|cluster\/groups|storage-pools\/[^/]+\/volumes\/custom|networks|storage-pools|instances|images|cluster\/members)\/([^/?]+)(?:\?.*)?$/.exec(
          path,
        )?.[1],
    )
    .filter((name) => name !== undefined && name !== "aliases" && !names.includes(name))
    .map((name) => `${name} was deleted, which the preview did not show`);
}

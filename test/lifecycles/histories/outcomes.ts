/** Possible results of an `up`, and their description. */
import { messageOf } from "../../../provider/support/errors";
import type { Run } from "../engine-model";
import type { Live } from "./live";

/**
 * Refusals that are correct without a fault: the program or a manual change asks for something impossible. Each names a
 * remedy.
 */
export const REFUSALS: readonly RegExp[] = [
  /is still used by|in use/,
  /This change requires stopping the running instance/,
  /cannot be changed like this\./,
  /did not take the change/,
  /needs instance ".*" to run/,
  /there is no instance ".*"/,
  /already exists on .* and (it was not made by Pulumi|it belongs to)/,
  /points to another image/,
  /cannot resize a pool/,
  /is not empty: /,
  /has no (image|profile|storage pool|network|member) /,
  /no cluster member|is not a member of the cluster/,
  /the uid \d+ belongs to/,
  /it is on cluster member "\w+", which is Offline/,
  /cluster member "\w+" is Evacuated/,
  /is not evacuated: it has ephemeral instances/,
  /cannot join the cluster at .*: all its members are evacuated/,
  /remove the old member and all that it held/,
  /set it in the program: certificateFingerprint: "/,
];

/** Whether a machine was started whose inside the refresh before could not read: the next one does. */
export function startsAnInstance(before: Live, after: Live): boolean {
  return [...before.instances].some(
    ([name, { status }]) => status !== "Running" && after.instances.get(name)?.status === "Running",
  );
}

/** Whether a host joined an existing cluster, or joined it again. */
export function bringsAMember(before: Live, after: Live): boolean {
  const online = ({ members }: Live): string[] =>
    [...members.values()].filter(({ status }) => status !== "Offline").map((each) => each.server_name);
  return before.members.size > 0 && online(after).some((name) => !online(before).includes(name));
}

/** In one line, for the log. */
export function describe(run: Run): string {
  const steps = [...run.steps]
    .filter(([, { op }]) => op !== "same")
    .map(([name, { op, changed }]) => (op === "update" ? `update ${name} (${changed.join()})` : `${op} ${name}`));
  return (
    [...steps, ...messages(run), ...run.warnings.map(([name, text]) => `warning ${name}: ${text}`)].join("; ") || "no change"
  );
}

/** Why it failed, by resource. */
export function messages(run: Run): string[] {
  return run.failures.map(({ resource, error }) => `${resource}: ${messageOf(error)}`);
}

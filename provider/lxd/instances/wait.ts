import * as z from "zod";
import { until } from "../../support/deadline";
import { CommandError, hasCode, isNotFound, messageOf, RefusedError } from "../../support/errors";
import type { CommandResult } from "../../transport/ssh";
import { CLOUD_INIT_TEXT } from "../config";
import { runInInstance } from "./exec";
import {
  addressesOf,
  getInstanceState,
  getInstanceWithState,
  type Instance,
  type InstanceWork,
  isRunning,
  requireInstance,
} from "./instances";

/** Condition to wait for after an instance starts. */
export const waitConditionSchema = z.discriminatedUnion(
  "for",
  [
    z.strictObject({ for: z.literal("running") }),
    z.strictObject({ for: z.literal("agent") }),
    z.strictObject({ for: z.enum(["ipv4", "ipv6"]), nic: z.string().min(1, "is empty") }),
    z.strictObject({ for: z.literal("cloud-init") }),
    z.strictObject({ for: z.literal("command"), command: z.array(z.string()).min(1, "needs a program") }),
  ],
  "must be running, agent, ipv4, ipv6, cloud-init or command",
);

/** See {@link waitConditionSchema}. */
export type WaitCondition = z.output<typeof waitConditionSchema>;

/** Whether a condition holds: `true`, or otherwise what was observed. */
type Answer = true | string;

interface Check {
  readonly what: string;
  /** Whether the condition holds for an instance that was read with its state, where that is sufficient to know. */
  readonly isMet?: (instance: Instance) => boolean;
  readonly ask: () => Promise<Answer>;
}

/**
 * Waits until all conditions hold, one after the other.
 * @param seen - The instance, with its state, as it was just read.
 * @returns `seen`, when no wait was necessary.
 * @throws TimeoutError with the last observation; CommandError when cloud-init has failed permanently.
 */
export async function waitFor(
  work: InstanceWork,
  conditions: readonly WaitCondition[],
  seen?: Instance,
): Promise<Instance | undefined> {
  let last = seen;
  for (const condition of conditions) {
    const { what, isMet, ask } = checkOf(work, condition);
    work.progress(`waiting for ${what}`);
    if (last !== undefined && isMet?.(last) === true) {
      continue;
    }
    last = undefined;
    let status = `waiting for ${what}`;
    await until(work.deadline, async (report) => {
      const tell = (): void => report(`${status} (asked: ${work.lxd.host})`);
      tell(); // the time may run out during a check
      const observed = await ask();
      if (observed === true) {
        return true;
      }
      status = `waiting for ${what}: ${observed}`;
      tell();
      return undefined;
    });
  }
  return last;
}

function checkOf(work: InstanceWork, condition: WaitCondition): Check {
  switch (condition.for) {
    case "running":
      return { what: "the instance to run", isMet: isRunning, ask: () => checkRunning(work) };
    case "agent":
      return { what: "the agent", ask: () => checkAgent(work) };
    case "ipv4":
    case "ipv6": {
      const { nic, for: family } = condition;
      return {
        what: `${family === "ipv4" ? "an IPv4" : "an IPv6"} address on ${nic}`,
        isMet: (instance) => hasAddress(instance, nic, family),
        ask: () => checkAddress(work, nic, family),
      };
    }
    case "cloud-init":
      return { what: "cloud-init", ask: () => checkCloudInit(work) };
    case "command": {
      const { command } = condition;
      return { what: `${command[0]} to succeed`, ask: () => checkCommand(work, command) };
    }
  }
}

async function checkRunning(work: InstanceWork): Promise<Answer> {
  const state = await getInstanceState(work);
  return isRunning(state) || `it is ${state.status}`;
}

async function checkAgent(work: InstanceWork): Promise<Answer> {
  const { value: instance } = await requireInstance(work);
  if (!isRunning(instance)) {
    return `the instance is ${instance.status}`;
  }
  if (instance.type === "container" || (await getInstanceState(work)).processes > 0) {
    return true; // LXD enters a container without an agent
  }
  if (instance.expanded_config["security.agent.metrics"] !== "false") {
    return `it does not answer yet (is the agent of ${work.lxd.names.name} in the image?)`;
  }
  // The agent is configured not to count processes. A command that gets through is proof too.
  return tryCommand(work, ["true"], () => true, "none");
}

async function checkAddress(work: InstanceWork, nic: string, family: "ipv4" | "ipv6"): Promise<Answer> {
  const instance = await getInstanceWithState(work);
  return hasAddress(instance, nic, family) || describeAddresses(instance);
}

function hasAddress(instance: Instance, nic: string, family: "ipv4" | "ipv6"): boolean {
  return (addressesOf(instance)[nic]?.[family].length ?? 0) > 0;
}

function describeAddresses(instance: Instance): string {
  if (!isRunning(instance)) {
    return `the instance is ${instance.status}`;
  }
  const seen = Object.entries(addressesOf(instance)).map(
    ([nic, { ipv4, ipv6 }]) => `${nic} has ${[...ipv4, ...ipv6].join(", ") || "none"}`,
  );
  return seen.length === 0 ? "it has no network device yet" : seen.join("; ");
}

async function checkCommand(work: InstanceWork, command: readonly string[]): Promise<Answer> {
  return tryCommand(work, command, (result) => result.exitCode === 0 || `exit code ${result.exitCode} ${tail(result)}`.trim());
}

/** Polls instead of `cloud-init status --wait`: a command that runs for minutes would hold a channel and be lost with it. */
async function checkCloudInit(work: InstanceWork): Promise<Answer> {
  return tryCommand(work, ["cloud-init", "status", "--long"], (result) => judgeCloudInit(work, result));
}

async function judgeCloudInit(work: InstanceWork, result: CommandResult): Promise<Answer> {
  const verdict = cloudInitVerdict(result);
  switch (verdict.end) {
    case "pending":
      return verdict.seen;
    case "failed":
      throw new CommandError(`instance "${work.name}"`, "cloud-init", result.exitCode, `${verdict.why}\n${tail(result)}`.trim());
    case "no-data":
      await refuseWithoutData(work);
      return true;
    case "degraded":
      work.warn(`cloud-init of instance "${work.name}" is done, but degraded: ${tail(result)}`);
      return true;
    case "done":
      return true;
  }
}

/**
 * Refuses an instance whose cloud-init did not find its data. cloud-init looks for it once, early in the boot. Without data it
 * succeeds or is disabled, and applies nothing that was meant for the instance.
 */
async function refuseWithoutData({ lxd, project, name }: InstanceWork): Promise<void> {
  const { value: instance } = await requireInstance({ lxd, project, name });
  const ignored = Object.keys(instance.expanded_config).filter((key) => CLOUD_INIT_TEXT.test(key));
  if (ignored.length > 0) {
    const inProject = project === "default" ? "" : ` --project ${project}`;
    const { client, name: serverName, server } = lxd.names;
    const otherwise =
      server === "incus"
        ? "Otherwise check that cloud-init is not switched off in the image, and has the data source NoCloud"
        : "Otherwise check that security.devlxd is not false, and that cloud-init is not switched off in the image, and has the data source LXD";
    throw new RefusedError(
      `cloud-init of instance "${name}" did not find its data when it booted, so nothing of ${ignored.join(", ")} is in effect. If ${serverName} ` +
        `was down at that moment, restart the instance (${client} restart ${name}${inProject}), then run pulumi up. ${otherwise}`,
    );
  }
}

/**
 * Interprets the output of `cloud-init status`, in all its versions.
 * @see https://docs.cloud-init.io/en/latest/explanation/return_codes.html
 */
export function cloudInitVerdict({
  exitCode,
  stdout,
}: CommandResult): { end: "done" | "degraded" | "no-data" } | { end: "pending"; seen: string } | { end: "failed"; why: string } {
  if (exitCode === 127) {
    return { end: "failed", why: "the image has no cloud-init; take one that has, or do not wait for it" };
  }
  const ended = /\bDataSourceNone\b/.test(stdout) ? "no-data" : undefined;
  const status = /^status:\s*(.+)$/m.exec(stdout)?.[1]?.trim();
  switch (status) {
    case "done":
      return { end: ended ?? (exitCode === 2 ? "degraded" : "done") };
    case "degraded":
    case "degraded done":
      return { end: ended ?? "degraded" };
    case "disabled": // also when it found no data source
      return { end: "no-data" };
    case "error":
      return { end: "failed", why: "it ended with an error; see /var/log/cloud-init-output.log in the instance" };
    case undefined: // until systemd is up: no status at all, and exit code 129
      return { end: "pending", seen: `it cannot say yet (exit code ${exitCode})` };
    default:
      return { end: "pending", seen: `it is ${status}` };
  }
}

/** Runs a command in the guest. Returns what `judge` makes of it, or why the booting guest could not even start it. */
async function tryCommand(
  work: InstanceWork,
  argv: readonly string[],
  judge: (result: CommandResult) => Answer | Promise<Answer>,
  output: "text" | "none" = "text",
): Promise<Answer> {
  let result: CommandResult;
  try {
    result = await runInInstance(work, { argv, output, allowFailure: true });
  } catch (error) {
    // The instance may be stopped, its agent may not answer yet, or a reboot interrupted the command, of the guest or of LXD.
    const isOfDaemon = hasCode(error, "transport") && work.lxd.endpoint.isOpen();
    const mayPass = hasCode(error, "operation") || hasCode(error, "lost") || isOfDaemon;
    if (mayPass || (hasCode(error, "api") && !isNotFound(error))) {
      return messageOf(error);
    }
    throw error;
  }
  return judge(result);
}

function tail({ stdout, stderr }: CommandResult): string {
  return (stderr.trim() || stdout.trim()).split("\n").slice(-8).join("\n").slice(-1500);
}

import * as z from "zod";
import type { Deadline } from "../../support/deadline";
import { hasCode, LostOperationError, RefusedError } from "../../support/errors";
import { listOf } from "../client/answers";
import { api, type Tagged } from "../client/client";
import { untilKnown } from "../client/operations";
import { onceFound } from "../cluster/restarts";
import { type Config, type Devices } from "../config";
import type { Profile } from "../profiles";
import { type InstanceRef, retryWhileBusy } from "./instance-lock";

/** Maps are `null` in the list entry of an instance whose member does not answer. */
const configSchema = z
  .record(z.string(), z.string())
  .nullish()
  .transform((config) => config ?? {});
const devicesSchema = z
  .record(z.string(), z.record(z.string(), z.string()))
  .nullish()
  .transform((devices) => devices ?? {});

/** `/1.0/instances/NAME/state`. */
export const stateSchema = z.looseObject({
  status: z.string(),
  /** -1 when LXD does not reach the agent of a virtual machine. */
  processes: z.number().default(-1),
  network: z
    .record(
      z.string(),
      z.looseObject({
        hwaddr: z.string().default(""),
        addresses: z.array(z.looseObject({ family: z.string(), address: z.string(), scope: z.string().default("") })).nullish(),
      }),
    )
    .nullish(),
});

/** `/1.0/instances`: https://documentation.ubuntu.com/lxd/latest/api/#/instances */
export const instanceSchema = z.looseObject({
  name: z.string(),
  type: z.string().default(""),
  architecture: z.string().default(""),
  description: z.string().default(""),
  ephemeral: z.boolean().default(false),
  status: z.string(),
  location: z.string().default(""),
  /** When it was last started. */
  last_used_at: z.string().default(""),
  profiles: z.array(z.string()).nullish(),
  config: configSchema,
  devices: devicesSchema,
  expanded_config: configSchema,
  expanded_devices: devicesSchema,
  state: stateSchema.nullish(),
});

/** An instance as LXD shows it; `state` only on request. */
export type Instance = z.output<typeof instanceSchema>;

export type InstanceType = "virtual-machine" | "container";

export interface InstancePut {
  readonly architecture: string;
  readonly ephemeral: boolean;
  readonly description: string;
  readonly profiles: readonly string[];
  readonly config: Config;
  readonly devices: Devices;
}

/** Config and devices after the profiles are merged in. */
export interface Expanded {
  readonly config: Config;
  readonly devices: Devices;
}

/** One instance, and what work on it needs. */
export interface InstanceWork extends InstanceRef {
  readonly deadline: Deadline;
  progress(text: string): void;
  warn(text: string): void;
}

export type FoundInstance = Tagged<Instance>;

export function findInstance({ lxd, project, name }: InstanceRef): Promise<FoundInstance | undefined> {
  return lxd.findWithEtag(api`/1.0/instances/${name}`, instanceSchema, { project });
}

/** @throws RefusedError when the instance no longer exists. */
export async function requireInstance(which: InstanceRef): Promise<FoundInstance> {
  const found = await findInstance(which);
  if (found === undefined) {
    throw new RefusedError(
      `Instance "${which.name}" no longer exists on ${which.lxd.host}. Run pulumi refresh, then pulumi up to create it again`,
    );
  }
  return found;
}

export async function getInstanceWithState({ lxd, project, name }: InstanceRef): Promise<Instance> {
  return lxd.get(api`/1.0/instances/${name}`, instanceSchema, { project, recursion: 1 });
}

export function getInstanceState({ lxd, project, name }: InstanceRef): Promise<z.output<typeof stateSchema>> {
  return lxd.get(api`/1.0/instances/${name}/state`, stateSchema, { project });
}

/**
 * Replaces the writable part of an instance. Uses PUT, because a PATCH cannot remove a device. Sends all `volatile.*` keys,
 * because LXD drops omitted ones.
 */
export async function replaceInstance(
  which: InstanceRef,
  change: (live: Instance) => InstancePut,
  found?: FoundInstance,
): Promise<void> {
  if (!(await modifyInstance(which, change, found))) {
    await requireInstance(which);
  }
}

/**
 * Sets keys of an instance's config and keeps the others. An empty value removes a key. Succeeds when the instance does not
 * exist.
 * @param look - Receives the live instance, and may refuse.
 */
export async function setInstanceConfig(
  which: InstanceRef,
  config: Config,
  look: (live: Instance) => void = () => undefined,
  found?: FoundInstance,
): Promise<void> {
  const change = (live: Instance): object => {
    look(live);
    return { description: live.description, config }; // LXD empties the description when a PATCH does not repeat it
  };
  await modifyInstance(which, change, found, "PATCH");
}

async function modifyInstance(
  which: InstanceRef,
  change: (live: Instance) => object,
  found: FoundInstance | undefined,
  method: "PUT" | "PATCH" = "PUT",
): Promise<boolean> {
  const { lxd, project, name } = which;
  const modify = (): Promise<boolean> =>
    lxd.modify(api`/1.0/instances/${name}`, instanceSchema, change, { query: { project }, found, method });
  return retryWhileBusy(which, modify);
}

/** Starts an instance, or resumes a frozen one. Succeeds when it already runs. */
export async function startInstance(work: InstanceWork, live: Pick<Instance, "status">): Promise<void> {
  work.progress("starting");
  const action = live.status === "Frozen" ? "unfreeze" : "start";
  await changeState(work, { action }, isRunning);
}

/**
 * Stops an instance cleanly. Succeeds when it is already stopped.
 * @param seconds - How long the guest may take.
 * @throws OperationError when the guest did not stop in time; it continues to run.
 */
export async function stopInstance(work: InstanceWork, live: Pick<Instance, "status">, seconds: number): Promise<void> {
  if (live.status === "Frozen") {
    await changeState(work, { action: "unfreeze" }, isRunning);
  }
  work.progress(`stopping (waiting up to ${Math.round(seconds)} s)`);
  // A timeout of 0 would force the stop.
  await changeState(work, { action: "stop", timeout: Math.max(1, Math.floor(seconds)), force: false }, isStopped);
}

/** Stops an instance at once, without a clean shutdown. */
export async function forceStopInstance(work: InstanceWork): Promise<void> {
  work.progress("stopping by force");
  await changeState(work, { action: "stop", timeout: -1, force: true }, isStopped);
}

/** Requests a state. The state afterwards decides: LXD fails when the instance already has it, and forgets operations. */
async function changeState(
  which: InstanceRef,
  body: { action: "start" | "stop" | "unfreeze"; timeout?: number; force?: boolean },
  reached: (instance: Pick<Instance, "status">) => boolean,
): Promise<void> {
  const { lxd, project, name } = which;
  const isReached = async (): Promise<boolean> => reached(await getInstanceState(which));
  const change = async (): Promise<void> => {
    try {
      await lxd.change("PUT", api`/1.0/instances/${name}/state`, { query: { project }, body });
    } catch (error) {
      if (hasCode(error, "transport") && lxd.endpoint.isOpen()) {
        // The daemon stopped during the request.
        throw new LostOperationError(lxd.title, `Instance ${body.action}`, { cause: error });
      }
      const answered = hasCode(error, "operation") || hasCode(error, "api");
      if (!answered || !(await isReached())) {
        throw error;
      }
    }
  };
  await retryWhileBusy(which, () => untilKnown(change, isReached));
}

export async function listBackups({ lxd, project, name }: InstanceRef): Promise<string[]> {
  const urls = await lxd.get(api`/1.0/instances/${name}/backups`, listOf(z.string()), { project });
  return urls.map((url) => decodeURIComponent(new URL(url, "http://lxd").pathname.split("/").at(-1) ?? ""));
}

/** Moves a stopped instance to another member. */
export async function moveInstance(which: InstanceRef, target: string): Promise<void> {
  const { lxd, project, name } = which;
  const move = (): Promise<unknown> =>
    lxd.change("POST", api`/1.0/instances/${name}`, {
      query: { project, target },
      body: { name, migration: true, live: false }, // without "live: false" LXD tries a live migration
    });
  const isThere = async (): Promise<boolean> => (await requireInstance(which)).value.location === target;
  let asked = false;
  await onceFound(lxd, async () => {
    if (asked && (await isThere())) {
      return;
    }
    asked = true;
    await retryWhileBusy(which, () => untilKnown(move, isThere));
  });
}

/** Removes a stopped instance. Succeeds when it does not exist. */
export async function deleteInstance(which: InstanceRef): Promise<void> {
  const { lxd, project, name } = which;
  await retryWhileBusy(which, () => lxd.remove(api`/1.0/instances/${name}`, { project }));
}

/** "Ready" means that the guest has reported itself ready to LXD. */
export function isRunning({ status }: Pick<Instance, "status">): boolean {
  return status === "Running" || status === "Ready";
}

/** A frozen instance is neither running nor stopped. */
export function isStopped({ status }: Pick<Instance, "status">): boolean {
  return status === "Stopped";
}

/**
 * Merges profiles in their order, a later one taking precedence, and then the instance's own values. Replaces a device as a
 * whole.
 */
export function expand(profiles: readonly Profile[], local: Expanded): Expanded {
  return {
    config: profiles.reduceRight<Config>((later, { config }) => ({ ...config, ...later }), local.config),
    devices: profiles.reduceRight<Devices>((later, { devices }) => ({ ...devices, ...later }), local.devices),
  };
}

/** Config and devices of an instance with those of its profiles, as LXD reports them. */
export function expandedOf({ expanded_config: config, expanded_devices: devices }: Instance): Expanded {
  return { config, devices };
}

export function keysOf(...maps: readonly object[]): string[] {
  return [...new Set(maps.flatMap((map) => Object.keys(map)))].sort();
}

export function rootDiskOf(devices: Devices): [name: string, device: Config] | undefined {
  return Object.entries(devices).find(([, device]) => isRootDisk(device));
}

export function isRootDisk(device: Config | undefined): boolean {
  return device?.["type"] === "disk" && device["path"] === "/";
}

export function macAddressesOf(instance: Pick<Instance, "config" | "expanded_devices">): Record<string, string> {
  return Object.fromEntries(
    nicsOf(instance).flatMap(([nic, device]) => {
      const mac = device["hwaddr"] ?? instance.config[`volatile.${nic}.hwaddr`] ?? "";
      return mac === "" ? [] : [[nic, mac.toLowerCase()]];
    }),
  );
}

export function nicsOf({ expanded_devices }: Pick<Instance, "expanded_devices">): [name: string, device: Config][] {
  return Object.entries(expanded_devices).filter(([, device]) => device["type"] === "nic");
}

/**
 * Returns addresses by name of the network device, without loopback and link-local ones. The guest may rename its interfaces, and
 * have others than LXD gave it, so the MAC address identifies each. Where LXD knows none (physical, ipvlan), the name that LXD
 * gave does.
 */
export function addressesOf(
  instance: Pick<Instance, "config" | "expanded_devices" | "state">,
): Record<string, { ipv4: string[]; ipv6: string[] }> {
  const interfaces = Object.entries(instance.state?.network ?? {});
  const macs = macAddressesOf(instance);
  return Object.fromEntries(
    nicsOf(instance).map(([nic, device]) => {
      const mac = macs[nic];
      const given = device["name"] ?? instance.config[`volatile.${nic}.name`] ?? nic;
      const addresses = interfaces
        .filter(([name, { hwaddr }]) => (mac === undefined ? name === given : hwaddr.toLowerCase() === mac))
        .flatMap(([, shown]) => shown.addresses ?? [])
        .filter(({ scope }) => scope !== "link" && scope !== "local");
      const ofFamily = (family: string): string[] => [
        ...new Set(addresses.filter((each) => each.family === family).map(({ address }) => address)),
      ];
      return [nic, { ipv4: ofFamily("inet"), ipv6: ofFamily("inet6") }];
    }),
  );
}

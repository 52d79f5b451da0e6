import * as z from "zod";
import { type Deadline, until } from "../../support/deadline";
import { FailedError, hasCode, LostOperationError, RefusedError } from "../../support/errors";
import { api, type LxdClient, type Tagged } from "../client/client";
import { type Operation, operationsSchema, untilKnown } from "../client/operations";
import { isServerFailure } from "../client/transient-failures";
import { onceFound } from "../cluster/restarts";
import { type Config, type Devices, OWNER_KEY } from "../config";
import type { Profile } from "../profiles";
import type { ImageSource } from "./image-source";
import { type InstanceRef, retryWhileBusy, withInstanceLock } from "./instance-lock";

/** Maps are `null` in the list entry of an instance whose member does not answer. */
const configSchema = z.record(z.string(), z.string()).nullish();
const devicesSchema = z.record(z.string(), z.record(z.string(), z.string())).nullish();

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
  config: configSchema.transform((config) => config ?? {}),
  devices: devicesSchema.transform((devices) => devices ?? {}),
  expanded_config: configSchema.transform((config) => config ?? {}),
  expanded_devices: devicesSchema.transform((devices) => devices ?? {}),
  state: stateSchema.nullish(),
});

/** An instance as LXD shows it; `state` only where it was asked for. */
export type Instance = z.output<typeof instanceSchema>;

/** See {@link stateSchema}. */
export type InstanceState = z.output<typeof stateSchema>;

/** Which kind of guest. */
export type InstanceType = "virtual-machine" | "container";

/** What can be written of an instance. */
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

/** An instance as it was read. */
export type FoundInstance = Tagged<Instance>;

/** The instance, or `undefined` when there is none of that name. */
export function findInstance({ lxd, project, name }: InstanceRef): Promise<FoundInstance | undefined> {
  return lxd.findWithEtag(api`/1.0/instances/${name}`, instanceSchema, { project });
}

/**
 * The instance.
 * @throws RefusedError when it is gone.
 */
export async function requireInstance(which: InstanceRef): Promise<FoundInstance> {
  const found = await findInstance(which);
  if (found === undefined) {
    throw new RefusedError(
      `Instance "${which.name}" no longer exists on ${which.lxd.host}. Run pulumi refresh, then pulumi up makes it again`,
    );
  }
  return found;
}

/** The instance with its state: addresses and processes. */
export async function getInstanceWithState({ lxd, project, name }: InstanceRef): Promise<Instance> {
  return lxd.get(api`/1.0/instances/${name}`, instanceSchema, { project, recursion: 1 });
}

/** What the instance does at the moment. */
export function getInstanceState({ lxd, project, name }: InstanceRef): Promise<InstanceState> {
  return lxd.get(api`/1.0/instances/${name}/state`, stateSchema, { project });
}

/** What an instance is made of. */
type InstancePost = Omit<InstancePut, "architecture"> & { type: InstanceType; image: ImageSource };

/** Asks LXD to make an instance, stopped. */
function beginCreation(
  { lxd, project, name }: InstanceRef,
  { image, ...rest }: InstancePost,
  target: string | undefined,
): Promise<Operation | undefined> {
  return lxd.begin("POST", "/1.0/instances", {
    query: { project, target },
    // Never `start: true`: versions that do not know it ignore it in silence, and a failed start would take the instance away.
    body: { name, ...rest, source: { type: "image", ...image, ...(image.server === undefined ? {} : { mode: "pull" }) } },
  });
}

/**
 * Makes an instance, stopped. When the connection breaks, or LXD fails to answer, it may go on all the same; how it ends is then asked, through
 * another connection where need be. An instance of which nobody can tell whether it was finished, because LXD was restarted meanwhile, is made
 * anew: there may be half a file system in it.
 * @param reconnect - A new way to the API.
 * @returns The work, with the API to go on with.
 */
export async function createInstance(
  work: InstanceWork,
  body: InstancePost,
  target: string | undefined,
  reconnect: () => Promise<LxdClient>,
): Promise<InstanceWork> {
  let current = work;
  const create = async (): Promise<void> => {
    let operation: Operation | undefined;
    try {
      await withInstanceLock(current, async () => {
        operation = await beginCreation(current, body, target);
        await (operation && current.lxd.finish(operation));
      });
    } catch (error) {
      if (hasCode(error, "transport")) {
        current = { ...current, lxd: await reconnect() };
      } else if (!isServerFailure(error)) {
        throw error;
      }
      await finishElsewhere(current, operation, error);
    }
  };
  await untilKnown(create, async () => {
    await removeUnknown(current, body.config[OWNER_KEY]);
    return false;
  });
  return current;
}

/** Waits for the end of a creation that another connection has begun, as far as it is known to have been. */
async function finishElsewhere(work: InstanceWork, begun: Operation | undefined, error: unknown): Promise<void> {
  const operation = begun ?? (await creationsOf(work)).at(-1);
  if (operation !== undefined) {
    await work.lxd.finish(operation);
  } else if ((await findInstance(work)) === undefined) {
    throw error;
  } else {
    throw new LostOperationError(work.lxd.host, "Creating instance", { cause: error });
  }
}

/** Removes what a creation of our own has left of which nobody can tell whether it is whole. It has never run. */
async function removeUnknown(work: InstanceWork, mark: string | undefined): Promise<void> {
  const left = (await findInstance(work))?.value;
  if (left === undefined) {
    return;
  }
  if (mark === undefined || left.config[OWNER_KEY] !== mark || !isStopped(left)) {
    throw new FailedError(
      `LXD on ${work.lxd.host} lost sight of the creation of instance "${work.name}", and there is one of that name (${left.status}) of which ` +
        "nobody can tell whether it is whole. Look at it; remove it if nothing in it is needed (lxc delete), then run pulumi up again",
    );
  }
  work.progress("removing what an interrupted creation has left");
  await deleteInstance(work);
}

/**
 * Replaces what can be written of an instance. PUT, because a PATCH cannot remove a device; with all `volatile.*` keys, because LXD
 * drops those that are left out.
 * @param change - Makes the new contents of those that LXD has at the moment.
 * @param found - The instance as it was just read.
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
 * Sets keys of an instance's config and leaves the others as they are; an empty value removes one. An instance that is gone is done.
 * @param look - May refuse, when it sees the instance.
 * @param found - The instance as it was just read.
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

/** Starts an instance, or lets a frozen one go on; one that runs already is left alone. */
export async function startInstance(work: InstanceWork, live: Pick<Instance, "status">): Promise<void> {
  work.progress("starting");
  const action = live.status === "Frozen" ? "unfreeze" : "start";
  await changeState(work, { action }, isRunning);
}

/**
 * Stops an instance cleanly; one that is stopped already is left alone.
 * @param seconds - How long the guest may take.
 * @throws OperationError when the guest did not stop in time; it runs on.
 */
export async function stopInstance(work: InstanceWork, live: Pick<Instance, "status">, seconds: number): Promise<void> {
  if (live.status === "Frozen") {
    await changeState(work, { action: "unfreeze" }, isRunning);
  }
  work.progress(`stopping (it is given ${Math.round(seconds)} s)`);
  // A timeout of 0 would pull the plug.
  await changeState(work, { action: "stop", timeout: Math.max(1, Math.floor(seconds)), force: false }, isStopped);
}

/** Pulls the plug. */
export async function forceStopInstance(work: InstanceWork): Promise<void> {
  work.progress("stopping by force");
  await changeState(work, { action: "stop", timeout: -1, force: true }, isStopped);
}

/** Asks for a state. What counts is the state afterwards: LXD fails when it is reached already, and forgets operations. */
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
        throw new LostOperationError(lxd.host, `Instance ${body.action}`, { cause: error }); // the daemon went away over it
      }
      const answered = hasCode(error, "operation") || hasCode(error, "api");
      if (!answered || !(await isReached())) {
        throw error;
      }
    }
  };
  await retryWhileBusy(which, () => untilKnown(change, isReached));
}

/** Names of an instance's backups. */
export async function listBackups({ lxd, project, name }: InstanceRef): Promise<string[]> {
  const urls = await lxd.get(api`/1.0/instances/${name}/backups`, z.array(z.string()), { project });
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

/** Removes a stopped instance; one that is gone is done. */
export async function deleteInstance(which: InstanceRef): Promise<void> {
  const { lxd, project, name } = which;
  await retryWhileBusy(which, () => lxd.remove(api`/1.0/instances/${name}`, { project }));
}

/** Waits until LXD is no longer at making an instance for a client that has gone away. */
export async function untilCreated(work: InstanceWork): Promise<void> {
  await until(work.deadline, async (report) => {
    const isBusy = (await creationsOf(work)).some(({ status_code }) => status_code < 200);
    report(`LXD on ${work.lxd.host} is still creating instance "${work.name}"`);
    return isBusy ? undefined : true;
  });
}

/** The creations of an instance that LXD knows, the last one last: those that are under way, and those of the last seconds. */
async function creationsOf({ lxd, project, name }: InstanceRef): Promise<Operation[]> {
  const byStatus = await lxd.get("/1.0/operations", operationsSchema, { project, recursion: 1 });
  return Object.values(byStatus ?? {})
    .flatMap((operations) => operations ?? [])
    .filter(({ description, resources }) => {
      const urls = Object.values(resources ?? {}).flatMap((each) => each ?? []);
      return description.startsWith("Creating") && urls.some((url) => url.split("?")[0]?.endsWith(api`/${name}`));
    })
    .sort((a, b) => a.created_at.localeCompare(b.created_at));
}

/** Whether it runs. "Ready" is a guest that has told LXD so. */
export function isRunning({ status }: Pick<Instance, "status">): boolean {
  return status === "Running" || status === "Ready";
}

/** Whether it is off; a frozen instance is neither running nor stopped. */
export function isStopped({ status }: Pick<Instance, "status">): boolean {
  return status === "Stopped";
}

/** Profiles in their order, a later one winning, and the instance's own on top. A device is taken as a whole. */
export function expand(profiles: readonly Profile[], local: Expanded): Expanded {
  return {
    config: profiles.reduceRight<Config>((later, { config }) => ({ ...config, ...later }), local.config),
    devices: profiles.reduceRight<Devices>((later, { devices }) => ({ ...devices, ...later }), local.devices),
  };
}

/** The device that holds the root file system, with its name. */
export function rootDiskOf(devices: Devices): [name: string, device: Config] | undefined {
  return Object.entries(devices).find(([, device]) => device["type"] === "disk" && device["path"] === "/");
}

/** MAC addresses by name of the network device. */
export function macAddressesOf(instance: Pick<Instance, "config" | "expanded_devices">): Record<string, string> {
  const macs: [string, string][] = Object.entries(instance.expanded_devices)
    .filter(([, device]) => device["type"] === "nic")
    .map(([nic, device]) => [nic, (device["hwaddr"] ?? instance.config[`volatile.${nic}.hwaddr`] ?? "").toLowerCase()]);
  return Object.fromEntries(macs.filter(([, mac]) => mac !== ""));
}

/**
 * Addresses by name of the network device, without loopback and link-local ones. The guest may call its interfaces as it likes, and
 * have others than LXD gave it: the MAC address tells which is which. Where LXD knows none (physical, ipvlan), it is the name that LXD gave.
 */
export function addressesOf(
  instance: Pick<Instance, "config" | "expanded_devices" | "state">,
): Record<string, { ipv4: string[]; ipv6: string[] }> {
  const interfaces = Object.entries(instance.state?.network ?? {});
  const macs = macAddressesOf(instance);
  const nics = Object.entries(instance.expanded_devices).filter(([, device]) => device["type"] === "nic");
  return Object.fromEntries(
    nics.map(([nic, device]) => {
      const mac = macs[nic];
      const given = device["name"] ?? instance.config[`volatile.${nic}.name`] ?? nic;
      const addresses = interfaces
        .filter(([name, { hwaddr }]) => (mac === undefined ? name === given : hwaddr.toLowerCase() === mac))
        .map(([, shown]) => shown)
        .flatMap((entry) => entry.addresses ?? [])
        .filter(({ scope }) => scope !== "link" && scope !== "local");
      const ofFamily = (family: string): string[] => [
        ...new Set(addresses.filter((each) => each.family === family).map(({ address }) => address)),
      ];
      return [nic, { ipv4: ofFamily("inet"), ipv6: ofFamily("inet6") }];
    }),
  );
}

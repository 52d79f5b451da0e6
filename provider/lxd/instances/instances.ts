import * as z from "zod";
import { type Deadline, until } from "../../support/deadline";
import { type ApiError, hasCode, isNotFound, RefusedError, TransportError } from "../../support/errors";
import { api, type LxdClient } from "../client/client";
import { listMembersShared } from "../cluster/cluster";
import { type Config, type Devices, OWNER_KEY } from "../config";
import type { Profile } from "../profiles";
import type { ImageSource } from "./image-source";
import { inTurnOn, untilFree, type Which } from "./turns";

/** Maps are `null` in the list entry of an instance whose member does not answer. */
const configSchema = z.record(z.string(), z.string()).nullish();
const devicesSchema = z.record(z.string(), z.record(z.string(), z.string())).nullish();

const stateSchema = z.looseObject({
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
const instanceSchema = z.looseObject({
  name: z.string(),
  type: z.string().default(""),
  architecture: z.string().default(""),
  description: z.string().default(""),
  ephemeral: z.boolean().default(false),
  status: z.string(),
  location: z.string().default(""),
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
export interface InstanceWork extends Which {
  readonly deadline: Deadline;
  progress(text: string): void;
  warn(text: string): void;
}

/** The instance, or `undefined` when there is none of that name. */
export function findInstance({ lxd, project, name }: Which): Promise<{ value: Instance; etag: string | undefined } | undefined> {
  return lxd.findWithEtag(api`/1.0/instances/${name}`, instanceSchema, { project });
}

/**
 * The instance.
 * @throws RefusedError when it is gone.
 */
export async function requireInstance(which: Which): Promise<{ value: Instance; etag: string | undefined }> {
  const found = await findInstance(which);
  if (found === undefined) {
    throw new RefusedError(
      `Instance "${which.name}" no longer exists on ${which.lxd.host}. Run pulumi refresh, then pulumi up makes it again`,
    );
  }
  return found;
}

/** The instance with its state: addresses and processes. */
export async function getInstanceWithState({ lxd, project, name }: Which): Promise<Instance> {
  return lxd.get(api`/1.0/instances/${name}`, instanceSchema, { project, recursion: 1 });
}

/** What the instance does at the moment. */
export function getInstanceState({ lxd, project, name }: Which): Promise<InstanceState> {
  return lxd.get(api`/1.0/instances/${name}/state`, stateSchema, { project });
}

/**
 * The instance with its state, out of one list that all reads of this process share.
 * @throws TransportError when its member does not answer: LXD then lists it without any contents.
 */
export async function findInstanceShared({ lxd, project, name }: Which): Promise<Instance | undefined> {
  const instances = await lxd.getShared("/1.0/instances", z.array(instanceSchema), { project, recursion: 2 });
  const instance = instances.find((candidate) => candidate.name === name);
  if (instance?.status !== "Error" || Object.keys(instance.config).length > 0) {
    return instance;
  }
  const members = await listMembersShared(lxd).catch(() => []);
  const status = members.find(({ server_name }) => server_name === instance.location)?.status ?? "not answering";
  throw new TransportError(
    instance.location,
    `Instance "${name}" cannot be read: it is on cluster member "${instance.location}", which is ${status} (asked: ${lxd.host}). ` +
      "Nothing is known of its present state; bring the member back, then try again",
  );
}

/** Makes an instance, stopped. */
async function createInstance(
  which: Which,
  body: Omit<InstancePut, "architecture"> & { type: InstanceType; image: ImageSource },
  target: string | undefined,
): Promise<void> {
  const { lxd, project, name } = which;
  const { image, ...rest } = body;
  await inTurnOn(which, () =>
    lxd.change("POST", "/1.0/instances", {
      query: { project, target },
      // Never `start: true`: versions that do not know it ignore it in silence, and a failed start would take the instance away.
      body: { name, ...rest, source: { type: "image", ...image, ...(image.server === undefined ? {} : { mode: "pull" }) } },
    }),
  );
}

/**
 * {@link createInstance}, when the answer may get lost while LXD goes on: then what is there decides.
 * @param reconnect - A new way to the API.
 * @returns The work, with the API to go on with.
 */
export async function createInstanceOnce(
  work: InstanceWork,
  body: Parameters<typeof createInstance>[1],
  target: string | undefined,
  reconnect: () => Promise<LxdClient>,
): Promise<InstanceWork> {
  try {
    await createInstance(work, body, target);
    return work;
  } catch (error) {
    if (!hasCode(error, "transport") && !isNotFound(error)) {
      throw error;
    }
    const again = { ...work, lxd: await reconnect() };
    await untilCreated(again);
    const made = await findInstance(again);
    if (made === undefined || made.value.config[OWNER_KEY] !== body.config[OWNER_KEY]) {
      throw error;
    }
    return again;
  }
}

/** How often a change is tried again when LXD itself wrote to the instance in between. */
const ATTEMPTS = 5;

/**
 * Replaces what can be written of an instance. PUT, because a PATCH cannot remove a device; with all `volatile.*` keys, because LXD
 * drops those that are left out.
 * @param change - Makes the new contents of those that LXD has at the moment.
 */
export async function replaceInstance(which: Which, change: (live: Instance) => InstancePut): Promise<void> {
  const replace = async (): Promise<void> => {
    for (let attempt = 1; ; attempt += 1) {
      const { value, etag } = await requireInstance(which);
      try {
        await which.lxd.change("PUT", api`/1.0/instances/${which.name}`, {
          query: { project: which.project },
          body: change(value),
          etag,
        });
        return;
      } catch (error) {
        if (!hasCode(error, "api") || (error as unknown as ApiError).status !== 412 || attempt === ATTEMPTS) {
          throw error;
        }
      }
    }
  };
  await untilFree(which, replace);
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
  which: Which,
  body: { action: "start" | "stop" | "unfreeze"; timeout?: number; force?: boolean },
  reached: (instance: Pick<Instance, "status">) => boolean,
): Promise<void> {
  const { lxd, project, name } = which;
  await untilFree(which, async () => {
    try {
      await lxd.change("PUT", api`/1.0/instances/${name}/state`, { query: { project }, body });
    } catch (error) {
      const answered = hasCode(error, "operation") || hasCode(error, "api");
      if (!answered || !reached(await getInstanceState(which))) {
        throw error;
      }
    }
  });
}

/** Moves a stopped instance to another member. */
export async function moveInstance(which: Which, target: string): Promise<void> {
  const { lxd, project, name } = which;
  const move = (): Promise<unknown> =>
    lxd.change("POST", api`/1.0/instances/${name}`, {
      query: { project, target },
      body: { name, migration: true, live: false }, // without "live: false" LXD tries a live migration
    });
  await untilFree(which, move);
}

/** Removes a stopped instance; one that is gone is done. */
export async function deleteInstance(which: Which): Promise<void> {
  const { lxd, project, name } = which;
  await untilFree(which, () => lxd.remove(api`/1.0/instances/${name}`, { project }));
}

const operationsSchema = z.record(
  z.string(),
  z.array(z.looseObject({ description: z.string().default(""), resources: z.record(z.string(), z.array(z.string())).nullish() })),
);

/** Waits until LXD is no longer at making an instance for a client that has gone away. */
export async function untilCreated({ lxd, project, name, deadline }: InstanceWork): Promise<void> {
  await until(deadline, async (report) => {
    const { running = [] } = await lxd.get("/1.0/operations", operationsSchema, { project, recursion: 1 });
    const urls = running
      .filter(({ description }) => description.startsWith("Creating"))
      .flatMap(({ resources }) => Object.values(resources ?? {}).flat());
    const isBusy = urls.some((url) => url.split("?")[0]?.endsWith(api`/${name}`));
    report(`LXD on ${lxd.host} is still creating instance "${name}"`);
    return isBusy ? undefined : true;
  });
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

/** Addresses of one network device. */
export interface NicAddresses {
  readonly ipv4: string[];
  readonly ipv6: string[];
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
 * have others than LXD gave it: the MAC address tells which is which.
 */
export function addressesOf(instance: Pick<Instance, "config" | "expanded_devices" | "state">): Record<string, NicAddresses> {
  const interfaces = Object.values(instance.state?.network ?? {});
  return Object.fromEntries(
    Object.entries(macAddressesOf(instance)).map(([nic, mac]) => {
      const addresses = interfaces
        .filter(({ hwaddr }) => hwaddr.toLowerCase() === mac)
        .flatMap((entry) => entry.addresses ?? [])
        .filter(({ scope }) => scope !== "link" && scope !== "local");
      const ofFamily = (family: string): string[] => [
        ...new Set(addresses.filter((each) => each.family === family).map(({ address }) => address)),
      ];
      return [nic, { ipv4: ofFamily("inet"), ipv6: ofFamily("inet6") }];
    }),
  );
}

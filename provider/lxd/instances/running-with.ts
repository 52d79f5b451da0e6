/**
 * Config and devices that a running instance runs with. LXD does not report them: it shows what config, devices and
 * profiles say now, even when the instance did not take a change of them and waits for its next start. Pure.
 */
import { mayBeSecret } from "../../support/secrets";
import { type Config, isServerMade, sameConfig, sameConfigValue } from "../config";
import { type Expanded, type Instance, type InstanceType, isStopped } from "./instances";
import { type Obstacle, obstaclesToLiveUpdate } from "./live-update";

/** Facts of an instance that state keeps, to determine later what it runs with. */
export interface Started {
  /** When LXD last started it, by LXD's clock. Only a difference matters. */
  readonly startedAt: string;
  /** `limits.memory` that it was started with, which it can get back while it runs; empty for LXD's default. */
  readonly bootMemory: string;
  /** What it runs with, when it would be started with something else. */
  readonly runsWith?: Expanded;
}

/** State's facts of an instance from its last read. */
interface Known extends Partial<Started> {
  readonly expandedConfig: Expanded["config"];
  readonly expandedDevices: Expanded["devices"];
}

/**
 * Determines how an instance was started, from what is known of it and what LXD reports.
 * @param known - `undefined` when it was never read.
 * @param expanded - Its config and devices as LXD reports them, in the same selection as in `known`.
 */
export function startedOf(
  instance: Pick<Instance, "type" | "status" | "last_used_at">,
  known: Known | undefined,
  expanded: Expanded,
): Started {
  const { last_used_at: startedAt } = instance;
  const memory = expanded.config["limits.memory"] ?? "";
  if (known?.startedAt !== startedAt || isStopped(instance)) {
    return { startedAt, bootMemory: memory };
  }
  const bootMemory = known.bootMemory ?? memory;
  const before = known.runsWith ?? { config: known.expandedConfig, devices: known.expandedDevices };
  const isBehind =
    known.runsWith === undefined
      ? obstacles(instance, before, expanded, bootMemory).length > 0
      : lackingOf(instance, before, expanded, bootMemory).length > 0;
  return { startedAt, bootMemory, ...(isBehind ? { runsWith: before } : {}) };
}

function obstacles({ type }: Pick<Instance, "type">, before: Expanded, after: Expanded, bootMemory: string): Obstacle[] {
  return obstaclesToLiveUpdate(type as InstanceType, before, after, { cpuHotplug: true, bootMemory });
}

/**
 * Returns what an instance lacks of a change that it did not take. LXD refuses a change as a whole, so this includes
 * parts that the instance could have taken alone.
 */
export function lackingOf(
  instance: Pick<Instance, "type">,
  runsWith: Expanded,
  expanded: Expanded,
  bootMemory: string,
): Obstacle[] {
  const judged = obstacles(instance, runsWith, expanded, bootMemory);
  const isJudged = (what: string): boolean => judged.some((each) => each.what === what || each.what.startsWith(`${what}.`));
  const keys = keysOf(runsWith.config, expanded.config).filter(
    (key) => !sameConfigValue(key, runsWith.config[key], expanded.config[key]),
  );
  const devices = keysOf(runsWith.devices, expanded.devices).filter(
    (name) => !sameDevice(runsWith.devices[name], expanded.devices[name]),
  );
  const also = [...keys, ...devices.map((name) => `devices.${name}`)].filter((what) => !isJudged(what));
  return [...judged, ...also.map((what): Obstacle => ({ what, why: "changed along with what it does not take", cure: "stop" }))];
}

/** Returns the starting point of a change: what an instance runs with, in everything that the change affects. */
export function changedFrom(runsWith: Expanded | undefined, live: Expanded, wanted: Expanded): Expanded {
  if (runsWith === undefined) {
    return live;
  }
  const config = keysOf(runsWith.config, live.config, wanted.config).map((key) => {
    const isLeft = sameConfigValue(key, live.config[key], wanted.config[key]);
    return [key, (isLeft ? live : runsWith).config[key]] as const;
  });
  const devices = keysOf(runsWith.devices, live.devices, wanted.devices).map((name) => {
    const isLeft = sameDevice(live.devices[name], wanted.devices[name]);
    return [name, (isLeft ? live : runsWith).devices[name]] as const;
  });
  return { config: present(config), devices: present(devices) };
}

/**
 * Returns config and devices, such as those of an instance with its profiles, in a form that may be kept and shown:
 * without LXD's own keys and without secrets.
 */
export function tellable({ config, devices }: Expanded): Expanded {
  return {
    config: tellableConfig(config),
    devices: Object.fromEntries(Object.entries(devices).map(([name, device]) => [name, tellableConfig(device)])),
  };
}

/** Omits possible secrets: nobody would know that a copy is secret. */
function tellableConfig(config: Config): Config {
  return Object.fromEntries(Object.entries(config).filter(([key, value]) => !isServerMade(key) && !mayBeSecret(key, value)));
}

function sameDevice(a: Config | undefined, b: Config | undefined): boolean {
  return a === undefined || b === undefined ? a === b : sameConfig(a, b);
}

function keysOf(...maps: readonly object[]): string[] {
  return [...new Set(maps.flatMap((map) => Object.keys(map)))].sort();
}

function present<Value>(entries: readonly (readonly [string, Value | undefined])[]): Record<string, Value> {
  return Object.fromEntries(entries.flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])));
}

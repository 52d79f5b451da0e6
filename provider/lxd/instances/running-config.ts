/**
 * Config and devices that a running instance runs with. LXD does not report them: it shows what config, devices and profiles say
 * now, even when the instance did not take a change of them and waits for its next start. Pure.
 */
import { mayBeSecret } from "../../support/secrets";
import { type Config, isServerMade, sameConfig, sameConfigValue } from "../config";
import { type Expanded, expandedOf, type Instance, isStopped, keysOf } from "./instances";
import { type Obstacle, obstaclesToLiveUpdate } from "./obstacles";

/** The last start of an instance. State keeps this, to determine later what the instance runs with. */
export interface LastStart {
  /** When LXD last started it, by LXD's clock. Only a difference matters. */
  readonly startedAt: string;
  /** `limits.memory` that it was started with, which it can get back while it runs; empty for LXD's default. */
  readonly bootMemory: string;
  /** What it runs with, when it would be started with something else. */
  readonly runsWith?: Expanded;
}

interface Known extends Partial<LastStart> {
  readonly expandedConfig: Expanded["config"];
  readonly expandedDevices: Expanded["devices"];
}

export function lastStartOf(instance: Instance, known: Known | undefined): LastStart {
  const { type, last_used_at: startedAt } = instance;
  const expanded = withoutSecrets(expandedOf(instance));
  const memory = expanded.config["limits.memory"] ?? "";
  if (known?.startedAt !== startedAt || isStopped(instance)) {
    return { startedAt, bootMemory: memory };
  }
  const { bootMemory = memory } = known;
  const runsWith = known.runsWith ?? expandedIn(known);
  const isBehind =
    known.runsWith === undefined
      ? obstaclesToLiveUpdate(type, runsWith, expanded, { cpuHotplug: true, bootMemory }).length > 0
      : pendingChanges(type, { runsWith, bootMemory }, expanded).length > 0;
  return { startedAt, bootMemory, ...(isBehind ? { runsWith } : {}) };
}

/** Config and devices with those of the profiles, as state keeps them. */
export function expandedIn({ expandedConfig, expandedDevices }: Known): Expanded {
  return { config: expandedConfig, devices: expandedDevices };
}

/**
 * Returns the changes that an instance takes only at its next start. LXD refuses a change as a whole, so this includes parts that
 * the instance could have taken alone.
 */
export function pendingChanges(type: string, { runsWith, bootMemory }: Partial<LastStart>, expanded: Expanded): Obstacle[] {
  if (runsWith === undefined) {
    return [];
  }
  const obstacles = obstaclesToLiveUpdate(type, runsWith, expanded, { cpuHotplug: true, bootMemory });
  const isListed = (what: string): boolean => obstacles.some((each) => each.what === what || each.what.startsWith(`${what}.`));
  const keys = keysOf(runsWith.config, expanded.config).filter(
    (key) => !sameConfigValue(key, runsWith.config[key], expanded.config[key]),
  );
  const devices = keysOf(runsWith.devices, expanded.devices).filter(
    (name) => !sameDevice(runsWith.devices[name], expanded.devices[name]),
  );
  const others = [...keys, ...devices.map((name) => `devices.${name}`)].filter((what) => !isListed(what));
  const why = "changed together with what a running instance does not take";
  return [...obstacles, ...others.map((what): Obstacle => ({ what, why, cure: "stop" }))];
}

/** Returns the starting point of a change: what an instance runs with, in everything that the change affects. */
export function changedFrom(runsWith: Expanded | undefined, live: Expanded, wanted: Expanded): Expanded {
  if (runsWith === undefined) {
    return live;
  }
  const config = keysOf(live.config, wanted.config).map((key) => {
    const isKept = sameConfigValue(key, live.config[key], wanted.config[key]);
    return [key, (isKept ? live : runsWith).config[key]] as const;
  });
  const devices = keysOf(live.devices, wanted.devices).map((name) => {
    const isKept = sameDevice(live.devices[name], wanted.devices[name]);
    return [name, (isKept ? live : runsWith).devices[name]] as const;
  });
  return { config: present(config), devices: present(devices) };
}

/**
 * Returns config and devices without LXD's own keys, and without possible secrets: nobody would know that a copy in outputs is
 * secret.
 */
export function withoutSecrets({ config, devices }: Expanded): Expanded {
  const shown = (map: Config): Config =>
    Object.fromEntries(Object.entries(map).filter(([key, value]) => !isServerMade(key) && !mayBeSecret(key, value)));
  return {
    config: shown(config),
    devices: Object.fromEntries(Object.entries(devices).map(([name, device]) => [name, shown(device)])),
  };
}

function sameDevice(a: Config | undefined, b: Config | undefined): boolean {
  return a === undefined || b === undefined ? a === b : sameConfig(a, b);
}

function present<Value>(entries: readonly (readonly [string, Value | undefined])[]): Record<string, Value> {
  return Object.fromEntries(entries.flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])));
}

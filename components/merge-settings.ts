import * as pulumi from "@pulumi/pulumi";
import { mapValues } from "./map-values";

type Map = Readonly<Record<string, unknown>>;

/** Settings that are merged key by key. For all others, the own value replaces the default. */
interface Merged extends Place {
  config?: unknown;
  devices?: unknown;
  cloudInit?: unknown;
}

/**
 * Merges settings over the defaults of a group: `config` and `cloudInit` key by key, `devices` device by device and then key by
 * key, unless a device is of another type. A place of the instance's own stands in for the group's.
 */
export function mergeSettings<Defaults extends Merged, Own extends Merged>(defaults: Defaults, own: Own): Defaults & Own {
  const maps = {
    config: merge(defaults.config, own.config, overKeys),
    devices: merge(defaults.devices, own.devices, overDevices),
    cloudInit: merge(defaults.cloudInit, own.cloudInit, overKeys),
  };
  const given = Object.fromEntries(Object.entries(maps).filter(([, value]) => value !== undefined));
  return { ...defaults, ...own, ...given, ...placeOf(defaults, own) };
}

/** Merges plain values at once, so that a preview knows them. */
function merge(defaults: unknown, own: unknown, over: (defaults: Map, own: Map) => Map): unknown {
  return defaults === undefined || own === undefined
    ? (own ?? defaults)
    : once(defaults, own, (known, ownKnown) => over(known as Map, ownKnown as Map));
}

function once(first: unknown, second: unknown, combine: (first: unknown, second: unknown) => unknown): unknown {
  const isDeferred = [first, second].some((value) => pulumi.Output.isInstance(value) || value instanceof Promise);
  return isDeferred
    ? pulumi.all([first, second]).apply(([known, secondKnown]) => combine(known, secondKnown))
    : combine(first, second);
}

/** Where an instance goes: a member, or what chooses one. */
interface Place {
  target?: unknown;
  placement?: unknown;
}

/** A member as own target stands in for the placement of the group, and an own placement for a member as the group's target. */
function placeOf(defaults: Place, own: Place): Place {
  const isGroup = (target: unknown): boolean => typeof target === "string" && target.startsWith("@");
  if (own.placement === undefined && own.target !== undefined && defaults.placement !== undefined) {
    const placement = once(own.target, defaults.placement, (target, policy) => (isGroup(target) ? policy : undefined));
    return { target: own.target, placement };
  }
  if (own.placement !== undefined && own.target === undefined && defaults.target !== undefined) {
    const target = once(defaults.target, undefined, (known) => (isGroup(known) ? known : undefined));
    return { target, placement: own.placement };
  }
  return { target: own.target ?? defaults.target, placement: own.placement ?? defaults.placement };
}

function overKeys(defaults: Map, own: Map): Map {
  return { ...defaults, ...own };
}

function overDevices(defaults: Map, own: Map): Map {
  return { ...defaults, ...mapValues(own, (device, name) => merge(defaults[name], device, overDevice)) };
}

function overDevice(defaults: Map, own: Map): Map {
  return own["type"] === undefined || own["type"] === defaults["type"] ? { ...defaults, ...own } : own;
}

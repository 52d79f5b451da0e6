import * as pulumi from "@pulumi/pulumi";
import { mapValues } from "./map-values";

type Map = Readonly<Record<string, unknown>>;

/** Settings that are merged key by key. For all others, the own value replaces the default. */
interface Merged {
  config?: unknown;
  devices?: unknown;
  cloudInit?: unknown;
}

/**
 * Merges settings over the defaults of a group: `config` and `cloudInit` key by key, `devices` device by device and then key by
 * key, unless a device is of another type.
 */
export function mergeSettings<Defaults extends Merged, Own extends Merged>(defaults: Defaults, own: Own): Defaults & Own {
  const maps = {
    config: merge(defaults.config, own.config, overKeys),
    devices: merge(defaults.devices, own.devices, overDevices),
    cloudInit: merge(defaults.cloudInit, own.cloudInit, overKeys),
  };
  const given = Object.fromEntries(Object.entries(maps).filter(([, value]) => value !== undefined));
  return { ...defaults, ...own, ...given };
}

/** Merges plain values at once, so that a preview knows them. */
function merge(defaults: unknown, own: unknown, over: (defaults: Map, own: Map) => Map): unknown {
  if (defaults === undefined || own === undefined) {
    return own ?? defaults;
  }
  const isDeferred = [defaults, own].some((value) => pulumi.Output.isInstance(value) || value instanceof Promise);
  return isDeferred
    ? pulumi.all([defaults, own]).apply(([known, ownKnown]) => over(known as Map, ownKnown as Map))
    : over(defaults as Map, own as Map);
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

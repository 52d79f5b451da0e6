import * as z from "zod";
import { parseSize, sameSize } from "../support/units";

/** LXD's config maps hold strings; numbers and booleans are accepted and turned into them. An empty string means "not set". */
export const configValueSchema = z
  .union([z.string(), z.number(), z.boolean()], "must be a string, a number or a boolean")
  .transform(String);

const configKeySchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.:/-]*$/, "is not a config key such as limits.cpu");

/** A config map, such as `{"limits.cpu": "2"}`. */
export const configSchema = z.record(configKeySchema, configValueSchema).superRefine((config, issues) => {
  const memory = config["limits.memory"] ?? "";
  if (memory !== "" && !/^\d+%$/.test(memory) && parseSize(memory) === undefined) {
    issues.addIssue({
      code: "custom",
      path: ["limits.memory"],
      message: 'is neither a size such as "4GiB" nor a share such as "50%"',
    });
  }
});

/** Devices by name, each a map of its options. */
export const devicesSchema = z.record(
  z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/, "is not a device name"),
  z
    .record(configKeySchema, configValueSchema)
    .refine((device) => device["type"] !== undefined, "needs a type, such as nic or disk"),
);

/** See {@link configSchema}. */
export type Config = Record<string, string>;

/** See {@link devicesSchema}. */
export type Devices = Record<string, Config>;

/** Marks an object with the URN of the resource that owns it. */
export const OWNER_KEY = "user.pulumi.urn";

/** Keys that LXD, or another resource of this package, writes by itself: neither drift nor to be lost. */
export function isServerMade(key: string): boolean {
  return key.startsWith("volatile.") || key.startsWith("image.") || key.startsWith("user.pulumi.");
}

/** Keys whose value is a text for cloud-init. */
export const CLOUD_INIT_TEXT = /^(cloud-init|user)\.(user-data|vendor-data|network-config)$/;

/** Whether two values of a config or device key mean the same to LXD. */
export function sameConfigValue(key: string, a: string | undefined, b: string | undefined): boolean {
  const [left, right] = [a ?? "", b ?? ""];
  if (left === right) {
    return true;
  }
  if (CLOUD_INIT_TEXT.test(key)) {
    return left.trimEnd() === right.trimEnd();
  }
  if (isFreeText(key)) {
    return false;
  }
  if (key === "limits.memory" || /(^|\.)size(\.|$)/.test(key)) {
    return sameSize(left, right);
  }
  const truth = [left, right].map(booleanOf);
  return truth[0] !== undefined && truth[0] === truth[1];
}

/** Whether two config maps mean the same; what the server made is left out. */
export function sameConfig(a: Config = {}, b: Config = {}): boolean {
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].every(
    (key) => isServerMade(key) || sameConfigValue(key, a[key], b[key]),
  );
}

/** Whether two sets of devices mean the same. */
export function sameDevices(a: Devices = {}, b: Devices = {}): boolean {
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].every(
    (name) => a[name] !== undefined && b[name] !== undefined && sameConfig(a[name], b[name]),
  );
}

/** The live config as its owner wrote it: his wording where it means the same, without what the server made. */
export function inWordsOf(known: Config | undefined, live: Config): Config {
  return Object.fromEntries(
    Object.entries(live)
      .filter(([key, value]) => !isServerMade(key) && value !== "")
      .map(([key, value]) => {
        const wording = known?.[key];
        return [key, wording !== undefined && sameConfigValue(key, wording, value) ? wording : value];
      }),
  );
}

/** {@link inWordsOf} for devices. */
export function devicesInWordsOf(known: Devices | undefined, live: Devices): Devices {
  return Object.fromEntries(Object.entries(live).map(([name, device]) => [name, inWordsOf(known?.[name], device)]));
}

/** Keys whose value LXD hands on as it is, so that every letter counts: `environment.DEBUG` may be "1" or "true". */
function isFreeText(key: string): boolean {
  return /^(user|environment|raw)\./.test(key);
}

/** LXD's reading of a boolean (`shared.IsTrue`, `shared.IsFalse`). */
function booleanOf(value: string): boolean | undefined {
  const word = value.toLowerCase();
  return ["true", "1", "yes", "on"].includes(word) ? true : ["false", "0", "no", "off"].includes(word) ? false : undefined;
}

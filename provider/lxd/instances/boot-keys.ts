/**
 * Boot mode of a virtual machine: `security.secureboot` and `security.csm` up to LXD 6.6, one key `boot.mode` from 6.7 on, which
 * no longer accepts the others. A program may use either. The server reports which keys it has.
 */
import * as z from "zod";
import { listOf } from "../client/answers";
import type { LxdClient } from "../client/client";
import { type Config, sameConfigValue } from "../config";
import { getServerShared } from "../server";

const MODE = "boot.mode";
const SECURE = "security.secureboot";
const CSM = "security.csm";

const groupSchema = z.looseObject({ keys: listOf(z.record(z.string(), z.unknown())) });
const metadataSchema = z.looseObject({ configs: z.looseObject({ instance: z.record(z.string(), groupSchema) }) });

/** Converts config for LXD: replaces boot keys that the server does not have with those that it has. Keeps all other keys. */
export async function inServersKeys(lxd: LxdClient, config: Config): Promise<Config> {
  if (![MODE, SECURE, CSM].some((key) => key in config)) {
    return config;
  }
  const known = await keysOf(lxd);
  if (!known.has(MODE)) {
    return inBooleans(config);
  }
  return known.has(SECURE) ? config : inModes(config);
}

/** Converts LXD's config to the boot keys that a program uses. Keeps it unchanged without a program. Pure. */
export function inProgramsKeys(program: Config | undefined, live: Config): Config {
  const has = (key: string): boolean => program !== undefined && key in program;
  if (MODE in live && (has(SECURE) || has(CSM)) && !has(MODE)) {
    const { [MODE]: _, ...rest } = live;
    const told = Object.entries(booleansOf(live[MODE] ?? "")).filter(([key, value]) => has(key) || value !== LXDS_CHOICE[key]);
    return { ...rest, ...Object.fromEntries(told) };
  }
  return (SECURE in live || CSM in live) && has(MODE) && !(MODE in live) ? inModes(live) : live;
}

/** LXD's defaults. */
const LXDS_CHOICE: Config = { [SECURE]: "true", [CSM]: "false" };

function inModes({ [SECURE]: secure, [CSM]: csm, ...rest }: Config): Config {
  const isOn = (value: string | undefined): boolean => sameConfigValue("", value, "true");
  if (secure === undefined && csm === undefined) {
    return rest;
  }
  const mode = isOn(csm) ? "bios" : isOn(secure ?? "true") ? "uefi-secureboot" : "uefi-nosecureboot";
  return { [MODE]: mode, ...rest };
}

function inBooleans({ [MODE]: mode, ...rest }: Config): Config {
  if (mode === undefined || mode === "") {
    return rest;
  }
  const told = Object.entries(booleansOf(mode)).filter(([key, value]) => value !== LXDS_CHOICE[key] || key === SECURE);
  return { ...Object.fromEntries(told), ...rest };
}

function booleansOf(mode: string): Config {
  return { [SECURE]: String(mode === "uefi-secureboot"), [CSM]: String(mode === "bios") };
}

/** Returns the instance keys that a server has. A server without metadata is older than `boot.mode`. */
async function keysOf(lxd: LxdClient): Promise<ReadonlySet<string>> {
  const { api_extensions: extensions } = await getServerShared(lxd);
  if (!extensions.includes("metadata_configuration")) {
    return new Set([SECURE, CSM]);
  }
  const { configs } = await lxd.getShared("/1.0/metadata/configuration", metadataSchema);
  return new Set(Object.values(configs.instance).flatMap(({ keys }) => keys.flatMap((key) => Object.keys(key))));
}

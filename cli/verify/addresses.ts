/** Static addresses that an instance is configured with. Pure. */
import { isIP } from "node:net";
import { parse } from "yaml";
import * as z from "zod";
import type { Facts } from "./facts";

const KEYS = ["cloud-init.network-config", "user.network-config"] as const;

const interfaceSchema = z.looseObject({ addresses: z.array(z.unknown()).optional() });
const sectionSchema = z.record(z.string(), interfaceSchema).optional();
const version2Schema = z.looseObject({
  ethernets: sectionSchema,
  bonds: sectionSchema,
  bridges: sectionSchema,
  vlans: sectionSchema,
});
const version1Schema = z.looseObject({
  config: z.array(z.looseObject({ subnets: z.array(z.looseObject({ address: z.string().optional() })).optional() })),
});

/** Addresses of the NICs (`ipv4.address`, `ipv6.address`), and those in the network config of cloud-init. */
export function staticAddressesOf({ config, devices }: Pick<Facts["instances"][number], "config" | "devices">): string[] {
  const ofNics = Object.values(devices).flatMap((device) =>
    device["type"] === "nic" ? [device["ipv4.address"], device["ipv6.address"]].flatMap((each) => each?.split(",") ?? []) : [],
  );
  const text = KEYS.flatMap((key) => config[key] ?? []).at(0);
  const all = [...ofNics, ...(text === undefined ? [] : inNetworkConfig(text))];
  const addresses = all.map((each) => each.trim().split("/")[0] ?? "").filter((each) => isIP(each) !== 0);
  return [...new Set(addresses.map(canonical))];
}

/** Nothing for a text that cloud-init does not take either. */
function inNetworkConfig(text: string): string[] {
  let parsed: unknown;
  try {
    parsed = parse(text);
  } catch {
    return [];
  }
  const wrapped = z.looseObject({ network: z.unknown() }).safeParse(parsed);
  const content = wrapped.data?.network ?? parsed;
  const first = version1Schema.safeParse(content);
  if (first.success) {
    return first.data.config.flatMap(({ subnets = [] }) => subnets.flatMap(({ address }) => address ?? []));
  }
  const { ethernets, bonds, bridges, vlans } = version2Schema.safeParse(content).data ?? {};
  return [ethernets, bonds, bridges, vlans]
    .flatMap((section) => Object.values(section ?? {}))
    .flatMap(({ addresses = [] }) => addresses.filter((each) => typeof each === "string"));
}

/** One spelling of each address. */
export function canonical(address: string): string {
  return isIP(address) === 6 ? new URL(`http://[${address}]`).hostname.slice(1, -1) : address;
}

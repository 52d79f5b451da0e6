/** Ports of a network forward: what LXD accepts, and when two lists mean the same. */
import { isIPv4, isIPv6 } from "node:net";
import * as z from "zod";
import { knownFirst, sameMeanings } from "../../support/equality";
import { canonicalAddresses } from "../meaning";

/** A port as LXD shows it. A field that is not set is empty. */
export const livePortSchema = z.looseObject({
  protocol: z.string(),
  listen_port: z.string(),
  target_port: z.string().default(""),
  target_address: z.string(),
  description: z.string().default(""),
});

export type LivePort = z.output<typeof livePortSchema>;

const HIGHEST_PORT = 65535;

/** LXD takes no zone, and shows an IPv4 address in IPv6 notation as IPv4. */
export const forwardAddressSchema = z
  .string()
  .refine((text) => isIPv4(text) || (isIPv6(text) && !/%|^::ffff:/i.test(text)), "is not an IPv4 or IPv6 address");

const ports = z
  .union([z.string(), z.number()], "must be a string or a number")
  .transform(String)
  .refine(
    (text) => portsIn(text) !== undefined,
    'is not a list of ports from 0 to 65535 and of ranges, such as "80,443,8000-8099"',
  );

export const forwardPortSchema = z.strictObject({
  protocol: z.enum(["tcp", "udp"]),
  listenPort: ports,
  targetPort: ports.optional(),
  targetAddress: forwardAddressSchema,
  description: z.string().optional(),
});

export type ForwardPort = z.output<typeof forwardPortSchema>;

/** Returns all ports of a list; `undefined` when it is not one. */
function portsIn(list: string): number[] | undefined {
  const all: number[] = [];
  for (const item of list.split(",")) {
    const [, start = "", end = start] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(item.trim()) ?? [];
    const [first, last] = [Number(start), Number(end)];
    const isRange = start !== "" && last <= HIGHEST_PORT && (item.includes("-") ? first < last : true);
    if (!isRange || all.length > HIGHEST_PORT) {
      return undefined;
    }
    for (let port = first; port <= last; port += 1) {
      all.push(port);
    }
  }
  return all;
}

/** Returns what LXD would refuse in ports that are valid by themselves (`forwardValidate`, lxd/network/driver_common.go), by path. */
export function faultsOfPorts(
  { listenAddress, target }: { listenAddress: string; target: string | undefined },
  given: readonly ForwardPort[],
): { property: string; reason: string }[] {
  const failures: { property: string; reason: string }[] = [];
  const seen = new Map<string, number>();
  const isOther = (address: string): boolean => isIPv4(address) !== isIPv4(listenAddress);
  const family = isIPv4(listenAddress) ? "IPv4" : "IPv6";
  if (target !== undefined && isOther(target)) {
    failures.push({ property: "config.target_address", reason: `must be an ${family} address, as listenAddress is` });
  }
  for (const [index, { protocol, listenPort, targetPort, targetAddress }] of given.entries()) {
    const fail = (field: keyof ForwardPort, reason: string): void =>
      void failures.push({ property: `ports.${index}.${field}`, reason });
    const listening = portsIn(listenPort) ?? [];
    const targets = targetPort === undefined ? [] : (portsIn(targetPort) ?? []);
    if (isOther(targetAddress)) {
      fail("targetAddress", `must be an ${family} address, as listenAddress is`);
    } else if (target !== undefined && canonicalAddresses(target) === canonicalAddresses(targetAddress)) {
      fail("targetAddress", "is the target_address of config already, which receives all ports that have no target of their own");
    }
    if (targets.length > 1 && targets.length !== listening.length) {
      fail("targetPort", `has ${targets.length} ports, and listenPort has ${listening.length}. Give one port, or one for each`);
    }
    for (const port of listening) {
      const first = seen.get(`${protocol} ${port}`);
      if (first !== undefined) {
        fail("listenPort", `has port ${port} of ${protocol}, which ports.${first}.listenPort has already`);
        break;
      }
      seen.set(`${protocol} ${port}`, index);
    }
  }
  return failures;
}

/** Returns a port as LXD takes it. */
export function toLivePort({ protocol, listenPort, targetPort, targetAddress, description }: ForwardPort): LivePort {
  return {
    protocol,
    listen_port: listenPort,
    target_port: targetPort ?? "",
    target_address: targetAddress,
    description: description ?? "",
  };
}

function fromLivePort({ protocol, listen_port, target_port, target_address, description }: LivePort): ForwardPort {
  return {
    protocol: protocol as ForwardPort["protocol"],
    listenPort: listen_port,
    ...(target_port !== "" && { targetPort: target_port }),
    targetAddress: target_address,
    ...(description !== "" && { description }),
  };
}

/** Text that is the same for ports of one meaning. The order within a list matters: LXD pairs its ports with the targets. */
function meaningOf({ protocol, listenPort, targetPort = "", targetAddress, description = "" }: ForwardPort): string {
  const list = (text: string): string =>
    text
      .split(",")
      .map((item) => item.trim())
      .join();
  return JSON.stringify([protocol, list(listenPort), list(targetPort), canonicalAddresses(targetAddress), description.trim()]);
}

/** Whether two lists of ports mean the same, in any order. */
export function samePorts(a: readonly ForwardPort[], b: readonly ForwardPort[]): boolean {
  return sameMeanings(a, b, meaningOf);
}

/** Returns the live ports, with the known ones in the known order and spelling. */
export function observedPorts(known: readonly ForwardPort[], live: readonly LivePort[]): ForwardPort[] {
  return knownFirst(known, live.map(fromLivePort), meaningOf);
}

/** Returns the wanted ports as LXD takes them, with the fields of the live ones that a program does not have, such as `snat` of Incus. */
export function mergedPorts(wanted: readonly ForwardPort[], live: readonly LivePort[]): LivePort[] {
  return wanted.map((port) => {
    const given = toLivePort(port);
    const found = live.find((other) => other.protocol === given.protocol && other.listen_port === given.listen_port);
    return { ...found, ...given };
  });
}

/**
 * What on a host holds the name, the addresses or the ports that a network needs there. Asked after the server has failed, because
 * its message names none of them.
 */
import * as z from "zod";
import type { Deadline } from "../support/deadline";
import type { SshConnection } from "../transport/ssh";

/** What a network needs on a host. */
export interface NetworkNeeds {
  /** The bridge that the server makes; absent for a network that is on an interface of the host. */
  readonly bridge?: string;
  /** Interfaces of the host that it uses. */
  readonly interfaces: readonly string[];
  /** Addresses of the bridge, without the lengths of their prefixes. */
  readonly addresses: readonly string[];
  /** Whether a process of the server listens for the bridge: dnsmasq, for DNS and DHCP. */
  readonly listens: boolean;
  /** Whether the server has made the bridge on this host. */
  readonly isMade: boolean;
}

const interfaceSchema = z.looseObject({
  ifname: z.string(),
  linkinfo: z.looseObject({ info_kind: z.string().optional() }).optional(),
  addr_info: z.array(z.looseObject({ local: z.string().optional() })).default([]),
});

type Interface = z.output<typeof interfaceSchema>;

/** Ports on which a bridge's dnsmasq listens: DNS on its addresses, DHCP on all addresses of its own interface. */
const PORTS: readonly number[] = [53, 67, 547];

interface Listener {
  readonly address: string;
  readonly port: number;
  /** Interface to which it is bound. */
  readonly bound: string;
  /** `dnsmasq (pid 812)`. */
  readonly process: string;
}

/** Commands that show by hand what {@link networkOnHost} looks for. */
export const LOOK_BY_HAND = "ip -details address show; ss -lntup";

/** What a host says of a network. */
export interface NetworkOnHost {
  /** What holds something that it needs: `perl (pid 910) listens on 0.0.0.0:53`. */
  readonly holders: readonly string[];
  /** Whether a process listens on the bridge for DNS or DHCP. The API does not tell: a bridge without one is `Created` as well. */
  readonly isServed: boolean;
}

/** Asks a host what holds something that a network needs, and whether the network has its DNS and DHCP. */
export async function networkOnHost(ssh: SshConnection, needs: NetworkNeeds, deadline: Deadline): Promise<NetworkOnHost> {
  const [shown, listening] = await Promise.all([
    ssh.run(["ip", "-json", "-details", "address", "show"], { deadline }),
    ssh.run(["ss", "--no-header", "--numeric", "--listening", "--tcp", "--udp", "--processes"], { deadline }),
  ]);
  const interfaces = z.array(interfaceSchema).parse(JSON.parse(shown.stdout));
  const listeners = listenersIn(listening.stdout);
  return { holders: holdersIn(needs, interfaces, listeners), isServed: isServedBy(needs, listeners) };
}

/** See {@link NetworkOnHost}. Pure. */
export function isServedBy({ bridge, addresses }: NetworkNeeds, listeners: readonly Listener[]): boolean {
  return listeners.some(({ address, port, bound }) => PORTS.includes(port) && (bound === bridge || addresses.includes(address)));
}

/** See {@link NetworkOnHost}. Pure. */
export function holdersIn(
  { bridge, interfaces: used, addresses, listens, isMade }: NetworkNeeds,
  interfaces: readonly Interface[],
  listeners: readonly Listener[],
): string[] {
  const named = isMade ? undefined : interfaces.find(({ ifname }) => ifname === bridge);
  const own = listeners.filter(({ bound }) => isMade && bound === bridge).map(({ process }) => process);
  const inTheWay = listeners.filter((each) => isInTheWay(each, addresses, bridge) && !own.includes(each.process));
  const kindOf = ({ linkinfo }: Interface): string => (linkinfo?.info_kind === undefined ? "" : ` (${linkinfo.info_kind})`);
  const missing = used.filter((name) => !interfaces.some(({ ifname }) => ifname === name));
  return [
    ...(named === undefined ? [] : [`an interface "${named.ifname}"${kindOf(named)} exists already`]),
    ...missing.map((name) => `there is no interface "${name}": it has ${interfaces.map(({ ifname }) => ifname).join(", ")}`),
    ...addresses.flatMap((address) =>
      interfaces
        .filter(({ ifname, addr_info }) => ifname !== bridge && addr_info.some(({ local }) => local === address))
        .map((each) => `the interface "${each.ifname}"${kindOf(each)} has the address ${address}`),
    ),
    ...(listens ? inTheWay.map(describe) : []),
  ];
}

function isInTheWay({ address, port, bound }: Listener, addresses: readonly string[], bridge = ""): boolean {
  const isForAll = ["0.0.0.0", "*", "::"].includes(address) && (bound === "" || bound === bridge);
  return PORTS.includes(port) && (isForAll || addresses.includes(address));
}

function describe({ address, port, process }: Listener): string {
  return `${process} listens on ${address.includes(":") ? `[${address}]` : address}:${port}`;
}

/** Reads the output of ss(8): `udp UNCONN 0 0 0.0.0.0%br0:67 0.0.0.0:* users:(("dnsmasq",pid=812,fd=4))`. */
export function listenersIn(output: string): Listener[] {
  const seen = new Map<string, Listener>();
  for (const line of output.split("\n")) {
    const [, , , , local = ""] = line.trim().split(/\s+/);
    const [, address = "", bound = "", port = ""] = /^\[?([^%\]]*)\]?(?:%([^:\]]+)\]?)?:(\d+)$/.exec(local) ?? [];
    const [, name, pid] = / users:\(\("([^"]*)",pid=(\d+)/.exec(line) ?? [];
    if (port !== "") {
      const process = name === undefined ? "a process that ss does not name" : `${name} (pid ${pid})`;
      seen.set(`${address} ${port} ${process}`, { address, port: Number(port), bound, process }); // one listens on tcp and udp
    }
  }
  return [...seen.values()];
}

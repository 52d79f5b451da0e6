import { KNOWN_HOSTS, WORKSTATION_ADDRESS } from "../real/shapes";
import { type CpioEntry, cpioArchive, file, folder } from "./cpio";
import type { Link } from "./network";

/** What differs between machines of the same system. */
export interface Identity {
  readonly name: string;
  /** Address on the lab's network, with its prefix length. It is on a bridge `br0`, as on the namespace hosts. */
  readonly address: string;
  readonly links: readonly Link[];
  /** Addresses on further networks, by the network's name. */
  readonly networks: Readonly<Record<string, string>>;
  readonly hostKey: { readonly secret: Buffer; readonly public: Buffer };
  readonly machineId: string;
}

/** The files of an identity, for the kernel to unpack beside the initial file system. */
export function identityArchive(identity: Identity): Buffer {
  const entries = Object.entries(filesOf(identity)).map(([path, [content, mode]]) => file(`identity/${path}`, content, mode));
  const folders = new Set(entries.flatMap(({ path }) => parentsOf(path)));
  return cpioArchive([...[...folders].map((path): CpioEntry => folder(path)), ...entries]);
}

function filesOf({ name, address, links, networks, hostKey, machineId }: Identity): Record<string, [string | Buffer, number]> {
  const hosts = [
    "127.0.0.1 localhost",
    "::1 localhost ip6-localhost ip6-loopback",
    `${address.split("/")[0]} ${name}`,
    ...KNOWN_HOSTS.map((known) => `${known.address} ${known.name}`),
    `${WORKSTATION_ADDRESS} workstation`,
  ];
  const network = (path: string, lines: readonly string[]): [string, [string, number]] => [
    `etc/systemd/network/${path}`,
    [`${lines.join("\n")}\n`, 0o644],
  ];
  const further = links.slice(1).map((link) => {
    const lines = [
      "[Match]",
      `MACAddress=${link.mac}`,
      "[Network]",
      `Address=${networks[link.network] ?? ""}`,
      "LinkLocalAddressing=ipv6",
    ];
    return network(`lab-${link.network}.network`, lines);
  });
  const mac = links[0]?.mac ?? "";
  return {
    "etc/lab-identity": [`${name}\n`, 0o644],
    "etc/hostname": [`${name}\n`, 0o644],
    "etc/hosts": [`${hosts.join("\n")}\n`, 0o644],
    "etc/machine-id": [`${machineId}\n`, 0o444],
    "etc/ssh/ssh_host_ed25519_key": [hostKey.secret, 0o600],
    "etc/ssh/ssh_host_ed25519_key.pub": [hostKey.public, 0o644],
    ...Object.fromEntries([
      network("lab-br0.netdev", [
        "[NetDev]",
        "Name=br0",
        "Kind=bridge",
        `MACAddress=${mac}`,
        "[Bridge]",
        "STP=no",
        "ForwardDelaySec=0",
      ]),
      network("lab-br0.network", ["[Match]", "Name=br0", "[Network]", `Address=${address}`, "IPv6AcceptRA=no"]),
      // The bridge has the same address as its port.
      network("lab-lan.network", ["[Match]", "Name=eth0", "[Network]", "Bridge=br0"]),
      ...further,
    ]),
  };
}

/** The folders above a path, outermost first, without the first part, which is there. */
function parentsOf(path: string): string[] {
  const parts = path.split("/").slice(0, -1);
  return parts.slice(1).map((_, index) => parts.slice(0, index + 2).join("/"));
}

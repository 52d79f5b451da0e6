import type { Input, Unwrap } from "@pulumi/pulumi";
import { stringify } from "yaml";

/** A route of a guest. */
export interface GuestRouteArgs {
  /** Destination, such as "10.0.0.0/8". */
  to: Input<string>;
  /** Address of the next hop. */
  via: Input<string>;
}

/** Configuration of one network interface of a guest. */
export interface GuestInterfaceArgs {
  /** Whether the interface gets an IPv4 address by DHCP. @default false */
  dhcp4?: Input<boolean>;
  /** Whether the interface gets an IPv6 address by DHCP. @default false */
  dhcp6?: Input<boolean>;
  /** Static addresses with their prefix, such as "192.168.1.100/24". @default [] */
  addresses?: Input<Input<string>[]>;
  /** Address of the IPv4 gateway, for the guest's default route. @default none */
  gateway4?: Input<string>;
  /** Further routes. @default [] */
  routes?: Input<Input<GuestRouteArgs>[]>;
  /** Addresses of name servers. @default [] */
  nameservers?: Input<Input<string>[]>;
  /** Search domains for short names. @default [] */
  searchDomains?: Input<Input<string>[]>;
  /** Whether the guest may finish booting before the interface is up. @default false */
  optional?: Input<boolean>;
}

/**
 * Returns cloud-init's network config, version 2, for a guest's network interfaces.
 * @see https://docs.cloud-init.io/en/latest/reference/network-config-format-v2.html
 */
export function networkConfig(interfaces: Record<string, Unwrap<GuestInterfaceArgs>>): string {
  const ethernets = Object.fromEntries(Object.entries(interfaces).map(([name, settings]) => [name, ethernet(settings)]));
  return stringify({ version: 2, ethernets });
}

function ethernet(settings: Unwrap<GuestInterfaceArgs>): Record<string, unknown> {
  const {
    dhcp4 = false,
    dhcp6 = false,
    addresses = [],
    gateway4,
    routes = [],
    nameservers = [],
    searchDomains = [],
    optional,
  } = settings;
  // netplan has deprecated gateway4, and older versions of cloud-init do not know the destination "default".
  const allRoutes = [...(gateway4 === undefined ? [] : [{ to: "0.0.0.0/0", via: gateway4 }]), ...routes];
  return {
    dhcp4,
    dhcp6,
    ...(addresses.length > 0 && { addresses }),
    ...(allRoutes.length > 0 && { routes: allRoutes }),
    ...((nameservers.length > 0 || searchDomains.length > 0) && {
      nameservers: { addresses: nameservers, ...(searchDomains.length > 0 && { search: searchDomains }) },
    }),
    ...(optional !== undefined && { optional }),
  };
}

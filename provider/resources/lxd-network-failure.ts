/** Finds out why a network could not be made or changed: what on the hosts is in its way. */
import type { Context } from "../engine/lifecycle";
import { LOOK_BY_HAND, type NetworkNeeds, networkOnHost } from "../host/network-holders";
import type { LxdClient } from "../lxd/client/client";
import type { ClusterConnection } from "../lxd/client/cluster-connection";
import type { Servers } from "../lxd/cluster/servers";
import { type Found, namesOf, viewsOf } from "../lxd/storage-and-networks/member-objects";
import { NETWORKS, network } from "../lxd/storage-and-networks/networks";
import { configOfMember, type WantedConfig } from "../lxd/storage-and-networks/object-config";
import { hostsOfMembers } from "./lxd-cluster-member-finding";
import type { FailureFacts } from "./member-object";

interface Network extends WantedConfig {
  readonly cluster: ClusterConnection;
  readonly project: string;
  readonly name: string;
  readonly type: string;
}

/**
 * Finds what is in the way of a network, by what the hosts themselves say: `On bcn1, perl (pid 910) listens on 0.0.0.0:53`. Names the
 * commands for members whose host cannot be asked.
 *
 * For a change of a bridge, the server kills the bridge's dnsmasq and starts a new one, without a look whether the old one has ended. On a
 * host with much to do the old one still has its sockets, and the server fails, although nothing is in the way any more.
 */
export async function explainNetworkFailure(
  context: Context,
  lxd: LxdClient,
  wanted: Network,
  servers: Servers,
): Promise<FailureFacts> {
  const views = await viewsOf(lxd, network(wanted.project, wanted.name), servers);
  const isMade = (member: string): boolean => views.get(member)?.value.status === "Created";
  const members = namesOf(servers);
  const failed = members.some((member) => !isMade(member)) ? members.filter((member) => !isMade(member)) : members;
  const hosts = await hostsOfMembers(context, lxd, wanted.cluster.endpoints);
  const unasked: string[] = [];
  const unserved: string[] = [];
  const found = await Promise.all(
    failed.map(async (member) => {
      const ssh = hosts.get(member);
      const needs = needsOf(wanted, member, views.get(member), isMade(member));
      const seen = ssh && (await networkOnHost(ssh, needs, context.deadline).catch(() => undefined));
      if (seen === undefined) {
        unasked.push(member);
      } else if (needs.isMade && needs.listens && !seen.isServed) {
        unserved.push(member);
      }
      return seen === undefined || seen.holders.length === 0 ? [] : [`On ${member}, ${seen.holders.join(", and ")}`];
    }),
  );
  const silent = `On ${unserved.sort().join(", ")}, nothing listens for DNS and DHCP on the bridge until a change of it succeeds`;
  const byHand = `To see what is in the way on ${unasked.join(", ")}, run there as root: ${LOOK_BY_HAND}`;
  const facts = [...found.flat(), ...(unserved.length === 0 ? [] : [silent]), ...(unasked.length === 0 ? [] : [byHand])];
  const isInTheWay = found.flat().length > 0;
  return { text: facts.join(". "), mayHavePassed: wanted.type === "bridge" && !isInTheWay && unasked.length === 0 };
}

function needsOf({ type, name, ...wanted }: Network, member: string, view: Found | undefined, isMade: boolean): NetworkNeeds {
  const own = configOfMember(NETWORKS, wanted, member);
  const isBridge = type === "bridge";
  // Where LXD chooses an address, its choice is in its own config, if it has come so far.
  const address = (key: string): string => {
    const given = wanted.config[key] ?? "auto";
    return given === "auto" ? (view?.value.config?.[key] ?? given) : given;
  };
  const given = ["ipv4.address", "ipv6.address"].map(address);
  const listed = own[isBridge ? "bridge.external_interfaces" : "parent"] ?? "";
  return {
    ...(isBridge && { bridge: name }),
    // An interface that is written with its parent and VLAN is made by the server.
    interfaces: listed.split(",").flatMap((each) => (each.trim() === "" || each.includes("/") ? [] : [each.trim()])),
    addresses: isBridge ? given.flatMap((each) => (each.includes("/") ? [each.slice(0, each.indexOf("/"))] : [])) : [],
    listens: isBridge && given.some((each) => each !== "none"),
    isMade,
  };
}

/** `/1.0/networks`: managed networks, and the host's own interfaces as LXD lists them. */
import { randomInt } from "node:crypto";
import { isIPv4 } from "node:net";
import { z } from "zod";
import { listed } from "./cluster";
import { type Config, type Database, type Instance, type LxdServer, type Network, urlOf } from "./database";
import { expandedDevices, requireApiName } from "./instance-model";
import { LxdError, type Reply, requireEtag, sync } from "./reply";
import { type ApiRequest, decode, param, projectOf, type Router } from "./router";
import { targetDaemon } from "./server";
import {
  changedConfig,
  create,
  define,
  inBackground,
  type Kind,
  orNull,
  removeFromMember,
  requireAcls,
  shownConfig,
  sortedByName,
} from "./storage-and-networks";

const types = ["bridge", "macvlan", "sriov", "physical", "ovn"];
const networkKeys =
  /^(bridge\.(driver|external_interfaces|hwaddr|mtu|mode)|ipv[46]\.(address|nat|nat\.order|nat\.address|dhcp|dhcp\.ranges|dhcp\.expiry|dhcp\.gateway|dhcp\.stateful|firewall|gateway|ovn\.ranges|routes|routes\.anycast|routing)|dns\..+|fan\..+|tunnel\..+|maas\..+|parent|vlan|gvrp|mtu|ovn\..+|network|security\.acls.*|bgp\..+|raw\.dnsmasq|user\..+|volatile\..+)$/;

/** Those that a type does not have. */
const keysOfOthers: Readonly<Record<string, RegExp>> = {
  bridge: /^(parent|vlan|gvrp|network|ovn\..+)$/,
  macvlan: /^(bridge|ipv[46]|dns|fan|tunnel|ovn|security|raw|bgp)\.|^network$/,
  sriov: /^(bridge|ipv[46]|dns|fan|tunnel|ovn|security|raw|bgp)\.|^(network|gvrp)$/,
};

const config = z.record(z.string(), z.string()).nullish();
const networkPost = z.object({
  name: z.string().default(""),
  type: z.string().default(""),
  description: z.string().default(""),
  config,
});
const networkPut = z.object({ description: z.string().default(""), config });

const kind: Kind<Network> = {
  noun: "network",
  short: "Network",
  collection: (database) => database.networks,
  url: (network) => urlOf(`/1.0/networks/${network.name}`, network.project),
  complete: completeNetwork,
};

/** Adds the endpoints of networks. */
export function addNetworks(router: Router): void {
  router.add("/1.0/networks", { GET: listNetworks, POST: createNetwork });
  router.add("/1.0/networks/{name}", {
    GET: getNetwork,
    PUT: (request) => changeNetwork(request, true),
    PATCH: (request) => changeNetwork(request, false),
    DELETE: deleteNetwork,
  });
  router.add("/1.0/networks/{name}/state", { GET: getState });
  router.add("/1.0/networks/{name}/leases", { GET: getLeases });
}

function managed(request: ApiRequest): Network {
  const network = request.daemon.database.networks.get(param(request, "name"));
  if (network === undefined) {
    throw new LxdError(404, "Network not found");
  }
  return network;
}

/** LXD's defaults in the config of a new network (`FillConfig` of its drivers). */
function completeNetwork(network: Network): void {
  const { config: values } = network;
  if (network.type !== "bridge") {
    return;
  }
  for (const family of ["ipv4", "ipv6"]) {
    values[`${family}.address`] ??= "auto";
    if (values[`${family}.address`] === "auto") {
      values[`${family}.nat`] ??= "true";
    }
  }
  chooseAddresses(network);
}

/** LXD replaces "auto" by the value it chose, also at an update (`populateAutoConfig`). */
function chooseAddresses({ type, config: values }: Network): void {
  if (type === "bridge" && values["ipv4.address"] === "auto") {
    values["ipv4.address"] = `10.${randomInt(1, 255)}.${randomInt(0, 255)}.1/24`;
  }
  if (type === "bridge" && values["ipv6.address"] === "auto") {
    values["ipv6.address"] = `fd42:${[1, 2, 3].map(() => randomInt(1, 0xffff).toString(16)).join(":")}::1/64`;
  }
}

function createNetwork(request: ApiRequest): Reply {
  const body = decode(request, networkPost);
  if (body.name === "") {
    throw new LxdError(400, "No name provided");
  }
  const type = body.type === "" ? "bridge" : body.type;
  if (!types.includes(type)) {
    throw new LxdError(400, "Unknown driver");
  }
  if (body.name.length < 2) {
    throw new LxdError(400, "Network interface is too short (minimum 2 characters)");
  }
  if (Buffer.byteLength(body.name) > 15) {
    throw new LxdError(400, "Network interface is too long (maximum 15 characters)");
  }
  if (!/^[-_a-zA-Z0-9.]+$/.test(body.name)) {
    throw new LxdError(400, `Network interface contains ${request.daemon.behaviour.invalidCharacters}`);
  }
  requireApiName(request.daemon.behaviour, body.name);
  const network: Network = {
    name: body.name,
    type,
    project: request.daemon.database.holder(projectOf(request), "networks"),
    description: body.description,
    config: Object.fromEntries(Object.entries(body.config ?? {}).filter(([, value]) => value !== "")),
    status: "Pending",
    nodes: new Map(),
    forwards: [],
  };
  requireValid(network, network.config, 500);
  const target = request.query.get("target") ?? "";
  if (target !== "" && type === "ovn") {
    throw new LxdError(400, 'Network type "ovn" does not support member specific config');
  }
  if (target === "" && request.daemon.database.members.length > 1 && !request.daemon.behaviour.keepsDescription) {
    network.description = ""; // LXD loses it when it creates a network that was defined before
  }
  if (target !== "") {
    return define(request, kind, network, target);
  }
  const { database } = request.daemon;
  if (type === "ovn" && database.members.length > 1 && !database.networks.has(network.name)) {
    const nodes = database.members.map((member) => [member, { config: {}, status: "Pending" as const }] as const);
    database.networks.set(network.name, { ...network, config: {}, nodes: new Map(nodes) });
  }
  return create(request, kind, network);
}

function requireValid({ name, type }: Network, values: Config, status: number): void {
  for (const [key, value] of Object.entries(values)) {
    if (!networkKeys.test(key) || keysOfOthers[type]?.test(key) === true) {
      throw new LxdError(status, `Invalid option for network "${name}" option "${key}"`);
    }
    if (key === "ipv4.address" && !["auto", "none"].includes(value) && !isCidr(value)) {
      throw new LxdError(status, `Invalid value for network "${name}" option "ipv4.address": invalid CIDR address: ${value}`);
    }
  }
}

function isCidr(text: string): boolean {
  const [address = "", prefix = ""] = text.split("/");
  return isIPv4(address) && /^\d+$/.test(prefix) && Number(prefix) <= 32;
}

function changeNetwork(request: ApiRequest, replace: boolean): Reply {
  const network = managed(request);
  requireEtag(request.headers["if-match"], etagFields(request, network));
  const body = decode(request, networkPut);
  requireValid(network, body.config ?? {}, 400);
  requireAcls(request.daemon.database, network.project, body.config ?? {}, 400);
  request.daemon.database.requireAllOnline();
  const change = changedConfig(request, network, body.config ?? {}, replace);
  if (change.target === undefined && network.status !== "Created") {
    throw new LxdError(400, "Cannot update network global config when not in created state");
  }
  return inBackground(request, kind, network, "Updating network", () => {
    if (change.target === undefined) {
      network.config = change.config;
      network.description = body.description;
      chooseAddresses(network);
    } else {
      network.nodes.set(change.target, { config: change.config, status: network.nodes.get(change.target)?.status ?? "Pending" });
    }
    request.daemon.event("network-updated", kind.url(network), network.project);
  });
}

function deleteNetwork(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const network = database.networks.get(param(request, "name"));
  if (network === undefined) {
    throw new LxdError(404, "Failed loading network: Network not found");
  }
  if (usedBy(database, network).length > 0) {
    throw new LxdError(400, "The network is currently in use");
  }
  if (database.clustered) {
    database.requireAllOnline();
  }
  return inBackground(request, kind, network, "Deleting network", () => {
    for (const member of network.nodes.keys()) {
      removeFromMember(network, member);
    }
    database.networks.delete(network.name);
    request.daemon.event("network-deleted", kind.url(network), network.project);
  });
}

function etagFields(request: ApiRequest, network: Network) {
  return [network.name, true, network.type, network.description, shownConfig(request, network)];
}

function toApi(request: ApiRequest, network: Network): Record<string, unknown> {
  const { database } = request.daemon;
  const target = request.query.get("target") ?? "";
  return {
    name: network.name,
    type: network.type,
    managed: true,
    description: network.description,
    config: shownConfig(request, network),
    status: target === "" ? network.status : (network.nodes.get(database.member(target))?.status ?? "Pending"),
    locations: [...network.nodes.keys()].map((member) => (database.clustered ? member.name : "none")),
    used_by: orNull(usedBy(database, network)),
  };
}

/** The host's interfaces that LXD does not manage. */
function unmanaged({ database, host }: LxdServer): Record<string, unknown>[] {
  return [...host.interfaces]
    .filter(([name]) => !database.networks.has(name))
    .map(([name, { type }]) => ({
      name,
      type,
      managed: false,
      description: "",
      config: {},
      status: "",
      locations: null,
      used_by: null,
    }));
}

function listNetworks(request: ApiRequest): Reply {
  const own = sortedByName(request.daemon.database.networks.values()).map((network) => toApi(request, network));
  return listed(
    request,
    [...own, ...unmanaged(request.daemon)],
    (network) => `/1.0/networks/${String(network["name"])}`,
    (network) => network,
  );
}

function getNetwork(request: ApiRequest): Reply {
  const name = param(request, "name");
  const network = request.daemon.database.networks.get(name);
  const daemon = targetDaemon(request);
  if (network !== undefined) {
    return sync(toApi(request, network), etagFields(request, network));
  }
  const shown = unmanaged(daemon).find((each) => each["name"] === name);
  if (shown === undefined) {
    throw new LxdError(404, "Network not found");
  }
  return sync(shown, shown);
}

function usesNetwork(device: Config, network: Network): boolean {
  return device["type"] === "nic" && (device["network"] === network.name || device["parent"] === network.name);
}

function attached(database: Database, network: Network): { instance: Instance; device: string }[] {
  return [...database.instances.values()].flatMap((instance) =>
    Object.entries(expandedDevices(database, instance))
      .filter(([, device]) => usesNetwork(device, network))
      .map(([device]) => ({ instance, device })),
  );
}

function usedBy(database: Database, network: Network): string[] {
  const instances = new Set(attached(database, network).map(({ instance }) => instance));
  const profiles = [...database.profiles.values()].filter((profile) =>
    Object.values(profile.devices).some((device) => usesNetwork(device, network)),
  );
  return [
    ...profiles.map((profile) => urlOf(`/1.0/profiles/${profile.name}`, profile.project)),
    ...[...instances].map((instance) => urlOf(`/1.0/instances/${instance.name}`, instance.project)),
  ];
}

function getState(request: ApiRequest): Reply {
  const name = param(request, "name");
  const found = targetDaemon(request).host.interfaces.get(name);
  if (found === undefined) {
    throw new LxdError(404, "Network not found");
  }
  return sync({
    addresses: found.addresses.map((address) => ({
      family: address.includes(":") ? "inet6" : "inet",
      address: address.split("/")[0] ?? "",
      netmask: address.split("/")[1] ?? "",
      scope: "global",
    })),
    counters: { bytes_received: 0, bytes_sent: 0, packets_received: 0, packets_sent: 0 },
    hwaddr: found.hwaddr,
    mtu: found.type === "loopback" ? 65536 : 1500,
    state: found.isDown === true ? "down" : "up",
    type: found.type === "loopback" ? "loopback" : "broadcast",
    bond: null,
    bridge: null,
    vlan: null,
    ovn: null,
  });
}

function getLeases(request: ApiRequest): Reply {
  const network = managed(request);
  const leases = attached(request.daemon.database, network).flatMap(({ instance, device }) => {
    const lease = instance.leases.get(device);
    return [lease?.ipv4, lease?.ipv6]
      .filter((address): address is string => address !== undefined)
      .map((address) => ({
        hostname: instance.name,
        hwaddr: instance.config[`volatile.${device}.hwaddr`] ?? "",
        address,
        type: "dynamic",
        location: instance.member.name,
      }));
  });
  const [gateway = ""] = (network.config["ipv4.address"] ?? "").split("/");
  return sync([{ hostname: `${network.name}.gw`, hwaddr: "", address: gateway, type: "gateway", location: "" }, ...leases]);
}

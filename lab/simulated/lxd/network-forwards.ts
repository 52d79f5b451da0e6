/** `/1.0/networks/{name}/forwards`. Each member has its own forwards of a bridge. */
import { isIPv4, isIPv6 } from "node:net";
import { z } from "zod";
import { listed } from "./cluster";
import type { ForwardPort, Network, NetworkForward } from "./database";
import { created, LxdError, type Reply, sync } from "./reply";
import { type ApiRequest, decode, param, type Router } from "./router";
import { targetDaemon } from "./server";

const text = z.string().default("");
const port = z.object({ protocol: text, listen_port: text, target_port: text, target_address: text, description: text });
const putFields = {
  description: text,
  config: z.record(z.string(), z.string()).nullish(),
  ports: z.array(port).nullish(),
};
const forwardPut = z.object(putFields).describe("NetworkForwardPut");
const forwardPost = z.object({ ...putFields, listen_address: text }).describe("NetworkForwardsPost");

/** Adds the endpoints of forwards. */
export function addNetworkForwards(router: Router): void {
  router.add("/1.0/networks/{name}/forwards", {
    GET: (request) => {
      const network = networkOf(request);
      const url = ({ listenAddress }: NetworkForward) => urlOf(network, listenAddress);
      return listed(request, network.forwards, url, (forward) => toApi(request, forward));
    },
    POST: createForward,
  });
  router.add("/1.0/networks/{name}/forwards/{address}", {
    GET: getForward,
    PUT: changeForward,
    DELETE: deleteForward,
  });
}

function urlOf({ name }: Network, address: string): string {
  return `/1.0/networks/${name}/forwards/${encodeURIComponent(address)}`;
}

function networkOf(request: ApiRequest): Network {
  const network = request.daemon.database.networks.get(param(request, "name"));
  if (network === undefined) {
    throw new LxdError(404, "Failed loading network: Network not found");
  }
  if (!["bridge", "ovn"].includes(network.type)) {
    throw new LxdError(400, `Network driver "${network.type}" does not support forwards`);
  }
  return network;
}

/** The forwards of the path's address: those of the target, or of all members. */
function found(
  request: ApiRequest,
  member = request.query.get("target") ? targetDaemon(request).member : undefined,
): NetworkForward[] {
  const { forwards } = networkOf(request);
  const address = param(request, "address");
  return forwards.filter((forward) => forward.listenAddress === address && (member === undefined || forward.member === member));
}

function getForward(request: ApiRequest): Reply {
  const [forward, other] = found(request);
  if (forward === undefined) {
    throw new LxdError(404, "Network forward not found");
  }
  if (other !== undefined) {
    throw new LxdError(409, "Network forward found on more than one cluster member. Please target a specific member");
  }
  return sync(toApi(request, forward), etagFields(forward));
}

function etagFields({ listenAddress, description, config, ports }: NetworkForward): unknown[] {
  return [listenAddress, description, config, ports];
}

/** A change acts on the member that is asked, or on the target; LXD does not look at other members. */
function ownForward(request: ApiRequest, verb: string): NetworkForward {
  const [forward] = found(request, targetDaemon(request).member);
  if (forward === undefined) {
    throw new LxdError(404, `Failed ${verb} forward: Network forward not found`);
  }
  return forward;
}

function createForward(request: ApiRequest): Reply {
  const { member } = targetDaemon(request);
  const network = networkOf(request);
  const { listen_address: listenAddress, ...body } = decode(request, forwardPost);
  const refuse = (why: string, status = 500): never => {
    throw new LxdError(status, `Failed creating forward: ${why}`);
  };
  if (!isIPv4(listenAddress) && !isIPv6(listenAddress)) {
    refuse(`Failed parsing address forward listen address "${listenAddress}": invalid CIDR address: ${listenAddress}/32`);
  }
  if (network.forwards.some((forward) => forward.listenAddress === listenAddress && forward.member === member)) {
    refuse("A forward for that listen address already exists", 409);
  }
  const contents = contentsOf(network, listenAddress, body, refuse);
  network.forwards.push({ listenAddress, member, ...contents });
  request.daemon.event("network-forward-created", urlOf(network, listenAddress), network.project);
  return created(urlOf(network, listenAddress));
}

function changeForward(request: ApiRequest): Reply {
  const forward = ownForward(request, "updating");
  const network = networkOf(request);
  const contents = contentsOf(network, forward.listenAddress, decode(request, forwardPut), (why) => {
    throw new LxdError(500, `Failed updating forward: ${why}`);
  });
  Object.assign(forward, contents); // LXD ignores If-Match here
  request.daemon.event("network-forward-updated", urlOf(network, forward.listenAddress), network.project);
  return sync();
}

function deleteForward(request: ApiRequest): Reply {
  const forward = ownForward(request, "deleting");
  const network = networkOf(request);
  network.forwards.splice(network.forwards.indexOf(forward), 1);
  request.daemon.event("network-forward-deleted", urlOf(network, forward.listenAddress), network.project);
  return sync();
}

type Contents = Pick<NetworkForward, "description" | "config" | "ports">;

const withoutSpaces = (list: string): string =>
  list
    .split(",")
    .map((item) => item.trim())
    .join();

function contentsOf(
  network: Network,
  listen: string,
  body: z.output<typeof forwardPut>,
  refuse: (why: string) => never,
): Contents {
  const config = { ...body.config };
  const unknown = Object.keys(config).find((key) => key !== "target_address" && !key.startsWith("user."));
  if (unknown !== undefined) {
    refuse(`Invalid option "${unknown}"`);
  }
  const subnet = network.config[isIPv4(listen) ? "ipv4.address" : "ipv6.address"] ?? "none";
  if (subnet === "none") {
    refuse("invalid CIDR address: none");
  }
  const target = config["target_address"] ?? "";
  if (target !== "") {
    requireAddress(target, "default target address", { listen, subnet }, refuse);
  }
  const ports = (body.ports ?? []).map((each) => ({
    ...each,
    description: each.description.trim(),
    listen_port: withoutSpaces(each.listen_port),
    target_port: withoutSpaces(each.target_port),
  }));
  const seen = new Set<string>();
  for (const [index, each] of ports.entries()) {
    requirePort(each, index, seen, { listen, subnet, target }, refuse);
  }
  return { description: body.description.trim(), config, ports };
}

interface Place {
  readonly listen: string;
  readonly subnet: string;
}

function requireAddress(address: string, what: string, { listen, subnet }: Place, refuse: (why: string) => never): void {
  if (!isIPv4(address) && !isIPv6(address)) {
    refuse(`Invalid ${what}`);
  }
  if (isIPv4(address) !== isIPv4(listen)) {
    refuse(`Cannot mix IP versions in listen address and ${what}`);
  }
  if (!isIn(address, subnet)) {
    refuse(`${what.charAt(0).toUpperCase()}${what.slice(1)} is not within the network subnet`);
  }
}

/** Only whole bytes of IPv4 prefixes, which is all that tests use. */
function isIn(address: string, subnet: string): boolean {
  const [gateway = "", prefix = "24"] = subnet.split("/");
  const bytes = Math.floor(Number(prefix) / 8);
  return !isIPv4(address) || address.split(".").slice(0, bytes).join() === gateway.split(".").slice(0, bytes).join();
}

function requirePort(
  each: ForwardPort,
  index: number,
  seen: Set<string>,
  place: Place & { target: string },
  refuse: (why: string) => never,
): void {
  const at = `in port specification ${index}`;
  if (!["tcp", "udp"].includes(each.protocol)) {
    refuse(`Invalid port protocol ${at}, protocol must be one of: tcp, udp`);
  }
  if (each.target_address === place.target && place.target !== "") {
    refuse(`Target address is same as default target address ${at}`);
  }
  requireAddress(each.target_address, "target address", place, (why) => refuse(`${why} ${at}`));
  if (each.listen_port === "") {
    refuse(`Missing listen port ${at}`);
  }
  const listening = portsIn(each.listen_port) ?? refuse(`Invalid listen port ${at}: End port should be higher than start port`);
  const twice = listening.find(
    (number) => seen.has(`${each.protocol} ${number}`) || listening.indexOf(number) !== listening.lastIndexOf(number),
  );
  if (twice !== undefined) {
    refuse(`Duplicate listen port ${twice} for protocol "${each.protocol}" ${at}`);
  }
  listening.forEach((number) => seen.add(`${each.protocol} ${number}`));
  const targets = each.target_port === "" ? [] : (portsIn(each.target_port) ?? refuse(`Invalid target port ${at}`));
  if (targets.length > 1 && targets.length !== listening.length) {
    refuse(`Mismatch of listen port(s) and target port(s) count ${at}`);
  }
}

function portsIn(list: string): number[] | undefined {
  const all = list.split(",").map((item) => {
    const [, start = "", end = ""] = /^(\d+)(?:-(\d+))?$/.exec(item) ?? [];
    const [first, last] = [Number(start), end === "" ? Number(start) : Number(end)];
    return start === "" || (end !== "" && last <= first)
      ? undefined
      : Array.from({ length: last - first + 1 }, (_, more) => first + more);
  });
  return all.some((each) => each === undefined) ? undefined : all.flatMap((each) => each ?? []);
}

function toApi(
  { daemon }: ApiRequest,
  { listenAddress, member, description, config, ports }: NetworkForward,
): Record<string, unknown> {
  const { apiExtensions } = daemon.behaviour;
  return {
    ...{ listen_address: listenAddress, description, config },
    ports: apiExtensions.includes("network_forward_snat") ? ports.map((each) => ({ ...each, snat: false })) : ports,
    location: daemon.database.clustered ? member.name : "none",
  };
}

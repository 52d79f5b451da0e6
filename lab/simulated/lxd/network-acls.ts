/** `/1.0/network-acls`. */
import { isIPv4, isIPv6 } from "node:net";
import { z } from "zod";
import { listed } from "./cluster";
import { type Config, type Database, keyOf, type NetworkAcl, type NetworkAclRule, urlOf } from "./database";
import { expandedDevices } from "./instance-model";
import { created, LxdError, type Reply, requireEtag, sync } from "./reply";
import { type ApiRequest, decode, param, projectOf, type Router } from "./router";
import { aclsIn } from "./storage-and-networks";

const text = z.string().default("");
const rule = z.object({
  action: text,
  source: text,
  destination: text,
  protocol: text,
  source_port: text,
  destination_port: text,
  icmp_type: text,
  icmp_code: text,
  description: text,
  state: text,
});
const putFields = {
  description: text,
  ingress: z.array(rule).nullish(),
  egress: z.array(rule).nullish(),
  config: z.record(z.string(), z.string()).nullish(),
};
const aclPut = z.object(putFields).describe("NetworkACLPut");
const aclPost = z.object({ ...putFields, name: text }).describe("NetworkACLsPost");
const renaming = z.object({ name: text }).describe("NetworkACLPost");

/** Adds the endpoints of ACLs. */
export function addNetworkAcls(router: Router): void {
  router.add("/1.0/network-acls", {
    GET: (request) => {
      const { database } = request.daemon;
      const project = database.holder(projectOf(request), "networks");
      const own = [...database.acls.values()].filter((acl) => acl.project === project);
      const shown = (acl: NetworkAcl) => toApi(request, acl);
      return listed(request, own, ({ name }) => `/1.0/network-acls/${name}`, shown);
    },
    POST: createAcl,
  });
  router.add("/1.0/network-acls/{name}", {
    GET: (request) => sync(toApi(request, aclOf(request)), etagFields(aclOf(request))),
    PUT: changeAcl,
    POST: renameAcl,
    DELETE: deleteAcl,
  });
}

function aclOf(request: ApiRequest): NetworkAcl {
  const { database } = request.daemon;
  const acl = database.acls.get(keyOf(database.holder(projectOf(request), "networks"), param(request, "name")));
  if (acl === undefined) {
    throw new LxdError(404, "Network ACL not found");
  }
  return acl;
}

function etagFields({ name, description, ingress, egress, config }: NetworkAcl): unknown[] {
  return [name, description, ingress, egress, config];
}

function urlOfAcl({ name, project }: NetworkAcl): string {
  return urlOf(`/1.0/network-acls/${name}`, project);
}

function createAcl(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const { name, ...body } = decode(request, aclPost);
  const project = database.holder(projectOf(request), "networks");
  if (database.acls.has(keyOf(project, name))) {
    throw new LxdError(400, "The network ACL already exists");
  }
  requireValidName(request, name);
  const acl: NetworkAcl = { name, project, ...contentsOf(database, project, body) };
  database.acls.set(keyOf(project, name), acl);
  request.daemon.event("network-acl-created", urlOfAcl(acl), project);
  return created(urlOfAcl(acl));
}

function requireValidName(request: ApiRequest, name: string): void {
  const refuse = (why: string): never => {
    throw new LxdError(500, why);
  };
  if (name === "") {
    refuse("Name is required");
  }
  if (/^[@%#]/.test(name)) {
    refuse(`Name cannot start with reserved character '${name.charAt(0)}'`);
  }
  if (name.length > 63) {
    refuse("Name must be 1-63 characters long");
  }
  if (name.startsWith("-") || name.endsWith("-")) {
    refuse(`Name must not ${name.startsWith("-") ? "start" : "end"} with "-" character`);
  }
  if (/^\d+$/.test(name)) {
    refuse("Name cannot be a number");
  }
  if (!request.daemon.behaviour.digitFirst && /^\d/.test(name)) {
    refuse("Name must not start with a number");
  }
  if (!/^[A-Za-z0-9-]+$/.test(name)) {
    refuse("Name can only contain alphanumeric and hyphen characters");
  }
}

type Contents = Omit<NetworkAcl, "name" | "project">;

function contentsOf(database: Database, project: string, body: z.output<typeof aclPut>): Contents {
  const { description, config } = body;
  const unknown = Object.keys(config ?? {}).find((key) => !key.startsWith("user."));
  if (unknown !== undefined) {
    throw new LxdError(500, `Invalid config option "${unknown}"`);
  }
  const rulesOf = (direction: "ingress" | "egress"): NetworkAclRule[] => {
    const rules = (body[direction] ?? []).map(normalised);
    for (const [index, each] of rules.entries()) {
      const fault = faultOf(database, project, direction, each);
      if (fault !== undefined) {
        throw new LxdError(500, `Invalid ${direction} rule ${index}: ${fault}`);
      }
      if (rules.some((other, at) => at !== index && JSON.stringify(other) === JSON.stringify(each))) {
        throw new LxdError(500, `Duplicate of ${direction} rule ${index}`);
      }
    }
    return rules;
  };
  return { description, ingress: rulesOf("ingress"), egress: rulesOf("egress"), config: { ...config } };
}

const itemsOf = (list: string): string[] => list.split(",").map((item) => item.trim());

function normalised(given: NetworkAclRule): NetworkAclRule {
  const entries = Object.entries(given).map(([key, value]: [string, string]) => [key, itemsOf(value).join()]);
  return { ...Object.fromEntries(entries), description: given.description.trim() } as NetworkAclRule;
}

function faultOf(database: Database, project: string, direction: string, each: NetworkAclRule): string | undefined {
  const { action, state, protocol } = each;
  const actions = ["allow", "drop", "reject"];
  const states = ["enabled", "disabled", "logged"];
  const protocols = ["icmp4", "icmp6", "tcp", "udp"];
  if (!actions.includes(action)) {
    return `Action must be one of: ${actions.join(", ")}`;
  }
  if (!states.includes(state)) {
    return `State must be one of: ${states.join(", ")}`;
  }
  const families: Record<Side, Family[]> = { Source: [], Destination: [] };
  for (const side of ["Source", "Destination"] as const) {
    const list = side === "Source" ? each.source : each.destination;
    for (const subject of list === "" ? [] : itemsOf(list)) {
      const isName = /^[@#](internal|external)$/.test(subject) || database.acls.has(keyOf(project, subject));
      const family = isName ? "name" : familyOf(subject);
      if (family === undefined) {
        return `Invalid ${side}: Invalid subject "${subject}"`;
      }
      if (isName && side !== (direction === "ingress" ? "Source" : "Destination")) {
        return `Invalid ${side}: Named subjects not allowed in "${side}" for "${direction}" rules`;
      }
      families[side].push(family);
    }
  }
  const lacks = (family: Family, side: Side, other: Side): boolean =>
    families[side].includes(family) &&
    families[other].length > 0 &&
    !families[other].some((own) => own === family || own === "name");
  if (
    (["IPv4", "IPv6"] as const).some((family) => lacks(family, "Source", "Destination") || lacks(family, "Destination", "Source"))
  ) {
    return "Conflicting IP family types used for Source and Destination";
  }
  if (protocol !== "" && !protocols.includes(protocol)) {
    return `Protocol must be one of: ${protocols.join(", ")}`;
  }
  const fault = faultOfProtocol(each);
  if (fault !== undefined || !protocol.startsWith("icmp")) {
    return fault;
  }
  const excluded = protocol === "icmp4" ? "IPv6" : "IPv4";
  const side = (["Source", "Destination"] as const).find((one) => families[one].includes(excluded));
  return side && `Cannot use ${excluded} ${side.toLowerCase()} addresses with "${protocol}" protocol`;
}

type Side = "Source" | "Destination";
type Family = "IPv4" | "IPv6" | "name";

function familyOf(subject: string): Family | undefined {
  const [start = "", end = start] = subject.split("-");
  const [address = "", prefix = "0"] = subject.split("/");
  const has = (isOfFamily: (text: string) => boolean, longest: number): boolean =>
    (isOfFamily(start) && isOfFamily(end)) || (isOfFamily(address) && /^\d+$/.test(prefix) && Number(prefix) <= longest);
  if (has(isIPv4, 32)) {
    return "IPv4";
  }
  return has(isIPv6, 128) ? "IPv6" : undefined;
}

function faultOfProtocol(each: NetworkAclRule): string | undefined {
  const isIcmp = each.protocol.startsWith("icmp");
  const ports = [
    ["Source port", each.source_port],
    ["Destination port", each.destination_port],
  ] as const;
  const icmp = [
    ["ICMP type", each.icmp_type],
    ["ICMP code", each.icmp_code],
  ] as const;
  const badly = (isIcmp ? ports : each.protocol === "" ? [...icmp, ...ports] : icmp).find(([, value]) => value !== "");
  if (badly !== undefined) {
    const with_ = isIcmp ? `with "${each.protocol}" protocol` : "with non-ICMP protocol";
    return `${badly[0]} cannot be used ${each.protocol === "" ? "without specifying protocol" : with_}`;
  }
  for (const [field, list] of ports) {
    const wrong = list === "" ? undefined : itemsOf(list).find((item) => !isPort(item));
    if (wrong !== undefined) {
      return `Invalid ${field}: Invalid port "${wrong}"`;
    }
  }
  const [what, number] = icmp.find(([, value]) => value !== "" && !(/^\d+$/.test(value) && Number(value) <= 255)) ?? [];
  return what === undefined ? undefined : `Invalid ${what}: Invalid value for an integer "${number}"`;
}

/** LXD's own limits: it accepts 0 and 65536. */
function isPort(item: string): boolean {
  const ends = item.split("-").map((end) => (/^\d+$/.test(end) ? Number(end) : -1));
  const [first = -1, last = first] = ends;
  return ends.length <= 2 && first >= 0 && last <= 65536 && (ends.length === 1 || first < last);
}

function changeAcl(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const acl = aclOf(request);
  requireEtag(request.headers["if-match"], etagFields(acl));
  const contents = contentsOf(database, acl.project, decode(request, aclPut));
  if (usersOf(database, acl).some((path) => path.startsWith("/1.0/networks/")) && database.clustered) {
    database.requireAllOnline(); // each member applies the rules to its own bridge
  }
  requireAddresses(database, acl, contents);
  Object.assign(acl, contents);
  request.daemon.event("network-acl-updated", urlOfAcl(acl), acl.project);
  return sync();
}

/** The firewall of a bridge has no names. LXD then restores the former rules. */
function requireAddresses(database: Database, { name, project }: NetworkAcl, { ingress, egress }: Contents): void {
  const isUsed = [...database.networks.values()].some(
    (network) => network.type === "bridge" && network.project === project && aclsIn(network.config).includes(name),
  );
  const subjects = [...ingress.map(({ source }) => source), ...egress.map(({ destination }) => destination)].flatMap(itemsOf);
  const named = subjects.find((subject) => subject !== "" && familyOf(subject) === undefined);
  if (isUsed && named !== undefined) {
    throw new LxdError(500, `Unsupported nftables subject "${named}"`);
  }
}

function renameAcl(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const acl = aclOf(request);
  const { name } = decode(request, renaming);
  if (database.acls.has(keyOf(acl.project, name))) {
    throw new LxdError(500, "An ACL by that name exists already");
  }
  if (usersOf(database, acl).length > 0) {
    throw new LxdError(500, "Cannot rename an ACL that is in use");
  }
  requireValidName(request, name);
  database.acls.delete(keyOf(acl.project, acl.name));
  acl.name = name;
  database.acls.set(keyOf(acl.project, name), acl);
  request.daemon.event("network-acl-renamed", urlOfAcl(acl), acl.project);
  return created(urlOfAcl(acl));
}

function deleteAcl(request: ApiRequest): Reply {
  const { database } = request.daemon;
  const acl = aclOf(request);
  if (usersOf(database, acl).length > 0) {
    throw new LxdError(500, "Cannot delete an ACL that is in use");
  }
  database.acls.delete(keyOf(acl.project, acl.name));
  request.daemon.event("network-acl-deleted", urlOfAcl(acl), acl.project);
  return sync();
}

function usersOf(database: Database, { name, project }: NetworkAcl): string[] {
  const isNic = (device: Config): boolean =>
    device["type"] === "nic" && (device["network"] ?? "") !== "" && aclsIn(device).includes(name);
  const isInProject = (item: { project: string }): boolean => database.holder(item.project, "networks") === project;
  const networks = [...database.networks.values()].filter(
    (network) => network.project === project && aclsIn(network.config).includes(name),
  );
  const profiles = [...database.profiles.values()].filter((each) => isInProject(each) && Object.values(each.devices).some(isNic));
  const others = [...database.acls.values()].filter(
    (acl) =>
      acl.project === project &&
      acl.name !== name &&
      [...acl.ingress.map(({ source }) => source), ...acl.egress.map(({ destination }) => destination)].some((list) =>
        itemsOf(list).includes(name),
      ),
  );
  const instances = [...database.instances.values()].filter(
    (each) => isInProject(each) && Object.values(expandedDevices(database, each)).some(isNic),
  );
  return [
    ...networks.map((each) => urlOf(`/1.0/networks/${each.name}`, project)),
    ...profiles.map((each) => urlOf(`/1.0/profiles/${each.name}`, each.project)),
    ...others.map(urlOfAcl),
    ...instances.map((each) => urlOf(`/1.0/instances/${each.name}`, each.project)),
  ];
}

function toApi({ daemon }: ApiRequest, acl: NetworkAcl): Record<string, unknown> {
  const { project, ...shown } = acl;
  const rulesOf = (rules: NetworkAclRule[]) =>
    rules.map((each) =>
      Object.fromEntries(Object.entries(each).filter(([key, value]) => value !== "" || key === "action" || key === "state")),
    );
  return {
    ...shown,
    ingress: rulesOf(acl.ingress),
    egress: rulesOf(acl.egress),
    used_by: usersOf(daemon.database, acl),
    ...(daemon.behaviour.server === "incus" && { project }),
  };
}

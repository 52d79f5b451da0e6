/**
 * Manual changes outside the library: command lines of `lxc` and of `ssh HOST`, as typed on the first host. The page
 * shows them, and the tests run them on simulated hosts, so every documented change is tested.
 */
import assert from "node:assert/strict";
import * as z from "zod";
import type { SimulatedLab } from "../../../lab/simulated";
import { parseCommandLine } from "../../../lab/simulated/command-line";
import { LxdClient } from "../../../provider/lxd/client/client";
import { endpointOf } from "../../../provider/lxd/client/endpoint";
import { runInInstance } from "../../../provider/lxd/instances/exec";
import { Deadline } from "../../../provider/support/deadline";
import { connectionSchema } from "../../../provider/transport/connection";
import { connect, disconnectAll } from "../../../provider/transport/pool";

/** A command line; or, for a change without a single command, a text for the page and its effect on simulated hosts. */
export type ManualChange = string | { readonly text: string; act(lab: SimulatedLab): void | Promise<void> };

/** Text of a change for the page. */
export function descriptionOf(change: ManualChange): string {
  return typeof change === "string" ? `\`${change}\`` : change.text;
}

/** Makes the changes. */
export async function byHand(lab: SimulatedLab, changes: ManualChange | readonly ManualChange[]): Promise<void> {
  for (const change of (Array.isArray(changes) ? changes : [changes]) as readonly ManualChange[]) {
    if (typeof change === "string") {
      await type(lab, parseCommandLine(change));
    } else {
      await change.act(lab);
    }
  }
  await disconnectAll();
}

async function type(lab: SimulatedLab, [program, ...words]: string[]): Promise<void> {
  const deadline = new Deadline(60, "a manual change");
  const hostOf = (name: string) => connect(connectionSchema.parse(lab.host(name).connection), { deadline });
  if (program === "ssh") {
    const [host = "", ...argv] = words;
    await (await hostOf(host)).run(argv, { deadline });
    return;
  }
  assert.equal(program, "lxc");
  const first = lab.hosts.find(({ daemon }) => daemon?.answers === true);
  assert(first !== undefined, "no host runs LXD");
  await lxc(new LxdClient(await endpointOf(await hostOf(first.name), deadline), deadline), words);
}

const anything = z.looseObject({});
const COLLECTIONS: Record<string, string> = {
  profile: "profiles",
  project: "projects",
  config: "instances",
  storage: "storage-pools",
  network: "networks",
  cluster: "cluster/members",
};
const STATES: Record<string, string> = { start: "start", stop: "stop", pause: "freeze", restart: "restart" };

/** The subset of `lxc` that the tables use. Refuses everything else. */
async function lxc(lxd: LxdClient, typed: readonly string[]): Promise<void> {
  const { words, flags, rest } = parseFlags(typed);
  const [noun = "", verb = "", ...operands] = words;
  const query = { target: flags.get("target"), project: flags.get("project") };
  const collection = COLLECTIONS[noun];
  const action = STATES[noun];
  if (noun === "exec") {
    await runInInstance({ lxd, project: "default", name: verb }, { argv: rest });
  } else if (action !== undefined) {
    await lxd.change("PUT", `/1.0/instances/${verb}/state`, { body: { action, timeout: -1, force: flags.has("force") } });
  } else if (noun === "rename") {
    await lxd.change("POST", `/1.0/instances/${verb}`, { body: { name: operands[0] } });
  } else if (noun === "move") {
    await lxd.change("POST", `/1.0/instances/${verb}`, { query, body: { name: verb, migration: true, live: false } });
  } else if (noun === "snapshot") {
    await lxd.change("POST", `/1.0/instances/${verb}/snapshots`, { body: { name: operands[0] } });
  } else if (noun === "delete") {
    if (flags.has("force")) {
      await lxc(lxd, ["stop", verb, "--force"]);
    }
    await lxd.remove(`/1.0/instances/${verb}`);
  } else if (noun === "image") {
    await image(lxd, verb, operands);
  } else if (noun === "config" && verb === "set" && operands[0]?.includes("=") === true) {
    await lxd.change("PATCH", "/1.0", { query, body: { config: Object.fromEntries(operands.map(pair)) } });
  } else if (noun === "config" && verb === "unset" && operands.length === 1) {
    await lxd.change("PATCH", "/1.0", { query, body: { config: { [operands[0] ?? ""]: "" } } });
  } else if (noun === "cluster" && verb === "group") {
    await clusterGroup(lxd, operands);
  } else if (noun === "cluster" && verb === "role") {
    await clusterRole(lxd, operands);
  } else if (noun === "cluster" && (verb === "evacuate" || verb === "restore")) {
    await lxd.change("POST", `/1.0/cluster/members/${operands[0] ?? ""}/state`, { body: { action: verb } });
  } else if (noun === "profile" && ["add", "remove", "assign"].includes(verb)) {
    await assign(lxd, verb, operands);
  } else if (noun === "cluster" && verb === "enable") {
    const body = { server_name: operands[0], enabled: true, member_config: [] };
    await lxd.change("PUT", "/1.0/cluster", { body });
  } else if (noun === "network" && verb === "acl") {
    await acl(lxd, operands, query, flags);
  } else if (noun === "network" && verb === "forward") {
    await forward(lxd, operands, query, flags);
  } else if (noun === "storage" && verb === "volume") {
    const [verbOfVolume = "", pool = "", ...more] = operands;
    await object(lxd, `/1.0/storage-pools/${pool}/volumes/custom`, verbOfVolume, more, query, flags);
  } else if (collection !== undefined) {
    await object(lxd, `/1.0/${collection}`, verb, operands, query, flags);
  } else {
    assert.fail(`lxc ${typed.join(" ")} is not supported here`);
  }
}

/** The verbs of all collections. */
async function object(
  lxd: LxdClient,
  collection: string,
  verb: string,
  [name = "", ...operands]: readonly string[],
  query: Record<string, string | undefined>,
  flags: ReadonlyMap<string, string>,
): Promise<void> {
  const path = `${collection}/${name}`;
  const edit = async (change: (found: Editable) => void): Promise<void> => {
    const found = (await lxd.get(path, anything, query)) as unknown as Editable;
    change(found);
    await lxd.change("PUT", path, { query, body: found });
  };
  switch (verb) {
    case "set":
      return edit((found) => Object.assign(flags.has("property") ? found : found.config, Object.fromEntries(operands.map(pair))));
    case "unset":
      return edit((found) => operands.forEach((key) => delete found.config[key]));
    case "device": {
      const [action, ...more] = [name, ...operands];
      return device(lxd, collection, action, more);
    }
    case "create": {
      const config = Object.fromEntries(operands.filter((word) => word.includes("=")).map(pair));
      const body = { name, driver: operands.find((word) => !word.includes("=")), config };
      return lxd.change("POST", collection, { query, body }).then(() => undefined);
    }
    case "rename": {
      const [to] = operands;
      const body = collection.endsWith("members") ? { server_name: to } : { name: to };
      return lxd.change("POST", path, { query, body }).then(() => undefined);
    }
    case "delete":
    case "remove":
      return lxd.remove(path, query);
    default:
      return assert.fail(`lxc ... ${verb} is not supported here`);
  }
}

interface Editable {
  config: Record<string, string>;
  devices: Record<string, Record<string, string>>;
}

async function device(lxd: LxdClient, collection: string, action: string, operands: readonly string[]): Promise<void> {
  const [name = "", which = "", ...rest] = operands;
  const path = `${collection}/${name}`;
  const found = (await lxd.get(path, anything)) as unknown as Editable;
  if (action === "add") {
    const [type = "", ...options] = rest;
    found.devices[which] = { type, ...Object.fromEntries(options.map(pair)) };
  } else if (action === "set") {
    Object.assign(found.devices[which] ?? {}, Object.fromEntries(rest.map(pair)));
  } else if (action === "unset") {
    rest.forEach((key) => delete found.devices[which]?.[key]);
  } else if (action === "override") {
    const expanded = (found as unknown as { expanded_devices: Editable["devices"] }).expanded_devices[which];
    found.devices[which] = { ...expanded, ...Object.fromEntries(rest.map(pair)) };
  } else {
    assert.equal(action, "remove");
    delete found.devices[which];
  }
  await lxd.change("PUT", path, { body: found });
}

type AclRules = Record<string, Record<string, string>[]>;

/** An ACL, and its rules. */
async function acl(
  lxd: LxdClient,
  [verb = "", ...operands]: readonly string[],
  query: Record<string, string | undefined>,
  flags: ReadonlyMap<string, string>,
): Promise<void> {
  if (verb !== "rule") {
    await object(lxd, "/1.0/network-acls", verb, operands, query, flags);
    return;
  }
  const [action = "", name = "", direction = "", ...fields] = operands;
  const path = `/1.0/network-acls/${name}`;
  const found = (await lxd.get(path, anything, query)) as unknown as AclRules;
  const given = Object.fromEntries(fields.map(pair));
  const matches = (rule: Record<string, string>): boolean => Object.entries(given).every(([key, value]) => rule[key] === value);
  const rules = found[direction] ?? [];
  const after = action === "add" ? [...rules, { state: "enabled", ...given }] : rules.filter((rule) => !matches(rule));
  await lxd.change("PUT", path, { query, body: { ...found, [direction]: after } });
}

/** A forward of a network, and its ports. */
async function forward(
  lxd: LxdClient,
  [verb = "", ...operands]: readonly string[],
  query: Record<string, string | undefined>,
  flags: ReadonlyMap<string, string>,
): Promise<void> {
  const [of = "", address = "", ...more] = verb === "port" ? operands.slice(1) : operands;
  const collection = `/1.0/networks/${of}/forwards`;
  if (verb === "create") {
    const config = Object.fromEntries(more.map(pair));
    await lxd.change("POST", collection, { query, body: { listen_address: address, config } });
    return;
  }
  if (verb !== "port") {
    await object(lxd, collection, verb, [address, ...more], query, flags);
    return;
  }
  const path = `${collection}/${address}`;
  const found = (await lxd.get(path, anything, query)) as unknown as { ports: Record<string, string>[] };
  const [protocol = "", listen_port = "", target_address = "", target_port = ""] = more;
  const isMeant = (port: Record<string, string>): boolean => port["protocol"] === protocol && port["listen_port"] === listen_port;
  const ports =
    operands[0] === "add"
      ? [...found.ports, { protocol, listen_port, target_address, target_port }]
      : found.ports.filter((port) => !isMeant(port));
  await lxd.change("PUT", path, { query, body: { ...found, ports } });
}

const memberSchema = z.looseObject({ groups: z.array(z.string()), roles: z.array(z.string()) });

/** The client changes the groups of a member, not the members of a group. */
async function clusterGroup(lxd: LxdClient, [verb = "", first = "", second = ""]: readonly string[]): Promise<void> {
  if (!["add", "remove", "assign"].includes(verb)) {
    return object(lxd, "/1.0/cluster/groups", verb, [first, second], {}, new Map());
  }
  const path = `/1.0/cluster/members/${first}`;
  const found = await lxd.get(path, memberSchema);
  const groups = {
    add: [...found.groups, second],
    remove: found.groups.filter((group) => group !== second),
    assign: second.split(","),
  }[verb];
  await lxd.change("PUT", path, { body: { ...found, groups } });
}

async function clusterRole(lxd: LxdClient, [verb = "", member = "", role = ""]: readonly string[]): Promise<void> {
  const path = `/1.0/cluster/members/${member}`;
  const found = await lxd.get(path, memberSchema);
  const others = found.roles.filter((each) => each !== role);
  await lxd.change("PUT", path, { body: { ...found, roles: verb === "add" ? [...others, role] : others } });
}

const instanceSchema = z.looseObject({ profiles: z.array(z.string()) });

/** Profiles of an instance. */
async function assign(lxd: LxdClient, verb: string, [name = "", profiles = ""]: readonly string[]): Promise<void> {
  const found = await lxd.get(`/1.0/instances/${name}`, instanceSchema);
  const before = found.profiles;
  const after = {
    add: [...before, profiles],
    remove: before.filter((profile) => profile !== profiles),
    assign: profiles.split(","),
  }[verb];
  await lxd.change("PUT", `/1.0/instances/${name}`, { body: { ...found, profiles: after } });
}

const aliasSchema = z.looseObject({ target: z.string() });
const imageSchema = z.looseObject({ properties: z.record(z.string(), z.string()) });

async function image(lxd: LxdClient, verb: string, operands: readonly string[]): Promise<void> {
  const [first = "", second = "", third = ""] = operands;
  const fingerprintOf = async (alias: string): Promise<string> =>
    (await lxd.find(`/1.0/images/aliases/${alias}`, aliasSchema))?.target ?? alias;
  if (verb === "alias") {
    if (first === "create") {
      await lxd.change("POST", "/1.0/images/aliases", { body: { name: second, target: await fingerprintOf(third) } });
    } else {
      assert.equal(first, "delete");
      await lxd.remove(`/1.0/images/aliases/${second}`);
    }
    return;
  }
  const path = `/1.0/images/${await fingerprintOf(first)}`;
  if (verb === "delete") {
    await lxd.remove(path);
    return;
  }
  if (verb === "refresh") {
    await lxd.change("POST", `${path}/refresh`);
    return;
  }
  const found = await lxd.get(path, imageSchema);
  if (verb === "set-property") {
    found.properties[second] = third;
  } else {
    assert.equal(verb, "unset-property");
    delete found.properties[second];
  }
  await lxd.change("PUT", path, { body: found });
}

function pair(text: string): [string, string] {
  const at = text.indexOf("=");
  return [text.slice(0, at), text.slice(at + 1)];
}

/** `--target bcn1`, `--target=bcn1` and `--force` are flags; arguments after `--` stay unchanged. */
function parseFlags(typed: readonly string[]): { words: string[]; flags: Map<string, string>; rest: string[] } {
  const end = typed.indexOf("--");
  const [before, rest] = end < 0 ? [typed, []] : [typed.slice(0, end), typed.slice(end + 1)];
  const words: string[] = [];
  const flags = new Map<string, string>();
  const queue = [...before];
  for (let word = queue.shift(); word !== undefined; word = queue.shift()) {
    if (!word.startsWith("--")) {
      words.push(word);
      continue;
    }
    const [name, value] = word.includes("=") ? pair(word.slice(2)) : [word.slice(2), undefined];
    flags.set(name, value ?? (name === "target" || name === "project" ? (queue.shift() ?? "") : ""));
  }
  return { words, flags, rest };
}

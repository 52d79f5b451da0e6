/** Reads what the checks judge. Nothing is changed: the only requests besides reads are commands in instances, which read. */
import pLimit from "p-limit";
import * as z from "zod";
import { listOf } from "../../provider/lxd/client/answers";
import { api, type LxdClient } from "../../provider/lxd/client/client";
import { runInInstance } from "../../provider/lxd/instances/exec";
import { addressesOf, expandedOf, type Instance, isRunning } from "../../provider/lxd/instances/instances";
import { listProfilesShared } from "../../provider/lxd/profiles";
import { getServer } from "../../provider/lxd/server";
import { guestOf } from "../../provider/machine/guest";
import type { Machine, MachineFile } from "../../provider/machine/machine";
import { readAccounts } from "../../provider/machine/users/accounts";
import { findKeys } from "../../provider/machine/users/strict-modes";
import { findAccount } from "../../provider/machine/users/users";
import { Deadline } from "../../provider/support/deadline";
import { messageOf } from "../../provider/support/errors";
import type { HostArgs } from "../arguments";
import { type Reading, readCluster } from "../status";
import type { InstanceStatus } from "../status/contents";
import type { Facts, GuestFact, InstanceFact, InterfaceFact, PoolSpace, ProfileFact, UserFact } from "./facts";
import { endingsIn, GUEST_COMMANDS, pingOf, reportOn } from "./guest-commands";
import { namesIn } from "./objects";
import { peerOf } from "./reach";
import type { Answer } from "./rows";

/** Time limit for all instances, and for each of them, in seconds. */
const GUESTS_SECONDS = 600;
const GUEST_SECONDS = 60;

/** How many requests, and instances, are asked at the same time. */
const AT_ONCE = 8;

const networkSchema = z.looseObject({ name: z.string(), managed: z.boolean(), type: z.string().default("") });
const stateSchema = z.looseObject({ state: z.string().default("") });
const spaceSchema = z.looseObject({
  space: z.looseObject({ used: z.number().default(0), total: z.number().default(0) }).default({ used: 0, total: 0 }),
});

/**
 * Reads a cluster, and asks inside its running instances.
 * @param tell - Receives the hosts that were skipped, and what could not be read.
 * @param limits - Time limits, in seconds.
 */
export async function readFacts(
  { hosts, ping }: { readonly hosts: readonly HostArgs[]; readonly ping: boolean },
  tell: (text: string) => void,
  limits: { readonly cluster?: number; readonly guest?: number } = {},
): Promise<Facts> {
  const reading = await readCluster(hosts, tell, limits.cluster);
  const { lxd, status } = reading;
  const limit = pLimit(AT_ONCE);
  const ask = <Value>(work: () => Promise<Value>): Promise<Answer<Value>> => limit(() => answerOf(work));
  const networks = await networksOf(reading);
  const profiles = await profilesOf(reading);
  const known = reading.instances.map((instance, index) => instanceFact(instance, status.instances[index]));
  const peers = known.map((instance) => (ping ? peerOf(instance, known, networks) : undefined));
  const deadline = new Deadline(GUESTS_SECONDS, "Asking the instances");
  const [versions, space, interfaces, instances] = await Promise.all([
    versionsOf(reading, ask),
    spaceOf(reading, ask),
    interfacesOf(reading, ask, { networks, profiles, instances: known }),
    Promise.all(
      known.map((instance, index) =>
        limit(async (): Promise<InstanceFact> => {
          const peer = peers[index];
          if (!canBeAsked(reading, instance)) {
            return instance;
          }
          const part = deadline.atMost(limits.guest ?? GUEST_SECONDS, `Asking instance "${instance.status.name}"`);
          const guest = await guestFact(lxd.within(part), instance.status, peer?.address);
          return { ...instance, guest, ...(peer !== undefined && { peer }) };
        }),
      ),
    ),
  ]);
  return { status, versions, space, interfaces, networks, profiles, instances, ping };
}

async function answerOf<Value>(work: () => Promise<Value>): Promise<Answer<Value>> {
  try {
    return { value: await work() };
  } catch (error) {
    return { why: messageOf(error) };
  }
}

type Ask = <Value>(work: () => Promise<Value>) => Promise<Answer<Value>>;

function upMembers({ servers }: Reading): string[] {
  return servers.members.flatMap(({ server_name, isDown }) => (isDown ? [] : [server_name]));
}

/** Only a cluster accepts targets. */
function targetOf({ servers }: Reading, member: string): { target?: string } {
  return servers.clustered ? { target: member } : {};
}

async function versionsOf(reading: Reading, ask: Ask): Promise<Facts["versions"]> {
  const answers = upMembers(reading).map(async (member) => {
    const read = async () => (await getServer(reading.lxd, targetOf(reading, member).target)).environment.server_version;
    return [member, await ask(read)] as const;
  });
  return Object.fromEntries(await Promise.all(answers));
}

async function spaceOf(reading: Reading, ask: Ask): Promise<PoolSpace[]> {
  const parts = reading.status.pools.flatMap(({ name, statuses }) =>
    upMembers(reading).flatMap((member) => (statuses[member] === "Created" ? [{ pool: name, member }] : [])),
  );
  const read = async ({ pool, member }: (typeof parts)[number]) => {
    const path = api`/1.0/storage-pools/${pool}/resources`;
    return (await reading.lxd.get(path, spaceSchema, targetOf(reading, member))).space;
  };
  return Promise.all(parts.map(async (part) => ({ ...part, space: await ask(() => read(part)) })));
}

async function networksOf({ lxd, projects }: Reading): Promise<Facts["networks"]> {
  const lists = projects.map(async ({ name: project }) => {
    const all = await lxd.get("/1.0/networks", listOf(networkSchema), { project, recursion: 1 });
    const managed = all.flatMap(({ name, type, ...each }) => (each.managed ? [[name, { type }] as const] : []));
    return [project, Object.fromEntries(managed)] as const;
  });
  return Object.fromEntries(await Promise.all(lists));
}

/** A project without profiles of its own uses those of the project `default`. */
async function profilesOf({ lxd, projects }: Reading): Promise<ProfileFact[]> {
  const own = projects.filter(({ name, config }) => name === "default" || config?.["features.profiles"] === "true");
  const lists = own.map(async ({ name: project }) => {
    const profiles = await listProfilesShared(lxd, project);
    return profiles.map(({ name, devices }) => ({ project, name, devices }));
  });
  return (await Promise.all(lists)).flat();
}

async function interfacesOf(
  reading: Reading,
  ask: Ask,
  { networks, profiles, instances }: Pick<Facts, "networks" | "profiles"> & { readonly instances: readonly InstanceFact[] },
): Promise<InterfaceFact[]> {
  const projectOf = [...profiles, ...instances.map(({ status: { project }, devices }) => ({ project, devices }))];
  const names = new Set(projectOf.flatMap(({ project, devices }) => namesIn(networks[project] ?? {}, devices)));
  const parts = [...names].sort().flatMap((name) => upMembers(reading).map((member) => ({ name, member })));
  const read = async ({ name, member }: (typeof parts)[number]): Promise<string | undefined> => {
    const query = targetOf(reading, member);
    const found = await reading.lxd.find(api`/1.0/networks/${name}`, networkSchema, query);
    return found && (await reading.lxd.find(api`/1.0/networks/${name}/state`, stateSchema, query))?.state;
  };
  return Promise.all(parts.map(async (part) => ({ ...part, state: await ask(() => read(part)) })));
}

function instanceFact(instance: Instance, status: InstanceStatus | undefined): InstanceFact {
  if (status === undefined) {
    throw new Error(`Instance "${instance.name}" has no status`);
  }
  return {
    status,
    ...expandedOf(instance),
    hasState: instance.state !== undefined && instance.state !== null,
    processes: instance.state?.processes ?? -1,
    addresses: Object.fromEntries(
      Object.entries(addressesOf(instance)).map(([nic, { ipv4, ipv6 }]) => [nic, [...ipv4, ...ipv6]]),
    ),
  };
}

/** An agent that does not answer has a row of its own. */
function canBeAsked(reading: Reading, { status, hasState, processes }: InstanceFact): boolean {
  const isSilent = status.type === "virtual-machine" && hasState && processes < 0;
  return isRunning(status) && upMembers(reading).includes(status.member) && !isSilent;
}

async function guestFact(lxd: LxdClient, { project, name, users }: InstanceStatus, peer: string | undefined): Promise<GuestFact> {
  const ref = { lxd, project, name };
  const machine = guestOf(ref);
  const commands = await answerOf(async () => {
    const { cloudInit, system, failedUnits, routes } = GUEST_COMMANDS;
    const all = [cloudInit, system, failedUnits, routes, ...(peer === undefined ? [] : [pingOf(peer)])];
    const { stdout, exitCode } = await runInInstance(ref, { argv: reportOn(all), allowFailure: true });
    const [ofCloudInit, ofSystem, ofUnits, ofRoutes, ofPing] = endingsIn(stdout);
    if (ofCloudInit === undefined || ofSystem === undefined || ofUnits === undefined || ofRoutes === undefined) {
      throw new Error(`the commands in it ended early, with exit code ${exitCode}`);
    }
    return {
      ...{ cloudInit: ofCloudInit, system: ofSystem, failedUnits: ofUnits, routes: ofRoutes },
      ...(ofPing !== undefined && { ping: ofPing }),
    };
  });
  const nameServers = await answerOf(() => nameServersOf(machine));
  return { commands, nameServers, users: await Promise.all(users.map((user) => userFact(machine, user))) };
}

const STUB = "127.0.0.53";

/** Behind the stub of systemd-resolved are the name servers that it asks. */
async function nameServersOf(machine: Machine): Promise<string[]> {
  const servers = nameServersIn(await follow(machine, "/etc/resolv.conf"));
  const behind = servers.join() === STUB ? await follow(machine, "/run/systemd/resolve/resolv.conf") : undefined;
  return behind === undefined ? servers : nameServersIn(behind);
}

const MOST_LINKS = 8;

async function follow(machine: Machine, path: string): Promise<MachineFile | undefined> {
  let node = await machine.readFile(path);
  for (let links = 0; node?.type === "symlink" && links < MOST_LINKS; links += 1) {
    node = await machine.readFile(node.content);
  }
  return node?.type === "file" ? node : undefined;
}

function nameServersIn(file: MachineFile | undefined): string[] {
  return [...(file?.content ?? "").matchAll(/^\s*nameserver\s+(\S+)/gm)].flatMap(([, address]) => address ?? []);
}

async function userFact(machine: Machine, name: string): Promise<UserFact> {
  const found = await answerOf(async () => {
    const accounts = await readAccounts(machine);
    const account = findAccount(accounts, name);
    if (account === undefined) {
      return { exists: false };
    }
    const sudo = await machine.readFile(`/etc/sudoers.d/${name}`);
    const { obstacle } = await findKeys(machine, account, accounts);
    return { exists: true, sudo, obstacle };
  });
  return { name, found };
}

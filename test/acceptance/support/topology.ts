import assert from "node:assert/strict";
import type { RealLab } from "../../../lab/real/index";
import { runInGuest } from "./guest-commands";
import { statesOnceHeard } from "./member-states";

/**
 * Content of a cluster, as reported by LXD and the guests: everything that a program can create twice, half or in
 * excess.
 */
export interface Topology {
  readonly members: readonly string[];
  readonly pools: readonly string[];
  readonly networks: readonly string[];
  readonly images: readonly string[];
  readonly profiles: readonly string[];
  readonly instances: readonly string[];
  readonly users: readonly string[];
  /** Names of the certificates that the cluster trusts: those of its members. */
  readonly trusted: readonly string[];
  /** Operations that have not ended, such as unused join tokens. */
  readonly operations: readonly string[];
}

/** The topology that `Pulumi.lab.yaml` describes. */
export const LAB_TOPOLOGY: Topology = {
  members: ["bcn1 Online", "bcn2 Online"],
  pools: ["default btrfs Created on bcn1, bcn2"],
  networks: ["lxdbr0 Created on bcn1, bcn2"],
  images: ["debian-12"],
  profiles: ["default", "vm-networks", "vm-resources"],
  instances: ["dns1 Running on bcn2", "tkw1 Running on bcn1"],
  users: ["thinkube of dns1, root by sudo", "thinkube of tkw1, root by sudo"],
  trusted: ["bcn1", "bcn2"],
  operations: [],
};

interface Operation {
  readonly class: string;
  readonly description: string;
  readonly status: string;
  readonly metadata: Readonly<Record<string, unknown>> | null;
}

interface Located {
  readonly status: string;
  readonly locations?: readonly string[];
}

/** Reads the topology of the lab's cluster, through its primary. */
export async function topologyOf(lab: RealLab, host = "bcn2"): Promise<Topology> {
  const lxc = async (...argv: string[]): Promise<string> => {
    const { stdout, stderr, exitCode } = await lab.hostExec(host, [lab.flavour.client, ...argv]);
    assert.equal(exitCode, 0, `lxc ${argv.join(" ")}: ${stderr}`);
    return stdout.trim();
  };
  // lxc prints nothing for null: an LXD that has just started has had no operation.
  const query = async (path: string): Promise<unknown> => JSON.parse((await lxc("query", `/1.0/${path}?recursion=1`)) || "null");
  const madeOn = ({ status, locations = [] }: Located): string => `${status} on ${[...locations].sort().join(", ")}`;

  // First of all: LXD lists the instances of a member without a heartbeat as failed.
  const members = Object.entries(await statesOnceHeard(lab, host));
  const pools = (await query("storage-pools")) as (Located & { name: string; driver: string })[];
  const networks = (await query("networks")) as (Located & { name: string; managed: boolean })[];
  const images = (await query("images")) as { aliases: { name: string }[] }[];
  const instances = (await query("instances")) as { name: string; status: string; location: string }[];
  const operations = Object.values(((await query("operations")) ?? {}) as Record<string, Operation[]>).flat();
  const names = (rows: unknown): string[] => (rows as { name: string }[]).map(({ name }) => name).sort();
  return {
    members: members.map(([name, status]) => `${name} ${status}`).sort(),
    pools: pools.map((pool) => `${pool.name} ${pool.driver} ${madeOn(pool)}`),
    networks: networks.filter(({ managed }) => managed).map((network) => `${network.name} ${madeOn(network)}`),
    images: images.map(({ aliases }) => aliases.map(({ name }) => name).join(", ")),
    profiles: names(await query("profiles")),
    instances: instances.map(({ name, status, location }) => `${name} ${status} on ${location}`).sort(),
    users: await Promise.all(
      names(instances).map(async (name) => {
        const id = (await runInGuest(lab, name, "su", "thinkube", "-c", "sudo -n id -un")).trim();
        return `thinkube of ${name}, ${id} by sudo`;
      }),
    ),
    trusted: names(await query("certificates")),
    operations: operations.filter(isOpen).map(({ description }) => description),
  };
}

/** Whether an operation runs or a join token is valid. Members give tokens to each other to fetch an image. */
function isOpen({ class: kind, status, metadata }: Operation): boolean {
  return status === "Running" && (kind !== "token" || metadata?.["serverName"] !== undefined);
}

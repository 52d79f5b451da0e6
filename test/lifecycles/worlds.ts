/** Simulated hosts for scenarios, set up without SSH so that thousands of them can be created. */
import { type SimulatedHostOptions, SimulatedLab } from "../../lab/simulated";
import type { Flavour } from "../../lab/simulated/lxd/flavours";
import { IMAGE_SERVER } from "../support/remote-images";

const ADDRESSES: Readonly<Record<string, string>> = { bcn2: "192.168.1.102", bcn1: "192.168.1.101" };

/** Hosts with only what the options specify. */
export function startHosts(flavour: Flavour, hosts: readonly Partial<SimulatedHostOptions>[]): Promise<SimulatedLab> {
  const names = ["bcn2", "bcn1"];
  return SimulatedLab.start({
    flavour,
    hosts: hosts.map((options, index) => {
      const name = names[index] ?? `host${index}`;
      return { name, lanAddress: ADDRESSES[name] ?? `192.168.1.${110 + index}`, ...options };
    }),
    remoteImages: [
      {
        server: IMAGE_SERVER,
        aliases: ["24.04"],
        type: "container",
        fingerprint: "ab".repeat(32),
        properties: { os: "Ubuntu", architecture: "amd64" },
      },
    ],
  });
}

/** Where a flavour comes from: from Debian, or from the snap store. */
export function packagingOf(flavour: Flavour): "deb" | "snap" {
  return flavour.startsWith("lxd-") ? "snap" : "deb";
}

/** One server that is in no cluster. */
export function startServer(flavour: Flavour, options: Partial<SimulatedHostOptions> = {}): Promise<SimulatedLab> {
  return startHosts(flavour, [{ lxd: packagingOf(flavour), ...options }]);
}

/** A cluster of bcn2, with bcn1 as a further member, or as a standalone LXD that could join. */
export async function startCluster(flavour: Flavour, { joined = true }: { joined?: boolean } = {}): Promise<SimulatedLab> {
  const lxd = packagingOf(flavour);
  const lab = await startHosts(flavour, [{ lxd }, { lxd }]);
  await bootstrap(lab, "bcn2");
  if (joined) {
    await join(lab, "bcn1", "bcn2");
  }
  return lab;
}

async function bootstrap(lab: SimulatedLab, name: string): Promise<void> {
  const address = addressOf(name);
  await lab.byHand(name, "PATCH", "/1.0", { config: { "core.https_address": address, "cluster.https_address": address } });
  await lab.byHand(name, "PUT", "/1.0/cluster", { server_name: name, enabled: true });
}

async function join(lab: SimulatedLab, name: string, through: string): Promise<void> {
  const minted = (await lab.byHand(through, "POST", "/1.0/cluster/members", { server_name: name })) as Record<string, unknown>;
  const token = Buffer.from(JSON.stringify({ server_name: name, ...minted })).toString("base64");
  await lab.byHand(name, "PUT", "/1.0/cluster", {
    server_name: name,
    enabled: true,
    server_address: addressOf(name),
    cluster_address: addressOf(through),
    cluster_certificate: lab.host(through).daemon?.database.certificate?.pem,
    cluster_password: token,
    cluster_token: token,
  });
}

function addressOf(name: string): string {
  return `${ADDRESSES[name] ?? ""}:8443`;
}

/** A pool "default" and a bridge "lxdbr0" on all members, in the default profile. */
export async function giveStorageAndNetwork(lab: SimulatedLab): Promise<void> {
  const members = lab.host("bcn2").daemon?.database.members ?? [];
  for (const [path, body, config] of [
    ["/1.0/storage-pools", { name: "default", driver: "dir" }, {}],
    ["/1.0/networks", { name: "lxdbr0", type: "bridge" }, { "ipv4.address": "10.10.10.1/24", "ipv6.address": "none" }],
  ] as const) {
    for (const { name } of members.length > 1 ? members : []) {
      await lab.byHand("bcn2", "POST", `${path}?target=${name}`, body);
    }
    await lab.byHand("bcn2", "POST", path, { ...body, config });
  }
  await lab.byHand("bcn2", "PUT", "/1.0/profiles/default", {
    description: "",
    config: {},
    devices: {
      root: { type: "disk", path: "/", pool: "default" },
      eth0: { type: "nic", network: "lxdbr0", name: "eth0" },
    },
  });
}

/** Objects of other owners, unrelated to the resource of a scenario. */
export async function giveForeignObjects(lab: SimulatedLab): Promise<void> {
  lab.seedImage("bcn2", { alias: "foreign-image" });
  await lab.byHand("bcn2", "POST", "/1.0/profiles", { name: "foreign", description: "not ours", config: { "user.x": "y" } });
  const [name = ""] = lab.seedInstances(1, { host: "bcn2", prefix: "foreign", type: "container" });
  lab.guestFiles("bcn2", name).writeFile("/root/precious", "data");
}

/** A cluster of two with all of the above. */
export async function startFurnishedCluster(flavour: Flavour): Promise<SimulatedLab> {
  const lab = await startCluster(flavour);
  await giveStorageAndNetwork(lab);
  await giveForeignObjects(lab);
  return lab;
}

/** The same on one server that is in no cluster. */
export async function startFurnishedServer(flavour: Flavour): Promise<SimulatedLab> {
  const lab = await startServer(flavour);
  await giveStorageAndNetwork(lab);
  await giveForeignObjects(lab);
  return lab;
}

/** All hosts of a lab as a cluster to connect to. */
export function clusterOf(lab: SimulatedLab): { endpoints: object[] } {
  return { endpoints: lab.hosts.map(({ connection }) => connection) };
}

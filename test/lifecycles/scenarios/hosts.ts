import type { Flavour, SimulatedLab } from "../../../lab/simulated";
import { clusterMemberLifecycle } from "../../../provider/resources/lxd-cluster-member";
import { nodeLifecycle } from "../../../provider/resources/lxd-node";
import { Managed } from "../../unit/resources/simulated-cluster";
import {
  giveForeignObjects,
  giveStorageAndNetwork,
  packagingOf,
  startCluster,
  startFurnishedCluster,
  startHosts,
  startServer,
} from "../worlds";
import type { Scenario } from "./scenario";

const at = (lab: SimulatedLab, name: string): object => lab.host(name).connection;
const LXD_STAYS = "LXD itself stays: a user decides whether to remove it";

const node = { kind: "LxdNode", manage: () => new Managed(nodeLifecycle as never, "bcn2") };
const member = (name: string) => ({
  kind: "LxdClusterMember",
  manage: () => new Managed(clusterMemberLifecycle as never, name),
});

/** A cluster whose members can get a newer package. */
async function startUpgradable(flavour: Flavour): Promise<SimulatedLab> {
  const lab = await startCluster(flavour);
  lab.hosts.forEach((host) => host.releasePackage("5.0.2-5+deb12u7"));
  return lab;
}

/** Scenarios of hosts and their membership. */
export const HOST_SCENARIOS: readonly Scenario[] = [
  {
    ...node,
    title: "on a bare host, from Debian's package",
    flavours: ["bookworm-lxd"],
    leaves: LXD_STAYS,
    start: (flavour) => startHosts(flavour, [{ packages: [] }, { lxd: "deb" }]),
    first: (lab) => ({
      connection: at(lab, "bcn2"),
      install: { method: "deb" },
      config: { "core.https_address": "192.168.1.102:8443", "core.debug_address": "127.0.0.1:8888" },
    }),
    then: (lab) => ({
      connection: at(lab, "bcn2"),
      install: { method: "deb", packages: ["btrfs-progs", "lvm2"] },
      config: { "core.https_address": "192.168.1.102:9443" },
    }),
  },
  {
    ...node,
    title: "of a member, upgraded to another version",
    flavours: ["bookworm-lxd"],
    leaves: LXD_STAYS,
    start: async (flavour) => {
      const lab = await startUpgradable(flavour);
      lab.hosts.forEach(({ heldPackages }) => heldPackages.add("lxd")); // adopting changes nothing
      return lab;
    },
    first: (lab) => ({ connection: at(lab, "bcn2"), install: { method: "deb", version: "5.0.2-5+deb12u6" }, adopt: true }),
    then: (lab) => ({ connection: at(lab, "bcn2"), install: { method: "deb", version: "5.0.2-5+deb12u7" }, adopt: true }),
  },
  {
    ...node,
    title: "of a member, evacuated for its upgrade",
    flavours: ["bookworm-lxd"],
    leaves: LXD_STAYS,
    start: startUpgradable,
    first: (lab) => ({ connection: at(lab, "bcn2"), install: { method: "deb" }, adopt: true }),
    then: (lab) => ({
      connection: at(lab, "bcn2"),
      install: { method: "deb", version: "5.0.2-5+deb12u7", evacuate: true },
      adopt: true,
    }),
  },
  {
    ...node,
    title: "on a bare host, from the snap",
    flavours: ["lxd-6"],
    leaves: LXD_STAYS,
    start: (flavour) => startHosts(flavour, [{ snapd: true }, { lxd: "snap" }]),
    first: (lab) => ({ connection: at(lab, "bcn2"), config: { "core.https_address": "192.168.1.102:8443" } }),
    then: (lab) => ({ connection: at(lab, "bcn2"), install: { method: "snap", channel: "6/stable", hold: false } }),
  },
  {
    ...node,
    title: "on a host in use, adopted unchanged",
    leaves: LXD_STAYS,
    start: startServerInUse,
    first: (lab) => ({
      connection: at(lab, "bcn2"),
      install: false,
      adopt: true,
      config: { "core.debug_address": "127.0.0.1:1" },
    }),
    then: (lab) => ({
      connection: at(lab, "bcn2"),
      install: false,
      adopt: true,
      config: { "core.debug_address": "127.0.0.1:2" },
    }),
  },
  {
    ...node,
    title: "on a host in use, wiped at its creation",
    leaves: "what was wiped",
    start: startServerInUse,
    first: (lab) => ({ ...asInstalled(lab), resetPolicy: EVERYTHING }),
  },
  {
    ...node,
    title: "on a host in use, wiped by a changed policy",
    leaves: "what was wiped",
    start: startServerInUse,
    first: (lab) => ({ ...asInstalled(lab), adopt: true }),
    then: (lab) => ({ ...asInstalled(lab), resetPolicy: EVERYTHING }),
  },
  {
    ...member("bcn2"),
    title: "that is the first",
    start: (flavour) => startHosts(flavour, [{ lxd: packagingOf(flavour) }, { lxd: packagingOf(flavour) }]),
    first: (lab) => ({ connection: at(lab, "bcn2"), name: "bcn2", address: "192.168.1.102" }),
    then: (lab) => ({
      connection: at(lab, "bcn2"),
      name: "bcn2",
      address: "192.168.1.102",
      failureDomain: "rack1",
      config: { "scheduler.instance": "manual" },
    }),
  },
  {
    ...member("bcn1"),
    title: "that joins",
    start: async (flavour) => {
      const lab = await startCluster(flavour, { joined: false });
      await giveStorageAndNetwork(lab);
      await giveForeignObjects(lab);
      return lab;
    },
    first: (lab) => joining(lab),
    then: (lab) => ({
      ...joining(lab),
      failureDomain: "rack1",
      description: "With the large disks",
      config: { "scheduler.instance": "group" },
      manualRoles: ["event-hub"],
      leaving: "migrate",
    }),
  },
  {
    ...member("bcn1"),
    title: "that joins by the trust password",
    flavours: ["bookworm-lxd"],
    start: async (flavour) => {
      const lab = await startCluster(flavour, { joined: false });
      await lab.byHand("bcn2", "PATCH", "/1.0", { config: { "core.trust_password": "correct horse battery" } });
      return lab;
    },
    first: (lab) => ({ ...joining(lab), trustPassword: "correct horse battery" }),
  },
  {
    ...member("bcn1"),
    title: "that is evacuated, and leaves with its instances moved",
    leaves: "the instance, on the other member: the member that was found in the cluster has left it",
    start: startFurnishedCluster,
    first: (lab) => ({ ...joining(lab), leaving: "auto" }),
    then: (lab) => ({ ...joining(lab), leaving: "auto", evacuated: true }),
  },
];

const EVERYTHING = ["instances", "images", "storage-pools", "networks"];

/** By the method by which LXD was installed. */
function asInstalled(lab: SimulatedLab): object {
  const { connection, snapd } = lab.host("bcn2");
  return { connection, install: snapd ? { method: "snap", hold: false } : { method: "deb" } };
}

function joining(lab: SimulatedLab): object {
  return {
    connection: at(lab, "bcn1"),
    name: "bcn1",
    address: "192.168.1.101",
    cluster: { endpoints: [at(lab, "bcn2")] },
  };
}

async function startServerInUse(flavour: Parameters<Scenario["start"]>[0]): Promise<SimulatedLab> {
  const lab = await startServer(flavour);
  await giveStorageAndNetwork(lab);
  await giveForeignObjects(lab);
  return lab;
}

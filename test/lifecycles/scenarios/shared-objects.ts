/** Scenarios of objects of the whole cluster: pools, networks, images, profiles. */
import { createHash } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { SimulatedLab } from "../../../lab/simulated";
import { makeCertificate } from "../../../lab/simulated/lxd/certificate";
import { clusterGroupLifecycle } from "../../../provider/resources/lxd-cluster-group";
import { imageLifecycle } from "../../../provider/resources/lxd-image";
import { networkLifecycle } from "../../../provider/resources/lxd-network";
import { networkAclLifecycle } from "../../../provider/resources/lxd-network-acl";
import { networkForwardLifecycle } from "../../../provider/resources/lxd-network-forward";
import { profileLifecycle } from "../../../provider/resources/lxd-profile";
import { projectLifecycle } from "../../../provider/resources/lxd-project";
import { serverConfigLifecycle } from "../../../provider/resources/lxd-server-config";
import { storagePoolLifecycle } from "../../../provider/resources/lxd-storage-pool";
import { storageVolumeLifecycle } from "../../../provider/resources/lxd-storage-volume";
import { trustCertificateLifecycle } from "../../../provider/resources/lxd-trust-certificate";
import { IMAGE_SERVER, offerNewer } from "../../support/remote-images";
import { Managed } from "../../unit/resources/simulated-cluster";
import { clusterOf, startFurnishedCluster, startFurnishedServer } from "../worlds";
import type { Scenario } from "./scenario";

const pool = { kind: "LxdStoragePool", manage: () => new Managed(storagePoolLifecycle as never, "fast") };
const network = { kind: "LxdNetwork", manage: () => new Managed(networkLifecycle as never, "br2") };
const acl = { kind: "LxdNetworkAcl", manage: () => new Managed(networkAclLifecycle as never, "web") };
const forward = { kind: "LxdNetworkForward", manage: () => new Managed(networkForwardLifecycle as never, "shop") };
const image = { kind: "LxdImage", manage: () => new Managed(imageLifecycle as never, "debian") };
const group = { kind: "LxdClusterGroup", manage: () => new Managed(clusterGroupLifecycle as never, "gpu") };
const settings = { kind: "LxdServerConfig", manage: () => new Managed(serverConfigLifecycle as never, "settings") };
const project = { kind: "LxdProject", manage: () => new Managed(projectLifecycle as never, "shop") };
const volume = { kind: "LxdStorageVolume", manage: () => new Managed(storageVolumeLifecycle as never, "data") };
const trusted = { kind: "LxdTrustCertificate", manage: () => new Managed(trustCertificateLifecycle as never, "ci") };
const profile = (name: string) => ({ kind: "LxdProfile", manage: () => new Managed(profileLifecycle as never, name) });

const CERTIFICATE = makeCertificate("ci").pem;

const OF_COPIES = {
  step: "create",
  moments: /^(POST \/1\.0\/images|GET \/1\.0\/operations|GET \/1\.0\/images\/\{fingerprint\}|PUT \/1\.0\/images|SSH )/,
  reason: "a copy can be marked only after it exists; one whose answer was lost counts as an existing one later, and stays",
};

/** See above. */
export const SHARED_OBJECT_SCENARIOS: readonly Scenario[] = [
  {
    ...group,
    title: "of two members",
    start: startFurnishedCluster,
    first: (lab) => ({ cluster: clusterOf(lab), name: "gpu", description: "first", members: ["bcn1"] }),
    then: (lab) => ({ cluster: clusterOf(lab), name: "gpu", members: ["bcn2"] }),
  },
  {
    ...trusted,
    title: "of a cluster",
    start: async (flavour) => {
      const lab = await startFurnishedCluster(flavour);
      await lab.byHand("bcn2", "POST", "/1.0/projects", { name: "shop" });
      return lab;
    },
    first: (lab) => ({ cluster: clusterOf(lab), name: "ci", certificate: CERTIFICATE, projects: ["shop"] }),
    then: (lab) => ({ cluster: clusterOf(lab), name: "builds", certificate: CERTIFICATE, projects: ["default", "shop"] }),
  },
  {
    ...settings,
    title: "of a cluster and its members",
    start: async (flavour) => {
      const lab = await startFurnishedCluster(flavour);
      await lab.byHand("bcn2", "PATCH", "/1.0", { config: { "cluster.max_voters": "5" } });
      await lab.byHand("bcn2", "PATCH", "/1.0?target=bcn1", { config: { "core.debug_address": "127.0.0.1:9000" } });
      return lab;
    },
    first: (lab) => ({
      cluster: clusterOf(lab),
      config: { "cluster.max_voters": 7, "images.auto_update_interval": 24 },
      memberConfig: { bcn1: { "core.debug_address": "127.0.0.1:8444" } },
      adopt: true,
    }),
    then: (lab) => ({
      cluster: clusterOf(lab),
      config: { "cluster.max_voters": 9, "user.note": "x" },
      memberConfig: { bcn2: { "core.bgp_routerid": "10.0.0.2" } },
      adopt: true,
    }),
  },
  {
    ...pool,
    title: "of a cluster",
    start: startFurnishedCluster,
    first: (lab) => ({
      cluster: clusterOf(lab),
      name: "fast",
      driver: "btrfs",
      description: "first",
      config: { "user.a": "b" },
      memberConfig: { bcn1: { size: "20GiB" }, bcn2: { size: "10GiB" } },
    }),
    then: (lab) => ({
      cluster: clusterOf(lab),
      name: "fast",
      driver: "btrfs",
      description: "second",
      config: { "user.c": "d" },
      memberConfig: { bcn1: { size: "20GiB" }, bcn2: { size: "10GiB" } },
    }),
  },
  {
    ...pool,
    title: "of one server",
    start: startFurnishedServer,
    first: (lab) => ({ cluster: clusterOf(lab), name: "fast", driver: "dir", config: { "user.a": "b" } }),
    then: (lab) => ({ cluster: clusterOf(lab), name: "fast", driver: "dir", description: "changed" }),
  },
  {
    ...network,
    title: "of a cluster",
    start: startFurnishedCluster,
    first: (lab) => ({
      cluster: clusterOf(lab),
      name: "br2",
      description: "first",
      config: { "ipv4.address": "10.9.9.1/24", "ipv4.nat": "true", "ipv6.address": "none" },
    }),
    then: (lab) => ({
      cluster: clusterOf(lab),
      name: "br2",
      description: "second",
      config: { "ipv4.address": "10.9.8.1/24", "ipv6.address": "none" },
    }),
  },
  {
    ...network,
    title: "of one server",
    start: startFurnishedServer,
    first: (lab) => ({ cluster: clusterOf(lab), name: "br2", config: { "ipv4.address": "10.9.9.1/24", "ipv6.address": "none" } }),
    then: (lab) => ({ cluster: clusterOf(lab), name: "br2", config: { "ipv4.address": "10.9.8.1/24", "ipv6.address": "none" } }),
  },
  {
    ...acl,
    title: "of a cluster",
    start: startFurnishedCluster,
    first: (lab) => ({
      cluster: clusterOf(lab),
      name: "web",
      description: "first",
      ingress: [{ action: "allow", protocol: "tcp", destinationPort: "80" }],
      config: { "user.a": "b" },
    }),
    then: (lab) => ({
      cluster: clusterOf(lab),
      name: "web",
      ingress: [{ action: "allow", protocol: "tcp", destinationPort: "443" }],
      egress: [{ action: "allow" }],
    }),
  },
  {
    ...forward,
    title: "of a member of a cluster",
    start: startFurnishedCluster,
    first: (lab) => ({
      ...{ cluster: clusterOf(lab), network: "lxdbr0", target: "bcn1", listenAddress: "192.0.2.1", description: "first" },
      config: { target_address: "10.10.10.9" },
      ports: [{ protocol: "tcp", listenPort: 80, targetAddress: "10.10.10.10" }],
    }),
    then: (lab) => ({
      ...{ cluster: clusterOf(lab), network: "lxdbr0", target: "bcn1", listenAddress: "192.0.2.1" },
      ports: [{ protocol: "tcp", listenPort: "80,443", targetAddress: "10.10.10.10" }],
    }),
  },
  {
    ...forward,
    title: "of one server",
    start: startFurnishedServer,
    first: (lab) => ({ cluster: clusterOf(lab), network: "lxdbr0", listenAddress: "192.0.2.1", description: "first" }),
    then: (lab) => ({
      ...{ cluster: clusterOf(lab), network: "lxdbr0", listenAddress: "192.0.2.1" },
      config: { target_address: "10.10.10.9" },
    }),
  },
  {
    ...image,
    title: "from files",
    start: startFurnishedCluster,
    first: (lab) => ({ ...fromFiles(lab), aliases: ["debian", "debian-12"], properties: { role: "base" } }),
    then: (lab) => ({
      ...fromFiles(lab),
      aliases: ["debian", "stable"],
      properties: { role: "web" },
      public: true,
      expiresAt: "2035-06-30T00:00:00Z",
    }),
  },
  {
    ...image,
    title: "of an image server",
    gaps: OF_COPIES,
    start: startFurnishedServer,
    first: (lab) => ({ ...fromServer(lab), aliases: ["noble"] }),
    then: (lab) => ({ ...fromServer(lab), aliases: ["ubuntu"], properties: { role: "web" } }),
  },
  {
    ...image,
    title: "that its server replaces by a newer one",
    gaps: OF_COPIES,
    start: startFurnishedServer,
    first: (lab) => ({ ...fromServer(lab), aliases: ["noble"], autoUpdate: true }),
    meanwhile: async (lab) => {
      offerNewer(lab, "cd".repeat(32), { "user.pulumi.urn": "urn:pulumi:of-the-image-server" });
      await lab.byHand("bcn2", "POST", `/1.0/images/${"ab".repeat(32)}/refresh`);
    },
    then: (lab) => ({ ...fromServer(lab), aliases: ["ubuntu"], autoUpdate: true, properties: { role: "web" } }),
  },
  {
    ...project,
    title: "of a cluster",
    start: startFurnishedCluster,
    first: (lab) => ({ cluster: clusterOf(lab), name: "shop", description: "first", config: { "limits.memory": "1GiB" } }),
    then: (lab) => ({ cluster: clusterOf(lab), name: "shop", config: { "features.images": "false", "limits.memory": "2GiB" } }),
  },
  {
    ...volume,
    title: "of a cluster",
    start: startFurnishedCluster,
    first: (lab) => ({
      cluster: clusterOf(lab),
      ...{ name: "data", pool: "default", target: "bcn1", deleteData: true },
      description: "first",
      config: { size: "1GiB", "user.a": "b" },
    }),
    then: (lab) => ({
      cluster: clusterOf(lab),
      ...{ name: "data", pool: "default", target: "bcn1", deleteData: true },
      config: { size: "2GiB", "snapshots.schedule": "@daily" },
    }),
  },
  {
    ...volume,
    title: "that moves to another pool",
    start: async (flavour) => {
      const lab = await startFurnishedServer(flavour);
      await lab.byHand("bcn2", "POST", "/1.0/storage-pools", { name: "slow", driver: "dir" });
      return lab;
    },
    first: (lab) => ({ cluster: clusterOf(lab), name: "data", pool: "default", deleteData: true }),
    then: (lab) => ({ cluster: clusterOf(lab), name: "data", pool: "slow", deleteData: true, description: "moved" }),
  },
  {
    ...volume,
    title: "that moves to another member",
    start: async (flavour) => {
      const lab = await startFurnishedCluster(flavour);
      const path = "/1.0/storage-pools/default/volumes/custom";
      await lab.byHand("bcn2", "POST", `${path}?target=bcn2`, { name: "old", config: { "user.k": "v" } });
      await lab.byHand("bcn2", "POST", `${path}/old/snapshots?target=bcn2`, { name: "s", expires_at: "2100-01-01T00:00:00Z" });
      return lab;
    },
    first: (lab) => ({
      cluster: clusterOf(lab),
      ...{ name: "data", pool: "default", target: "bcn1", deleteData: true },
      source: { pool: "default", volume: "old", snapshots: true },
    }),
    then: (lab) => ({
      cluster: clusterOf(lab),
      ...{ name: "data", pool: "default", target: "bcn2", deleteData: true, description: "moved" },
    }),
  },
  {
    ...volume,
    title: "of one server",
    start: startFurnishedServer,
    first: (lab) => ({ cluster: clusterOf(lab), name: "data", pool: "default", contentType: "block", deleteData: true }),
    then: (lab) => ({
      cluster: clusterOf(lab),
      ...{ name: "data", pool: "default", contentType: "block", deleteData: true },
      description: "changed",
    }),
  },
  {
    ...profile("web"),
    title: "of a cluster",
    start: startFurnishedCluster,
    first: (lab) => ({
      cluster: clusterOf(lab),
      name: "web",
      description: "first",
      config: { "limits.memory": "1GiB" },
      devices: { root: { type: "disk", path: "/", pool: "default" } },
    }),
    then: (lab) => ({ cluster: clusterOf(lab), name: "web", config: { "limits.memory": "2GiB", "limits.cpu": "2" } }),
  },
  {
    ...profile("default"),
    title: "default, which is restored",
    start: startFurnishedServer,
    first: (lab) => ({ cluster: clusterOf(lab), name: "default", ...DEFAULT_PROFILE }),
    then: (lab) => ({ cluster: clusterOf(lab), name: "default", ...DEFAULT_PROFILE, config: { "limits.cpu": "4" } }),
  },
];

const DEFAULT_PROFILE = {
  config: { "limits.cpu": "2" },
  devices: { root: { type: "disk", path: "/", pool: "default" }, eth0: { type: "nic", network: "lxdbr0", name: "eth0" } },
};

function fromFiles(lab: SimulatedLab): object {
  const directory = dirname(lab.knownHostsPath);
  const [metadataPath, rootfsPath] = [join(directory, "metadata.tar"), join(directory, "rootfs.squashfs")];
  if (!existsSync(rootfsPath)) {
    writeFileSync(metadataPath, "metadata");
    writeFileSync(rootfsPath, "rootfs");
  }
  const sourceFingerprint = createHash("sha256").update("metadatarootfs").digest("hex");
  return { cluster: clusterOf(lab), metadataPath, rootfsPath, sourceFingerprint };
}

function fromServer(lab: SimulatedLab): object {
  return { cluster: clusterOf(lab), source: { server: IMAGE_SERVER, alias: "24.04" }, instanceType: "container" };
}

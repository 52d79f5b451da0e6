/** Simulated hosts with the files and keys of a program, and clients for manual changes. */
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { utils } from "ssh2";
import { SimulatedLab } from "../../../lab/simulated";
import { makeCertificate } from "../../../lab/simulated/lxd/certificate";
import { type DynamicProvider, dynamicProvider } from "../../../provider/engine/adapter";
import type { EngineLog } from "../../../provider/engine/progress";
import { LxdClient } from "../../../provider/lxd/client/client";
import { endpointOf } from "../../../provider/lxd/client/endpoint";
import { fingerprintOf } from "../../../provider/lxd/images/files";
import { hostSysctlsLifecycle } from "../../../provider/resources/host-sysctls";
import { clusterGroupLifecycle } from "../../../provider/resources/lxd-cluster-group";
import { clusterMemberLifecycle } from "../../../provider/resources/lxd-cluster-member";
import { imageLifecycle } from "../../../provider/resources/lxd-image";
import { networkLifecycle } from "../../../provider/resources/lxd-network";
import { networkAclLifecycle } from "../../../provider/resources/lxd-network-acl";
import { networkForwardLifecycle } from "../../../provider/resources/lxd-network-forward";
import { nodeLifecycle } from "../../../provider/resources/lxd-node";
import { profileLifecycle } from "../../../provider/resources/lxd-profile";
import { projectLifecycle } from "../../../provider/resources/lxd-project";
import { serverConfigLifecycle } from "../../../provider/resources/lxd-server-config";
import { storagePoolLifecycle } from "../../../provider/resources/lxd-storage-pool";
import { storageVolumeLifecycle } from "../../../provider/resources/lxd-storage-volume";
import { trustCertificateLifecycle } from "../../../provider/resources/lxd-trust-certificate";
import { vmLifecycle } from "../../../provider/resources/lxd-vm";
import { hostCommandLifecycle, vmCommandLifecycle } from "../../../provider/resources/machine-command";
import { hostFileLifecycle, vmFileLifecycle } from "../../../provider/resources/machine-file";
import { hostPackagesLifecycle, vmPackagesLifecycle } from "../../../provider/resources/machine-packages";
import { hostServiceLifecycle, vmServiceLifecycle } from "../../../provider/resources/machine-service";
import { hostUserLifecycle, vmUserLifecycle } from "../../../provider/resources/machine-user";
import { Deadline } from "../../../provider/support/deadline";
import { connectionSchema } from "../../../provider/transport/connection";
import { SshConnection } from "../../../provider/transport/ssh";
import type { Properties } from "../engine-model";
import { HOSTS, type Surroundings } from "./program";

const PROVIDERS: Readonly<Record<string, (log: EngineLog) => DynamicProvider>> = {
  LxdNode: (log) => dynamicProvider(nodeLifecycle, log),
  LxdClusterMember: (log) => dynamicProvider(clusterMemberLifecycle, log),
  LxdClusterGroup: (log) => dynamicProvider(clusterGroupLifecycle, log),
  LxdServerConfig: (log) => dynamicProvider(serverConfigLifecycle, log),
  LxdStoragePool: (log) => dynamicProvider(storagePoolLifecycle, log),
  LxdNetwork: (log) => dynamicProvider(networkLifecycle, log),
  LxdNetworkAcl: (log) => dynamicProvider(networkAclLifecycle, log),
  LxdNetworkForward: (log) => dynamicProvider(networkForwardLifecycle, log),
  LxdImage: (log) => dynamicProvider(imageLifecycle, log),
  LxdProfile: (log) => dynamicProvider(profileLifecycle, log),
  LxdProject: (log) => dynamicProvider(projectLifecycle, log),
  LxdStorageVolume: (log) => dynamicProvider(storageVolumeLifecycle, log),
  LxdTrustCertificate: (log) => dynamicProvider(trustCertificateLifecycle, log),
  LxdVm: (log) => dynamicProvider(vmLifecycle, log),
  HostSysctls: (log) => dynamicProvider(hostSysctlsLifecycle, log),
  VmUser: (log) => dynamicProvider(vmUserLifecycle, log),
  HostUser: (log) => dynamicProvider(hostUserLifecycle, log),
  VmCommand: (log) => dynamicProvider(vmCommandLifecycle, log),
  HostCommand: (log) => dynamicProvider(hostCommandLifecycle, log),
  VmFile: (log) => dynamicProvider(vmFileLifecycle, log),
  HostFile: (log) => dynamicProvider(hostFileLifecycle, log),
  VmService: (log) => dynamicProvider(vmServiceLifecycle, log),
  HostService: (log) => dynamicProvider(hostServiceLifecycle, log),
  VmPackages: (log) => dynamicProvider(vmPackagesLifecycle, log),
  HostPackages: (log) => dynamicProvider(hostPackagesLifecycle, log),
};

/** The provider of a kind, as the engine loads it. */
export function providerOf(kind: string, log: EngineLog): DynamicProvider {
  const make = PROVIDERS[kind];
  if (make === undefined) {
    throw new Error(`no such kind: ${kind}`);
  }
  return make(log);
}

/** Properties of a kind that cannot change in place. */
export const IMMUTABLE: Readonly<Record<string, readonly string[]>> = {
  LxdNode: nodeLifecycle.immutable,
  LxdClusterMember: clusterMemberLifecycle.immutable,
  LxdClusterGroup: clusterGroupLifecycle.immutable,
  LxdServerConfig: serverConfigLifecycle.immutable,
  LxdStoragePool: storagePoolLifecycle.immutable,
  LxdNetwork: networkLifecycle.immutable,
  LxdNetworkAcl: networkAclLifecycle.immutable,
  LxdNetworkForward: networkForwardLifecycle.immutable,
  LxdImage: imageLifecycle.immutable,
  LxdProfile: profileLifecycle.immutable,
  LxdProject: projectLifecycle.immutable,
  LxdStorageVolume: storageVolumeLifecycle.immutable,
  LxdTrustCertificate: trustCertificateLifecycle.immutable,
  LxdVm: vmLifecycle.immutable,
  HostSysctls: hostSysctlsLifecycle.immutable,
  VmUser: vmUserLifecycle.immutable,
  HostUser: hostUserLifecycle.immutable,
  VmCommand: vmCommandLifecycle.immutable,
  HostCommand: hostCommandLifecycle.immutable,
  VmFile: vmFileLifecycle.immutable,
  HostFile: hostFileLifecycle.immutable,
  VmService: vmServiceLifecycle.immutable,
  HostService: hostServiceLifecycle.immutable,
  VmPackages: vmPackagesLifecycle.immutable,
  HostPackages: hostPackagesLifecycle.immutable,
};

/** Schema version of a kind's state. */
export const SCHEMA_VERSIONS: Readonly<Record<string, number>> = {
  LxdNode: nodeLifecycle.schemaVersion,
  LxdClusterMember: clusterMemberLifecycle.schemaVersion,
  LxdClusterGroup: clusterGroupLifecycle.schemaVersion,
  LxdServerConfig: serverConfigLifecycle.schemaVersion,
  LxdStoragePool: storagePoolLifecycle.schemaVersion,
  LxdNetwork: networkLifecycle.schemaVersion,
  LxdNetworkAcl: networkAclLifecycle.schemaVersion,
  LxdNetworkForward: networkForwardLifecycle.schemaVersion,
  LxdImage: imageLifecycle.schemaVersion,
  LxdProfile: profileLifecycle.schemaVersion,
  LxdProject: projectLifecycle.schemaVersion,
  LxdStorageVolume: storageVolumeLifecycle.schemaVersion,
  LxdTrustCertificate: trustCertificateLifecycle.schemaVersion,
  LxdVm: vmLifecycle.schemaVersion,
  HostSysctls: hostSysctlsLifecycle.schemaVersion,
  VmUser: vmUserLifecycle.schemaVersion,
  HostUser: hostUserLifecycle.schemaVersion,
  VmCommand: vmCommandLifecycle.schemaVersion,
  HostCommand: hostCommandLifecycle.schemaVersion,
  VmFile: vmFileLifecycle.schemaVersion,
  HostFile: hostFileLifecycle.schemaVersion,
  VmService: vmServiceLifecycle.schemaVersion,
  HostService: hostServiceLifecycle.schemaVersion,
  VmPackages: vmPackagesLifecycle.schemaVersion,
  HostPackages: hostPackagesLifecycle.schemaVersion,
};

const KEYS = ["laptop", "desktop"].map((comment) => utils.generateKeyPairSync("ed25519", { comment }).public.trim());
const [LAPTOP, DESKTOP] = [makeCertificate("laptop").pem, makeCertificate("desktop").pem];

/** Hosts without LXD, and the inputs of a program for them. */
export class World {
  private readonly connections = new Map<string, SshConnection>();

  private constructor(
    readonly lab: SimulatedLab,
    readonly surroundings: Surroundings,
  ) {}

  static async start(): Promise<World> {
    const lab = await SimulatedLab.start({
      hosts: [
        { name: "bcn2", lanAddress: "192.168.1.102" },
        { name: "bcn1", lanAddress: "192.168.1.101" },
      ],
    });
    const folder = dirname(lab.knownHostsPath);
    const file = (name: string, content: string): string => {
      writeFileSync(join(folder, name), content, "latin1");
      return join(folder, name);
    };
    const image = async (kind: string, version: number, magic: string): Promise<Properties> => {
      const metadataPath = file(`${kind}-${version}.tar`, `${kind} ${version}`);
      const rootfsPath = file(`${kind}-${version}.root`, `${magic}${kind} ${version}`);
      return { metadataPath, rootfsPath, sourceFingerprint: await fingerprintOf({ metadataPath, rootfsPath }) };
    };
    const ofKind = async (kind: string, magic: string): Promise<[Properties, Properties]> => [
      await image(kind, 1, magic),
      await image(kind, 2, magic),
    ];
    const [laptop = "", desktop = ""] = KEYS;
    return new World(lab, {
      // One dial is enough: a host that is off stays off until the history switches it on.
      connections: Object.fromEntries(lab.hosts.map(({ name, connection }) => [name, { ...connection, dialErrorLimit: 1 }])),
      images: { vm: await ofKind("vm", "QFI\xfb"), container: await ofKind("container", "hsqs") },
      keys: [laptop, desktop],
      certificates: [LAPTOP, DESKTOP],
    });
  }

  /** A client of LXD on a host, for manual changes and reads. */
  async client(host: string): Promise<LxdClient> {
    const deadline = new Deadline(60, "the person");
    let connection = this.connections.get(host);
    if (connection?.open !== true) {
      connection = await SshConnection.dial(connectionSchema.parse(this.lab.host(host).connection), deadline);
      this.connections.set(host, connection);
    }
    return new LxdClient(await endpointOf(connection, deadline), deadline);
  }

  /**
   * Whether LXD on a host answers. One that was removed from its cluster by force waits for a majority, and does not.
   */
  private answers(host: string): boolean {
    const { powered, daemon } = this.lab.host(host);
    return powered && daemon?.database.leader() !== undefined;
  }

  /** Clients of all hosts whose LXD answers. */
  async clients(): Promise<Map<string, LxdClient>> {
    const clients = new Map<string, LxdClient>();
    for (const host of HOSTS.filter((name) => this.answers(name))) {
      clients.set(host, await this.client(host));
    }
    return clients;
  }

  /** A host whose LXD is in the cluster; undefined if there is none. */
  member(): string | undefined {
    return HOSTS.find((name) => this.answers(name) && this.lab.host(name).daemon?.database.clustered === true);
  }

  async stop(): Promise<void> {
    for (const connection of this.connections.values()) {
      connection.close();
    }
    await this.lab.stop();
  }
}

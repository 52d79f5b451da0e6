import * as pulumi from "@pulumi/pulumi";
import { type ClusterInput, type ConfigArgs, LxdProfile, type LxdProfileArgs } from "../provider/index";
import { childOptions } from "./child-options";

/** What instances with the profile `vm-networks` are connected to. */
export interface NetworksProfileArgs {
  /** Name of the profile. @default "vm-networks" */
  name?: pulumi.Input<string>;
  /** The managed network of `eth0`. @default "lxdbr0" */
  network?: pulumi.Input<string>;
  /** The bridge of `eth1`, which every host has on its link to the LAN. @default "br0" */
  bridge?: pulumi.Input<string>;
}

/** What instances with the profile `vm-resources` get. */
export interface ResourcesProfileArgs {
  /** Name of the profile. @default "vm-resources" */
  name?: pulumi.Input<string>;
  /** Number of CPUs, or a set of them such as "0-3". @default 4 */
  cpu?: pulumi.Input<number | string>;
  /** Memory, such as "4GiB". @default "4GiB" */
  memory?: pulumi.Input<string>;
  /** Storage pool of the root disk. @default "default" */
  pool?: pulumi.Input<string>;
  /** Size of the root disk, such as "20GiB". @default what the pool's `volume.size` says */
  diskSize?: pulumi.Input<string>;
  /** Further config, such as `boot.autostart`. @default {} */
  config?: ConfigArgs;
}

/**
 * What instances with the profile `vm-gpu` get. The GPUs themselves are devices of each virtual machine (`gpus` of {@link VmGroup}): LXD
 * gives a virtual machine one GPU for each device, and no device stands for all of a host.
 */
export interface GpuProfileArgs {
  /** Name of the profile. @default "vm-gpu" */
  name?: pulumi.Input<string>;
  /** What every virtual machine with a GPU needs, such as `security.secureboot: false`. @default {} */
  config?: ConfigArgs;
}

/** Arguments of {@link VmProfiles}. */
export interface VmProfilesArgs {
  /** The cluster, or standalone server, that the profiles belong to. */
  cluster: ClusterInput;
  /** Project of the profiles. @default "default" */
  project?: pulumi.Input<string>;
  /** `vm-networks`: a NIC on a managed network and one on the LAN. @default {} */
  networks?: NetworksProfileArgs;
  /** `vm-resources`: CPU, memory and root disk. @default {} */
  resources?: ResourcesProfileArgs;
  /** `vm-gpu`: config of instances with GPUs that are passed through. @default none: there is no such profile */
  gpu?: GpuProfileArgs;
}

/**
 * The profiles that virtual machines are made of: `vm-networks`, `vm-resources` and, where there are GPUs, `vm-gpu`. A second component on
 * the same cluster, in the same project, gives its profiles other names.
 *
 * @example
 * ```typescript
 * const profiles = new VmProfiles("profiles", { cluster, resources: { cpu: 2, memory: "2GiB" } });
 * new LxdVm("web", { cluster, name: "web", profiles: profiles.names, image: { alias: "debian-12" } });
 * ```
 */
export class VmProfiles extends pulumi.ComponentResource {
  /** `vm-networks` */
  readonly networks: LxdProfile;
  /** `vm-resources` */
  readonly resources: LxdProfile;
  /** `vm-gpu` */
  readonly gpu: LxdProfile | undefined;
  /** Names of the profiles for every virtual machine, in the order in which they are applied; what uses them waits until they exist. */
  readonly names: pulumi.Output<string[]>;

  /**
   * @param name - Name of the component; its resources' names begin with it.
   * @param args - What the profiles hold.
   * @param opts - Pulumi's options. They hold for all children; what `dependsOn` names exists before the first of them is made.
   */
  constructor(name: string, args: VmProfilesArgs, opts?: pulumi.ComponentResourceOptions) {
    super("lxd-cluster:index:VmProfiles", name, {}, opts);
    const { cluster, project } = args;
    const profile = (profileName: string, content: Contents): LxdProfile =>
      new LxdProfile(
        `${name}-${profileName}`,
        { cluster, name: profileName, ...(project && { project }), ...content },
        childOptions(this, opts),
      );
    this.networks = profile("vm-networks", networksProfile(args.networks ?? {}));
    this.resources = profile("vm-resources", resourcesProfile(args.resources ?? {}));
    this.gpu = args.gpu && profile("vm-gpu", gpuProfile(args.gpu));
    this.names = pulumi.all([this.networks.name, this.resources.name]);
    this.registerOutputs({ names: this.names });
  }
}

type Contents = Required<Pick<LxdProfileArgs, "description" | "config" | "devices">> & Partial<Pick<LxdProfileArgs, "name">>;

function networksProfile({ name, network = "lxdbr0", bridge = "br0" }: NetworksProfileArgs): Contents {
  return {
    ...(name !== undefined && { name }),
    description: "eth0 on a network of the cluster, eth1 on the LAN",
    config: {},
    devices: {
      eth0: { type: "nic", name: "eth0", network },
      eth1: { type: "nic", name: "eth1", nictype: "bridged", parent: bridge },
    },
  };
}

function resourcesProfile(args: ResourcesProfileArgs): Contents {
  const { name, cpu = 4, memory = "4GiB", pool = "default", diskSize, config } = args;
  return {
    ...(name !== undefined && { name }),
    description: "CPU, memory and root disk",
    config: { ...config, "limits.cpu": cpu, "limits.memory": memory },
    devices: { root: { type: "disk", path: "/", pool, ...(diskSize && { size: diskSize }) } },
  };
}

function gpuProfile({ name, config }: GpuProfileArgs): Contents {
  return {
    ...(name !== undefined && { name }),
    description: "What goes with GPUs that are passed through",
    config: { ...config },
    devices: {},
  };
}

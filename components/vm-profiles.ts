import * as pulumi from "@pulumi/pulumi";
import { type ClusterInput, type ConfigArgs, LxdProfile, type LxdProfileArgs } from "../provider/index";
import { childOptions } from "./child-options";

/** Networks of instances with the profile `vm-networks`. */
export interface NetworksProfileArgs {
  /** Name of the profile. @default "vm-networks" */
  name?: pulumi.Input<string>;
  /** Managed network of `eth0`. @default "lxdbr0" */
  network?: pulumi.Input<string>;
  /** Bridge of `eth1`, which every host must have on its link to the LAN. @default "br0" */
  bridge?: pulumi.Input<string>;
}

/** Resources of instances with the profile `vm-resources`. */
export interface ResourcesProfileArgs {
  /** Name of the profile. @default "vm-resources" */
  name?: pulumi.Input<string>;
  /** Number of CPUs, or a set of CPUs such as "0-3". @default 4 */
  cpu?: pulumi.Input<number | string>;
  /** Memory, such as "4GiB". @default "4GiB" */
  memory?: pulumi.Input<string>;
  /** Storage pool of the root disk. @default "default" */
  pool?: pulumi.Input<string>;
  /** Size of the root disk, such as "20GiB". @default the pool's `volume.size` */
  diskSize?: pulumi.Input<string>;
  /** Further config, such as `boot.autostart`. @default {} */
  config?: ConfigArgs;
}

/**
 * Config of instances with the profile `vm-gpu`. The GPUs themselves are devices of each instance (`gpus` of {@link VmGroup}):
 * LXD gives a virtual machine one GPU for each device, and no device stands for all GPUs of a host.
 */
export interface GpuProfileArgs {
  /** Name of the profile. @default "vm-gpu" */
  name?: pulumi.Input<string>;
  /** Config that every instance with a GPU needs, such as `security.secureboot: false`. @default {} */
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
  /** `vm-gpu`: config of instances with passed-through GPUs. @default none: the profile is not made */
  gpu?: GpuProfileArgs;
}

/**
 * The profiles of instances: `vm-networks`, `vm-resources` and, with GPUs, `vm-gpu`. A second component in the same project of a
 * cluster must give its profiles other names.
 *
 * @example
 * ```typescript
 * const profiles = new VmProfiles("profiles", { cluster, resources: { cpu: 2, memory: "2GiB" } });
 * new LxdVm("web", { cluster, name: "web", profiles: profiles.names, image: { alias: "debian-12" } });
 * ```
 */
export class VmProfiles extends pulumi.ComponentResource {
  /** The profile `vm-networks`. */
  readonly networks: LxdProfile;
  /** The profile `vm-resources`. */
  readonly resources: LxdProfile;
  /** The profile `vm-gpu`; `undefined` without `gpu`. */
  readonly gpu: LxdProfile | undefined;
  /**
   * Names of the profiles for every instance, in the order in which LXD applies them. A resource that uses it waits until they
   * exist.
   */
  readonly names: pulumi.Output<string[]>;

  /**
   * @param name - Name of the component, and prefix of its resources' names.
   * @param args - Contents of the profiles.
   * @param opts - Pulumi's options. They apply to all children; the resources in `dependsOn` exist before the first child is
   * made.
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

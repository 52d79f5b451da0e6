import * as pulumi from "@pulumi/pulumi";
import { type ClusterInput, LxdVm, type LxdVmArgs, VmUser, type VmUserArgs } from "../provider/index";
import { childOptions } from "./child-options";
import { mapValues } from "./map-values";
import { mergeSettings } from "./merge-settings";
import { type GuestInterfaceArgs, networkConfig } from "./network-config";

/** A user in an instance of a group. */
export interface VmGroupUserArgs extends Omit<VmUserArgs, "cluster" | "instance" | "project" | "name"> {
  /** Name of the user. Plain text, because the resource's name contains it. */
  name: string;
}

/** One GPU of the member on which an instance runs. The given values must match exactly one GPU there. */
export interface GpuArgs {
  /** PCI address, such as "0000:01:00.0"; see `lxc info --resources --target MEMBER`. */
  pci?: pulumi.Input<string>;
  /** Card number in the host's `/dev/dri`. */
  id?: pulumi.Input<string>;
  /** Vendor id, such as "10de". */
  vendorid?: pulumi.Input<string>;
  /** Product id, such as "1b06". */
  productid?: pulumi.Input<string>;
}

/** Settings of instances, for one or for all of a group. */
export interface VmSettingsArgs extends Omit<LxdVmArgs, "cluster" | "project" | "name"> {
  /**
   * The guest's network interfaces by their names inside the guest, such as `enp5s0` in a virtual machine or `eth0` in a
   * container. They become cloud-init's network config, version 2.
   * @default the image's own: DHCP on the first interface
   */
  network?: pulumi.Input<Record<string, pulumi.Input<GuestInterfaceArgs>>>;
  /** GPUs to pass through. They become devices `gpu0`, `gpu1` and so on, in addition to `devices`. @default none */
  gpus?: GpuArgs[];
  /** Users to create once the guest is ready. @default none */
  users?: VmGroupUserArgs[];
}

/** One instance of a group. */
export interface VmGroupMemberArgs extends Partial<VmSettingsArgs> {
  /** Name of the instance. Plain text, because the resources' names contain it. */
  name: string;
}

/** Arguments of {@link VmGroup}. */
export interface VmGroupArgs {
  /** The cluster, or standalone server, on which the instances run. */
  cluster: ClusterInput;
  /** Project of the instances. @default "default" */
  project?: pulumi.Input<string>;
  /**
   * Settings of all instances. An instance's own value replaces the value here; `config`, `devices` and `cloudInit` are merged
   * key by key. A device of another `type` replaces the whole device. A member as an instance's own `target` replaces `placement`,
   * and an own `placement` replaces a member as `target`.
   * @default {}
   */
  defaults?: Partial<VmSettingsArgs>;
  /** The instances. */
  vms: VmGroupMemberArgs[];
}

/**
 * Virtual machines or containers on the members of a cluster, with their users.
 *
 * Give the profiles, images and other resources that the instances need as `dependsOn` option of the group, or let them come with
 * the cluster's connection.
 *
 * @example
 * ```typescript
 * new VmGroup("vms", {
 *   cluster,
 *   defaults: {
 *     image: { alias: "debian-12" },
 *     profiles: profiles.names,
 *     waitFor: [{ for: "cloud-init" }],
 *     users: [{ name: "thinkube", sudo: "passwordless", authorizedKeys: [publicKey] }],
 *   },
 *   vms: [
 *     { name: "dns1", target: "bcn2", network: { enp6s0: { addresses: ["192.168.1.100/24"], gateway4: "192.168.1.1" } } },
 *     { name: "tkw1", target: "bcn1", network: { enp6s0: { addresses: ["192.168.1.111/24"], gateway4: "192.168.1.1" } } },
 *   ],
 * });
 * ```
 */
export class VmGroup extends pulumi.ComponentResource {
  /** The instances by name. */
  readonly vms: Readonly<Record<string, LxdVm>>;
  /** The addresses of each instance, by its name and the names of its NICs. */
  readonly addresses: pulumi.Output<Record<string, pulumi.Unwrap<LxdVm["addresses"]>>>;
  /** The users of each instance, by the names of the instance and the user. */
  readonly users: Readonly<Record<string, Readonly<Record<string, VmUser>>>>;

  /**
   * @param name - Name of the component, and prefix of its resources' names.
   * @param args - The instances and their common settings.
   * @param opts - Pulumi's options. They apply to all children; the resources in `dependsOn` exist before the first child is
   * made.
   * @throws ResourceError when two instances have the same name, or one has no image.
   */
  constructor(name: string, args: VmGroupArgs, opts?: pulumi.ComponentResourceOptions) {
    super("lxd-cluster:index:VmGroup", name, {}, opts);
    const settings = Object.fromEntries(args.vms.map((vm) => [vm.name, mergeSettings(args.defaults ?? {}, vm)]));
    if (Object.keys(settings).length < args.vms.length) {
      throw new pulumi.ResourceError("vms: two instances have the same name", this);
    }
    this.vms = mapValues(settings, (vm) => new LxdVm(`${name}-${vm.name}`, this.vmArgs(args, vm), childOptions(this, opts)));
    this.users = mapValues(this.vms, (vm, vmName) =>
      this.makeUsers(`${name}-${vmName}`, args, vm, settings[vmName]?.users ?? [], opts),
    );
    this.addresses = pulumi.output(mapValues(this.vms, (vm) => vm.addresses));
    this.registerOutputs({ addresses: this.addresses });
  }

  private vmArgs(args: VmGroupArgs, vm: VmGroupMemberArgs): LxdVmArgs {
    const { users: _, network, image, cloudInit, gpus = [], devices, ...rest } = vm;
    if (image === undefined) {
      throw new pulumi.ResourceError(`vms: instance "${vm.name}" has no image, and defaults.image is not given`, this);
    }
    const withNetwork = network
      ? pulumi.all([cloudInit, network]).apply(([known, interfaces]) => ({ ...known, networkConfig: networkConfig(interfaces) }))
      : cloudInit;
    const cards = Object.fromEntries(gpus.map((gpu, index) => [`gpu${index}`, { type: "gpu", gputype: "physical", ...gpu }]));
    const allDevices = gpus.length === 0 ? devices : pulumi.output(devices).apply((given) => ({ ...given, ...cards }));
    return {
      ...rest,
      image,
      ...(allDevices && { devices: allDevices }),
      cluster: args.cluster,
      ...(args.project && { project: args.project }),
      ...(withNetwork && { cloudInit: withNetwork }),
    };
  }

  private makeUsers(
    prefix: string,
    { cluster, project }: VmGroupArgs,
    vm: LxdVm,
    users: readonly VmGroupUserArgs[],
    opts: pulumi.ComponentResourceOptions | undefined,
  ): Record<string, VmUser> {
    return Object.fromEntries(
      users.map((user) => [
        user.name,
        new VmUser(
          `${prefix}-${user.name}`,
          { ...user, cluster, instance: vm.name, ...(project && { project }) },
          // The instance's deletion removes the user: a guest that is about to be deleted needs no change.
          childOptions(this, opts, { dependsOn: [vm], deletedWith: vm }),
        ),
      ]),
    );
  }
}

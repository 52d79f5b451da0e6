/** Arguments of a host. */
import type { Input } from "@pulumi/pulumi";
import * as z from "zod";
import { onHost } from "../engine/connection-inputs";
import type { TimeoutArgs } from "../engine/resource";
import { configSchema } from "../lxd/config";
import { INVENTORY_KINDS } from "../lxd/inventory";
import { CLUSTER_ADDRESS, LOCAL_CONFIG } from "../lxd/server";
import { CLUSTER_ADDRESS_FAULT, faultOfValue } from "../lxd/server-config/values";
import type { ConfigArgs, ConnectionArgs } from "./common-args";
import type { InstallArgs } from "./install-args";
import { installSchema } from "./lxd-node-install-schema";

/** Inputs of LxdNode. @internal */
export const nodeSchema = z.strictObject({
  ...onHost,
  install: installSchema.default({ method: "snap", channel: "5.21/stable", cohort: true, hold: true }),
  config: configSchema.default({}),
  resetPolicy: z.array(z.enum(INVENTORY_KINDS)).default([]),
  adopt: z.boolean().default(false),
});

/** Arguments of LxdNode. */
export interface LxdNodeArgs {
  /** How to reach the host. */
  connection: Input<ConnectionArgs>;
  /**
   * How the server is installed when the host does not have it: LXD as the snap or Debian's package, or Incus as Debian's package;
   * `false` requires an installed one.
   * An installed snap is refreshed to the channel and revision, unless they are older: LXD does not start on the data of a newer
   * version.
   * @default {method: "snap", channel: "5.21/stable", cohort: true, hold: true}
   */
  install?: Input<InstallArgs | false>;
  /**
   * The host's own keys of the server config, such as `core.https_address`, the address for clients. Other keys are not changed.
   * @default {}
   */
  config?: Input<ConfigArgs>;
  /**
   * Kinds of content that may be destroyed on the host to start from an empty LXD. Without it, a host with instances, custom
   * volumes or a cluster is refused. The list must name every kind that the host holds; then all of LXD's data there is wiped,
   * once: when the node is created, or when this list changes. A changed list never wipes a host that is already a member of a
   * cluster.
   * @default []
   */
  resetPolicy?: Input<Input<"instances" | "custom-volumes" | "images" | "storage-pools" | "networks" | "cluster">[]>;
  /**
   * Manage a host that is already in use, without a change to what it holds or to how LXD is installed. When the installation
   * differs from `install`, the next preview shows it.
   * @default false
   */
  adopt?: Input<boolean>;
  /** Time limits in seconds, for each call. @default 900 for create and update, 120 for delete, 60 for read */
  timeouts?: Input<TimeoutArgs>;
}

/** Why a key of `config` is refused; `undefined` when it is not. Pure. */
export function faultOfConfig(key: string, value: string): string | undefined {
  if (key === CLUSTER_ADDRESS) {
    return CLUSTER_ADDRESS_FAULT;
  }
  return LOCAL_CONFIG.test(key)
    ? faultOfValue(key, value)
    : "is not a key of one host: it belongs to the whole cluster, or is unknown";
}

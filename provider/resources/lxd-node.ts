/**
 * One host: LXD is installed and runs, with the host's own config.
 * @see https://documentation.ubuntu.com/lxd/latest/installing/ and .../server_config/ (LXD 5.0 to 6)
 */
import type { CustomResourceOptions, Input, Output } from "@pulumi/pulumi";
import * as z from "zod";
import { onHost } from "../engine/connection-inputs";
import type { Context, Lifecycle, SshConnection } from "../engine/lifecycle";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import { askLxd } from "../host/half-joined";
import { findSocketUnlessGone } from "../host/installed";
import { finishReset, isResetUnfinished } from "../host/reset-lxd";
import type { LxdClient } from "../lxd/client/client";
import { type ServerKind, serverAt } from "../lxd/client/endpoint";
import { type Config, configSchema, sameConfig, sameConfigValue } from "../lxd/config";
import { INVENTORY_KINDS } from "../lxd/inventory";
import { describeOwner, isOfSameStack } from "../lxd/ownership";
import { CLUSTER_ADDRESS, getHardware, getServer, LOCAL_CONFIG, serverConfig, setServerConfig } from "../lxd/server";
import { CLUSTER_ADDRESS_FAULT, faultOfValue } from "../lxd/server-config-values";
import { sameJson, sameSet } from "../support/equality";
import { afterChange, IncompleteError } from "../support/errors";
import type { ClusterConnectionArgs, ConfigArgs, ConnectionArgs } from "./common-args";
import type { InstallArgs } from "./install-args";
import { ensureEmpty, ensureEmptyUnlessMember, explainSilence, ownerOf, ready } from "./lxd-node-emptying";
import {
  applyInstall,
  describeInstall,
  ensureInstalled,
  type Installed,
  installWarnings,
  previewInstall,
  readInstall,
  sameInstall,
} from "./lxd-node-install";
import { installSchema } from "./lxd-node-install-schema";
import { isReadySoon } from "./lxd-node-upgrade";

/** Inputs of {@link LxdNode}. @internal */
export const nodeSchema = z.strictObject({
  ...onHost,
  install: installSchema.default({ method: "snap", channel: "5.21/stable", cohort: true, hold: true }),
  config: configSchema.default({}),
  resetPolicy: z.array(z.enum(INVENTORY_KINDS)).default([]),
  adopt: z.boolean().default(false),
});

/** Arguments of {@link LxdNode}. */
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

type Inputs = z.output<typeof nodeSchema>;

interface Outputs {
  server: ServerKind;
  lxdVersion: string;
  apiExtensions: string[];
  socket: string;
  kernelVersion: string;
  architecture: string;
  cpus: number;
  memoryBytes: number;
  revision: number | undefined;
  /** Absent in older states until the next refresh. */
  packageVersion?: string | undefined;
}

/** See {@link LxdNode}. @internal */
export const nodeLifecycle: Lifecycle<Inputs, Outputs> = {
  kind: "LxdNode",
  isHost: true,
  schemaVersion: 3,
  schema: nodeSchema,
  upgrade: (state) => {
    // Outputs that membership changes were in schema 1, and showed as drift.
    const { clustered: _, memberName: _name, certificateFingerprint: _fingerprint, addresses: _addresses, ...rest } = state;
    const { install, socket, ...older } = rest as unknown as Inputs & Outputs;
    // Schema 2 knew only LXD as Debian's package, and found Incus when install was false.
    const withServer = install !== false && install.method === "deb" ? { ...install, server: "lxd" as const } : install;
    return { ...older, install: withServer, socket, server: serverAt(socket) };
  },
  immutable: [],
  stableOutputs: {
    server: ["install"],
    lxdVersion: ["install", "resetPolicy"],
    socket: ["install", "resetPolicy"],
    kernelVersion: [],
    architecture: [],
    cpus: [],
    memoryBytes: [],
    revision: ["install", "resetPolicy"],
    packageVersion: ["install", "resetPolicy"],
  },
  timeouts: { create: 900, read: 60, update: 900, delete: 120 },

  checkTogether({ config, resetPolicy, adopt }) {
    const failures = Object.entries(config).flatMap(([key, value]) => {
      const reason = faultOf(key, value);
      return reason === undefined ? [] : [{ property: `config.${key}`, reason }];
    });
    if (adopt && resetPolicy.length > 0) {
      failures.push({ property: "resetPolicy", reason: "contradicts adopt: a host is either wiped or adopted" });
    }
    return failures;
  },

  sameBy: {
    install: (_observed, wanted, state) => sameInstall(state, wanted),
    config: sameConfig,
    resetPolicy: sameSet,
  },

  previewWarnings: (state, { install, connection }) => installWarnings(state, install, connection.host),

  async previewEffects(context, { connection, resetPolicy, install }, former) {
    if (former === undefined) {
      return [];
    }
    if (resetPolicy.length === 0 || sameSet(former.resetPolicy, resetPolicy)) {
      return install === false || sameJson(install, former.install) ? [] : previewInstall(context, connection, install);
    }
    const lxd = await context.lxd(connection);
    const server = await askLxd(lxd);
    if (server?.environment.server_clustered === true) {
      return [];
    }
    return [
      `pulumi up will wipe ${lxd.names.name} on ${connection.host}, if it holds nothing else than resetPolicy names: ${resetPolicy.join(", ")}`,
    ];
  },

  async create(context, inputs) {
    const ssh = await context.host(inputs.connection);
    const isReset = await finishReset(ssh, context, inputs.resetPolicy);
    if (inputs.adopt && (await findSocketUnlessGone(ssh, context.deadline, inputs.install)) !== undefined) {
      return adopt(context, ssh, inputs);
    }
    const isNew = await ensureInstalled(context, ssh, inputs.install);
    const lxd = await context.lxd(inputs.connection);
    await ensureEmpty(context, ssh, lxd, inputs.resetPolicy).catch(rethrow(isReset || isNew));
    if ((await applyInstall(context, ssh, inputs.install, lxd)) !== "kept") {
      await ready(context, lxd);
    }
    await setServerConfig(lxd, inputs.config);
    return { id: ssh.name, outputs: await outputsOf(lxd, await readInstall(context, ssh, lxd.endpoint.socket, inputs.install)) };
  },

  async read(context, _id, state) {
    const ssh = await context.host(state.connection);
    if (await isResetUnfinished(ssh, context.deadline)) {
      context.warn(`A wipe of ${ssh.name} was interrupted. The next change of the node finishes it`);
      return { inputs: {}, outputs: state };
    }
    const socket = await findSocketUnlessGone(ssh, context.deadline, state.install);
    if (socket === undefined) {
      return undefined;
    }
    const lxd = await context.lxd(state.connection);
    const server = await askLxd(lxd);
    const installed = await readInstall(context, ssh, socket, state.install);
    if (server === undefined) {
      if (!sameInstall({ ...installed, revision: installed.revision ?? state.revision }, state.install)) {
        const found = describeInstall(installed.install);
        context.warn(`${lxd.title} does not answer, and is now ${found}. All other values are the last known ones`);
        return { inputs: { install: installed.install }, outputs: { ...state, ...packageOf(installed) } };
      }
      context.warn(`${await explainSilence(context, ssh, lxd)}. All values are the last known ones`);
      return { inputs: {}, outputs: { ...state, packageVersion: installed.packageVersion } };
    }
    const live = serverConfig(server);
    const config = Object.fromEntries(
      Object.entries(state.config).flatMap(([key, known]) => {
        const value = live[key] ?? "";
        if (sameConfigValue(key, known, value)) {
          return [[key, known]];
        }
        return value === "" ? [] : [[key, value]]; // an unset key is no longer managed, unless the program gives it
      }),
    );
    return { inputs: { install: installed.install, config }, outputs: await outputsOf(lxd, installed) };
  },

  async update(context, id, state, inputs) {
    const ssh = await context.host(inputs.connection);
    const isReset = await finishReset(ssh, context, inputs.resetPolicy);
    const isNew = await ensureInstalled(context, ssh, inputs.install).catch(rethrow(isReset));
    const lxd = await context.lxd(inputs.connection);
    if (!sameSet(state.resetPolicy, inputs.resetPolicy)) {
      await ensureEmptyUnlessMember(context, ssh, lxd, inputs.resetPolicy).catch(rethrow(isReset || isNew));
    }
    const applied = await applyInstall(context, ssh, inputs.install, lxd);
    const isReady = applied === "ready" || (applied === "kept" && (await isReadySoon(context, ssh, lxd)));
    const installed = await readInstall(context, ssh, lxd.endpoint.socket, inputs.install);
    if (!isReady) {
      const outputs = { ...outputsIn(state), ...packageOf(installed) };
      const why =
        applied === "waits"
          ? `${lxd.title} was upgraded, and does not answer until the other members are upgraded too`
          : await explainSilence(context, ssh, lxd);
      if (!sameConfig(state.config, inputs.config)) {
        throw new IncompleteError(id, outputs, `${why}. Its config was not changed. When it answers, run pulumi up again`);
      }
      context.warn(`${why}. lxdVersion and apiExtensions are the former ones until the next refresh`);
      return outputs;
    }
    await setServerConfig(lxd, { ...unset(state.config), ...inputs.config });
    return outputsOf(lxd, installed);
  },

  /** Unsets the managed config keys. LXD stays installed: removing it is a person's decision. */
  async delete(context, _id, state) {
    const ssh = await context.host(state.connection);
    await finishReset(ssh, context, state.resetPolicy);
    if (
      Object.keys(state.config).length > 0 &&
      (await findSocketUnlessGone(ssh, context.deadline, state.install)) !== undefined
    ) {
      const lxd = await context.lxd(state.connection);
      if ((await askLxd(lxd)) === undefined) {
        context.warn(`${await explainSilence(context, ssh, lxd)}. Its config was not changed`);
        return;
      }
      const owner = await ownerOf(lxd);
      if (owner !== "" && !isOfSameStack(owner, context.urn)) {
        context.warn(`The config of ${lxd.title} was not changed: its membership belongs to ${describeOwner(owner)}`);
        return;
      }
      await setServerConfig(lxd, unset(state.config));
    }
  },
};

function faultOf(key: string, value: string): string | undefined {
  if (key === CLUSTER_ADDRESS) {
    return CLUSTER_ADDRESS_FAULT;
  }
  return LOCAL_CONFIG.test(key)
    ? faultOfValue(key, value)
    : "is not a key of one host: it belongs to the whole cluster, or is unknown";
}

/** An empty string unsets a key. */
function unset(config: Config): Config {
  return Object.fromEntries(Object.keys(config).map((key) => [key, ""]));
}

function rethrow(isChanged: boolean): (error: unknown) => never {
  return (error) => {
    throw isChanged ? afterChange(error) : error;
  };
}

/** Adopts a host. Does not change the installation of LXD, and keeps it in state. */
async function adopt(context: Context, ssh: SshConnection, inputs: Inputs): Promise<{ id: string; outputs: Outputs }> {
  await ensureInstalled(context, ssh, inputs.install);
  const lxd = await context.lxd(inputs.connection);
  await ready(context, lxd);
  const live = serverConfig(await getServer(lxd));
  const other = Object.entries(inputs.config).filter(([key, value]) => !sameConfigValue(key, live[key], value));
  if (other.length > 0) {
    await setServerConfig(lxd, Object.fromEntries(other));
  }
  const installed = await readInstall(context, ssh, lxd.endpoint.socket, inputs.install);
  const { install } = installed;
  if (!sameInstall(installed, inputs.install)) {
    context.warn(
      `${lxd.title} is ${describeInstall(install)}, but install asks for ${describeInstall(inputs.install)}. Adopting a host ` +
        "does not change that; the next pulumi up does",
    );
  }
  const outputs = { ...(await outputsOf(lxd, installed)), install }; // this `install` is the one that state gets
  return { id: ssh.name, outputs };
}

function packageOf({ revision, packageVersion }: Installed): Pick<Outputs, "revision" | "packageVersion"> {
  return { revision, packageVersion };
}

/** The last known outputs. */
function outputsIn(state: Inputs & Outputs): Outputs {
  const { server, lxdVersion, apiExtensions, socket, kernelVersion, architecture, cpus, memoryBytes } = state;
  const { revision, packageVersion } = state;
  return { server, lxdVersion, apiExtensions, socket, kernelVersion, architecture, cpus, memoryBytes, revision, packageVersion };
}

async function outputsOf(lxd: LxdClient, installed: Installed): Promise<Outputs> {
  const { environment, api_extensions: apiExtensions } = await getServer(lxd);
  return {
    server: lxd.names.server,
    lxdVersion: environment.server_version,
    apiExtensions,
    socket: lxd.endpoint.socket.path,
    kernelVersion: environment.kernel_version,
    architecture: environment.architectures[0] ?? "",
    ...(await getHardware(lxd)),
    ...packageOf(installed),
  };
}

/**
 * A host with LXD or Incus on it.
 *
 * @example
 * ```typescript
 * const bcn2 = new LxdNode("bcn2", {
 *   connection: { host: "192.168.1.102", privateKeyPath: "~/.ssh/id_ed25519" },
 *   install: { method: "snap", channel: "5.21/stable" },
 *   config: { "core.https_address": "192.168.1.102:8443" },
 * });
 * ```
 */
export class LxdNode extends LxdResource {
  /** How to reach the host. Depends on the node: a resource that uses it waits until LXD is ready. */
  declare readonly connection: Output<ConnectionArgs>;
  /** The managed keys of the host's server config. */
  declare readonly config: Output<Record<string, string>>;
  /** The server on the host: "lxd" or "incus". */
  declare readonly server: Output<"lxd" | "incus">;
  /** Version of the daemon, LXD or Incus, such as "5.21.4". */
  declare readonly lxdVersion: Output<string>;
  /** API extensions of the daemon. Test for these, not for the version. */
  declare readonly apiExtensions: Output<string[]>;
  /** Path of the API socket on the host. */
  declare readonly socket: Output<string>;
  /** Version of the host's kernel, such as "6.1.0-18-amd64". */
  declare readonly kernelVersion: Output<string>;
  /** Architecture of the host, such as "x86_64". */
  declare readonly architecture: Output<string>;
  /** Number of logical CPUs. */
  declare readonly cpus: Output<number>;
  /** Memory of the host in bytes. */
  declare readonly memoryBytes: Output<number>;
  /**
   * Revision of the snap, for `install.revision` of hosts that are to join the same cluster. `undefined` for Debian's packages
   * and a snap from a file, or when `install` is false.
   */
  declare readonly revision: Output<number | undefined>;
  /**
   * Version of the Debian package with the daemon, such as "5.0.2-5", or of the snap. `undefined` when `install` is false.
   */
  declare readonly packageVersion: Output<string | undefined>;

  constructor(name: string, args: LxdNodeArgs, opts?: CustomResourceOptions) {
    super(
      "LxdNode",
      name,
      { ...args },
      [
        "server",
        "lxdVersion",
        "apiExtensions",
        "socket",
        "kernelVersion",
        "architecture",
        "cpus",
        "memoryBytes",
        "revision",
        "packageVersion",
      ],
      opts,
    );
  }

  /** The host as a standalone server, for `cluster` of other resources. */
  get asCluster(): Output<ClusterConnectionArgs> {
    return this.connection.apply((connection) => ({ endpoints: [connection] }));
  }
}

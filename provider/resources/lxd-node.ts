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
import { getHardware, getServer, LOCAL_CONFIG, serverConfig, setServerConfig } from "../lxd/server";
import { sameSet } from "../support/equality";
import { afterChange } from "../support/errors";
import type { ClusterConnectionArgs, ConfigArgs, ConnectionArgs } from "./common-args";
import { ensureEmpty, ensureEmptyUnlessMember, explainSilence, ownerOf, ready } from "./lxd-node-emptying";
import {
  applyInstall,
  describeInstall,
  ensureInstalled,
  installSchema,
  installWarnings,
  readInstall,
  sameInstall,
} from "./lxd-node-install";

/** Inputs of {@link LxdNode}. @internal */
export const nodeSchema = z.strictObject({
  ...onHost,
  install: installSchema.default({ method: "snap", channel: "5.21/stable", cohort: true, hold: true }),
  config: configSchema.default({}),
  resetPolicy: z.array(z.enum(INVENTORY_KINDS)).default([]),
  adopt: z.boolean().default(false),
});

/** A repository for apt, with the fields of sources.list(5). It is the host's file `pulumi-lxd-cluster.sources`. */
export interface AptRepositoryArgs {
  /** Addresses of the repository, such as `https://deb.debian.org/debian`. */
  uris: string[];
  /** Releases, such as `trixie-backports`. */
  suites: string[];
  /** Sections, such as `main`. None for a suite that is a directory: one that ends with "/". @default [] */
  components?: string[];
  /**
   * The public key of the repository as text ("-----BEGIN PGP PUBLIC KEY BLOCK-----"), or the path of a keyring on the host.
   * @default the keys that apt on the host trusts
   */
  signedBy?: string;
}

/** How LXD or Incus is installed on a host. */
export type InstallArgs =
  | {
      method: "deb";
      /** The server. A host that has the other one is refused, and so is a member that joins a cluster of the other one. @default "lxd" */
      server?: "lxd" | "incus";
      /**
       * For `server: "incus"`, the package with the daemon. `incus-base` has no QEMU, for hosts that run only containers; a host
       * that has `incus` satisfies it too.
       * @default "incus"
       */
      serverPackage?: "incus" | "incus-base";
      /**
       * A repository that the host gets, for the packages and their upgrades. The file is written again when somebody changes it,
       * removed when this is removed from the program, and stays when the node is deleted.
       * @default the host's own package sources
       */
      repository?: AptRepositoryArgs;
      /**
       * The release from which packages are installed, as apt-get's `--target-release`, such as "trixie-backports". Later changes
       * do not affect what is installed.
       * @default apt's choice
       */
      targetRelease?: string;
      /** Further packages that the storage drivers need, such as `btrfs-progs`. @default [] */
      packages?: string[];
    }
  | {
      method: "snap";
      /** Incus has no snap. @default "lxd" */
      server?: "lxd";
      /** Track, risk and branch, as in the snap store. @default "5.21/stable" */
      channel?: string;
      /** Use the revision of the cohort: all hosts get the same one, also during a progressive release. @default true */
      cohort?: boolean;
      /** Hold the snap: snapd does not refresh it automatically. @default true */
      hold?: boolean;
      /**
       * Exact revision, such as the output `revision` of a member's LxdNode: a host that joins needs the cluster's revision. The
       * store must have released it to a channel, for the host's architecture.
       * @default the channel's revision
       */
      revision?: Input<number | undefined>;
    };

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
  /** The host's own keys of the server config, such as `core.https_address`. Other keys are not changed. @default {} */
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
  },
  timeouts: { create: 900, read: 60, update: 900, delete: 120 },

  checkTogether({ config, resetPolicy, adopt }) {
    const failures = Object.keys(config)
      .filter((key) => !LOCAL_CONFIG.test(key))
      .map((key) => ({
        property: `config.${key}`,
        reason: "is not a key of one host: it belongs to the whole cluster, or is unknown",
      }));
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

  async previewEffects(context, { connection, resetPolicy }, former) {
    if (former === undefined || resetPolicy.length === 0 || sameSet(former.resetPolicy, resetPolicy)) {
      return [];
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
    if (await applyInstall(context, ssh, inputs.install)) {
      await ready(context, lxd);
    }
    await setServerConfig(lxd, inputs.config);
    const { revision } = await readInstall(context, ssh, lxd.endpoint.socket, inputs.install);
    return { id: ssh.name, outputs: await outputsOf(lxd, revision) };
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
        return { inputs: { install: installed.install }, outputs: { ...state, revision: installed.revision } };
      }
      context.warn(`${await explainSilence(context, ssh, lxd)}. All values are the last known ones`);
      return { inputs: {}, outputs: state };
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
    return { inputs: { install: installed.install, config }, outputs: await outputsOf(lxd, installed.revision) };
  },

  async update(context, _id, state, inputs) {
    const ssh = await context.host(inputs.connection);
    const isReset = await finishReset(ssh, context, inputs.resetPolicy);
    const isNew = await ensureInstalled(context, ssh, inputs.install).catch(rethrow(isReset));
    const lxd = await context.lxd(inputs.connection);
    if (!sameSet(state.resetPolicy, inputs.resetPolicy)) {
      await ensureEmptyUnlessMember(context, ssh, lxd, inputs.resetPolicy).catch(rethrow(isReset || isNew));
    }
    await applyInstall(context, ssh, inputs.install);
    await ready(context, lxd);
    await setServerConfig(lxd, { ...unset(state.config), ...inputs.config });
    const { revision } = await readInstall(context, ssh, lxd.endpoint.socket, inputs.install);
    return outputsOf(lxd, revision);
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
  const { install, revision } = await readInstall(context, ssh, lxd.endpoint.socket, inputs.install);
  if (!sameInstall({ install, revision }, inputs.install)) {
    context.warn(
      `${lxd.title} is ${describeInstall(install)}, but install asks for ${describeInstall(inputs.install)}. Adopting a host ` +
        "does not change that; the next pulumi up does",
    );
  }
  const outputs = { ...(await outputsOf(lxd, revision)), install }; // this `install` is the one that state gets
  return { id: ssh.name, outputs };
}

async function outputsOf(lxd: LxdClient, revision: number | undefined): Promise<Outputs> {
  const { environment, api_extensions: apiExtensions } = await getServer(lxd);
  return {
    server: lxd.names.server,
    lxdVersion: environment.server_version,
    apiExtensions,
    socket: lxd.endpoint.socket.path,
    kernelVersion: environment.kernel_version,
    architecture: environment.architectures[0] ?? "",
    ...(await getHardware(lxd)),
    revision,
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

  constructor(name: string, args: LxdNodeArgs, opts?: CustomResourceOptions) {
    super(
      "LxdNode",
      name,
      { ...args },
      ["server", "lxdVersion", "apiExtensions", "socket", "kernelVersion", "architecture", "cpus", "memoryBytes", "revision"],
      opts,
    );
  }

  /** The host as a standalone server, for `cluster` of other resources. */
  get asCluster(): Output<ClusterConnectionArgs> {
    return this.connection.apply((connection) => ({ endpoints: [connection] }));
  }
}

/**
 * One host: LXD is installed and runs, with the host's own config.
 * @see https://documentation.ubuntu.com/lxd/latest/installing/ and .../server_config/ (LXD 5.0 to 6)
 */
import type { CustomResourceOptions, Output } from "@pulumi/pulumi";
import type * as z from "zod";
import type { Context, Lifecycle, SshConnection } from "../engine/lifecycle";
import { LxdResource } from "../engine/resource";
import { askLxd } from "../host/half-joined";
import { findSocketUnlessGone } from "../host/installed";
import { finishReset, isResetUnfinished } from "../host/reset-lxd";
import type { LxdClient } from "../lxd/client/client";
import { type ServerKind, serverAt } from "../lxd/client/endpoint";
import { type Config, sameConfig, sameConfigValue } from "../lxd/config";
import { describeOwner, isOfSameStack } from "../lxd/ownership";
import { getHardware, getServer, serverConfig, setServerConfig } from "../lxd/server";
import { sameJson, sameSet } from "../support/equality";
import { afterChange, IncompleteError } from "../support/errors";
import type { ClusterConnectionArgs, ConnectionArgs } from "./common-args";
import { faultOfConfig, type LxdNodeArgs, nodeSchema } from "./lxd-node-args";
import { ensureEmpty, ensureEmptyUnlessMember, explainSilence, ownerOf, ready } from "./lxd-node-emptying";
import {
  applyInstall,
  describeInstall,
  ensureInstalled,
  type Installed,
  installWarnings,
  previewInstall,
  readInstall,
  releaseHold,
  sameInstall,
} from "./lxd-node-install";
import type { Install } from "./lxd-node-install-schema";
import { isReadySoon } from "./lxd-node-upgrade";
import { finishUpgrade } from "./lxd-node-upgrade-evacuation";
import { isUnfinished, observeUpgrade, type UpgradeOutputs } from "./lxd-node-upgrade-state";

type Inputs = z.output<typeof nodeSchema>;

interface Outputs extends UpgradeOutputs {
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
    upgradeState: ["install", "resetPolicy"],
    recommendedAction: ["install", "resetPolicy"],
  },
  timeouts: { create: 900, read: 60, update: 900, delete: 120 },

  checkTogether({ config, resetPolicy, adopt }) {
    const failures = Object.entries(config).flatMap(([key, value]) => {
      const reason = faultOfConfig(key, value);
      return reason === undefined ? [] : [{ property: `config.${key}`, reason }];
    });
    if (adopt && resetPolicy.length > 0) {
      failures.push({ property: "resetPolicy", reason: "contradicts adopt: a host is either wiped or adopted" });
    }
    return failures;
  },

  sameBy: {
    install: (_observed, wanted, state) => !isUnfinished(state) && sameInstall(state, wanted),
    config: sameConfig,
    resetPolicy: sameSet,
  },

  previewWarnings: (state, { install, connection }) => [
    ...installWarnings(state, install, connection.host),
    ...(isUnfinished(state)
      ? [
          `${connection.host} was evacuated for an upgrade, which is not finished. pulumi up finishes it, and restores the member once it answers`,
        ]
      : []),
  ],

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
    if ((await applyInstall(context, ssh, inputs.install, { lxd, connection: inputs.connection })) !== "kept") {
      await ready(context, lxd);
    }
    await setServerConfig(lxd, inputs.config);
    return { id: ssh.name, outputs: await outputsOf(context, ssh, lxd, inputs.install) };
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
      const outputs = {
        ...state,
        ...packageOf(installed),
        ...(await observeUpgrade(context, ssh, lxd, undefined, installed, state.install)),
      };
      if (!sameInstall({ ...installed, revision: installed.revision ?? state.revision }, state.install)) {
        const found = describeInstall(installed.install);
        context.warn(`${lxd.title} does not answer, and is now ${found}. All other values are the last known ones`);
        return { inputs: { install: installed.install }, outputs };
      }
      context.warn(`${await explainSilence(context, ssh, lxd)}. All values are the last known ones`);
      return { inputs: {}, outputs: { ...outputs, revision: state.revision } };
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
    return {
      inputs: { install: installed.install, config },
      outputs: await outputsOf(context, ssh, lxd, state.install, installed),
    };
  },

  async update(context, id, state, inputs) {
    const ssh = await context.host(inputs.connection);
    const isReset = await finishReset(ssh, context, inputs.resetPolicy);
    const isNew = await ensureInstalled(context, ssh, inputs.install).catch(rethrow(isReset));
    const lxd = await context.lxd(inputs.connection);
    if (!sameSet(state.resetPolicy, inputs.resetPolicy)) {
      await ensureEmptyUnlessMember(context, ssh, lxd, inputs.resetPolicy).catch(rethrow(isReset || isNew));
    }
    const applied = await applyInstall(context, ssh, inputs.install, { lxd, connection: inputs.connection });
    const isReady = applied === "ready" || (applied === "kept" && (await isReadySoon(context, ssh, lxd)));
    const installed = await readInstall(context, ssh, lxd.endpoint.socket, inputs.install);
    if (!isReady) {
      const upgrade = await observeUpgrade(context, ssh, lxd, undefined, installed, inputs.install);
      const outputs = { ...outputsIn(state), ...packageOf(installed), ...upgrade };
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
    await releaseHold(context, ssh, state.install, inputs.install);
    await finishUpgrade(context, ssh, lxd);
    await setServerConfig(lxd, { ...unset(state.config), ...inputs.config });
    return outputsOf(context, ssh, lxd, inputs.install, installed);
  },

  /** Unsets the managed config keys, and releases the package. LXD stays installed: removing it is a person's decision. */
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
        return releaseHold(context, ssh, state.install);
      }
      const owner = await ownerOf(lxd);
      if (owner !== "" && !isOfSameStack(owner, context.urn)) {
        context.warn(`The config of ${lxd.title} was not changed: its membership belongs to ${describeOwner(owner)}`);
        return;
      }
      await setServerConfig(lxd, unset(state.config));
    }
    await releaseHold(context, ssh, state.install);
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
  const installed = await readInstall(context, ssh, lxd.endpoint.socket, inputs.install);
  const { install } = installed;
  if (!sameInstall(installed, inputs.install)) {
    context.warn(
      `${lxd.title} is ${describeInstall(install)}, but install asks for ${describeInstall(inputs.install)}. Adopting a host ` +
        "does not change that; the next pulumi up does",
    );
  }
  const outputs = { ...(await outputsOf(context, ssh, lxd, inputs.install, installed)), install }; // this `install` is the one that state gets
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

/**
 * Reads the host's server.
 * @param known - How it is installed, if that has been read.
 */
async function outputsOf(
  context: Context,
  ssh: SshConnection,
  lxd: LxdClient,
  wanted: Install,
  known?: Installed,
): Promise<Outputs> {
  const installed = known ?? (await readInstall(context, ssh, lxd.endpoint.socket, wanted));
  const server = await getServer(lxd);
  const { environment, api_extensions: apiExtensions } = server;
  return {
    server: lxd.names.server,
    lxdVersion: environment.server_version,
    apiExtensions,
    socket: lxd.endpoint.socket.path,
    kernelVersion: environment.kernel_version,
    architecture: environment.architectures[0] ?? "",
    ...(await getHardware(lxd)),
    ...packageOf(installed),
    ...(await observeUpgrade(context, ssh, lxd, server, installed, wanted)),
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
  /**
   * What the upgrade of the host's server has reached, at the last refresh. `update pending`: another version is to be installed, or was installed
   * while the former one still runs, or other members of the cluster have a newer one. `evacuated` without an upgrade: somebody evacuated the member.
   * `restarting`: the server does not answer; it starts, or waits for other members. `restore pending`: the member was evacuated for its upgrade, and
   * was not restored. `undefined` in older states until the next refresh.
   */
  declare readonly upgradeState: Output<
    "up to date" | "update pending" | "evacuating" | "evacuated" | "restarting" | "restore pending" | undefined
  >;
  /** What comes next according to `upgradeState`. `pulumi up` does all of it but `restart`. */
  declare readonly recommendedAction: Output<"none" | "update" | "evacuate" | "restart" | "restore" | undefined>;

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
        "upgradeState",
        "recommendedAction",
      ],
      opts,
    );
  }

  /** The host as a standalone server, for `cluster` of other resources. */
  get asCluster(): Output<ClusterConnectionArgs> {
    return this.connection.apply((connection) => ({ endpoints: [connection] }));
  }
}

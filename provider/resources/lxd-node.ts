/**
 * One host: LXD installed on it, running, and with the config that is the host's own.
 * @see https://documentation.ubuntu.com/lxd/latest/installing/ and .../server_config/ (LXD 5.0 to 6)
 */
import type { CustomResourceOptions, Input, Output } from "@pulumi/pulumi";
import * as z from "zod";
import { onHost } from "../engine/bookkeeping";
import type { Context, Lifecycle, SshConnection } from "../engine/lifecycle";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import { askLxd } from "../host/half-joined";
import { findSnap, hasDebPackage, installDebPackages, installSnap, sameChannel, startLxd } from "../host/packages";
import { finishReset, isResetUnfinished } from "../host/reset-lxd";
import type { LxdClient } from "../lxd/client/client";
import { type ApiSocket, findSocket } from "../lxd/client/endpoint";
import { configSchema, sameConfigValue } from "../lxd/config";
import { INVENTORY_KINDS, type InventoryKind } from "../lxd/inventory";
import { describeOwner, isOfSameStack } from "../lxd/ownership";
import { getHardware, getServer, LOCAL_CONFIG, serverConfig, setServerConfig } from "../lxd/server";
import { sameJson } from "../support/equality";
import { RefusedError } from "../support/errors";
import type { ConfigArgs, ConnectionArgs } from "./common-args";
import { emptied, emptiedUnlessMember, explainSilence, ownerOf, ready } from "./lxd-node-emptying";

const installSchema = z.union([
  z.literal(false),
  z.strictObject({
    method: z.literal("deb"),
    packages: z.array(z.string().regex(/^[a-z0-9][a-z0-9.+-]+$/, "is not the name of a Debian package")).default([]),
  }),
  z.strictObject({
    method: z.literal("snap"),
    channel: z
      .string()
      .regex(/^[a-z0-9.-]+(\/[a-z]+)?(\/[\w.-]+)?$/, 'is not a snap channel such as "5.21/stable"')
      .default("5.21/stable"),
    cohort: z.boolean().default(true),
    hold: z.boolean().default(true),
  }),
]);

/** Inputs of {@link LxdNode}. */
const nodeSchema = z.strictObject({
  ...onHost,
  install: installSchema.default({ method: "snap", channel: "5.21/stable", cohort: true, hold: true }),
  config: configSchema.default({}),
  resetPolicy: z.array(z.enum(INVENTORY_KINDS)).default([]),
  adopt: z.boolean().default(false),
});

/** How LXD gets onto a host. */
export type InstallArgs =
  | { method: "deb"; packages?: string[] }
  | { method: "snap"; channel?: string; cohort?: boolean; hold?: boolean };

/** Arguments of {@link LxdNode}. */
export interface LxdNodeArgs {
  /** How to reach the host. */
  connection: Input<ConnectionArgs>;
  /**
   * How LXD gets onto the host when it is not there: Debian's package, with further `packages` that its
   * storage drivers need, such as `btrfs-progs`; the snap with its channel, `cohort` (the same revision on all
   * hosts) and `hold` (no upgrade behind your back); or `false` to require that it is there.
   * @default {method: "snap", channel: "5.21/stable", cohort: true, hold: true}
   */
  install?: Input<InstallArgs | false>;
  /** The host's own keys of the server config, such as `core.https_address`. Other keys are left alone. @default {} */
  config?: Input<ConfigArgs>;
  /**
   * What may be destroyed on the host to start from an empty LXD: a host with instances, custom volumes or a cluster on it is
   * otherwise refused. Everything that is found must be named, and then all of LXD's data there is wiped, once: when the node is made,
   * or when this list is changed. A host that is a member of a cluster by then is never wiped by a changed list.
   * @default []
   */
  resetPolicy?: Input<Input<InventoryKind>[]>;
  /** Manage a host that is in use already as it is, without touching what it holds. @default false */
  adopt?: Input<boolean>;
  /** Seconds for each call. */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<typeof nodeSchema>;

interface Outputs {
  lxdVersion: string;
  apiExtensions: string[];
  socket: string;
  kernelVersion: string;
  architecture: string;
  cpus: number;
  memoryBytes: number;
  addresses: string[];
  clustered: boolean;
  memberName: string;
  certificateFingerprint: string;
}

/** See {@link LxdNode}. */
export const nodeLifecycle: Lifecycle<Inputs, Outputs> = {
  kind: "LxdNode",
  schemaVersion: 1,
  schema: nodeSchema,
  immutable: [],
  lasting: {
    lxdVersion: ["install", "resetPolicy"],
    socket: ["install", "resetPolicy"],
    kernelVersion: [],
    architecture: [],
    cpus: [],
    memoryBytes: [],
    memberName: ["resetPolicy"],
    certificateFingerprint: ["resetPolicy"],
  },
  timeouts: { create: 900, read: 60, update: 900, delete: 120 },

  checkTogether({ config, resetPolicy, adopt }) {
    const failures = Object.keys(config)
      .filter((key) => !LOCAL_CONFIG.test(key))
      .map((key) => ({
        property: `config.${key}`,
        reason: "is not a key of one host: it belongs to the whole cluster, or LXD does not know it",
      }));
    if (adopt && resetPolicy.length > 0) {
      failures.push({ property: "resetPolicy", reason: "contradicts adopt: a host is either wiped or taken over as it is" });
    }
    return failures;
  },

  diff(state, inputs) {
    const changed: (keyof Inputs)[] = [];
    if (!sameInstall(state.install, inputs.install)) {
      changed.push("install");
    }
    const keys = [...new Set([...Object.keys(state.config), ...Object.keys(inputs.config)])];
    if (!keys.every((key) => sameConfigValue(key, state.config[key], inputs.config[key]))) {
      changed.push("config");
    }
    if (!sameJson([...state.resetPolicy].sort(), [...inputs.resetPolicy].sort())) {
      changed.push("resetPolicy");
    }
    return changed;
  },

  forewarn(state, inputs) {
    const wipes = !state.clustered && inputs.resetPolicy.length > 0 && nodeLifecycle.diff(state, inputs).includes("resetPolicy");
    const [found, wanted] = [state.install, inputs.install];
    const isOther = found !== false && wanted !== false && found.method !== wanted.method;
    return [
      ...(wipes
        ? [
            `pulumi up will destroy what LXD on ${inputs.connection.host} holds, if it is no more than resetPolicy names: ${inputs.resetPolicy.join(", ")}`,
          ]
        : []),
      ...(isOther
        ? [
            `pulumi up will refuse this. LXD on ${inputs.connection.host} is there from a ${found.method}, and install wants the ${wanted.method}`,
          ]
        : []),
    ];
  },

  async create(context, inputs) {
    const ssh = await context.host(inputs.connection);
    await finishReset(ssh, context.deadline);
    await install(context, ssh, inputs.install);
    const lxd = inputs.adopt ? await ready(context, ssh) : await emptied(context, ssh, inputs.resetPolicy);
    await setServerConfig(lxd, inputs.config);
    return { id: ssh.name, outputs: await facts(lxd) };
  },

  async read(context, _id, state) {
    const ssh = await context.host(state.connection);
    if (await isResetUnfinished(ssh, context.deadline)) {
      context.warn(`LXD on ${ssh.name} was being wiped when something came in between; the next change of it finishes that`);
      return { inputs: inputsOf(state), outputs: state };
    }
    const socket = await findSocketUnlessGone(context, ssh, state.install);
    if (socket === undefined) {
      return undefined;
    }
    const lxd = await context.lxd(state.connection);
    const server = await askLxd(lxd, context.deadline);
    if (server === undefined) {
      context.warn(await explainSilence(context, ssh, lxd));
      return { inputs: inputsOf(state), outputs: state };
    }
    const live = serverConfig(server);
    const config = Object.fromEntries(
      Object.entries(state.config).flatMap(([key, wording]) => {
        const value = live[key] ?? "";
        // What is unset by now is not ours any more, unless the program still wants it.
        return sameConfigValue(key, wording, value) ? [[key, wording]] : value === "" ? [] : [[key, value]];
      }),
    );
    const installed = await readInstall(context, ssh, socket, state.install);
    return { inputs: { ...inputsOf(state), install: installed, config }, outputs: await facts(lxd) };
  },

  sought: () => ({}),

  async update(context, _id, state, inputs) {
    const ssh = await context.host(inputs.connection);
    await finishReset(ssh, context.deadline);
    await install(context, ssh, inputs.install);
    const lxd = nodeLifecycle.diff(state, inputs).includes("resetPolicy")
      ? await emptiedUnlessMember(context, ssh, state.clustered, inputs.resetPolicy)
      : await ready(context, ssh);
    const dropped = Object.keys(state.config).filter((key) => inputs.config[key] === undefined);
    await setServerConfig(lxd, { ...Object.fromEntries(dropped.map((key) => [key, ""])), ...inputs.config });
    return facts(lxd);
  },

  /** Gives back the config. LXD itself stays: whether it goes is for a person to decide. */
  async delete(context, _id, state) {
    const ssh = await context.host(state.connection);
    await finishReset(ssh, context.deadline);
    const keys = Object.keys(state.config);
    if (keys.length > 0 && (await findSocketUnlessGone(context, ssh, state.install)) !== undefined) {
      const lxd = await context.lxd(state.connection);
      if ((await askLxd(lxd, context.deadline)) === undefined) {
        context.warn(`${await explainSilence(context, ssh, lxd)} Its config is left as it is`);
        return;
      }
      const owner = await ownerOf(lxd);
      if (owner !== "" && !isOfSameStack(owner, context.urn)) {
        context.warn(`The config of LXD on ${ssh.name} is left as it is: its membership belongs to ${describeOwner(owner)}`);
        return;
      }
      await setServerConfig(lxd, Object.fromEntries(keys.map((key) => [key, ""])));
    }
  },
};

function inputsOf({ connection, install: how, config, resetPolicy, adopt, timeouts }: Inputs): Inputs {
  return { connection, install: how, config, resetPolicy, adopt, timeouts };
}

/** Makes sure that LXD is on the host in the way that is wanted, and listens. */
async function install(context: Context, ssh: SshConnection, wanted: Inputs["install"]): Promise<void> {
  const { deadline } = context;
  const socket = await findSocket(ssh, deadline);
  if (wanted === false) {
    if (socket === undefined) {
      throw new RefusedError(
        `LXD is not on ${ssh.name}, and install is false. Install it there, or set install to {method: "deb"} or {method: "snap"}`,
      );
    }
    return;
  }
  if (socket !== undefined && socket.packaging !== wanted.method) {
    throw new RefusedError(
      `${ssh.name} already runs ${socket.packaging === "incus" ? "Incus" : `LXD from a ${socket.packaging}`} (${socket.path}), and ` +
        `install wants the ${wanted.method}. Set install: false to use what is there, or remove it`,
    );
  }
  if (wanted.method === "snap") {
    context.progress(`installing the LXD snap from ${wanted.channel} on ${ssh.name}`);
    await installSnap(ssh, "lxd", wanted, deadline);
    await startUnlessListening(context, ssh, wanted.method);
    return;
  }
  const missing: string[] = [];
  for (const name of socket === undefined ? ["lxd", ...wanted.packages] : wanted.packages) {
    if (!(await hasDebPackage(ssh, name, deadline))) {
      missing.push(name);
    }
  }
  if (missing.length > 0) {
    context.progress(`installing the Debian packages ${missing.join(", ")} on ${ssh.name}`);
    await installDebPackages(ssh, missing, deadline);
  }
  await startUnlessListening(context, ssh, wanted.method);
  if (missing.length > 0 && socket !== undefined) {
    context.warn(
      `LXD on ${ssh.name} finds what ${missing.join(", ")} brought when it next starts (systemctl restart lxd; instances keep running)`,
    );
  }
}

/** Somebody may have stopped it, or the host forbids packages to start what they bring. */
async function startUnlessListening(context: Context, ssh: SshConnection, method: "deb" | "snap"): Promise<void> {
  if ((await findSocket(ssh, context.deadline)) === undefined) {
    context.progress(`starting LXD on ${ssh.name}`);
    await startLxd(ssh, method, context.deadline);
  }
}

async function isInstalled(context: Context, ssh: SshConnection, wanted: Inputs["install"]): Promise<boolean> {
  const [deb, snap] = [() => hasDebPackage(ssh, "lxd", context.deadline), () => findSnap(ssh, "lxd", context.deadline)];
  if (wanted === false) {
    return (await deb()) || (await snap()) !== undefined;
  }
  return wanted.method === "deb" ? deb() : (await snap()) !== undefined;
}

/**
 * The socket on which LXD listens, or `undefined` when LXD is not on the host.
 * @throws RefusedError when it is, and does not listen: nothing can be said of it then, least of all that it is gone.
 */
async function findSocketUnlessGone(
  context: Context,
  ssh: SshConnection,
  install: Inputs["install"],
): Promise<ApiSocket | undefined> {
  const socket = await findSocket(ssh, context.deadline);
  if (socket === undefined && (await isInstalled(context, ssh, install))) {
    throw new RefusedError(`LXD is installed on ${ssh.name} but does not answer on its socket. Look at: journalctl --unit lxd`);
  }
  return socket;
}

/** How LXD is installed, for the refresh. Drift is another packaging, a channel or hold that was changed, a package that is missing. */
async function readInstall(
  context: Context,
  ssh: SshConnection,
  socket: ApiSocket,
  known: Inputs["install"],
): Promise<Inputs["install"]> {
  if (known === false) {
    return known;
  }
  if (socket.packaging !== "snap") {
    const packages = known.method === "deb" ? known.packages : [];
    const there = await Promise.all(packages.map((name) => hasDebPackage(ssh, name, context.deadline)));
    const found = { method: "deb" as const, packages: packages.filter((_, index) => there[index]) };
    return socket.packaging === "deb" ? found : false; // what is neither of the two differs from both
  }
  const snap = await findSnap(ssh, "lxd", context.deadline);
  const { channel, held } = snap ?? { channel: "", held: false };
  return known.method === "snap"
    ? { ...known, channel: sameChannel(channel, known.channel) ? known.channel : channel, hold: held }
    : { method: "snap", channel, cohort: false, hold: held };
}

function sameInstall(a: Inputs["install"], b: Inputs["install"]): boolean {
  if (a !== false && b !== false && a.method === "snap" && b.method === "snap") {
    return sameChannel(a.channel, b.channel) && a.hold === b.hold;
  }
  return sameJson(a, b);
}

async function facts(lxd: LxdClient): Promise<Outputs> {
  const server = await getServer(lxd);
  const { environment } = server;
  return {
    lxdVersion: environment.server_version,
    apiExtensions: server.api_extensions,
    socket: lxd.endpoint.socket.path,
    kernelVersion: environment.kernel_version,
    architecture: environment.architectures[0] ?? "",
    ...(await getHardware(lxd)),
    addresses: environment.addresses ?? [],
    clustered: environment.server_clustered,
    memberName: environment.server_name,
    certificateFingerprint: environment.certificate_fingerprint,
  };
}

/**
 * A host with LXD on it.
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
  /** How the host is reached. Depends on the node, so that what uses it waits until LXD is ready. */
  declare readonly connection: Output<ConnectionArgs>;
  /** The host's own keys of the server config that are managed. */
  declare readonly config: Output<Record<string, string>>;
  /** Version of the daemon, such as "5.21.4". */
  declare readonly lxdVersion: Output<string>;
  /** What the daemon can do; decide by these, not by the version. */
  declare readonly apiExtensions: Output<string[]>;
  /** Path of the API socket on the host. */
  declare readonly socket: Output<string>;
  /** Such as "6.1.0-18-amd64". */
  declare readonly kernelVersion: Output<string>;
  /** Such as "x86_64". */
  declare readonly architecture: Output<string>;
  /** Logical CPUs. */
  declare readonly cpus: Output<number>;
  /** Memory of the host. */
  declare readonly memoryBytes: Output<number>;
  /** Where the API listens on the network, such as "192.168.1.102:8443". */
  declare readonly addresses: Output<string[]>;
  /** Whether the host is a member of a cluster, as of the last refresh. */
  declare readonly clustered: Output<boolean>;
  /** The host's name in its cluster, or its host name. */
  declare readonly memberName: Output<string>;
  /** SHA-256 of the certificate that the API presents: the cluster's, for a member. */
  declare readonly certificateFingerprint: Output<string>;

  constructor(name: string, args: LxdNodeArgs, opts?: CustomResourceOptions) {
    super(
      "LxdNode",
      name,
      { ...args },
      [
        "lxdVersion",
        "apiExtensions",
        "socket",
        "kernelVersion",
        "architecture",
        "cpus",
        "memoryBytes",
        "addresses",
        "clustered",
        "memberName",
        "certificateFingerprint",
      ],
      opts,
    );
  }
}

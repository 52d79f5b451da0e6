import assert from "node:assert/strict";
import { SimulatedLab, type SimulatedLabOptions } from "../../../lab/simulated";
import { type DynamicProvider, dynamicProvider } from "../../../provider/engine/adapter";
import type { Lifecycle } from "../../../provider/engine/lifecycle";
import type { EngineLog } from "../../../provider/engine/progress";
import { LxdClient } from "../../../provider/lxd/client/client";
import type { ClusterConnection } from "../../../provider/lxd/client/cluster-connection";
import { clusterEndpoint } from "../../../provider/lxd/client/cluster-endpoint";
import { bootstrapCluster } from "../../../provider/lxd/cluster/cluster";
import { joinCluster, mintJoinToken } from "../../../provider/lxd/cluster/join";
import { getServer, setServerConfig } from "../../../provider/lxd/server";
import { Deadline } from "../../../provider/support/deadline";
import { hasCode, messageOf } from "../../../provider/support/errors";
import { connectionSchema } from "../../../provider/transport/connection";
import { disconnectAll } from "../../../provider/transport/pool";
import { liveState } from "../../lifecycles/live-state";

/** LXD on simulated hosts. */
export interface SimulatedCluster {
  readonly lab: SimulatedLab;
  readonly cluster: ClusterConnection;
  /** LXD as a user accesses it, outside the library. */
  byHand(): Promise<LxdClient>;
  stop(): Promise<void>;
}

type Host = Omit<SimulatedLabOptions["hosts"][number], "name" | "lanAddress">;

/** A cluster of bcn2 and bcn1. */
export function startTwoMembers(options: Omit<SimulatedLabOptions, "hosts"> = {}): Promise<SimulatedCluster> {
  return startMembers({ bcn2: {}, bcn1: {} }, options);
}

/**
 * A cluster of hosts.
 * @param hosts - By their names, which are those of the seeds.
 */
export async function startMembers(
  hosts: Partial<Record<keyof typeof ADDRESSES, Host>>,
  options: Omit<SimulatedLabOptions, "hosts"> = {},
): Promise<SimulatedCluster> {
  const names = Object.keys(hosts) as (keyof typeof ADDRESSES)[];
  const lab = await SimulatedLab.start({
    ...options,
    hosts: names.map((name) => ({ lxd: "deb", disks: ["/dev/sdb"], ...hosts[name], name, lanAddress: ADDRESSES[name] })),
  });
  const endpoints = lab.hosts.map(({ connection }) => connectionSchema.parse(connection));
  const [first, ...others] = await Promise.all(endpoints.map((endpoint) => clientOf({ endpoints: [endpoint] })));
  const [firstName = "bcn2", ...otherNames] = names;
  assert(first !== undefined);
  await setServerConfig(first, { "core.https_address": `${ADDRESSES[firstName]}:8443` });
  await bootstrapCluster(first, firstName);
  for (const [index, other] of others.entries()) {
    const name = otherNames[index] ?? "bcn1";
    const token = await mintJoinToken(first, name);
    const { certificate } = (await getServer(first)).environment;
    await joinCluster(other, { name, address: `${ADDRESSES[name]}:8443`, token, certificate, memberConfig: [] });
  }
  await disconnectAll();
  const cluster = { endpoints };
  return started(lab, cluster);
}

const ADDRESSES = { bcn2: "192.168.1.102", bcn1: "192.168.1.101", bcn3: "192.168.1.103", bcn4: "192.168.1.104" } as const;

/** One server that is in no cluster. */
export async function startStandalone(): Promise<SimulatedCluster> {
  const lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", lxd: "deb", disks: ["/dev/sdb"] }] });
  const cluster = { endpoints: lab.hosts.map(({ connection }) => connectionSchema.parse(connection)) };
  return started(lab, cluster);
}

/** {@link startStandalone} with a pool, and a running instance "web1". */
export async function startWithInstance(type: "container" | "virtual-machine"): Promise<SimulatedCluster> {
  const one = await startStandalone();
  await one.lab.byHand("bcn2", "POST", "/1.0/storage-pools", { name: "default", driver: "dir" });
  const devices = { root: { type: "disk", path: "/", pool: "default" } };
  one.lab.seedInstances(1, { host: "bcn2", prefix: "web", type, devices });
  return one;
}

function started(lab: SimulatedLab, cluster: ClusterConnection): SimulatedCluster {
  return {
    lab,
    cluster,
    byHand: () => clientOf(cluster),
    stop: async () => {
      await disconnectAll();
      await lab.stop();
    },
  };
}

async function clientOf({ endpoints }: ClusterConnection): Promise<LxdClient> {
  const deadline = new Deadline(30, "the test");
  const { endpoint } = await clusterEndpoint({ endpoints }, { deadline, patient: false, warn: () => undefined });
  return new LxdClient(endpoint, deadline);
}

/** A lifecycle whose create is killed just before it marks the object as finished: no state is stored. */
export function killedAtTheEnd<Inputs extends object, Outputs extends object>(
  lifecycle: Lifecycle<Inputs, Outputs>,
): Lifecycle<Inputs, Outputs> {
  return { ...lifecycle, mark: () => Promise.reject(new Error("killed")) };
}

/** The end of an operation of the engine. */
export type Outcome = "created" | "updated" | "replaced" | "same";

type Properties = Record<string, unknown>;

function urnOf(kind: string, name: string, stack: string): string {
  return `urn:pulumi:${stack}::tests::pulumi-nodejs:dynamic/lxd:${kind}::${name}`;
}

/** Verifies that a RefusedError changed nothing on any host. */
async function untouchedWhenRefused<Result>(call: () => Promise<Result>): Promise<Result> {
  const labs = [...SimulatedLab.running];
  const before = labs.map(liveState);
  try {
    return await call();
  } catch (error) {
    if (hasCode(error, "refused")) {
      // Without the text of the refusal: a test that expects it must not take this failure for it.
      assert.deepEqual(labs.map(liveState), before, "a RefusedError was thrown after something was changed");
    }
    throw error;
  }
}

/**
 * One resource as the engine handles it: checked, refreshed, compared, changed. Each operation has its own connections.
 */
export class Managed<Inputs extends object = object, Outputs extends object = object> {
  /** State; `undefined` if there is none. */
  state: Properties | undefined;
  readonly progress: string[] = [];
  readonly notes: string[] = [];
  readonly warnings: string[] = [];
  private id = "";
  /** The old inputs that the engine passes to `check`, without outputs. */
  private inputs: Properties = {};
  private readonly kind: string;
  private readonly startProvider: () => DynamicProvider;
  private provider: DynamicProvider;
  private urn: string;

  constructor(lifecycle: Lifecycle<Inputs, Outputs>, name: string, stack = "lab") {
    this.kind = lifecycle.kind;
    this.urn = urnOf(lifecycle.kind, name, stack);
    const log: EngineLog = {
      // An empty text clears the message.
      progress: (_urn, text) => {
        if (text !== "") {
          this.progress.push(text);
        }
      },
      info: (_urn, text) => void this.notes.push(text),
      warn: (_urn, text) => void this.warnings.push(text),
    };
    this.startProvider = () => dynamicProvider(lifecycle, log);
    this.provider = this.startProvider();
  }

  /** A property in state. */
  inState(property: string): unknown {
    return this.state?.[property];
  }

  /** Gives the resource another name or stack, and keeps its state: the effect of an alias or `pulumi state move`. */
  rename(name: string, stack = "lab"): void {
    this.urn = urnOf(this.kind, name, stack);
  }

  /** Continues with the state of another. */
  take({ state, id, inputs }: Managed<Inputs, Outputs>): void {
    this.state = state;
    this.id = id;
    this.inputs = inputs;
  }

  /** Objections of `check` to the arguments. */
  async faults(args: object): Promise<string[]> {
    const { failures } = await this.provider.check({}, { ...args, __urn: this.urn });
    return failures.map(({ reason }) => reason);
  }

  /** The plan of `pulumi preview`, with its refresh. */
  async preview(args: object): Promise<Outcome> {
    return this.operation(async () => {
      await this.refresh();
      return this.plan(await this.checked(args));
    });
  }

  /** `pulumi up`. An unfinished resource stays in state, and its error is thrown. */
  async up(args: object, { refresh = true }: { refresh?: boolean } = {}): Promise<Outcome> {
    return this.operation(async () => {
      const inputs = await this.checked(args);
      if (refresh) {
        await this.refresh();
      }
      const plan = await this.plan(inputs);
      try {
        if (plan === "replaced") {
          await untouchedWhenRefused(() => this.provider.delete(this.id, this.state ?? {}));
          this.state = undefined;
        }
        if (plan === "created" || plan === "replaced") {
          const created = await untouchedWhenRefused(() => this.provider.create(inputs));
          this.keep(created.id, created.outs, inputs);
        } else if (plan === "updated") {
          const updated = await untouchedWhenRefused(() => this.provider.update(this.id, this.state ?? {}, inputs));
          this.keep(this.id, updated.outs, inputs);
        }
      } catch (error) {
        const { id, properties } = error as { id?: string; properties?: Properties };
        if (id !== undefined && properties !== undefined) {
          this.keep(id, properties, inputs);
        }
        throw error;
      }
      return plan;
    });
  }

  /** `pulumi destroy`, by default without a refresh. */
  async destroy({ refresh = false }: { refresh?: boolean } = {}): Promise<void> {
    await this.operation(async () => {
      if (refresh) {
        await this.refresh();
        if (this.state === undefined) {
          return; // the engine has nothing left to delete
        }
      }
      await untouchedWhenRefused(() => this.provider.delete(this.id, this.state ?? {}));
      this.state = undefined;
    });
  }

  private async plan(inputs: Properties): Promise<Outcome> {
    if (this.state === undefined) {
      return "created";
    }
    const { changes, replaces } = await this.provider.diff(this.id, this.state, inputs);
    return replaces.length > 0 ? "replaced" : changes ? "updated" : "same";
  }

  private async refresh(): Promise<void> {
    if (this.state !== undefined) {
      const seen = await this.provider.read(this.id, this.state);
      this.keep(seen.id, seen.props, seen.inputs);
    }
  }

  private async checked(args: object): Promise<Properties> {
    const checked = await this.provider.check(this.state === undefined ? {} : this.inputs, { ...args, __urn: this.urn });
    assert.deepEqual(checked.failures, []);
    return checked.inputs;
  }

  private keep(id: string, properties: Properties, inputs: Properties = {}): void {
    this.id = id;
    this.inputs = inputs;
    this.state = id === "" ? undefined : properties;
  }

  /** A provider process and its connections last for one operation. */
  private async operation<Result>(work: () => Promise<Result>): Promise<Result> {
    this.provider = this.startProvider();
    try {
      return await work();
    } catch (error) {
      throw new Error(messageOf(error), { cause: error }); // the engine prints only the message
    } finally {
      await disconnectAll();
    }
  }
}

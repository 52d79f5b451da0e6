import assert from "node:assert/strict";
import { provider } from "../../../provider/entry";
import type { BareHosts, HostName } from "../../support/bare-hosts";
import { checkedInputs, createResource, type Made } from "../../support/real-lab";

const NAMES: readonly HostName[] = ["bcn2", "bcn1", "bcn3"];

/** Three members that are upgraded, with the container c1 running on bcn1. */
export class UpgradedCluster {
  readonly names = NAMES;
  /** State of each LxdNode. */
  readonly nodes = new Map<HostName, Made>();
  /** State of the LxdStoragePool `default`. */
  pool!: Made;

  constructor(private readonly hosts: BareHosts) {}

  /** Makes it from bare hosts. */
  async create(): Promise<void> {
    const made = await Promise.all(NAMES.map((name) => createResource("LxdNode", this.hosts.node(name))));
    NAMES.forEach((name, index) => this.nodes.set(name, made[index] ?? assert.fail(name)));
    for (const name of NAMES) {
      await createResource("LxdClusterMember", this.hosts.member(name));
    }
    const cluster = { endpoints: NAMES.map((name) => this.hosts.to(name)) };
    this.pool = await createResource("LxdStoragePool", { cluster, name: "default", driver: "dir" });
    await createResource("LxdImage", { cluster, ...(await this.hosts.imageFiles("idle")), aliases: ["idle"] });
    await this.clientOn("bcn2", "launch", "idle", "c1", "--storage", "default", "--target", "bcn1");
  }

  readonly clientOn = (name: HostName, ...argv: string[]): Promise<string> =>
    this.hosts.onHost(name, this.hosts.lab.flavour.client, ...argv);

  async query<Answer>(name: HostName, path: string): Promise<Answer> {
    return JSON.parse(await this.clientOn(name, "query", path)) as Answer;
  }

  /** Asks the member that has c1: the others find a member that has restarted with one of the next heartbeats. */
  async runningPid(): Promise<number> {
    return (await this.query<{ pid: number }>("bcn1", "/1.0/instances/c1/state")).pid;
  }

  /** `pulumi up` of one node: refreshed, and changed if it differs. */
  readonly up = async (name: HostName, install: object, more: object = {}): Promise<boolean> => {
    const { id, outs } = this.nodes.get(name) ?? assert.fail(name);
    const node = provider("LxdNode");
    const { install: usual, ...args } = this.hosts.node(name) as { install: object };
    const inputs = await checkedInputs("LxdNode", { ...args, install: { ...usual, ...install }, ...more });
    const { props } = await node.read(id, outs);
    const { changes } = await node.diff(id, props, inputs);
    this.nodes.set(name, { id, outs: changes ? (await node.update(id, props, inputs)).outs : props });
    return changes;
  };

  upgradeOf(name: HostName): unknown[] {
    const { upgradeState, recommendedAction } = this.nodes.get(name)?.outs ?? {};
    return [upgradeState, recommendedAction];
  }
}

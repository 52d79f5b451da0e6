/**
 * What this process has found out about a cluster for its placements, and what it has decided itself. Members are asked once for all
 * instances: between two answers, only what this process places would differ, and that is known here.
 */
import * as z from "zod";
import { hasCode, messageOf } from "../../support/errors";
import { SingleFlight } from "../../support/single-flight";
import { whenDisconnected } from "../../transport/pool";
import { api, type LxdClient } from "../client/client";
import type { Member } from "../cluster/cluster";
import type { Devices } from "../config";
import { rootDiskOf } from "../instances/instances";
import { lackOn } from "../instances/preflight";
import { getHardware, getServer, type Server } from "../server";
import { getFreeBytes } from "../storage-and-networks/storage-pools";
import type { Candidate, PlacedInstance } from "./decide";
import { labelsOf, type Placement } from "./schema";

/** API extension without which the server does not tell the memory and load of its members. */
export const MEMBER_STATE = "cluster_member_state";

/** Time for a member to answer before it is left out. */
const ANSWER_SECONDS = 30;

/** `/1.0/cluster/members/NAME/state`: https://documentation.ubuntu.com/lxd/latest/api/#/cluster */
const memberStateSchema = z.looseObject({
  sysinfo: z.looseObject({
    load_averages: z.array(z.number()).min(1),
    total_ram: z.number(),
    free_ram: z.number(),
    buffered_ram: z.number(),
  }),
});

/** Only what a placement needs. Maps are `null` in the entry of an instance whose member does not answer. */
const placedSchema = z
  .looseObject({
    name: z.string(),
    project: z.string().default("default"),
    location: z.string().default(""),
    expanded_config: z.record(z.string(), z.string()).nullish(),
  })
  .transform(
    ({ name, project, location, expanded_config }): PlacedInstance => ({
      name,
      project,
      member: location,
      labels: labelsOf(expanded_config ?? {}),
    }),
  );

type Key = Pick<PlacedInstance, "project" | "name">;

/** The cluster of one process, for all its placements. */
export class Survey {
  private readonly answers = new Map<string, SingleFlight<unknown>>();
  /** Places of instances since the list was read; `undefined` for one that was removed. */
  private readonly decided = new Map<string, PlacedInstance | undefined>();
  /** Places that previews have announced. */
  private readonly foreseen = new Map<string, PlacedInstance | undefined>();

  /** Keeps the place of an instance for later decisions. Returns what takes it back when the instance was not made. */
  reserve(instance: PlacedInstance, isPreview = false): () => void {
    const places = isPreview ? this.foreseen : this.decided;
    const key = keyOf(instance);
    places.set(key, instance);
    return () => {
      if (places.get(key) === instance) {
        places.set(key, undefined);
      }
    };
  }

  forget(instance: Key): void {
    this.decided.set(keyOf(instance), undefined);
  }

  /** The instances of all members and projects. `found` is what {@link listInstances} has returned. */
  placed(found: readonly PlacedInstance[], isPreview = false): PlacedInstance[] {
    const places = new Map<string, PlacedInstance | undefined>(found.map((each) => [keyOf(each), each]));
    for (const [key, place] of [...this.decided, ...(isPreview ? this.foreseen : [])]) {
      places.set(key, place);
    }
    return [...places.values()].flatMap((place) => place ?? []);
  }

  /**
   * Reads once for all placements of this process.
   * @param isFinal - Whether to keep the answer.
   */
  async once<Answer>(
    lxd: LxdClient,
    key: string,
    read: () => Promise<Answer>,
    isFinal: (answer: Answer) => boolean = () => true,
  ): Promise<Answer> {
    const flight = this.answers.get(key) ?? new SingleFlight<unknown>();
    this.answers.set(key, flight);
    const answer = (await flight.join(lxd.deadline, `asking ${lxd.host} for its ${key}`, read, false)) as Answer;
    if (!isFinal(answer)) {
      this.answers.delete(key);
    }
    return answer;
  }

  listInstances(lxd: LxdClient): Promise<PlacedInstance[]> {
    const list = (): Promise<PlacedInstance[]> =>
      lxd.getListShared("/1.0/instances", placedSchema, (instance) => instance, { "all-projects": "true", recursion: 1 });
    return this.once(lxd, "instances", list);
  }

  server(lxd: LxdClient, member?: string): Promise<Server> {
    return this.once(lxd, `server ${member ?? ""}`, () => getServer(lxd, member));
  }

  /** Asks a member for what matters to an instance with these devices. A member that does not answer has that as its fault. */
  async candidate(
    lxd: LxdClient,
    project: string,
    member: Member,
    { devices, policy, hasState }: { devices: Devices; policy: Placement["policy"]; hasState: boolean },
  ): Promise<Candidate> {
    const { server_name: name, status, failure_domain: failureDomain, groups, config } = member;
    const known = {
      name,
      status,
      failureDomain,
      groups: groups ?? [],
      scheduler: config?.["scheduler.instance"] ?? "all",
      architectures: [],
      driver: "",
    };
    if (status !== "Online") {
      return { ...known, faults: [] };
    }
    const patience = lxd.deadline.atMostHalf(ANSWER_SECONDS, `asking member ${name} what it has`);
    const soon = lxd.within(patience);
    const pool = rootDiskOf(devices)?.[1]["pool"] ?? "";
    try {
      const [{ environment }, lack, freeDiskBytes, state, cpus] = await Promise.all([
        this.server(soon, name),
        this.lack(soon, project, name, devices),
        this.freeSpace(soon, name, pool),
        hasState ? this.state(soon, name) : undefined,
        policy === "leastCpu" ? this.once(soon, `cpus ${name}`, async () => (await getHardware(soon, name)).cpus) : undefined,
      ]);
      const { total_ram: totalBytes = 0, free_ram = 0, buffered_ram = 0, load_averages: [load] = [] } = state?.sysinfo ?? {};
      return {
        ...known,
        architectures: environment.architectures,
        driver: environment.driver,
        faults: lack === undefined ? [] : [lack],
        freeDiskBytes,
        memory: state && { totalBytes, usedBytes: totalBytes - free_ram - buffered_ram },
        cpu: cpus === undefined || load === undefined ? undefined : { total: cpus, load },
      };
    } catch (error) {
      lxd.deadline.check(`asking member ${name} what it has`);
      const isOfMember = hasCode(error, "api") || hasCode(error, "response-shape") || hasCode(error, "timeout");
      if (!isOfMember || !lxd.endpoint.isOpen()) {
        throw error;
      }
      return { ...known, faults: [`cannot be asked what it has: ${messageOf(error)}`] };
    }
  }

  private state(lxd: LxdClient, member: string): Promise<z.output<typeof memberStateSchema>> {
    return this.once(lxd, `state ${member}`, () => lxd.get(api`/1.0/cluster/members/${member}/state`, memberStateSchema));
  }

  /** Remembers only that nothing is missing: what is missing may be made in the same operation. */
  private lack(lxd: LxdClient, project: string, member: string, devices: Devices): Promise<string | undefined> {
    const needed = Object.values(devices).map(({ type, pool, network, parent }) => [type, pool, network, parent]);
    const find = async (): Promise<string | undefined> => {
      const lack = await lackOn(lxd, project, member, devices);
      return lack && `lacks what device ${lack.device} needs: "${lack.needed}" ${lack.status} there`;
    };
    return this.once(lxd, `lack ${member} ${project} ${JSON.stringify(needed)}`, find, (lack) => lack === undefined);
  }

  /** Not every driver tells its space. */
  private async freeSpace(lxd: LxdClient, member: string, pool: string): Promise<number | undefined> {
    const read = (): Promise<number | undefined> => getFreeBytes(lxd, pool, member);
    return pool === "" ? undefined : this.once(lxd, `space ${member} ${pool}`, read, (bytes) => bytes !== undefined);
  }
}

function keyOf({ project, name }: Key): string {
  return `${project}/${name}`;
}

/** By fingerprint of the cluster's certificate. */
const surveys = new Map<string, Survey>();
whenDisconnected(() => surveys.clear());

export function surveyOf(fingerprint: string): Survey {
  const survey = surveys.get(fingerprint) ?? new Survey();
  surveys.set(fingerprint, survey);
  return survey;
}

/** Evacuating a member, and restoring it. */
import { until } from "../../support/deadline";
import { api, type LxdClient } from "../client/client";
import { operationsSchema, untilKnown } from "../client/operations";
import { getServer } from "../server";
import { EVACUATED, getMember, type Member } from "./cluster";
import { type Departing, EVACUATION_MODE, type EvacuationMode, isRunning, listDeparting } from "./departures";

/** Status code of an operation that runs. */
const RUNNING = 103;

/**
 * Whether a member is evacuated, and nothing runs on it any more. An evacuation that was interrupted leaves the status and some of the
 * instances.
 */
export async function isEvacuated(
  lxd: LxdClient,
  { server_name: name, status }: Member,
  list: (lxd: LxdClient) => Promise<Departing[]> = listDeparting,
): Promise<boolean> {
  return status === EVACUATED && !(await list(lxd)).some((each) => each.location === name && isRunning(each));
}

/**
 * Evacuates a member. Waits for an evacuation that runs; begins one again that was interrupted, after a restore, so that LXD starts what the
 * first one had stopped.
 */
export async function evacuateMember(lxd: LxdClient, name: string, mode: EvacuationMode): Promise<void> {
  const isDone = async (): Promise<boolean> => {
    if ((await getMember(lxd, name)).status !== EVACUATED) {
      return false;
    }
    await untilIdle(lxd, name);
    return isEvacuated(lxd, await getMember(lxd, name));
  };
  const evacuate = async (): Promise<void> => {
    if (await isDone()) {
      return;
    }
    if ((await getMember(lxd, name)).status === EVACUATED) {
      await changeState(lxd, name, { action: "restore" });
    }
    const isKnown = mode !== "auto" && (await getServer(lxd)).api_extensions.includes(EVACUATION_MODE);
    await changeState(lxd, name, { action: "evacuate", ...(isKnown && { mode }) });
  };
  await untilKnown(evacuate, isDone);
}

/** Restores a member: what an evacuation has moved comes back, what it has stopped is started. Does nothing when it is not evacuated. */
export async function restoreMember(lxd: LxdClient, name: string): Promise<void> {
  const isEvacuatedNow = async (): Promise<boolean> => (await getMember(lxd, name)).status === EVACUATED;
  const restore = async (): Promise<void> => {
    if (!(await isEvacuatedNow())) {
      return;
    }
    await untilIdle(lxd, name);
    if (await isEvacuatedNow()) {
      await changeState(lxd, name, { action: "restore" });
    }
  };
  await untilKnown(restore, async () => {
    await untilIdle(lxd, name);
    return !(await isEvacuatedNow());
  });
}

async function changeState(lxd: LxdClient, name: string, body: { action: string; mode?: string }): Promise<void> {
  await lxd.change("POST", api`/1.0/cluster/members/${name}/state`, { body });
}

/** Waits until a member works on nothing: it may be in an evacuation or a restore that another process has begun. */
async function untilIdle(lxd: LxdClient, name: string): Promise<void> {
  await until(lxd.deadline, async (report) => {
    const operations = await lxd.get("/1.0/operations", operationsSchema, { recursion: 1, "all-projects": "true" });
    const running = operations.filter(
      (each) => each.class === "task" && each.status_code === RUNNING && each["location"] === name,
    );
    report(`${name} is still at work: ${running.map(({ description }) => description).join(", ")}`);
    return running.length === 0 ? true : undefined;
  });
}

import { until } from "../../support/deadline";
import { FailedError, hasCode, LostOperationError } from "../../support/errors";
import { api, type LxdClient } from "../client/client";
import { type Operation, operationsSchema, untilKnown } from "../client/operations";
import { isServerFailure } from "../client/transient-failures";
import { onceFound } from "../cluster/restarts";
import { OWNER_KEY } from "../config";
import { choosePlace, notePlace } from "../placement/place";
import { memberIn, requireVolumes } from "./attached-volumes";
import type { ImageSource } from "./image-source";
import { type InstanceRef, withInstanceLock } from "./instance-lock";
import {
  deleteInstance,
  type Expanded,
  findInstance,
  type InstancePut,
  type InstanceType,
  type InstanceWork,
  isStopped,
} from "./instances";
import { prepare, requireImage, requirePlace } from "./preflight";
import { toApi, type WantedInstance } from "./spec";

/**
 * Creates the instance, stopped, after checking everything that it needs.
 * @returns The API to continue with.
 */
export async function createWanted(
  work: InstanceWork,
  wanted: WantedInstance & { readonly image: ImageSource },
  mark: string,
  reconnect: () => Promise<LxdClient>,
): Promise<InstanceWork> {
  const { image, instanceType: type } = wanted;
  const { profiles, expanded } = await prepare(work, wanted);
  await requireImage(work.lxd, work.project, image, type);
  const { target, release } = await placeOf(work, wanted, expanded);
  try {
    await requireVolumes(work, { ...expanded, member: memberIn(target), running: wanted.running });
  } catch (error) {
    release();
    throw error;
  }
  work.progress(image.server === undefined ? "creating" : `creating; ${work.lxd.names.name} gets the image from ${image.server}`);
  const { architecture: _, ...contents } = toApi(wanted, profiles, mark);
  try {
    return await onceFound(work.lxd, () => createInstance(work, { ...contents, type, image }, target, reconnect));
  } catch (error) {
    release();
    throw error;
  }
}

/** Chooses a member if the program has a policy for it. Otherwise checks the given target. */
async function placeOf(
  work: InstanceWork,
  { instanceType, image, target, placement }: WantedInstance & { readonly image: ImageSource },
  expanded: Expanded,
): Promise<{ target: string | undefined; release: () => void }> {
  if (placement !== undefined) {
    const place = await choosePlace(work, { instanceType, image, target, placement, expanded });
    work.progress(`placing on ${place.explanation}`);
    return { target: place.member, release: place.release };
  }
  await requirePlace(work.lxd, target, instanceType);
  const isMember = target !== undefined && !target.startsWith("@");
  return { target, release: isMember ? await notePlace(work, target, expanded) : () => undefined };
}

type InstancePost = Omit<InstancePut, "architecture"> & { type: InstanceType; image: ImageSource };

/**
 * Creates an instance, stopped. When the connection breaks, or LXD fails to answer, the creation may continue. Its end is then
 * read, through another connection if necessary. When LXD was restarted meanwhile, the file system of the instance may be
 * incomplete, so it is removed and created again.
 * @returns The work, with the API to continue with.
 */
export async function createInstance(
  work: InstanceWork,
  { image: { formerFingerprints: _, ...image }, ...contents }: InstancePost,
  target: string | undefined,
  reconnect: () => Promise<LxdClient>,
): Promise<InstanceWork> {
  const { project, name } = work;
  const source = { type: "image", ...image, ...(image.server === undefined ? {} : { mode: "pull" }) };
  let current = work;
  const create = async (): Promise<void> => {
    let operation: Operation | undefined;
    try {
      await withInstanceLock(current, async () => {
        // Never `start: true`: versions that do not know it ignore it silently, and LXD would remove an instance that fails to
        // start.
        operation = await current.lxd.begin("POST", "/1.0/instances", {
          query: { project, target },
          body: { name, ...contents, source },
        });
        await (operation && current.lxd.finish(operation));
      });
    } catch (error) {
      if (hasCode(error, "transport")) {
        current = { ...current, lxd: await reconnect() };
      } else if (!isServerFailure(error)) {
        throw error;
      }
      await finishElsewhere(current, contents.config[OWNER_KEY], operation, error);
    }
  };
  await untilKnown(create, async () => {
    await removeUnknown(current, contents.config[OWNER_KEY]);
    return false;
  });
  return current;
}

/**
 * Waits for the end of a creation that began over another connection, if one is known.
 * @param mark - What the instance has in its config if it is this one. Incus refuses a name in use with the status of a failure.
 */
async function finishElsewhere(
  work: InstanceWork,
  mark: string | undefined,
  begun: Operation | undefined,
  error: unknown,
): Promise<void> {
  if (begun !== undefined) {
    await work.lxd.finish(begun);
    return;
  }
  const operation = (await creationsOf(work)).at(-1);
  await (operation && work.lxd.finish(operation));
  const found = (await findInstance(work))?.value;
  const isOther = hasCode(error, "api") && (mark === undefined || found?.config[OWNER_KEY] !== mark);
  if (found === undefined || isOther) {
    throw error;
  }
  if (operation === undefined) {
    throw new LostOperationError(work.lxd.title, "Creating instance", { cause: error });
  }
}

/** Removes what an interrupted creation of this resource has left. The instance has never run. */
async function removeUnknown(work: InstanceWork, mark: string | undefined): Promise<void> {
  const left = (await findInstance(work))?.value;
  if (left === undefined) {
    return;
  }
  if (mark === undefined || left.config[OWNER_KEY] !== mark || !isStopped(left)) {
    throw new FailedError(
      `${work.lxd.title} lost the operation that created instance "${work.name}". An instance of that name exists (${left.status}) and ` +
        `may be incomplete. Remove it if nothing in it is needed (${work.lxd.names.client} delete), then run pulumi up again`,
    );
  }
  work.progress("removing what an interrupted creation has left");
  await deleteInstance(work);
}

/** Waits until LXD has finished creating an instance for a client that has disconnected. */
export async function untilCreated(work: InstanceWork): Promise<void> {
  await until(work.deadline, async (report) => {
    const isBusy = (await creationsOf(work)).some(({ status_code }) => status_code < 200);
    report(`${work.lxd.title} is still creating instance "${work.name}"`);
    return isBusy ? undefined : true;
  });
}

/** Lists the creations of an instance that LXD knows, the last one last: those that run, and those of the last seconds. */
async function creationsOf({ lxd, project, name }: InstanceRef): Promise<Operation[]> {
  const operations = await lxd.get("/1.0/operations", operationsSchema, { project, recursion: 1 });
  return operations
    .filter(({ description, resources }) => {
      const urls = Object.values(resources ?? {}).flatMap((each) => each ?? []);
      return description.startsWith("Creating") && urls.some((url) => url.split("?")[0]?.endsWith(api`/${name}`));
    })
    .sort((a, b) => a.created_at.localeCompare(b.created_at));
}

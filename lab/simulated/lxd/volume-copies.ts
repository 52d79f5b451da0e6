/** Copies of custom volumes: within a member, and from a member that offers the volume in an operation. */
import { randomBytes } from "node:crypto";
import { z } from "zod";
import type { CustomVolume, Database, StoragePool } from "./database";
import type { Operation } from "./operations";
import { async, LxdError, type Reply } from "./reply";
import type { ApiRequest } from "./request";
import { targetDaemon } from "./server";

/** `source` of a new volume. */
export const volumeSource = z
  .object({
    type: z.string().default(""),
    pool: z.string().default(""),
    name: z.string().default(""),
    project: z.string().default(""),
    mode: z.string().default(""),
    operation: z.string().default(""),
    certificate: z.string().default(""),
    secrets: z.record(z.string(), z.string()).nullish(),
    volume_only: z.boolean().default(false),
  })
  .nullish();

type Source = NonNullable<z.output<typeof volumeSource>>;

/** A volume that an operation waits to send. */
interface Offer {
  readonly volume: CustomVolume;
  readonly secrets: Readonly<Record<string, string>>;
  sent(): void;
}

const offers = new WeakMap<Operation, Offer>();

/** Answers a request to send a volume: an operation with secrets, which lasts until somebody has fetched it. */
export function offerVolume(request: ApiRequest, pool: StoragePool, volume: CustomVolume): Reply {
  const daemon = volume.member?.daemon ?? request.daemon;
  const secrets = { control: randomBytes(32).toString("hex"), fs: randomBytes(32).toString("hex") };
  let sent = (): void => undefined;
  const fetched = new Promise<void>((resolve) => {
    sent = resolve;
  });
  const resources = { storage_volumes: [`${pool.name}/volumes/custom/${volume.name}`] };
  const options = { description: "Migrating storage volume", class: "websocket", metadata: { ...secrets }, resources } as const;
  const operation = daemon.operate({ ...options, project: volume.project }, () => fetched);
  offers.set(operation, { volume, secrets, sent });
  return async(operation);
}

/** Makes a volume as a copy of another one, in an operation. */
export function copyVolume(request: ApiRequest, pool: StoragePool, volume: CustomVolume, source: Source): Reply {
  const { database } = request.daemon;
  const daemon = targetDaemon(request);
  const isMigration = source.type === "migration";
  if (isMigration && source.mode !== "pull") {
    throw new LxdError(501, `Mode '${source.mode}' not implemented`);
  }
  const resources = { storage_volumes: [`${pool.name}/volumes/custom/${volume.name}`] };
  const options = { description: "Copying storage volume", project: volume.project, ...(isMigration && { resources }) };
  return async(
    daemon.operate(options, () => {
      const offer = isMigration ? offerAt(database, source) : undefined;
      const original = offer?.volume ?? localVolume(request, volume, source);
      const snapshots = source.volume_only ? [] : original.snapshots.map((snapshot) => ({ ...snapshot }));
      pool.customVolumes.push({ ...volume, contentType: isMigration ? volume.contentType : original.contentType, snapshots });
      offer?.sent();
    }),
  );
}

function offerAt(database: Database, { operation: url, secrets }: Source): Offer {
  const { host: address, pathname } = new URL(url);
  const daemon = [...database.members.values()].find((member) => member.address === address)?.daemon;
  const operation = daemon?.answers === true ? daemon.operations.get(pathname.split("/").at(-1) ?? "") : undefined;
  const offer = operation?.running === true ? offers.get(operation) : undefined;
  if (offer === undefined || Object.entries(offer.secrets).some(([name, secret]) => secrets?.[name] !== secret)) {
    throw new LxdError(500, "Error transferring storage volume: websocket: bad handshake");
  }
  return offer;
}

function localVolume(request: ApiRequest, to: CustomVolume, { pool, name, project }: Source): CustomVolume {
  const { database } = request.daemon;
  const holder = database.holder(project === "" ? to.project : project, "storage.volumes");
  const { member } = targetDaemon(request);
  const found = database
    .pool(pool)
    .customVolumes.find(
      (each) => each.name === name && each.project === holder && (each.member === undefined || each.member === member),
    );
  if (found === undefined) {
    throw new LxdError(404, "Storage volume not found");
  }
  return found;
}

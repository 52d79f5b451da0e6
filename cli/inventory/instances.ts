/** Reads images, profiles and instances. */

import * as z from "zod";
import { listOf } from "../../provider/lxd/client/answers";
import { OWNER_KEY } from "../../provider/lxd/config";
import { serverImageSchema } from "../../provider/lxd/instances/image-source";
import { imageLifecycle } from "../../provider/resources/lxd-image";
import { profileLifecycle } from "../../provider/resources/lxd-profile";
import { vmLifecycle } from "../../provider/resources/lxd-vm";
import { configuredSchema, named, namedSchema, type Reading } from "./reading";

const imageSchema = z.looseObject({
  fingerprint: z.string(),
  type: z.string().default("container"),
  cached: z.boolean().default(false),
  auto_update: z.boolean().default(false),
  aliases: z.array(namedSchema).nullish(),
  properties: configuredSchema.shape.config,
  update_source: z.looseObject({ server: z.string(), protocol: z.string() }).nullish(),
});
const instanceSchema = z.looseObject({
  name: z.string(),
  type: z.string(),
  status: z.string(),
  location: z.string().default(""),
  ephemeral: z.boolean().default(false),
  config: configuredSchema.shape.config,
  devices: z.record(z.string(), z.record(z.string(), z.string())).nullish(),
});

/** Only an image copied from a server can be copied again. The files of other images are not available. */
export async function images(reading: Reading, project: string): Promise<void> {
  const images = await reading.hosts.first.lxd.get("/1.0/images", listOf(imageSchema), { recursion: 1, project });
  for (const { fingerprint, type, aliases, properties, auto_update, update_source: source } of images.filter(
    ({ cached }) => !cached,
  )) {
    const names = (aliases ?? []).map(({ name }) => name);
    const name = names[0] ?? fingerprint.slice(0, 12);
    const what = `image ${named(project, name)}`;
    const from = serverImageSchema.safeParse({ server: source?.server, protocol: source?.protocol, fingerprint });
    if (!from.success || auto_update) {
      const unknown = source
        ? `LxdImage does not copy from ${source.server} by the protocol ${source.protocol}`
        : "it was uploaded, and its files are not available here";
      const why = auto_update ? "it is replaced by newer images" : unknown;
      reading.leaveOut(what, `${why}. Add an LxdImage to the program to manage it`);
      continue;
    }
    await reading.take(
      imageLifecycle,
      { what, name, project, mark: properties?.[OWNER_KEY] },
      { project, source: from.data, instanceType: type, aliases: names },
    );
  }
}

export async function profiles(reading: Reading, project: string): Promise<void> {
  const profiles = await reading.hosts.first.lxd.get("/1.0/profiles", listOf(configuredSchema), { recursion: 1, project });
  for (const { name, config } of profiles) {
    const object = { what: `profile ${named(project, name)}`, name, project, mark: config?.[OWNER_KEY] };
    await reading.take(profileLifecycle, object, { name, project });
  }
}

export async function instances(reading: Reading, project: string): Promise<void> {
  const instances = await reading.hosts.first.lxd.get("/1.0/instances", listOf(instanceSchema), { recursion: 1, project });
  for (const { name, type, status, location, ephemeral, config, devices } of instances) {
    const what = `instance ${named(project, name)}`;
    if (ephemeral) {
      reading.leaveOut(what, "it is ephemeral: it is deleted when it stops");
      continue;
    }
    if (!["Running", "Ready", "Stopped"].includes(status)) {
      reading.leaveOut(what, `it is ${status}, neither running nor stopped. Start or stop it, and run this again`);
      continue;
    }
    const fingerprint = config?.["volatile.base_image"] ?? "";
    const target = config?.["volatile.evacuate.origin"] ?? location;
    await reading.take(
      vmLifecycle,
      { what, name, project, mark: config?.[OWNER_KEY] },
      {
        name,
        project,
        instanceType: type,
        // Only a replacement uses the image.
        image: fingerprint === "" ? { alias: "unknown" } : { fingerprint },
        // All devices, so that the root disk has all its keys.
        devices: devices ?? {},
        ...(reading.hosts.members.length === 0 ? {} : { target }),
      },
    );
  }
}

/**
 * cloud-init's data for guests of Incus. cloud-init reads the data of an LXD guest from /dev/lxd, which Incus does not have. Images for
 * Incus have templates that write the data to files of cloud-init's data source NoCloud. An instance whose image has no such
 * templates gets them, so that images for LXD work, and no image is changed.
 * @see https://linuxcontainers.org/incus/docs/main/reference/image_format/#templates
 * @see https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html
 */
import * as z from "zod";
import { api } from "../client/client";
import { CLOUD_INIT_TEXT, type Config } from "../config";
import type { InstanceRef } from "./instance-lock";
import { requireInstance } from "./instances";

const SEEDS = "/var/lib/cloud/seed/";
const OWN_PREFIX = "pulumi-cloud-init-";

const templateSchema = z.looseObject({ template: z.string(), when: z.array(z.string()).nullish() });

/** `/1.0/instances/NAME/metadata`: https://linuxcontainers.org/incus/docs/main/api/#/instances/instance_metadata_get */
const metadataSchema = z.looseObject({ templates: z.record(z.string(), templateSchema).nullish() });

type Metadata = z.output<typeof metadataSchema>;

/** Returns the config's value, with the key `user.` of older versions as an alternative. */
function valueOf(kind: string): string {
  return `config_get("cloud-init.${kind}", config_get("user.${kind}", ""))`;
}

/** Templates by the files that they write. */
const TEMPLATES: Readonly<Record<string, string>> = {
  "meta-data":
    'instance-id: {{ config_get("volatile.cloud-init.instance-id", container.name) }}\nlocal-hostname: {{ container.name }}\n',
  ...Object.fromEntries(
    ["user-data", "vendor-data"].map((kind) => [
      kind,
      `{% if ${valueOf(kind)} == "" %}#cloud-config\n{}{% else %}{{ ${valueOf(kind)} }}{% endif %}\n`,
    ]),
  ),
  "network-config": `{{ ${valueOf("network-config")} }}\n`,
};

/**
 * Adds the templates that an instance of Incus needs for its cloud-init data. Incus applies them at each start, so that cloud-init
 * runs again after a change of the data, as with LXD.
 * @param known - Config with that of the profiles, if it was just read.
 */
export async function addCloudInitSeed(which: InstanceRef, known?: Config): Promise<void> {
  const { lxd, project, name } = which;
  if (lxd.names.server !== "incus") {
    return;
  }
  const config = known ?? (await requireInstance(which)).value.expanded_config;
  const given = Object.keys(config).filter((key) => CLOUD_INIT_TEXT.test(key) && config[key] !== "");
  if (given.length === 0) {
    return;
  }
  const path = pathOf(name);
  const found = await lxd.getWithEtag(path, metadataSchema, { project });
  const present = seedsIn(found.value);
  if (present.some(isOfImage)) {
    return;
  }
  // Without this key, cloud-init chooses a configuration itself, which an empty file would prevent.
  const hasNetwork = given.some((key) => key.endsWith("network-config"));
  const wanted = Object.entries(TEMPLATES).filter(([kind]) => kind !== "network-config" || hasNetwork);
  const missing = wanted.filter(([kind]) => !present.some(({ file }) => file === fileOf(kind)));
  if (missing.length === 0) {
    return;
  }
  for (const [kind, text] of missing) {
    const query = new URLSearchParams({ project, path: templateOf(kind) }).toString();
    const headers = { "content-type": "application/octet-stream", "content-length": Buffer.byteLength(text) };
    await lxd.beginRaw({ method: "POST", path: `${path}/templates?${query}`, headers, body: text });
  }
  const added: Record<string, object> = Object.fromEntries(
    missing.map(([kind]) => [fileOf(kind), { when: ["start"], template: templateOf(kind) }]),
  );
  const change = (live: Metadata): object => ({
    ...live,
    templates: { ...live.templates, ...added },
  });
  await lxd.modify(path, metadataSchema, change, { query: { project }, found });
}

/**
 * Whether the image of an instance writes cloud-init's data at other times than each start, as most images for Incus do when an instance is
 * created. A later change of the data then does not reach the guest.
 */
export async function isSeededOnce({ lxd, project, name }: InstanceRef): Promise<boolean> {
  if (lxd.names.server !== "incus") {
    return false;
  }
  const metadata = await lxd.get(pathOf(name), metadataSchema, { project });
  return seedsIn(metadata).some((seed) => isOfImage(seed) && seed.when?.includes("start") !== true);
}

type Seed = z.output<typeof templateSchema> & { readonly file: string };

function seedsIn({ templates }: Metadata): Seed[] {
  return Object.entries(templates ?? {}).flatMap(([file, template]) => (file.startsWith(SEEDS) ? [{ ...template, file }] : []));
}

function isOfImage({ template }: Seed): boolean {
  return !template.startsWith(OWN_PREFIX);
}

function pathOf(name: string): string {
  return api`/1.0/instances/${name}/metadata`;
}

function fileOf(kind: string): string {
  return `${SEEDS}nocloud-net/${kind}`;
}

function templateOf(kind: string): string {
  return `${OWN_PREFIX}${kind}.tpl`;
}
